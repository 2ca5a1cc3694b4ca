"""What a training trains: the two kinds, of a few-shot classifier and of a backbone, differ in this alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

from egt_tf.config import RunConfig
from egt_tf.data.image_set import ImageSet
from egt_tf.data.pipeline import StepPart
from egt_tf.keras_api import keras
from egt_tf.runs import RunFolder
from egt_tf.training.checked_model import CheckedModel
from egt_tf.training.state import TrainingState
from egt_tf.training.tensorboard import TensorBoardScalars


class TrainingTask:
    """A model to train, the steps to train it on, and how it is validated.

    Args:
        config: of the run, complete.
        run: where the training is written to.
        model: compiled.
        epochs: of the whole training.
        steps_per_epoch: updates of the weights in each.
        best_file: gets the weights of the epoch with the best validation accuracy.
        image_sets: report after each epoch the images that they left out as unreadable.
    """

    def __init__(
        self,
        config: RunConfig,
        run: RunFolder,
        model: CheckedModel,
        epochs: int,
        steps_per_epoch: int,
        best_file: Path,
        image_sets: Sequence[ImageSet] = (),
    ):
        self.config, self.run, self.model = config, run, model
        self.epochs, self.steps_per_epoch = epochs, steps_per_epoch
        self.best_file, self.image_sets = best_file, image_sets

    def epochs_of(self, config: RunConfig) -> int:
        """How many epochs a training like this has by another configuration."""
        raise NotImplementedError

    def finished_steps(self, state: TrainingState) -> int:
        """Steps of the whole training that `state` has done."""
        return state.epochs * self.steps_per_epoch + state.step

    def prepare(self, report: Callable[[str], None]) -> None:
        """Does what takes long and needs the weights that the training begins with; `report` gets lines for the user.

        Raises:
            DataError: an image cannot be read.
        """

    def steps(self, finished: int, part: StepPart) -> tf.data.Dataset:
        """The steps that follow `finished` ones until the last epoch, or a part of each."""
        raise NotImplementedError

    def validate(self) -> dict[str, float]:
        """What is measured after an epoch: `val_accuracy` in [0, 1], and more."""
        raise NotImplementedError

    def write_examples(self) -> None:
        """Writes what a new run holds beside its configuration and its state."""

    def more_callbacks(
        self, tensorboard: TensorBoardScalars, report: Callable[[str], None]
    ) -> list[keras.callbacks.Callback]:
        """Callbacks of this training alone; they see what the validation measured."""
        return []
