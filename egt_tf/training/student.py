"""Stochastic students: what a deterministic network is trained on as, once noise is put into it.

Our reading of Tan, Elovici and Binder, "Adaptive Noise Injection for Training Stochastic Student Networks from
Deterministic Teachers", ICPR 2020, of which the abstract alone was known.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tensorflow as tf

from egt_tf.backbones.batch_noise import check_degree, noise_layers, with_degree
from egt_tf.config import RunConfig, load_config
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError, RunError
from egt_tf.keras_api import keras
from egt_tf.registry import serializable
from egt_tf.runs import RunFolder
from egt_tf.tensors import widen
from egt_tf.training.checked_model import StepLosses
from egt_tf.training.guided_model import GuidedModel
from egt_tf.weights import named_weights

DEGREE, WEIGHT = 0.2, 1.0


@serializable
class StudentModel(GuidedModel):
    """A `GuidedModel` that also keeps to the probabilities of a teacher.

    Minimised is what a `GuidedModel` minimises, and `teacher_weight * KL(p || q)`: p are the probabilities that the
    teacher gives the queries of an episode, in inference and without noise, q those of the plain scores of the model, with
    its noise. One metric more: `teacher_loss`, the divergence in nats, >= 0.

    Args:
        classifier: the model to train.
        teacher: a model of the same episodes; its weights are left as they are.
        teacher_weight: t, >= 0.
        **kwargs: as for `GuidedModel`.

    Raises:
        ConfigError: see `GuidedModel`, or a weight below 0.

    Example:
        >>> plain, noisy = (
        ...     EpisodicModel.build_from({"name": "conv4", "width": 2, **noise}, "prototype", image_size=16, seed=0)
        ...     for noise in ({}, {"noise": 0.1})
        ... )
        >>> StudentModel(noisy, teacher=plain, guided_weight=0.0).metrics[-1].name
        'teacher_loss'
    """

    def __init__(
        self,
        classifier: EpisodicModel,
        teacher: EpisodicModel,
        teacher_weight: float = WEIGHT,
        name: str = "student_model",
        **kwargs: Any,
    ):
        super().__init__(classifier, name=name, **kwargs)
        if not teacher_weight >= 0:
            raise ConfigError(f"`student.weight` must be a number >= 0. Received: {teacher_weight!r}")
        self.teacher, self.teacher_weight = teacher, teacher_weight
        teacher.trainable = False
        self.trackers["teacher_loss"] = keras.metrics.Mean("teacher_loss")

    def step_losses(self, data: Any) -> StepLosses:
        """Those of a `GuidedModel`, and the divergence from the teacher."""
        losses = super().step_losses(data)
        inputs, *_ = keras.utils.unpack_x_y_sample_weight(data)
        divergence = self._divergence(self.teacher(inputs, training=False), losses.watched["scores"])
        loss = losses.minimised + self.teacher_weight * tf.cast(tf.reduce_mean(divergence), losses.minimised.dtype)
        return StepLosses(
            loss,
            {**losses.measured, "loss": loss, "teacher_loss": divergence},
            {**losses.watched, "teacher loss": divergence, "loss": loss},
        )

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """As that of a `GuidedModel`; the divergence is reported as 0."""
        self.trackers["teacher_loss"].update_state(0.0)
        return super().test_step(data)

    def _divergence(self, teacher_scores: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        head = self.classifier.head
        known, learnt = (head.log_probabilities(widen(x)) for x in (teacher_scores, scores))
        return divergence(tf.stop_gradient(tf.cast(known, learnt.dtype)), learnt)

    def get_config(self) -> dict[str, Any]:
        """Every argument of the constructor."""
        teacher = keras.saving.serialize_keras_object(self.teacher)
        return {**super().get_config(), "teacher": teacher, "teacher_weight": self.teacher_weight}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> StudentModel:
        """Makes the model from `get_config`, with new weights."""
        teacher = keras.saving.deserialize_keras_object(config["teacher"], custom_objects=custom_objects)
        return super().from_config({**config, "teacher": teacher}, custom_objects)


def divergence(known: tf.Tensor, learnt: tf.Tensor) -> tf.Tensor:
    """`KL(p || q) = sum_c p_c (log p_c - log q_c)`, in nats.

    Args:
        known: log p, `(..., ways)`, finite.
        learnt: log q, likewise.

    Returns:
        `(...)`, >= 0.

    Example:
        >>> round(float(divergence(tf.math.log([0.5, 0.5]), tf.math.log([0.25, 0.75]))), 4)
        0.1438
    """
    return tf.reduce_sum(tf.exp(known) * (known - learnt), axis=-1)


def load_teacher(path: str | os.PathLike[str]) -> EpisodicModel:
    """The model of a run with its best weights and without noise.

    Raises:
        RunError: there is none.

    Example:
        >>> load_teacher("no/such/run")
        Traceback (most recent call last):
        egt_tf.errors.RunError: the teacher must be a trained run: the run folder no/such/run must exist. Received: ...
    """
    try:
        model = RunFolder(Path(path)).load_model()
    except (RunError, ConfigError) as error:
        raise RunError(f"the teacher must be a trained run: {error}") from error
    if not noise_layers(model.backbone):
        return model
    return EpisodicModel(with_degree(model.backbone, 0.0), model.head)


def take_weights(student: EpisodicModel, teacher: EpisodicModel, origin: str) -> None:
    """Sets every weight of a student but those of its noise to the teacher's.

    Args:
        student: the model.
        teacher: a model of the same layers, with noise or without.
        origin: where the teacher comes from, for the message.

    Raises:
        RunError: it has other layers.

    Example:
        >>> plain, noisy = (
        ...     EpisodicModel.build_from({"name": "conv4", "width": 2, **noise}, "prototype", image_size=16, seed=seed)
        ...     for seed, noise in enumerate(({}, {"noise": 0.1}))
        ... )
        >>> take_weights(noisy, plain, "an example")
        >>> bool(np.array_equal(noisy.get_weights()[0], plain.get_weights()[0]))
        True
    """
    wanted, given = (
        {name: weight for name, weight in named_weights(model).items() if not name.startswith("noise/")}
        for model in (student, teacher)
    )
    shapes, given_shapes = ({name: weight.shape for name, weight in each.items()} for each in (wanted, given))
    if shapes != given_shapes:
        differing = sorted(name for name in {**shapes, **given_shapes} if shapes.get(name) != given_shapes.get(name))
        raise RunError(
            f"a student must have the layers of its teacher, {origin}. Received: others at {', '.join(differing[:3])}"
        )
    for name, weight in wanted.items():
        weight.assign(given[name])


def student_config(
    teacher: RunFolder, degree: float = DEGREE, weight: float = WEIGHT, overrides: Iterable[str] = ()
) -> RunConfig:
    """The configuration of a stochastic student of a run: that of the run, with noise and a teacher, and half its epochs.

    Args:
        teacher: the run.
        degree: of the noise, in [0, 1].
        weight: t, >= 0.
        overrides: "section.key=value", which win.

    Raises:
        RunError: the run is none, or is not trained.
        ConfigError: the degree or an override is not as it must be.

    Example:
        >>> student_config(RunFolder(Path("no/such/run")))
        Traceback (most recent call last):
        egt_tf.errors.RunError: the run folder no/such/run must exist. Received: no such folder
    """
    check_degree("degree", degree)
    epochs = teacher.config().training.epochs
    ours = {
        "model.backbone.noise": degree,
        "student.teacher": str(teacher.path),
        "student.weight": weight,
        "training.epochs": math.ceil(epochs / 2),
        # All weights are the teacher's.
        "training.warm_start": None,
        "training.learn_transformation": False,
    }
    # JSON is YAML, whatever characters a path has.
    return load_config(
        teacher.config_file, [*(f"{key}={json.dumps(value)}" for key, value in ours.items()), *overrides]
    )


def check_student(config: RunConfig, frozen: bool) -> None:
    """Checks what does not go with a teacher.

    Raises:
        ConfigError: a warm start, a learned transformation or a frozen backbone.
    """
    if config.student.teacher is None:
        return
    training = config.training
    given = {
        "training.warm_start": training.warm_start is not None,
        "training.learn_transformation": training.learn_transformation,
        "model.backbone.trainable=false": frozen,
    }
    for key in (key for key, is_given in given.items() if is_given):
        raise ConfigError(
            f"`student.teacher` must be null with {key}: a student starts from all weights of its teacher, and is "
            f"trained on images and as a whole (--set model.backbone.trainable=true). Received: {config.student.teacher}"
        )
