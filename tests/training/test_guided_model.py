from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
import tensorflow as tf

import egt_tf.training.guided_model as module
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError
from egt_tf.heads import HEADS
from egt_tf.keras_api import keras
from egt_tf.lrp.analyzer import LRP
from egt_tf.training.guided_model import GuidedModel
from tests.helpers.quick import all_but_slow

SIZE = 32
WAYS = 3


def classifier(seed: int = 0, **head) -> EpisodicModel:
    return EpisodicModel.build_from({"name": "conv4", "width": 4}, {"name": "relation", **head}, SIZE, seed=seed)


def step_data(count: int = 2, shots: int = 2, per_class: int = 2, seed: int = 0):
    """Episodes whose classes differ in colour, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    colours = rng.normal(size=(count, WAYS, 1, 1, 1, 3))

    def images(number):
        noise = rng.normal(size=(count, WAYS, number, SIZE, SIZE, 3))
        return (colours + 0.5 * noise).reshape(count, WAYS * number, SIZE, SIZE, 3).astype(np.float32)

    labels = np.eye(WAYS, dtype=np.float32)[np.repeat(np.arange(WAYS), shots)]
    inputs = {
        "support_images": images(shots),
        "support_labels": np.tile(labels, (count, 1, 1)),
        "query_images": images(per_class),
    }
    return inputs, np.tile(np.repeat(np.arange(WAYS, dtype=np.int32), per_class), (count, 1))


def steps(data, number: int = 1) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors(data).repeat(number)


def adam() -> keras.optimizers.Adam:
    # A large epsilon: biases before a normalisation get gradients of pure rounding, which Adam would blow up.
    return keras.optimizers.Adam(0.01, epsilon=1e-3)


def guided(model: EpisodicModel, graph: bool = False, **arguments) -> GuidedModel:
    """Compiled; a few steps are faster without a graph."""
    result = GuidedModel(model, **arguments)
    result.compile(optimizer=adam(), run_eagerly=not graph)
    return result


def step_by_hand(model: EpisodicModel, data, plain_weight: float, guided_weight: float) -> dict[str, float]:
    """One update written down from the formulas, with the analyzer instead of `guided_scores`."""
    inputs, labels = {name: tf.constant(x) for name, x in data[0].items()}, data[1]
    head, analyzer = model.head, LRP(model.head.weighted_model, "fsc")
    target = np.eye(WAYS)[labels].astype(np.float32)
    with tf.GradientTape() as tape:
        images = tf.concat([inputs["support_images"], inputs["query_images"]], axis=1)
        count, size = images.shape[:2]
        maps = model.backbone(tf.reshape(images, [-1, SIZE, SIZE, 3]), training=True)
        maps = tf.reshape(maps, [count, size, *maps.shape[1:]])
        support = inputs["support_images"].shape[1]
        features = head.relate(maps[:, :support], inputs["support_labels"], maps[:, support:])
        scores = head.score(features, training=True)
        probabilities = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        start = np.log((WAYS - 1) * (probabilities + 0.01) / (1.01 - probabilities))
        pairs = tf.concat(
            [
                tf.repeat(features[0][:, None], features[1].shape[1], axis=1),
                tf.repeat(features[1][:, :, None], WAYS, axis=2),
            ],
            axis=-1,
        )
        relevance = analyzer.relevance(tf.constant(pairs.numpy()), tf.constant(start), training=True).numpy()
        largest = np.abs(relevance).max(-1, keepdims=True)
        weights = 1 + relevance / np.where(largest == 0, 1, largest)
        second = head.weighted_model(pairs * weights, training=True)
        plain = tf.reduce_mean((tf.sigmoid(scores) - target) ** 2)
        weighted = tf.reduce_mean((tf.sigmoid(second) - target) ** 2)
        loss = plain_weight * plain + guided_weight * weighted
    adam().apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))
    accuracy = (np.argmax(scores, -1) == labels).mean()
    return {
        "loss": float(loss),
        "plain_loss": float(plain),
        "guided_loss": float(weighted),
        "auxiliary_loss": 0.0,
        "accuracy": accuracy,
    }


# === one step ===


@pytest.mark.parametrize(
    ("plain", "weighted", "graph"),
    all_but_slow([(1.0, 0.5, True), (0.3, 1.0, False), (0.0, 1.0, False)], {(0.3, 1.0, False)}),
)
def test_one_step_equals_the_formulas(plain, weighted, graph):
    model, other, data = classifier(), classifier(), step_data()
    shell = guided(model, graph, plain_weight=plain, guided_weight=weighted)
    before = model.get_weights()
    logs = shell.fit(steps(data), verbose=0).history
    expected = step_by_hand(other, data, plain, weighted)
    assert {key: value[0] for key, value in logs.items()} == pytest.approx(expected, rel=1e-5)
    for a, b in zip(model.get_weights(), other.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert all(np.any(old != a.numpy()) for old, a in zip(before, model.weights) if "kernel" in a.name)


@pytest.mark.parametrize("loss_name", all_but_slow(["mse", "cross_entropy"], {"mse"}))
def test_without_guidance_it_is_plain_training(loss_name, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("an explanation was computed")

    monkeypatch.setattr(module, "guided_scores", forbidden)
    model, other, (inputs, labels) = classifier(loss=loss_name), classifier(loss=loss_name), step_data()
    logs = guided(model, plain_weight=2.0, guided_weight=0.0).fit(steps((inputs, labels)), verbose=0).history
    with tf.GradientTape() as tape:
        plain = tf.reduce_mean(other.head.loss(other(inputs, training=True), labels))
        loss = 2.0 * plain
    adam().apply_gradients(zip(tape.gradient(loss, other.trainable_variables), other.trainable_variables))
    assert logs["guided_loss"] == [0.0]
    assert logs["loss"][0] == pytest.approx(2 * float(plain), rel=1e-5)
    assert logs["plain_loss"][0] == pytest.approx(float(plain), rel=1e-5)
    for a, b in zip(model.get_weights(), other.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_several_episodes_average_their_losses():
    data = step_data(count=3)
    alone = []
    for e in range(3):
        one = ({name: x[e : e + 1] for name, x in data[0].items()}, data[1][e : e + 1])
        alone.append(guided(classifier()).test_on_batch(*one, return_dict=True))
    together = guided(classifier()).test_on_batch(*data, return_dict=True)
    for key in together:
        assert together[key] == pytest.approx(np.mean([logs[key] for logs in alone]), rel=1e-4)


def test_metrics():
    shell = guided(classifier(), plain_weight=1.0, guided_weight=0.5)
    history = shell.fit(steps(step_data(), 3), verbose=0, validation_data=steps(step_data(seed=5))).history
    names = {"loss", "plain_loss", "guided_loss", "auxiliary_loss", "accuracy"}
    assert set(history) == names | {f"val_{name}" for name in names}
    assert [metric.name for metric in shell.metrics] == [
        "loss",
        "plain_loss",
        "guided_loss",
        "auxiliary_loss",
        "accuracy",
    ]
    assert history["loss"][0] == pytest.approx(history["plain_loss"][0] + 0.5 * history["guided_loss"][0], rel=1e-5)
    assert history["val_guided_loss"] == [0.0]
    assert history["val_loss"] == history["val_plain_loss"]
    assert 0 <= history["accuracy"][0] <= 1


def test_metrics_start_anew_at_every_epoch():
    shell = guided(classifier())
    history = shell.fit(steps(step_data()), epochs=2, verbose=0).history
    last = shell.evaluate(steps(step_data()), verbose=0, return_dict=True)
    assert history["loss"][0] != history["loss"][1]
    assert last["guided_loss"] == 0.0


def test_validation_is_inference():
    model, (inputs, labels) = classifier(batch_statistics=False), step_data()
    before = model.get_weights()
    logs = guided(model).evaluate(steps((inputs, labels)), verbose=0, return_dict=True)
    scores = model(inputs, training=False)
    assert logs["accuracy"] == pytest.approx((np.argmax(scores, -1) == labels).mean())
    assert logs["loss"] == pytest.approx(float(tf.reduce_mean(model.head.loss(scores, labels))), rel=1e-5)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


# === many steps ===


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        {"guided_weight": 0.0},
        {},
        {"plain_weight": 0.0},
    ],
)
def test_the_loss_falls_on_a_fixed_batch(arguments):
    shell = GuidedModel(classifier(), **arguments)
    shell.compile(optimizer=keras.optimizers.Adam(0.01), run_eagerly=True)
    losses = shell.fit(steps(step_data()), epochs=12, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]


def test_guidance_adds_no_variables_and_equal_shapes_are_traced_once():
    model = classifier()
    shell = guided(model, graph=True)
    # What makes variables is traced twice.
    shell.optimizer.build(model.trainable_variables)
    expected = [weight.name for weight in model.weights]
    shell.fit(steps(step_data(), 2), verbose=0)
    tracings = shell.train_function.experimental_get_tracing_count()
    shell.fit(steps(step_data(seed=1), 2), verbose=0)
    assert shell.train_function.experimental_get_tracing_count() == tracings == 1
    assert [weight.name for weight in model.weights] == expected
    assert {id(v) for v in shell.trainable_variables} == {id(v) for v in model.trainable_variables}
    # Two moments for each weight, and the step.
    assert len(shell.optimizer.variables) == 2 * len(model.trainable_variables) + 1


class Branching(keras.layers.Layer):
    """Doubles maps whose sum is positive."""

    def call(self, inputs):
        return 2.0 * inputs if tf.reduce_sum(inputs) > 0 else inputs


def test_a_layer_of_ones_own_may_branch_by_its_input():
    """In a graph Keras has its code converted by AutoGraph; that of the package is not."""
    inputs, labels = step_data()

    def loss(offset: float, graph: bool) -> float:
        images = keras.Input((SIZE, SIZE, 3))
        maps = keras.layers.Conv2D(4, 8, 8, kernel_initializer=keras.initializers.GlorotUniform(1))(images)
        backbone = keras.Model(images, Branching()(keras.layers.Rescaling(1.0, offset)(maps)))
        # Distances of prototypes, which doubled maps make larger and an offset leaves alone.
        shell = guided(EpisodicModel(backbone, HEADS.get("prototype", feature_shape=(4, 4, 4))), graph)
        return shell.train_on_batch(inputs, labels, return_dict=True)["loss"]

    doubled, plain = loss(100.0, graph=True), loss(-100.0, graph=True)
    np.testing.assert_allclose([doubled, plain], [loss(100.0, False), loss(-100.0, False)], rtol=1e-3)
    assert abs(doubled - plain) > 0.1 * plain


def test_ways_may_change_between_steps():
    shell = guided(classifier())
    inputs, labels = step_data()
    shell.train_on_batch(inputs, labels)
    fewer = (
        {
            "support_images": inputs["support_images"][:, :4],
            "support_labels": inputs["support_labels"][:, :4, :2],
            "query_images": inputs["query_images"][:, :4],
        },
        labels[:, :4],
    )
    assert np.isfinite(shell.train_on_batch(*fewer)).all()


@pytest.mark.slow
def test_plain_training_in_mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        shell = GuidedModel(classifier(), guided_weight=0.0)
        shell.compile(optimizer=keras.optimizers.Adam(0.01), run_eagerly=True)
        losses = shell.fit(steps(step_data(), 4), epochs=4, verbose=0).history["loss"]
    finally:
        keras.mixed_precision.set_global_policy(None)
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert all(np.isfinite(w).all() for w in shell.get_weights())


# === configuration ===


def test_config_round_trip():
    model = GuidedModel(classifier(), plain_weight=0.25, guided_weight=0.75, composite="fsc", beta=4.0, name="shell")
    config = model.get_config()
    assert set(inspect.signature(GuidedModel.__init__).parameters) - {"self", "kwargs"} <= set(config)
    stored = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    for copy in (GuidedModel.from_config(config), keras.saving.deserialize_keras_object(stored)):
        assert isinstance(copy, GuidedModel)
        assert json.dumps(copy.get_config()) == json.dumps(config)
        copy.classifier.set_weights(model.classifier.get_weights())
        inputs = step_data()[0]
        np.testing.assert_array_equal(copy(inputs), model(inputs))
        assert (copy.loss_weights.plain, copy.loss_weights.guided, copy.beta) == (0.25, 0.75, 4.0)
    assert config["classifier"]["class_name"] == "EpisodicModel"


def test_calling_it_is_calling_the_classifier():
    model, inputs = classifier(), step_data()[0]
    np.testing.assert_array_equal(GuidedModel(model)(inputs), model(inputs))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"plain_weight": -1.0}, "must be >= 0"),
        ({"plain_weight": 0.0, "guided_weight": 0.0}, "not both 0"),
        ({"composite": "fcs"}, "unknown composite 'fcs'; did you mean 'fsc'"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        GuidedModel(classifier(), **arguments)


# === weights, classes and ramp ===


def losses(model: GuidedModel, number: int) -> list[dict[str, float]]:
    """What each step measures; the weights stay as they are."""
    data, found = step_data(), []
    for step in range(number):
        model.optimizer.iterations.assign(step)
        result = model.step_losses(data)
        found.append({"loss": float(result.minimised), **{k: float(np.mean(v)) for k, v in result.measured.items()}})
    return found


@pytest.mark.parametrize(
    ("start_after", "ramp", "shares"),
    [
        pytest.param(0, 0, [1, 1, 1, 1], marks=pytest.mark.slow),
        pytest.param(2, 0, [0, 0, 1, 1], marks=pytest.mark.slow),
        pytest.param(0, 4, [0.25, 0.5, 0.75, 1], marks=pytest.mark.slow),
        (1, 2, [0, 0.5, 1, 1]),
    ],
)
def test_the_weight_of_the_guided_loss_rises(start_after, ramp, shares):
    model = guided(classifier(), plain_weight=0.5, guided_weight=2.0, start_after=start_after, ramp=ramp)
    found = losses(model, 4)
    for share, each in zip(shares, found, strict=True):
        expected = 0.5 * each["plain_loss"] + 2.0 * share * each["guided_loss"]
        np.testing.assert_allclose(each["loss"], expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["shuffled", "noise"])
def test_random_weights_follow_from_the_seed_and_the_step(weights):
    first, again, other = (losses(guided(classifier(), weights=weights, seed=seed), 2) for seed in (3, 3, 4))
    assert first == again
    assert first[0]["plain_loss"] == other[0]["plain_loss"] == first[1]["plain_loss"]
    assert len({first[0]["guided_loss"], first[1]["guided_loss"], other[0]["guided_loss"]}) == 3


def test_the_largest_seed_of_a_run_is_one_of_random_weights():
    assert np.isfinite(losses(guided(classifier(), weights="noise", seed=2**32 - 1), 1)[0]["guided_loss"])


def test_the_guided_loss_of_two_classes_is_that_of_the_true_one_before_its_rival():
    model = guided(classifier(loss="cross_entropy"), classes="true_and_rival")
    inputs, labels = step_data()
    features = model.classifier.relate(inputs, training=True)
    result = module.guided_scores(
        model.classifier.head,
        features,
        model.composite,
        labels=labels,
        some_classes=True,
        nonnegative=model.features_nonnegative,
    )
    expected = -np.log(1 / (1 + np.exp(result.guided[..., 1] - result.guided[..., 0])))
    np.testing.assert_allclose(losses(model, 1)[0]["guided_loss"], expected.mean(), rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "shufled"}, "did you mean 'shuffled'"),
        ({"normalize": "half"}, "`guidance.normalize` must be one of joint, halves"),
        ({"classes": "both"}, "`guidance.classes` must be one of all, true_and_rival"),
        ({"ramp": -1}, "`ramp` must be an integer >= 0"),
        ({"plain_weight": 0.0, "ramp": 3}, "must be 0 where the guided loss is the only one"),
    ],
)
def test_settings_of_guidance_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        GuidedModel(classifier(), **arguments)
