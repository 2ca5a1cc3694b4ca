"""How numbers are written for a reader."""

from __future__ import annotations


def accuracy_text(share: float, interval: float | None = None, digits: int = 2) -> str:
    """A share of 1 in per cent, with half the width of its interval if that is known.

    Example:
        >>> accuracy_text(0.4321, 0.0123), accuracy_text(0.5, digits=1)
        ('43.21 % +- 1.23', '50.0 %')
    """
    spread = "" if interval is None else f" +- {100 * interval:.{digits}f}"
    return f"{100 * share:.{digits}f} %{spread}"
