"""The state a training resumes from: weights, optimizer and what was measured, in one file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from egt_tf.errors import RunError
from egt_tf.training.precision import state_variables
from egt_tf.weights import Partitioned, assign_weights, load_arrays, save_arrays, weight_arrays

_MODEL, _OPTIMIZER, _PROGRESS = "model/", "optimizer/", "progress"


@dataclasses.dataclass
class Progress:
    """How far a training is.

    With the seed, this also says where the data go on: the episodes and their augmentation are a function of the seed
    and of the number of episodes before them, and which images cannot be read is found again.

    Attributes:
        metrics: what each finished epoch measured; the number of epochs is its length.
        best_accuracy: best validation accuracy so far, in [0, 1]; -1 before the first epoch.
        step: finished steps of the epoch that has begun; 0 between two epochs.
        seconds: that those steps took.
        sums: values behind the running means of those steps, by the name of the mean.
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

    def finish_epoch(self, row: dict[str, Any]) -> None:
        """Enters what the epoch that had begun has measured."""
        self.metrics.append(row)
        self.step, self.seconds, self.sums = 0, 0.0, {}


def save_state(
    path: Path,
    model: Partitioned,
    optimizer: keras.optimizers.Optimizer,
    progress: Progress,
    others: Mapping[str, tf.Variable] = MappingProxyType({}),
) -> None:
    """Writes the state, whole or not at all; `others` are more variables that belong to it, by name."""
    save_arrays(path, state_arrays(model, optimizer, progress, others))


def state_arrays(
    model: Partitioned,
    optimizer: keras.optimizers.Optimizer,
    progress: Progress,
    others: Mapping[str, tf.Variable] = MappingProxyType({}),
) -> dict[str, np.ndarray]:
    """The state as named arrays."""
    arrays = {_MODEL + name: array for name, array in weight_arrays(model).items()}
    variables = {**_optimizer_variables(model, optimizer), **others}
    arrays.update((_OPTIMIZER + name, variable.numpy()) for name, variable in variables.items())
    arrays[_PROGRESS] = np.array(json.dumps(dataclasses.asdict(progress)))
    return arrays


def load_state(
    path: Path,
    model: Partitioned,
    optimizer: keras.optimizers.Optimizer,
    others: Mapping[str, tf.Variable] = MappingProxyType({}),
) -> Progress:
    """Sets the model and the optimizer to a saved state and says how far it had come.

    Raises:
        RunError: the file is missing, damaged or of another architecture or optimizer.
    """
    arrays = load_arrays(path)
    variables = {**_optimizer_variables(model, optimizer), **others}
    saved = {name[len(_OPTIMIZER) :]: array for name, array in arrays.items() if name.startswith(_OPTIMIZER)}
    if _PROGRESS not in arrays or {k: a.shape for k, a in saved.items()} != {
        k: tuple(v.shape) for k, v in variables.items()
    }:
        raise RunError(
            f"{path} must hold the state of a training with this model and optimizer. Received: other "
            "contents; train into a new folder"
        )
    progress = _read_progress(path, arrays[_PROGRESS])
    weights = {name[len(_MODEL) :]: array for name, array in arrays.items() if name.startswith(_MODEL)}
    assign_weights(model, weights, str(path))
    for name, variable in variables.items():
        variable.assign(saved[name])
    return progress


def _read_progress(path: Path, array: np.ndarray) -> Progress:
    try:
        return Progress(**json.loads(str(array)))
    except (ValueError, TypeError) as error:
        raise RunError(f"{path} must say how far its training was. Received: {error}") from error


def _optimizer_variables(model, optimizer):
    optimizer.build(model.trainable_variables)
    return {f"{index:04d}": variable for index, variable in enumerate(state_variables(optimizer))}
