"""Trainings that are interrupted, and what two of them must have in common."""

from __future__ import annotations

import numpy as np

from egt_tf.keras_api import keras
from egt_tf.runs import RunFolder
from egt_tf.weights import load_arrays


class Interrupt(keras.callbacks.Callback):
    """Stops as Ctrl-C does: after so many steps of the whole training, or of an epoch, the first of which is 1."""

    def __init__(self, after: int = 1, epoch: int | None = None):
        super().__init__()
        self.left, self.stop_in, self.epoch = after, epoch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch + 1

    def on_train_batch_end(self, batch, logs=None):
        if self.stop_in in (None, self.epoch):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt


def without_seconds(run: RunFolder) -> list[dict]:
    """What was measured after each epoch, but the time that it took."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in run.metrics()]


def state(run: RunFolder) -> dict[str, np.ndarray]:
    """Every number of the newest checkpoint but the seconds."""
    newest = sorted(run.checkpoints_folder.glob("*.npz"))[-1]
    return {name: array for name, array in load_arrays(newest).items() if name != "progress"}


def expect_equal_states(a: RunFolder, b: RunFolder) -> None:
    """The newest checkpoints of two runs, bit by bit."""
    first, second = state(a), state(b)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
