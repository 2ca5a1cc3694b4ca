from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError, RunError
from egt_tf.heads import HEADS, CrossAttentionHead
from egt_tf.heads.attention import AttendedPrototypeMean, AttendedQuery, FusedAttention, PositionCosines
from egt_tf.heads.weighting import Weighting
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES
from egt_tf.lrp.output_relevance import log_odds
from egt_tf.training.guidance import guided_scores
from egt_tf.training.guidance_weights import relevance_weights
from egt_tf.training.guided_model import GuidedModel
from egt_tf.weights import assign_weights, load_arrays, named_weights, save_arrays, weight_arrays
from tests.graph_reference import softmax
from tests.heads.feature_episodes import episodes, prototypes_of
from tests.layer_harness import check_layer

FSC = COMPOSITES.get("fsc_can")
BASE_CLASSES = 6


LABELS = np.array([[2, 0, 1, 2], [1, 1, 1, 0]])
BASE_LABELS = np.array([[5, 0, 3, 5], [4, 4, 4, 1]])


def make(shape=(4, 4, 5), warm: bool = True, **arguments) -> CrossAttentionHead:
    """A head whose running statistics, offsets and scales are not the first ones."""
    head = CrossAttentionHead(shape, seed=1, **arguments)
    if warm:
        rng = np.random.default_rng(7)
        norm = head.relate_model.get_layer("fusion").get_layer("bn")
        norm.set_weights(
            [
                rng.uniform(0.6, 1.4, w.shape)
                if "beta" not in w.name and "mean" not in w.name
                else rng.normal(0, 0.2, w.shape)
                for w in norm.weights
            ]
        )
    return head


# === layers ===


def uniform(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).uniform(size=shape).astype(np.float32)


CASES = {
    "cosines": (lambda: PositionCosines(), [uniform(2, 3, 2, 4, 5), uniform(2, 6, 2, 4, 5)], [[1], [1]], (0, 1)),
    "attention": (
        lambda: FusedAttention((2, 4), temperature=0.1),
        [uniform(2, 6, 3, 8, 8), uniform(2, 6, 3, 8)],
        [[1, 2], [1, 2]],
        (0, 1),
    ),
    "attended query": (
        lambda: AttendedQuery(),
        [uniform(2, 6, 2, 4, 5), uniform(2, 6, 3, 2, 4, 1)],
        [[1], [1, 2]],
        (0, 1),
    ),
    "attended prototype": (
        lambda: AttendedPrototypeMean(),
        [uniform(2, 3, 2, 4, 5), uniform(2, 6, 3, 2, 4, 1)],
        [[1], [1, 2]],
        (0, 1),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_layers_of_attention(case, tmp_path):
    layer, inputs, free_axes, differentiable = CASES[case]
    check_layer(layer, inputs, free_axes, tmp_path, differentiable=differentiable)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{}, {"scale": 5.0, "temperature": 0.1}])
def test_layer(arguments, tmp_path):
    check_layer(
        lambda: make(warm=False, **arguments),
        episodes(),
        [[1], [1, 2], [1]],
        tmp_path,
        rtol=1e-4,
        differentiable=(0, 2),
    )


# === forward ===


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


class Reference:
    """The published formulas for all episodes in float64, one pair of maps at a time."""

    def __init__(self, head: CrossAttentionHead, inputs, training: bool):
        labels, query = (np.asarray(x, np.float64) for x in inputs[1:])
        fusion = head.relate_model.get_layer("fusion")
        self.dense = [
            [w.astype(np.float64) for w in fusion.get_layer(name).get_weights()] for name in ("conv1", "conv2")
        ]
        self.norm = [w.numpy().astype(np.float64) for w in fusion.get_layer("bn").weights]
        self.temperature, self.training = head.temperature, training
        count, queries, (height, width, channels) = len(query), query.shape[1], head.feature_shape
        ways, self.shape = labels.shape[-1], head.feature_shape
        maps = query.reshape(count, queries, -1, channels)
        self.prototypes = prototypes_of(inputs).reshape(count, ways, -1, channels)
        cosines = np.array(
            [
                [[unit(self.prototypes[e, k]) @ unit(maps[e, j]).T for k in range(ways)] for j in range(queries)]
                for e in range(count)
            ]
        )
        self.of_support = self.attention(cosines)
        self.of_query = self.attention(cosines.swapaxes(-1, -2))
        attended = maps[:, :, None] * self.of_query[..., None]
        self.attended = attended.reshape(count, queries, ways, height, width, channels)
        self.pooled = np.einsum("ekpc,eqkp->eqkc", self.prototypes, self.of_support) / (height * width)

    def attention(self, a):
        x = a.mean(-2) @ self.dense[0][0] + self.dense[0][1]
        gamma, beta, mean, variance = self.norm
        if self.training:
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        x = np.maximum((x - mean) / np.sqrt(variance + 1e-5) * gamma + beta, 0)
        kernel = x @ self.dense[1][0] + self.dense[1][1]
        return softmax((a * kernel[..., None, :]).mean(-1) / self.temperature) + 1

    def scores(self, scale=7.0):
        return scale * (unit(self.attended.mean((3, 4))) * unit(self.pooled)).sum(-1)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "shape", [*(pytest.param(shape, marks=pytest.mark.slow) for shape in ((4, 4, 5), (6, 6, 3))), (2, 3, 4), (1, 1, 4)]
)
def test_forward_pass_is_the_published_one(shape, training):
    head, inputs = make(shape), episodes(shape)
    reference = Reference(head, inputs, training)
    attended, pooled = head.relate(*inputs, training=training)
    np.testing.assert_allclose(attended, reference.attended, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pooled, reference.pooled, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(head.score([attended, pooled]), reference.scores(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("side", "narrow"),
    [(6, 6), (5, 4), pytest.param(2, 1, marks=pytest.mark.slow), (1, 1), pytest.param(14, 32, marks=pytest.mark.slow)],
)
def test_the_fusion_layer_takes_its_size_from_the_map(side, narrow):
    fusion = make((side, side, 2), warm=False).relate_model.get_layer("fusion")
    assert fusion.get_layer("conv1").kernel.shape == (side * side, narrow)
    assert fusion.get_layer("conv2").kernel.shape == (narrow, side * side)


@pytest.mark.parametrize(("ways", "shots", "queries"), [(2, 1, 1), (5, 3, 7)])
def test_any_ways_shots_and_queries(ways, shots, queries):
    head, inputs = make((3, 5, 4)), episodes((3, 5, 4), ways=ways, shots=shots, queries=queries)
    assert head(inputs).shape == (2, queries, ways)
    assert np.abs(head(inputs)).max() <= 7.0001


def test_attention_is_between_one_and_two_and_its_softmax_sums_to_one():
    head, inputs = make(), episodes()
    layers = [head.relate_model.get_layer(f"{name}_attention").output for name in ("support", "query")]
    for attention in keras.Model(head.relate_model.inputs, layers)(inputs):
        assert attention.shape == (2, 4, 3, 4, 4, 1)
        assert (np.asarray(attention) >= 1).all()
        assert (np.asarray(attention) <= 2).all()
        np.testing.assert_allclose(np.asarray(attention).sum((3, 4, 5)), 17, rtol=1e-5)


def test_running_statistics_follow_the_support_and_then_the_query():
    head, inputs = make(warm=False), episodes()
    head(inputs, training=True)
    reference = Reference(head, inputs, training=True)
    maps = inputs[2].reshape(2, 4, 16, 5)
    cosines = np.einsum("ekac,eqbc->eqkab", unit(reference.prototypes), unit(maps.astype(np.float64)))
    mean, variance = 0.0, 1.0
    for a in (cosines, cosines.swapaxes(-1, -2)):
        x = a.mean(-2) @ reference.dense[0][0] + reference.dense[0][1]
        mean, variance = 0.9 * mean + 0.1 * x.mean((0, 1, 2)), 0.9 * variance + 0.1 * x.var((0, 1, 2), ddof=1)
    norm = head.relate_model.get_layer("fusion").get_layer("bn")
    np.testing.assert_allclose(norm.moving_mean, mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm.moving_variance, variance, rtol=1e-5)


def test_several_episodes_equal_each_alone_and_each_query_alone():
    head, inputs = make(), episodes(count=3)
    together = head(inputs)
    alone = [head([x[e : e + 1] for x in inputs]) for e in range(3)]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-4, atol=1e-5)
    support, labels, query = inputs
    np.testing.assert_allclose(together[:, 2:3], head([support, labels, query[:, 2:3]]), rtol=1e-4, atol=1e-5)
    assert not head.uses_batch_statistics
    assert head.query_multiple(5) == 1


def test_maps_of_zeros_give_finite_scores_and_gradients():
    head, (support, labels, query) = make(), episodes()
    query = tf.constant(np.concatenate([np.zeros_like(query[:, :1]), query[:, 1:]], axis=1))
    with tf.GradientTape() as tape:
        tape.watch(query)
        features = head.relate(support, labels, query, training=True)
        result = guided_scores(head, features, FSC, detach=False)
        loss = tf.reduce_sum(head.loss(result.guided, LABELS))
    assert np.isfinite(result.guided).all()
    assert np.isfinite(tape.gradient(loss, query)).all()


# === loss ===


def cross_entropy(labels, scores):
    return -np.take_along_axis(np.log(softmax(np.asarray(scores, np.float64))), labels[..., None], -1)[..., 0]


def test_loss_is_half_the_mean_cross_entropy_with_positions_and_without():
    head, scores = make(), np.random.default_rng(0).normal(size=(2, 4, 3, 5, 3)).astype(np.float32)
    expected = 0.5 * cross_entropy(np.broadcast_to(LABELS[:, :, None, None], scores.shape[:-1]), scores).mean((1, 2, 3))
    np.testing.assert_allclose(head.loss(scores, LABELS), expected, rtol=1e-5)
    np.testing.assert_allclose(
        head.loss(scores[:, :, 0, 0], LABELS), 0.5 * cross_entropy(LABELS, scores[:, :, 0, 0]).mean(1), rtol=1e-5
    )
    assert head.loss(tf.cast(scores, tf.float16), LABELS).dtype == tf.float32


def test_training_scores_are_cosines_of_positions():
    head, inputs = make(scale=5.0), episodes()
    features = head.relate(*inputs)
    scores = head.training_scores(features, head.score(features))
    attended, pooled = (np.asarray(x, np.float64) for x in features)
    expected = 5 * (unit(attended) * unit(pooled)[:, :, :, None, None]).sum(-1)
    np.testing.assert_allclose(scores, expected.transpose(0, 1, 3, 4, 2), rtol=1e-4, atol=1e-5)


def test_the_auxiliary_loss_reads_the_map_attended_for_the_true_class():
    head = make(base_classes=BASE_CLASSES)
    features = head.relate(*episodes())
    kernel, bias = (w.numpy() for w in head.auxiliary_model.weights)
    assert kernel.shape == (5, BASE_CLASSES)
    attended = np.asarray(features[0])
    expected = []
    for e in range(2):
        maps = np.stack([attended[e, j, LABELS[e, j]] for j in range(4)])
        of = np.broadcast_to(BASE_LABELS[e, :, None, None], (4, 4, 4))
        expected.append(cross_entropy(of, maps @ kernel + bias).mean())
    np.testing.assert_allclose(head.auxiliary_loss(features, LABELS, BASE_LABELS), expected, rtol=1e-5)


def test_no_auxiliary_loss_without_base_classes_or_labels():
    inputs = episodes()
    assert make().auxiliary_model is None
    for head, base_labels in ((make(), BASE_LABELS), (make(base_classes=BASE_CLASSES), None)):
        loss = head.auxiliary_loss(head.relate(*inputs), LABELS, base_labels)
        np.testing.assert_array_equal(loss, [0.0, 0.0])


# === guidance ===


def stabilised(z):
    return z + 0.01 * np.where(z >= 0, 1.0, -1.0)


def test_guided_scores_are_those_published():
    """Relevance, weights and weighted scores against a slow float64 computation."""
    head, inputs = make(), episodes()
    features = head.relate(*inputs, training=True)
    result = guided_scores(head, features, FSC, beta=4.0)

    attended, pooled = (np.asarray(x, np.float64) for x in features)
    rows = attended.mean(4)
    columns = rows.mean(3)
    product = unit(columns) * unit(pooled)
    cosine = product.sum(-1)
    p = softmax(7 * cosine)
    start = np.log(4 * (p + 0.01) / (1.01 - p))
    channel = start[..., None] * product / stabilised(cosine)[..., None]
    height_relevance = channel[..., None, :] * rows / stabilised(rows.sum(3, keepdims=True))
    at_query = height_relevance[..., None, :] * attended / stabilised(attended.sum(4, keepdims=True))
    largest = [np.abs(r).max(-1, keepdims=True) for r in (at_query, channel)]
    weights = [1 + r / np.where(m == 0, 1, m) for r, m in zip((at_query, channel), largest)]
    terms = unit(attended) * unit(pooled)[:, :, :, None, None] * weights[0] * weights[1][:, :, :, None, None]
    expected = (7 * terms.sum(-1)).transpose(0, 1, 3, 4, 2)

    np.testing.assert_allclose(result.output_relevance, start, rtol=1e-3, atol=1e-4)
    for actual, reference in zip((*result.relevance, *result.weights), (at_query, channel, *weights), strict=True):
        np.testing.assert_allclose(actual, reference, rtol=2e-3, atol=2e-4 * np.abs(reference).max())
    np.testing.assert_allclose(result.guided, expected, rtol=1e-3, atol=1e-3)


def gradients_of_guided_loss(detach: bool, constant=None):
    head, inputs = make(), [tf.constant(x) for x in episodes()]
    with tf.GradientTape() as tape:
        tape.watch(inputs[2])
        features = head.relate(*inputs, training=True)
        if constant is None:
            result = guided_scores(head, features, FSC, detach=detach)
            weights, guided = result.weights, result.guided
        else:
            weights, guided = constant, head.training_scores(features, None, list(map(Weighting, constant)))
        loss = tf.reduce_sum(head.loss(guided, LABELS))
    return weights, tape.gradient(loss, [inputs[2], *head.trainable_variables])


@pytest.mark.slow
def test_gradients_through_the_explanation_differ_from_those_of_constant_weights():
    weights, constant = gradients_of_guided_loss(detach=True)
    _, by_hand = gradients_of_guided_loss(detach=True, constant=[tf.constant(w.numpy()) for w in weights])
    _, through = gradients_of_guided_loss(detach=False)
    for a, b in zip(constant, by_hand, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)
    assert all(np.isfinite(g).all() for g in through)
    assert np.abs(through[0] - constant[0]).max() > 0.05 * np.abs(constant[0]).max()


def test_the_gradient_through_the_explanation_is_a_difference_quotient():
    before = keras.backend.floatx()
    keras.backend.set_floatx("float64")
    try:
        head = make()
        rng = np.random.default_rng(2)
        # Away from zero, where the signs of stabilisers jump.
        features = [tf.constant(rng.uniform(0.5, 1.5, shape)) for shape in ((1, 4, 3, 4, 4, 5), (1, 4, 3, 5))]
        direction = rng.normal(size=features[0].shape)

        def loss(step):
            moved = [features[0] + step * direction, features[1]]
            return head.loss(guided_scores(head, moved, FSC, detach=False).guided, LABELS[:1])[0]

        with tf.GradientTape() as tape:
            step = tf.constant(0.0, tf.float64)
            tape.watch(step)
            value = loss(step)
        quotient = (loss(1e-6) - loss(-1e-6)) / 2e-6
        np.testing.assert_allclose(tape.gradient(value, step), quotient, rtol=1e-5)
    finally:
        keras.backend.set_floatx(before)


def test_features_without_relevance_are_not_weighted():
    head = make()
    features = [tf.zeros((1, 2, 3, 4, 4, 5)), tf.zeros((1, 2, 3, 5))]
    result = guided_scores(head, features, FSC, detach=False)
    assert all((w.numpy() == 1).all() for w in result.weights)
    np.testing.assert_array_equal(result.guided, np.zeros((1, 2, 4, 4, 3)))


# === training ===


SIZE, WAYS = 32, 3


def step_data(seed: int = 0):
    """Two episodes of classes that differ in colour, the queries in any order and not as many of each class."""
    rng = np.random.default_rng(seed)
    colours = rng.normal(size=(2, WAYS, 1, 1, 3))
    labels, queries = np.array([[1, 0, 2, 2, 1], [0, 0, 1, 2, 0]], np.int32), np.array([[2, 0, 1], [1, 2, 0]])

    def images(classes):
        chosen = np.take_along_axis(colours, classes[:, :, None, None, None], 1)
        return (chosen + 0.5 * rng.normal(size=(2, classes.shape[1], SIZE, SIZE, 3))).astype(np.float32)

    inputs = {
        "support_images": images(queries),
        "support_labels": np.eye(WAYS, dtype=np.float32)[queries],
        "query_images": images(labels),
    }
    return inputs, labels, labels + np.array([[0], [3]], np.int32)


def classifier(**head) -> EpisodicModel:
    return EpisodicModel.build_from({"name": "conv4", "width": 8}, {"name": "cross_attention", **head}, SIZE, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        {"plain_weight": 0.0, "guided_weight": 1.0, "detach": False},
        {"plain_weight": 1.0, "guided_weight": 0.5},
        {"plain_weight": 1.0, "guided_weight": 0.0},
    ],
    ids=["published", "sum", "plain"],
)
def test_training_lowers_every_loss(arguments):
    model = GuidedModel(classifier(base_classes=BASE_CLASSES), composite="fsc_can", **arguments)
    model.compile(optimizer=keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True))
    assert not model.jit_compile
    data = tf.data.Dataset.from_tensors(step_data()).repeat(6)
    before = {w.name: w.numpy() for w in model.classifier.trainable_variables}
    first, last = (model.fit(data, epochs=1, verbose=0).history for _ in range(2))
    names = ["loss", "plain_loss", "auxiliary_loss"] + ["guided_loss"] * (arguments["guided_weight"] > 0)
    for name in names:
        assert 0 <= last[name][0] < first[name][0], name
    total = (
        arguments["plain_weight"] * last["plain_loss"][0]
        + arguments["guided_weight"] * last["guided_loss"][0]
        + last["auxiliary_loss"][0]
    )
    assert last["loss"][0] == pytest.approx(total, rel=1e-4)
    assert all(np.any(before[w.name] != w.numpy()) for w in model.classifier.trainable_variables if "kernel" in w.name)
    assert np.isfinite(model.evaluate(data.take(1), verbose=0, return_dict=True)["loss"])


# === files ===


def test_every_weight_has_a_name_and_survives_a_file(tmp_path):
    model, other = classifier(base_classes=BASE_CLASSES), classifier(base_classes=BASE_CLASSES)
    for weight in other.weights:
        weight.assign(weight + 1)
    names = named_weights(model)
    assert len(names) == len(model.weights) == len({id(w) for w in names.values()})
    assert {
        "relate/fusion/conv1/kernel",
        "relate/fusion/bn/moving_variance",
        "relate/fusion/conv2/bias",
        "auxiliary/base_scores/kernel",
        "auxiliary/base_scores/bias",
    } <= set(names)
    save_arrays(tmp_path / "weights.npz", weight_arrays(model))
    assign_weights(other, load_arrays(tmp_path / "weights.npz"), "test")
    for a, b in zip(model.weights, other.weights):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(RunError, match="unknown auxiliary/base_scores"):
        assign_weights(classifier(), weight_arrays(model), "test")


def test_a_model_with_base_classes_is_made_again_from_its_config():
    model = classifier(base_classes=BASE_CLASSES)
    copy = EpisodicModel.from_config(model.get_config())
    assert copy.head.get_config() == model.head.get_config()
    copy.set_weights(model.get_weights())
    inputs = {name: tf.constant(x) for name, x in step_data()[0].items()}
    np.testing.assert_allclose(copy(inputs), model(inputs), rtol=1e-5)


def test_initial_weights_follow_the_seed():
    a, b, c = (CrossAttentionHead((6, 6, 8), base_classes=5, seed=seed) for seed in (1, 1, 2))
    for x, y in zip(a.get_weights(), b.get_weights()):
        np.testing.assert_array_equal(x, y)
    assert any(np.any(x != y) for x, y in zip(a.get_weights(), c.get_weights()))
    fusion = a.relate_model.get_layer("fusion")
    assert fusion.get_layer("conv1").kernel.numpy().std() == pytest.approx(np.sqrt(2 / 6), rel=0.2)
    assert fusion.get_layer("conv2").kernel.numpy().std() == pytest.approx(np.sqrt(2 / 36), rel=0.2)
    assert np.abs(a.auxiliary_model.get_layer("base_scores").kernel).max() <= 8**-0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base_classes": -1}, "`base_classes` must be an integer >= 0"),
        ({"base_classes": "64"}, "`base_classes` must be"),
        ({"scale": 0}, "`scale` must be a number > 0. Received: scale=0"),
        ({"scale": "7"}, "`scale` must be"),
        ({"temperature": -1.0}, "`temperature` must be"),
        ({"temperature": float("nan")}, "`temperature` must be"),
        ({"temperature": True}, "`temperature` must be"),
        ({"seed": -1}, "`seed` must be"),
        ({"feature_shape": (0, 6, 4)}, "`feature_shape` must be"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        HEADS.get({"name": "cross_attention", "feature_shape": (6, 6, 4), **arguments})


def test_start_and_weights_are_those_of_the_package():
    head = make()
    features = head.relate(*episodes())
    result = guided_scores(head, features, FSC, training=False)
    np.testing.assert_allclose(
        result.output_relevance, log_odds(head.probabilities(head.score(features))), rtol=1e-4, atol=1e-5
    )
    for r, w in zip(result.relevance, result.weights, strict=True):
        np.testing.assert_array_equal(w, relevance_weights(r))
