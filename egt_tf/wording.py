"""How numbers are written for a reader."""

from __future__ import annotations


def accuracy_text(share: float, interval: float | None = None, digits: int = 2, *, chance: float | None = None) -> str:
    """A share of 1 in per cent, with half the width of its interval and what guessing gives, as far as they are known.

    Example:
        >>> accuracy_text(0.4321, 0.0123), accuracy_text(0.5, digits=1, chance=1 / 3)
        ('43.21 % +- 1.23', '50.0 % (33 % by chance)')
    """
    spread = "" if interval is None else f" +- {100 * interval:.{digits}f}"
    guessed = "" if chance is None else f" ({100 * chance:.2g} % by chance)"
    return f"{100 * share:.{digits}f} %{spread}{guessed}"


def calibration_text(error: float, negative_log_likelihood: float, bins: int | None = None) -> str:
    """The two measures of calibration, with the number of bins of the first if that is to be said.

    Example:
        >>> calibration_text(0.0421, 0.7312)
        'calibration error 4.21 %, negative log-likelihood 0.7312'
    """
    how = "" if bins is None else f" ({bins} bins)"
    return f"calibration error {100 * error:.2f} %{how}, negative log-likelihood {negative_log_likelihood:.4f}"
