from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import egt_tf.training.guided_model as module
from egt_tf.episodic_model import EpisodicModel
from egt_tf.keras_api import keras
from egt_tf.training.guidance import LossWeights
from egt_tf.training.guided_model import GuidedModel
from egt_tf.training.health import Health

SIZE, WAYS = 16, 2


def model(loss_scale: float | None = None, **options) -> GuidedModel:
    classifier = EpisodicModel.build_from(
        {"name": "conv4", "width": 2}, {"name": "relation", "batch_statistics": False}, SIZE, seed=0
    )
    result = GuidedModel(classifier)
    optimizer = keras.optimizers.Adam(0.01)
    if loss_scale:
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer, initial_scale=loss_scale)
    result.compile(optimizer=optimizer, **options)
    return result


def episodes(bad: tuple[int, ...] = (), count: int = 4) -> tf.data.Dataset:
    """One episode a step; the steps in `bad` have a pixel that is no number."""
    images = np.random.default_rng(0).normal(size=(count, 1, 2 * WAYS, SIZE, SIZE, 3)).astype(np.float32)
    for step in bad:
        images[step - 1, 0, -1, 0, 0, 0] = np.nan
    labels = np.tile(np.eye(WAYS, dtype=np.float32), (count, 1, 1, 1))
    inputs = {"support_images": images[:, :, :WAYS], "support_labels": labels, "query_images": images[:, :, WAYS:]}
    return tf.data.Dataset.from_tensor_slices((inputs, np.tile(np.arange(WAYS, dtype=np.int32), (count, 1, 1))))


def state(shell: GuidedModel) -> list[np.ndarray]:
    return [v.numpy() for v in (*shell.classifier.variables, *shell.optimizer.variables)]


def expect_equal(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"steps_per_execution": 4}])
def test_nothing_changes_from_the_bad_step_on(options):
    good, bad = model(**options), model(**options)
    good.fit(episodes().take(2), verbose=0)
    bad.fit(episodes(bad=(3,)), verbose=0)
    assert good.health.failure() is None
    assert bad.health.failure() == ("scores", 3)
    # Moving averages, moments and the count of steps are among them.
    expect_equal(state(good), state(bad))


@pytest.mark.slow
def test_the_first_of_several_bad_steps_is_named():
    shell = model(steps_per_execution=4)
    shell.fit(episodes(bad=(2, 4)), verbose=0)
    assert shell.health.failure() == ("scores", 2)


def test_a_weight_that_was_spoilt_is_the_cause():
    shell = model(run_eagerly=True)
    kernel = shell.classifier.backbone.get_layer("block2_conv").kernel
    kernel.assign(kernel * np.nan)
    shell.fit(episodes(count=1), verbose=0)
    assert shell.health.failure() == ("weight backbone/block2_conv/kernel", 1)


@pytest.mark.parametrize(("broken", "name"), [("relevance", "relevance"), ("guided", "guided scores")])
def test_what_guidance_spoils_is_named(monkeypatch, broken, name):
    original = module.guided_scores

    def spoilt(*args, **kwargs):
        result = original(*args, **kwargs)
        value = tf.nest.map_structure(lambda x: x / 0.0, getattr(result, broken))
        return dataclasses.replace(result, **{broken: value})

    monkeypatch.setattr(module, "guided_scores", spoilt)
    shell = model(run_eagerly=True)
    before = shell.classifier.get_weights()
    shell.fit(episodes(count=1), verbose=0)
    assert shell.health.failure() == (name, 1)
    expect_equal(before, shell.classifier.get_weights())


@tf.custom_gradient
def _spoils_gradient(x):
    return tf.identity(x), lambda upstream: upstream * np.inf


def test_a_gradient_is_named_though_the_loss_is_finite(monkeypatch):
    shell = model(run_eagerly=True)
    relate = shell.classifier.relate
    monkeypatch.setattr(
        shell.classifier,
        "relate",
        lambda *args, **kwargs: tf.nest.map_structure(_spoils_gradient, relate(*args, **kwargs)),
    )
    before = shell.classifier.get_weights()
    shell.fit(episodes(count=1), verbose=0)
    name, step = shell.health.failure()
    assert name.startswith("gradient of backbone/block1_conv")
    assert step == 1
    expect_equal(before, shell.classifier.get_weights())


# === Loss scales ===


@pytest.mark.slow
def test_a_step_that_the_loss_scale_leaves_out_is_no_failure():
    shell = model(loss_scale=2.0**127)
    # The scaled loss overflows for certain.
    shell.loss_weights = LossWeights(1000.0, 1000.0)
    before = shell.classifier.get_weights()
    shell.fit(episodes(count=1), verbose=0)
    assert shell.health.failure() is None
    assert shell.optimizer.iterations.numpy() == 1
    assert shell.optimizer.loss_scale.numpy() == 2.0**126
    # The weights are as they were; the moving averages of a good step are not.
    trained = {id(weight) for weight in shell.classifier.trainable_variables}
    for weight, value in zip(shell.classifier.weights, before):
        assert np.array_equal(weight.numpy(), value) == (id(weight) in trained), weight.name


@pytest.mark.parametrize(("scale", "fails"), [(2.0, False), (1.0, True)])
def test_gradients_may_overflow_as_long_as_the_scale_can_be_lowered(scale, fails):
    health = Health()
    gradients = {"gradient of a": tf.constant([1.0, np.inf])}
    healthy = health.check({}, {"loss": tf.constant(1.0)}, gradients, tf.constant(1), excused=tf.constant(scale > 1))
    assert bool(healthy) is not fails
    assert health.failure() == (("gradient of a", 1) if fails else None)


def test_a_loss_that_is_not_finite_is_never_excused():
    health = Health()
    assert not health.check({}, {"loss": tf.constant(np.nan)}, {}, tf.constant(7), excused=True)
    assert health.failure() == ("loss", 7)


def test_a_sum_that_overflows_is_no_failure():
    health = Health()
    assert health.check(
        {}, {"large": tf.constant([3e38, 3e38])}, {"half": tf.constant([6e4] * 9, tf.float16)}, tf.constant(1)
    )
    assert health.failure() is None


# === Replicas ===


def compare_on_two_replicas() -> None:
    """A bad episode on the second of two replicas, in the second step; without it there is one step."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy, shells = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), []
    for bad, number in (((), 1), ((4,), 3)):
        with strategy.scope():
            shells.append(model())
        shells[-1].fit(episodes(bad, count=6).unbatch().batch(2).take(number), verbose=0)
    good, bad = shells
    assert good.health.failure() is None
    assert bad.health.failure() == ("scores", 2)
    expect_equal(state(good), state(bad))


@pytest.mark.slow
def test_a_bad_episode_on_one_replica_stops_both():
    # A process of its own: the devices of this one are made already.
    result = subprocess.run([sys.executable, __file__], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]


if __name__ == "__main__":
    compare_on_two_replicas()
