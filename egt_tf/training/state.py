"""The state a training resumes from: weights, optimizer and what was measured, in one file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from egt_tf.errors import RunError
from egt_tf.training.checked_model import CheckedModel
from egt_tf.training.precision import state_variables
from egt_tf.weights import assign_weights, load_arrays, weight_arrays
from egt_tf.wording import accuracy_text

_MODEL, _OPTIMIZER, _PROGRESS = "model/", "optimizer/", "progress"


@dataclasses.dataclass
class TrainingState:
    """How far a training is.

    With the seed, this also says where the data go on: the episodes and their augmentation are a function of the seed
    and of the number of episodes before them, and which images cannot be read is found again.

    Attributes:
        metrics: what each finished epoch measured; the number of epochs is its length.
        best_accuracy: best validation accuracy so far, in [0, 1]; -1 before the first epoch.
        step: finished steps of the epoch that has begun; 0 between two epochs.
        seconds: that those steps took.
        sums: values behind the running means of those steps, by the name of the mean.

    Example:
        >>> state = TrainingState(step=3, seconds=0.5)
        >>> state.finish_epoch({"epoch": 1, "loss": 0.7})
        >>> state.epochs, state.step
        (1, 0)
    """

    metrics: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best_accuracy: float = -1.0
    step: int = 0
    seconds: float = 0.0
    sums: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return len(self.metrics)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What a notebook and IPython show: how far and how good, without what each epoch measured."""
        best = f", best validation accuracy {accuracy_text(self.best_accuracy)}" if self.epochs else ""
        printer.text(f"{self.epochs} epochs{best}")

    def finish_epoch(self, row: dict[str, Any]) -> None:
        """Enters what the epoch that had begun has measured."""
        self.metrics.append(row)
        self.step, self.seconds, self.sums = 0, 0.0, {}


def state_arrays(model: CheckedModel, state: TrainingState) -> dict[str, np.ndarray]:
    """The state of a compiled model's training, as the named arrays of its file."""
    arrays = {_MODEL + name: array for name, array in weight_arrays(model.stored).items()}
    arrays.update((_OPTIMIZER + name, variable.numpy()) for name, variable in _variables(model).items())
    arrays[_PROGRESS] = np.array(json.dumps(dataclasses.asdict(state)))
    return arrays


def load_state(path: Path, model: CheckedModel) -> TrainingState:
    """Sets a compiled model and its optimizer to a saved state and says how far the training had come.

    Raises:
        RunError: the file is missing, damaged or of another architecture or optimizer.
    """
    arrays, variables = load_arrays(path), _variables(model)
    saved = {name[len(_OPTIMIZER) :]: array for name, array in arrays.items() if name.startswith(_OPTIMIZER)}
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    if _PROGRESS not in arrays or {name: array.shape for name, array in saved.items()} != shapes:
        raise RunError(
            f"{path} must hold the state of a training with this model and optimizer. Received: other "
            "contents; train into a new folder"
        )
    try:
        state = TrainingState(**json.loads(str(arrays[_PROGRESS])))
    except (ValueError, TypeError) as error:
        raise RunError(f"{path} must say how far its training was. Received: {error}") from error
    assign_weights(model.stored, _weights(arrays), str(path))
    for name, variable in variables.items():
        variable.assign(saved[name])
    return state


def stored_weights(path: Path) -> dict[str, np.ndarray]:
    """The weights of the model that a state was saved of, by name.

    Raises:
        RunError: the file is missing, damaged or no state of a training.
    """
    weights = _weights(load_arrays(path))
    if not weights:
        raise RunError(f"{path} must hold the state of a training. Received: other contents")
    return weights


def _weights(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name[len(_MODEL) :]: array for name, array in arrays.items() if name.startswith(_MODEL)}


def _variables(model: CheckedModel) -> dict[str, tf.Variable]:
    """What a training goes on from beside the weights, by name."""
    model.optimizer.build(model.classifier.trainable_variables)
    numbered = {f"{index:04d}": variable for index, variable in enumerate(state_variables(model.optimizer))}
    return {**numbered, **model.training_variables}
