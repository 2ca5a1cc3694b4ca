"""What a training says of itself in a script or a notebook: a line an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from egt_tf.keras_api import keras
from egt_tf.wording import epoch_text


class EpochLines(keras.callbacks.Callback):
    """Reports what each epoch measured, in one line without times, so that equal trainings say equal lines.

    Args:
        report: gets the lines, such as `print`.
        chance: the accuracy of guessing, in [0, 1], to be said beside that of the validation; None: it is not.

    Example:
        >>> lines = []
        >>> callback = EpochLines(lines.append)
        >>> callback.set_params({"epochs": 3})
        >>> callback.on_epoch_end(0, {"loss": 0.25, "accuracy": 0.5, "val_accuracy": 0.4})
        >>> lines
        ['epoch 1/3  loss 0.2500  accuracy 50.0 %  validation 40.0 %']
    """

    def __init__(self, report: Callable[[str], None], chance: float | None = None):
        super().__init__()
        self.report, self.chance = report, chance

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        self.report(epoch_text(epoch + 1, self.params["epochs"], logs, self.chance))
