"""Callbacks of a training that keep what it did: steps, epochs, the best weights, the metrics."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

from tensorflow import keras

from egt_tf.data.image_set import ImageSet
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import RunError
from egt_tf.evaluation.accuracy import Accuracy, Evaluator
from egt_tf.files import write_text
from egt_tf.runs import RunFolder
from egt_tf.training.checkpoints import Checkpoints
from egt_tf.training.guided_model import GuidedModel
from egt_tf.training.state import Progress
from egt_tf.weights import assign_weights, save_arrays, weight_arrays

Validate = Callable[[Evaluator], Accuracy]


class StepKeeper(keras.callbacks.Callback):
    """Counts the steps of an epoch, stops at one that is not finite, and writes checkpoints within the epoch.

    The epoch that `progress` has begun goes on with the running means that it had. Where several steps are one call,
    the checkpoint that falls within them is written after them.

    Args:
        checkpoints: writes the files.
        progress: of the training.
        every: steps between two checkpoints; 0 writes none.
        steps_per_epoch: after the last step of an epoch `EpochKeeper` writes one.
    """

    def __init__(self, checkpoints: Checkpoints, progress: Progress, every: int, steps_per_epoch: int):
        super().__init__()
        self.checkpoints, self.progress = checkpoints, progress
        self.every, self.steps_per_epoch = every, steps_per_epoch
        self._began = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.monotonic() - self.progress.seconds
        for metric in self.model.metrics:
            for variable, value in zip(metric.variables, self.progress.sums.get(metric.name, ()), strict=False):
                variable.assign(value)

    def on_train_batch_end(self, batch, logs=None):
        stop_if_not_finite(self.model, self.checkpoints)
        before, self.progress.step = self.progress.step, batch + 1
        self.progress.seconds = time.monotonic() - self._began
        if self.every and self.progress.step < self.steps_per_epoch and self._is_due(before):
            self.progress.sums = {
                metric.name: [float(variable.numpy()) for variable in metric.variables] for metric in self.model.metrics
            }
            self.checkpoints.save(self.model, self.progress)

    def _is_due(self, before):
        done = self.progress.epochs * self.steps_per_epoch
        return (done + self.progress.step) // self.every > (done + before) // self.every


class EpochKeeper(keras.callbacks.Callback):
    """Validates after each epoch and writes the best weights, the metrics and a checkpoint.

    Adds `val_accuracy`, `val_interval` and `seconds` to the epoch's logs, for the callbacks behind it.

    Args:
        run: where to write.
        judged: the model that is validated, with the weights that the trained one has then; it may be that one.
        checkpoints: writes the checkpoints.
        progress: of the training.
        validate: measures the accuracy by an evaluator of the model.
        image_sets: report the images that they left out as unreadable.
        report: gets lines on such images.
    """

    def __init__(
        self,
        run: RunFolder,
        judged: EpisodicModel,
        checkpoints: Checkpoints,
        progress: Progress,
        validate: Validate,
        image_sets: Sequence[ImageSet] = (),
        report: Callable[[str], None] = lambda line: None,
    ):
        super().__init__()
        self.run, self.checkpoints, self.progress, self.validate = run, checkpoints, progress, validate
        self.image_sets, self.report = image_sets, report
        self._evaluate = Evaluator(judged)

    def on_epoch_end(self, epoch, logs=None):
        logs["seconds"] = self.progress.seconds
        self.checkpoints.check_finite(self.model)
        if self._evaluate.model is not self.model.classifier:
            assign_weights(self._evaluate.model, weight_arrays(self.model.classifier), "the training")
        accuracy = self.validate(self._evaluate)
        for line in filter(None, (images.report_unreadable() for images in self.image_sets)):
            self.report(line)
        logs["val_accuracy"], logs["val_interval"] = accuracy.mean, accuracy.interval
        self.progress.finish_epoch({"epoch": epoch + 1, **{key: float(value) for key, value in logs.items()}})
        better = accuracy.mean > self.progress.best_accuracy
        self.progress.best_accuracy = max(accuracy.mean, self.progress.best_accuracy)
        self._write(better)
        # Last, so that a run killed before this line repeats the validation and writes the same files again.
        self.checkpoints.save(self.model, self.progress)

    def _write(self, better):
        if better:
            save_arrays(self.run.best_file, weight_arrays(self.model.classifier))
        write_metrics(self.run, self.progress)


def stop_if_not_finite(model: GuidedModel, checkpoints: Checkpoints) -> None:
    """Ends the training by one line if a step had a number that is not finite.

    Raises:
        RunError: so it was.
    """
    failure = model.health.failure()
    if failure is not None:
        raise RunError(checkpoints.failure(*failure))


def write_metrics(run: RunFolder, progress: Progress) -> None:
    """Writes what the finished epochs measured, one JSON object a line."""
    write_text(run.metrics_file, "".join(json.dumps(row) + "\n" for row in progress.metrics))
