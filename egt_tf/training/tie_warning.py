"""A word to the user when the model that is trained cannot tell the classes of many queries apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from egt_tf.keras_api import keras
from egt_tf.ties import ties_text

# From this share of the validation queries on.
MANY = 0.05
REMEDY = (
    "If further epochs do not help, a relation head whose units fell silent may do better with "
    "model.head.hidden=64 or model.head.loss=cross_entropy"
)


class TieWarning(keras.callbacks.Callback):
    """Reports, after each epoch, validation queries whose highest score several classes have, if there are many.

    Args:
        report: gets lines for the user.

    Example:
        >>> lines = []
        >>> TieWarning(lines.append).on_epoch_end(0, {"val_tied": 0.3})
        >>> lines[0][:38]
        'warning: 30.0 % of the queries are tie'
    """

    def __init__(self, report: Callable[[str], None]):
        super().__init__()
        self.report = report

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        tied = (logs or {}).get("val_tied", 0.0)
        if tied >= MANY:
            self.report(f"warning: {ties_text(tied)}. {REMEDY}")
