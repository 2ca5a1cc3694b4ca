"""The state a training resumes from: weights, optimizer and what was measured, in one file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow import keras

from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import RunError
from egt_tf.training.precision import state_variables
from egt_tf.weights import assign_weights, load_arrays, save_arrays, weight_arrays

_MODEL, _OPTIMIZER, _PROGRESS = "model/", "optimizer/", "progress"


@dataclasses.dataclass
class Progress:
    """How far a training is.

    Attributes:
        metrics: what each finished epoch measured; the number of epochs is its length.
        best_accuracy: best validation accuracy so far, in [0, 1]; -1 before the first epoch.
    """

    metrics: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best_accuracy: float = -1.0

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return len(self.metrics)


def save_state(path: Path, model: EpisodicModel, optimizer: keras.optimizers.Optimizer, progress: Progress) -> None:
    """Writes the state, whole or not at all."""
    arrays = {_MODEL + name: array for name, array in weight_arrays(model).items()}
    arrays.update((_OPTIMIZER + name, v.numpy()) for name, v in _optimizer_variables(model, optimizer).items())
    arrays[_PROGRESS] = np.array(json.dumps(dataclasses.asdict(progress)))
    save_arrays(path, arrays)


def load_state(path: Path, model: EpisodicModel, optimizer: keras.optimizers.Optimizer) -> Progress:
    """Sets the model and the optimizer to a saved state and says how far it had come.

    Raises:
        RunError: the file is missing, damaged or of another architecture or optimizer.
    """
    arrays = load_arrays(path)
    variables = _optimizer_variables(model, optimizer)
    saved = {name[len(_OPTIMIZER):]: array for name, array in arrays.items() if name.startswith(_OPTIMIZER)}
    if _PROGRESS not in arrays or {k: a.shape for k, a in saved.items()} != {k: tuple(v.shape) for k, v in
                                                                            variables.items()}:
        raise RunError(f"{path} must hold the state of a training with this model and optimizer. Received: other "
                       "contents; train into a new folder")
    progress = _read_progress(path, arrays[_PROGRESS])
    weights = {name[len(_MODEL):]: array for name, array in arrays.items() if name.startswith(_MODEL)}
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
