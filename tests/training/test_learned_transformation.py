from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

import egt_tf.training.guided_model as guided_module
from egt_tf.backbones.feature_transformation import transformations
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError
from egt_tf.heads.weighting import Weighting
from egt_tf.keras_api import keras
from egt_tf.training.guidance import GuidedScores, guided_scores
from egt_tf.training.guided_model import GuidedModel
from egt_tf.training.learned_transformation import TransformationLearner

SIZE, WAYS, RATE = 16, 2, 0.05
HEADS = {"relation": {}, "graph": {"ways": WAYS}, "cross_attention": {}}
# The others take longer.
HEADS_FIRST = [pytest.param(head, marks=[pytest.mark.slow] * (head != "relation")) for head in HEADS]


def classifier(head: str = "relation", transformation=True) -> EpisodicModel:
    backbone = {"name": "conv4", "width": 2, "feature_transformation": transformation}
    return EpisodicModel.build_from(backbone, {"name": head, **HEADS[head]}, SIZE, seed=3)


def episode(seed: int):
    """One episode of two classes, two shots and one query a class."""
    rng = np.random.default_rng(seed)

    def images(count):
        return tf.constant(rng.normal(size=(1, count, SIZE, SIZE, 3)), keras.backend.floatx())

    labels = tf.constant(np.eye(WAYS)[[[0, 0, 1, 1]]], keras.backend.floatx())
    inputs = {"support_images": images(4), "support_labels": labels, "query_images": images(2)}
    return inputs, tf.constant([[0, 1]], tf.int32), tf.constant([[0, 1]], tf.int32)


def learner(model: EpisodicModel, **arguments) -> TransformationLearner:
    """Its thetas go down their gradient by 1, so that a step shows it."""
    result = TransformationLearner(model, **arguments)
    keras.Model.compile(result, optimizer=keras.optimizers.SGD(RATE), run_eagerly=True)
    result.theta_optimizer = keras.optimizers.SGD(1.0)
    return result


def moves(shell: TransformationLearner, thetas: list[np.ndarray]) -> tuple[list[np.ndarray], float]:
    """One step from given thetas: how the step moved each, and the unseen loss; weights and noise start the same."""
    start = shell.classifier.get_weights()
    for variable, value in zip(shell.thetas, thetas):
        variable.assign(value)
    shell.reset_metrics()
    logs = shell.train_step((episode(1), episode(2)))
    moved = [variable.numpy() - value for variable, value in zip(shell.thetas, thetas)]
    shell.classifier.set_weights(start)
    return moved, float(logs["unseen_loss"])


def norms(model: EpisodicModel) -> list[keras.layers.BatchNormalization]:
    return [layer for layer in model.backbone.layers if isinstance(layer, keras.layers.BatchNormalization)]


def exact_moments(inputs, axes, keep_dims, mask=None):
    mean = tf.reduce_mean(inputs, axes, keepdims=True)
    variance = tf.reduce_mean((inputs - mean) ** 2, axes, keepdims=keep_dims)
    return (mean if keep_dims else tf.reshape(mean, tf.shape(variance))), variance


def check_by_differences(shell: TransformationLearner) -> None:
    for layer in norms(shell.classifier):
        # Running averages are no part of the derivative, so they must not move here.
        layer.momentum = 1.0
        # What Keras does in double precision has no second derivative; see also the test in single precision.
        layer._calculate_mean_and_var = exact_moments
    thetas = [np.asarray(theta) for theta in shell.thetas]
    moved, _ = moves(shell, thetas)
    assert any(np.any(np.abs(m) > 1e-9) for m in moved)
    rng = np.random.default_rng(0)
    # So small a difference that no leaky ReLU of the graph head turns on the way.
    for _ in range(3):
        direction = [rng.normal(size=t.shape) for t in thetas]
        ahead, behind = (moves(shell, [t + sign * 1e-8 * d for t, d in zip(thetas, direction)])[1] for sign in (1, -1))
        slope = sum((m * d).sum() for m, d in zip(moved, direction))
        assert -slope == pytest.approx((ahead - behind) / 2e-8, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("head", HEADS_FIRST)
def test_the_gradient_of_the_thetas_is_that_of_the_unseen_loss(float64, head):
    check_by_differences(learner(classifier(head), guided_weight=0.0))


@pytest.mark.slow
def test_so_it_is_with_guidance_whose_weights_are_constants(float64, monkeypatch):
    shell, weights = learner(classifier()), []

    def frozen(head, features, *args, **kwargs):
        result = guided_scores(head, features, *args, **kwargs)
        weights[:] = weights or result.weights
        guided = head.training_scores(features, result.plain, list(map(Weighting, weights)))
        return GuidedScores(result.plain, guided, result.output_relevance, result.relevance, tuple(weights))

    # The weights of the first step, for all: the derivative takes them as constants.
    monkeypatch.setattr(guided_module, "guided_scores", frozen)
    check_by_differences(shell)


@pytest.mark.slow
def test_single_precision_gives_the_gradient_of_double_precision():
    """Fused normalisation, which training uses, against one whose gradient is checked by differences."""
    single = learner(classifier(), guided_weight=0.0)
    weights, thetas = single.classifier.get_weights(), [theta.numpy() for theta in single.thetas]
    assert all(layer.fused for layer in norms(single.classifier))
    moved, loss = moves(single, thetas)
    keras.backend.set_floatx("float64")
    try:
        double = learner(classifier(), guided_weight=0.0)
        double.classifier.set_weights(weights)
        for layer in norms(double.classifier):
            layer._calculate_mean_and_var = exact_moments
        expected, expected_loss = moves(double, thetas)
    finally:
        keras.backend.set_floatx("float32")
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    np.testing.assert_allclose(
        np.concatenate(moved), np.concatenate(expected), rtol=0.02, atol=0.01 * np.abs(np.concatenate(expected)).max()
    )


@pytest.mark.parametrize(
    ("head", "eagerly"),
    [
        pytest.param("relation", False, marks=pytest.mark.slow),
        *(pytest.param(head, True, marks=[pytest.mark.slow] * (head != "relation")) for head in HEADS),
    ],
)
def test_one_step_with_guidance(head, eagerly):
    """The weights move as a guided model's do, the thetas move too, and the step of the derivative is taken back."""
    model, other = classifier(head), classifier(head)
    shell, plain = TransformationLearner(model), GuidedModel(other)
    for each in (shell, plain):
        each.compile(optimizer=keras.optimizers.SGD(RATE), run_eagerly=eagerly)
    thetas = [theta.numpy() for theta in shell.thetas]
    seen = tf.data.Dataset.from_tensors(episode(1))
    logs = shell.fit(tf.data.Dataset.zip((seen, tf.data.Dataset.from_tensors(episode(2)))), verbose=0).history
    expected = plain.fit(seen, verbose=0).history
    assert {key: logs[key] for key in expected} == {
        key: pytest.approx(value, rel=1e-4) for key, value in expected.items()
    }
    assert np.isfinite(logs["unseen_loss"][0])
    assert logs["guided_loss"][0] > 0
    for a, b in zip(model.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert all(np.any(theta.numpy() != old) for theta, old in zip(shell.thetas, thetas))
    assert [int(layer.calls) for layer in transformations(model.backbone)] == [1] * 4


def test_a_guided_model_leaves_the_thetas_and_transforms():
    model, still = classifier(), classifier(transformation=False)
    losses = []
    for each in (model, still):
        shell = GuidedModel(each)
        shell.compile(optimizer=keras.optimizers.SGD(RATE), run_eagerly=True)
        losses.append(shell.train_step(episode(1))["loss"])
    assert losses[0] != losses[1]
    for layer in transformations(model.backbone):
        np.testing.assert_array_equal(layer.theta_gamma, np.float32([0.3, 0.3]))


def test_config_round_trip():
    shell = TransformationLearner(classifier(), plain_weight=0.5, transformation_learning_rate=0.02, detach=False)
    stored = json.loads(json.dumps(keras.saving.serialize_keras_object(shell)))
    copy = keras.saving.deserialize_keras_object(stored)
    assert isinstance(copy, TransformationLearner)
    assert json.dumps(copy.get_config()) == json.dumps(shell.get_config())
    assert copy.transformation_learning_rate == 0.02
    assert copy.loss_weights.plain == 0.5


def test_xla_is_refused():
    with pytest.raises(ConfigError, match="`jit_compile` must be false where a transformation is learned"):
        TransformationLearner(classifier()).compile(optimizer="adam", jit_compile=True)


def test_a_backbone_without_transformation_is_refused():
    with pytest.raises(ConfigError, match="the backbone must have one"):
        TransformationLearner(classifier(transformation=False))


def test_double_precision_is_refused(float64):
    with pytest.raises(ConfigError, match=r"single precision .* Received: float64, fused=False"):
        TransformationLearner(classifier()).compile(optimizer="adam")


def test_half_precision_is_refused():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        with pytest.raises(ConfigError, match=r"single precision .* Received: float16"):
            TransformationLearner(classifier()).compile(optimizer="adam")
    finally:
        keras.mixed_precision.set_global_policy(None)


@pytest.mark.parametrize("rate", [0.0, -1.0, "fast"])
def test_a_learning_rate_that_is_none_is_refused(rate):
    with pytest.raises(ConfigError, match="`transformation_learning_rate` must be a number > 0"):
        TransformationLearner(classifier(), transformation_learning_rate=rate)
