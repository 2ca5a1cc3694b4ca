"""Callbacks of a training that keep what it did: steps, epochs, the best weights, the metrics."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from egt_tf.errors import RunError
from egt_tf.files import write_text
from egt_tf.keras_api import keras
from egt_tf.training.checkpoints import Checkpoints
from egt_tf.training.state import TrainingState
from egt_tf.training.task import TrainingTask
from egt_tf.weights import save_arrays, weight_arrays


class StepCheckpoint(keras.callbacks.Callback):
    """Counts the steps of an epoch, stops at one that is not finite, and writes checkpoints within the epoch.

    The epoch that `state` has begun goes on with the running means that it had. Where several steps are one call,
    the checkpoint that falls within them is written after them.

    Args:
        checkpoints: writes the files.
        state: of the training.
        every: steps between two checkpoints; 0 writes none.
        steps_per_epoch: after the last step of an epoch `EpochEnd` writes one.
    """

    def __init__(self, checkpoints: Checkpoints, state: TrainingState, every: int, steps_per_epoch: int):
        super().__init__()
        self.checkpoints, self.state = checkpoints, state
        self.every, self.steps_per_epoch = every, steps_per_epoch
        self._began = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._began = time.monotonic() - self.state.seconds
        for metric in self.model.metrics:
            for variable, value in zip(metric.variables, self.state.sums.get(metric.name, ()), strict=False):
                variable.assign(value)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        failure = self.model.health.failure()
        if failure is not None:
            raise RunError(self.checkpoints.failure(*failure))
        before, self.state.step = self.state.step, batch + 1
        self.state.seconds = time.monotonic() - self._began
        done = self.state.epochs * self.steps_per_epoch
        is_due = self.every and (done + self.state.step) // self.every > (done + before) // self.every
        if is_due and self.state.step < self.steps_per_epoch:
            self.state.sums = {
                metric.name: [float(variable.numpy()) for variable in metric.variables] for metric in self.model.metrics
            }
            self.checkpoints.save(self.model, self.state)


class EpochEnd(keras.callbacks.Callback):
    """Validates after each epoch and writes the best weights, the metrics and a checkpoint.

    Adds `seconds`, without the validation, and what the validation measures to the epoch's logs, for the callbacks
    behind it.

    Args:
        task: what is trained.
        checkpoints: writes the checkpoints.
        state: of the training.
        report: gets lines for the user.
    """

    def __init__(
        self, task: TrainingTask, checkpoints: Checkpoints, state: TrainingState, report: Callable[[str], None]
    ):
        super().__init__()
        self.task, self.checkpoints, self.state, self.report = task, checkpoints, state, report

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        logs["seconds"] = self.state.seconds
        self.checkpoints.check_finite(self.model)
        logs.update(self.task.validate())
        for line in filter(None, (images.report_unreadable() for images in self.task.image_sets)):
            self.report(line)
        self.state.finish_epoch({"epoch": epoch + 1, **{key: float(value) for key, value in logs.items()}})
        if logs["val_accuracy"] > self.state.best_accuracy:
            self.state.best_accuracy = float(logs["val_accuracy"])
            save_arrays(self.task.best_file, weight_arrays(self.model.stored))
        metrics = "".join(json.dumps(row) + "\n" for row in self.state.metrics)
        write_text(self.task.run.metrics_file, metrics)
        # Last, so that a run killed before this line repeats the validation and writes the same files again.
        self.checkpoints.save(self.model, self.state)
