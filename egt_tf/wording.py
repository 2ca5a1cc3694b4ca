"""How numbers are written for a reader."""

from __future__ import annotations

from collections.abc import Mapping


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


def epoch_text(epoch: int, epochs: int, logs: Mapping[str, float], chance: float | None = None) -> str:
    """What an epoch measured.

    Args:
        epoch: number of the epoch, from 1 on.
        epochs: of the whole training.
        logs: what was measured; a pre-training has no guided loss and no interval.
        chance: the accuracy of guessing, in [0, 1]; None where it is not known.

    Example:
        >>> epoch_text(2, 10, {"loss": 0.25, "accuracy": 0.5, "val_accuracy": 0.4, "val_interval": 0.01}, chance=0.2)
        'epoch  2/10  loss 0.2500  accuracy 50.0 %  validation 40.0 % +- 1.0 (20 % by chance)'
    """
    losses = ""
    if "guided_loss" in logs:
        teacher = f", teacher {logs['teacher_loss']:.4f}" if "teacher_loss" in logs else ""
        losses = f" (plain {logs['plain_loss']:.4f}, guided {logs['guided_loss']:.4f}{teacher})"
    validation = accuracy_text(logs["val_accuracy"], logs.get("val_interval"), digits=1, chance=chance)
    return (
        f"epoch {epoch:{len(str(epochs))}d}/{epochs}  loss {logs['loss']:.4f}{losses}  "
        f"accuracy {accuracy_text(logs['accuracy'], digits=1)}  validation {validation}"
    )
