"""innvestigate's stock analyzers on the backbone of a few-shot model.

They need eager execution off, and switching it off rewrites Keras's base classes for the whole process: so they run in
a process of their own (`innvestigate_process.py`), which gets the backbone, its weights and the images.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from egt_tf.backbones.feature_transformation import without_transformations
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ExplainError
from egt_tf.explain.gradients import DERIVATIVE, Select, images_and_features
from egt_tf.keras_api import has_innvestigate, keras
from egt_tf.lrp.propagation import record, reverse

TIMEOUT = 1800


def require_innvestigate() -> None:
    """Refuses what needs innvestigate itself where it is not.

    Raises:
        ExplainError: it is not installed, or this is the current lane, for which there is none.
    """
    if not has_innvestigate():
        raise ExplainError(
            f"innvestigate's own analyzers need innvestigate and TensorFlow 2.14, on Python 3.10 or 3.11. Received: TensorFlow "
            f"{tf.__version__} without it; take another method (--list-methods), or an environment with that Python"
        )


def innvestigate_names() -> tuple[str, ...]:
    """Names of innvestigate's analyzers; none where it is not."""
    if not has_innvestigate():
        return ()
    from innvestigate.analyzer import analyzers

    return tuple(sorted(analyzers))


def explain_by_innvestigate(
    model: keras.Model, inputs: Sequence[tf.Tensor], select: Select, analyzer: str
) -> list[tf.Tensor]:
    """Explains the backbone of a few-shot model by an analyzer of innvestigate.

    The head's part in the prediction reaches the backbone as a linear read-out of its features, one for each image:
    the derivative of the explained score with respect to them. The analyzer explains that read-out.

    Args:
        model: an `EpisodicModel`.
        inputs: one tensor for each of its inputs.
        select: weights of the scores in the value explained.
        analyzer: a name of `innvestigate_names()`.

    Returns:
        One map for each input, of its shape.

    Raises:
        ExplainError: the model has no backbone, or innvestigate cannot run the analyzer on it; the message is its own.
    """
    if not isinstance(model, EpisodicModel):
        raise ExplainError(
            "innvestigate's analyzers are run on the backbone of a few-shot model. Received: a "
            f"{type(model).__name__}; use innvestigate itself"
        )
    trace = record(model, inputs)
    images, features = images_and_features(trace)
    (slope,) = reverse(trace, select(trace.outputs[0]), DERIVATIVE, [features])
    backbone = without_transformations(model.backbone)
    maps = _analyze(backbone, images.numpy(), slope.numpy().reshape(len(slope), -1), analyzer)
    return reverse(trace, tf.constant(maps, images.dtype), DERIVATIVE, source=images)


def _analyze(backbone: keras.Model, images: np.ndarray, readout: np.ndarray, analyzer: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        request, response = Path(folder, "request.npz"), Path(folder, "response.npz")
        weights = {f"weight{index}": array for index, array in enumerate(backbone.get_weights())}
        np.savez(
            request,
            backbone=json.dumps(backbone.get_config()),
            analyzer=analyzer,
            images=images,
            readout=readout,
            **weights,
        )
        command = [sys.executable, "-m", "egt_tf.explain.innvestigate_process", str(request), str(response)]
        # The process must find the package that this one runs, wherever that is.
        path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ExplainError(
                f"innvestigate must be done with {analyzer!r} within {TIMEOUT} s. Received: no answer; "
                "take fewer support images or another method"
            ) from error
        if done.returncode != 0 or not response.exists():
            last_line = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise ExplainError(f"innvestigate's process must end well. Received: {last_line}")
        with np.load(response, allow_pickle=False) as answer:
            if "error" in answer:
                raise ExplainError(f"innvestigate cannot run {analyzer!r} on this backbone. It says: {answer['error']}")
            return answer["maps"]
