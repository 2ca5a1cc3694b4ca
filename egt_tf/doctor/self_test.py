"""Guided training steps of a tiny RelationNet on each device."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from egt_tf.doctor.findings import MachineFinding, State
from egt_tf.doctor.machine import Gpu
from egt_tf.episodic_model import EpisodicModel
from egt_tf.keras_api import compiled, keras
from egt_tf.lrp.presets import COMPOSITES
from egt_tf.training.guidance import guided_scores
from egt_tf.training.guided_model import GuidedModel

WAYS, QUERIES, SIZE = 3, 6, 32
SECONDS_OF_STEPS = 1.0
_MOST_STEPS = 50


@dataclasses.dataclass(frozen=True)
class StepResult:
    """What guided steps gave.

    Attributes:
        loss: of the last step.
        relevance, weights: of the head's features, in one explanation after the steps.
        steps_per_second: of the compiled steps, the first one left out.
    """

    loss: float
    relevance: np.ndarray
    weights: np.ndarray
    steps_per_second: float


def visible_gpus(installed: Sequence[Gpu]) -> list[Gpu]:
    """The cards that TensorFlow can use; their memory is known where the driver names as many cards."""
    gpus = []
    devices = tf.config.list_physical_devices("GPU")
    for number, device in enumerate(devices):
        details = tf.config.experimental.get_device_details(device)
        memory = installed[number].memory if len(installed) == len(devices) else None
        gpus.append(Gpu(details.get("device_name", device.name), details.get("compute_capability"), memory))
    return gpus


def examine_steps() -> list[MachineFinding]:
    """One finding for each device."""
    return [_tested(device.name) for device in tf.config.list_logical_devices() if device.device_type in ("CPU", "GPU")]


def _tested(device: str) -> MachineFinding:
    subject = device.removeprefix("/device:")
    try:
        result = guided_steps(device)
    # Whatever a broken driver or library raises is what this is here to find.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return MachineFinding(
            "self-test",
            subject,
            f"a guided step failed: {reason}",
            State.WRONG,
            "egt-tf --debug doctor shows TensorFlow's log"
            + ("; CUDA_VISIBLE_DEVICES= trains without the GPU" if "GPU" in subject else ""),
        )
    return step_finding(subject, result)


def step_finding(subject: str, result: StepResult) -> MachineFinding:
    """Whether the result of guided steps is one that a sound device gives.

    Args:
        subject: the device.
        result: what it gave.
    """
    problems = []
    if not np.isfinite(result.loss):
        problems.append(f"the loss is {result.loss}")
    if not np.isfinite(result.relevance).all():
        problems.append("relevance is not finite")
    elif not result.relevance.any():
        problems.append("all relevance is 0")
    if not ((result.weights >= 0) & (result.weights <= 2)).all():
        problems.append("weights are not in [0, 2]")
    if problems:
        return MachineFinding(
            "self-test",
            subject,
            "; ".join(problems),
            State.WRONG,
            "the device computes wrong numbers: look at its driver, or train on another",
        )
    return MachineFinding(
        "self-test",
        subject,
        f"a guided step works: loss {result.loss:.4f}, {result.steps_per_second:.0f} steps/s of a tiny model",
    )


def guided_steps(device: str) -> StepResult:
    """Runs guided training steps on one device, for about `SECONDS_OF_STEPS` after the first.

    Args:
        device: as TensorFlow names it ("/device:CPU:0").
    """
    with tf.device(device):
        classifier = EpisodicModel.build_from({"name": "conv4", "width": 8}, "relation", SIZE, seed=0)
        model = GuidedModel(classifier)
        model.compile(optimizer=keras.optimizers.Adam(1e-3))
        inputs, labels = _episode()
        # As `fit` compiles it, without a conversion of its code.
        step = compiled(lambda: model.train_step((inputs, labels)))
        loss = float(step()["loss"])
        began, steps = time.monotonic(), 0
        while steps < _MOST_STEPS and time.monotonic() - began < SECONDS_OF_STEPS:
            loss = float(step()["loss"])
            steps += 1
        rate = steps / (time.monotonic() - began)

        def explained() -> tuple[tf.Tensor, tf.Tensor]:
            scores = guided_scores(classifier.head, classifier.relate(inputs, training=True), COMPOSITES.get("fsc"))
            return scores.relevance[0], scores.weights[0]

        relevance, weights = compiled(explained)()
    return StepResult(loss, relevance.numpy(), weights.numpy(), rate)


def _episode() -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 1, WAYS, SIZE, SIZE, 3)).astype(np.float32)
    queries = np.repeat(images[1], QUERIES // WAYS, axis=1)
    labels = np.repeat(np.arange(WAYS, dtype=np.int32), QUERIES // WAYS)[None]
    return {
        "support_images": tf.constant(images[0]),
        "support_labels": tf.eye(WAYS)[None],
        "query_images": tf.constant(queries),
    }, tf.constant(labels)
