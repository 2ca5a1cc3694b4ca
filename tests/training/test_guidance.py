from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.errors import ConfigError
from egt_tf.heads import RelationHead
from egt_tf.heads.layers import PairConcat
from egt_tf.lrp import COMPOSITES
from egt_tf.lrp.output_relevance import log_odds
from egt_tf.training.guidance import LossWeights, guided_scores, loss_weights
from egt_tf.training.guidance_weights import relevance_weights

FSC = COMPOSITES.get("fsc")


def head_and_features(count=2, queries=4, ways=3, shape=(4, 4, 3), **head) -> tuple[RelationHead, list[tf.Tensor]]:
    rng = np.random.default_rng(3)
    features = [
        np.maximum(rng.normal(size=(count, number, *shape)), 0).astype(np.float32) for number in (ways, queries)
    ]
    return RelationHead(shape, seed=1, **head), [tf.constant(x) for x in features]


def pairs_of(features) -> tf.Tensor:
    return PairConcat()(features)


def parts(result) -> tuple[tf.Tensor, ...]:
    return result.plain, result.guided, result.output_relevance, *result.weights


# === relevance_weights ===


def test_weights_are_one_plus_relevance_over_the_largest_of_its_position():
    relevance = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    relevance[1, 2] *= 1e-6
    weights = relevance_weights(relevance).numpy()
    expected = 1 + relevance / np.abs(relevance).max(-1, keepdims=True)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert weights.min() >= 0
    assert weights.max() <= 2
    # Each position has a channel of weight 0 or 2.
    np.testing.assert_allclose(np.abs(weights - 1).max(-1), 1, rtol=1e-6)


def test_weights_of_zero_relevance_are_one_for_each_position_by_itself():
    relevance = np.array([[0.0, 0.0], [-2.0, 1.0]], np.float32)
    np.testing.assert_array_equal(relevance_weights(relevance), [[1, 1], [0, 1.5]])


def test_weights_do_not_depend_on_the_scale_of_the_relevance():
    relevance = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    np.testing.assert_allclose(relevance_weights(relevance * 1e-20), relevance_weights(relevance), rtol=1e-5)
    np.testing.assert_allclose(relevance_weights(relevance * 1e20), relevance_weights(relevance), rtol=1e-5)


def test_weights_along_another_axis():
    relevance = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    expected = 1 + relevance / np.abs(relevance).max(1, keepdims=True)
    np.testing.assert_allclose(relevance_weights(relevance, axis=1), expected, rtol=1e-6)


# === log_odds ===


@pytest.mark.parametrize(
    ("p", "beta", "expected"),
    [
        (1.0, 4.0, np.log(4 * 1.01 / 0.01)),
        (0.0, 4.0, np.log(4 * 0.01 / 1.01)),
        (0.2, 4.0, np.log(0.84 / 0.81)),
        (0.5, 1.0, 0.0),
    ],
)
def test_log_odds_numbers(p, beta, expected):
    np.testing.assert_allclose(log_odds(tf.constant([p]), beta=beta), [expected], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("ways", [2, 3, 5])
def test_beta_is_ways_minus_one_by_default(ways):
    p = tf.nn.softmax(np.random.default_rng(0).normal(size=(2, ways)).astype(np.float32))
    np.testing.assert_allclose(log_odds(p), log_odds(p, beta=ways - 1.0), rtol=1e-6)
    # Chance is (nearly) no evidence.
    assert abs(float(log_odds(tf.fill([ways], 1 / ways))[0])) < 0.06


def test_epsilon():
    np.testing.assert_allclose(log_odds(tf.constant([0.3]), epsilon=0.0, beta=1.0), [np.log(0.3 / 0.7)], rtol=1e-5)


# === guided_scores ===


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_the_five_parts(batch_statistics):
    head, features = head_and_features(batch_statistics=batch_statistics)
    result = guided_scores(head, features, FSC, training=False)
    np.testing.assert_allclose(result.plain, head.score(features), rtol=1e-5, atol=1e-6)
    probabilities = np.exp(result.plain) / np.exp(result.plain).sum(-1, keepdims=True)
    np.testing.assert_allclose(
        result.output_relevance, np.log(2 * (probabilities + 0.01) / (1.01 - probabilities)), rtol=1e-4, atol=1e-5
    )
    pairs = pairs_of(features)
    assert result.relevance[0].shape == result.weights[0].shape == pairs.shape
    np.testing.assert_array_equal(result.weights[0], relevance_weights(result.relevance[0]))
    np.testing.assert_allclose(result.guided, head.weighted_model(pairs * result.weights[0]), rtol=1e-5, atol=1e-6)
    assert np.abs(result.guided - result.plain).max() > 1e-3
    assert np.asarray(result.weights[0]).min() >= 0
    assert np.asarray(result.weights[0]).max() <= 2


def test_features_that_are_zero_get_no_relevance():
    head, features = head_and_features()
    result = guided_scores(head, features, FSC)
    zero = pairs_of(features).numpy() == 0
    assert zero.any()
    assert (result.relevance[0].numpy()[zero] == 0).all()
    assert (result.weights[0].numpy()[zero] == 1).all()


def test_a_head_without_any_relevance_is_not_guided():
    head, features = head_and_features()
    head.score_model.get_layer("fc2").kernel.assign(tf.zeros((8, 1)))
    result = guided_scores(head, features, FSC)
    ones = np.ones(pairs_of(features).shape)
    np.testing.assert_array_equal(result.weights[0], ones)
    np.testing.assert_allclose(result.guided, result.plain, atol=1e-7)
    dead = guided_scores(head, [tf.zeros_like(x) for x in features], FSC)
    np.testing.assert_array_equal(dead.weights[0], ones)
    assert np.isfinite(dead.guided).all()


def test_beta_changes_the_start_alone():
    head, features = head_and_features()
    default, four = guided_scores(head, features, FSC), guided_scores(head, features, FSC, beta=4.0)
    np.testing.assert_allclose(four.output_relevance, default.output_relevance + np.log(2), rtol=1e-5)
    np.testing.assert_array_equal(four.plain, default.plain)


def test_the_weights_are_constants_for_every_gradient():
    head, features = head_and_features()
    labels = [[0, 1, 2, 0]] * 2
    frozen = guided_scores(head, features, FSC).weights[0].numpy()
    sources = [*features, *head.trainable_variables]

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(features)
        result = guided_scores(head, features, FSC)
        guided = head.loss(result.guided, labels)
        by_hand = head.loss(head.weighted_model(pairs_of(features) * frozen, training=True), labels)
        plain, plain_by_hand = head.loss(result.plain, labels), head.loss(head.score(features, training=True), labels)
    for actual, expected in ((guided, by_hand), (plain, plain_by_hand)):
        for a, b in zip(tape.gradient(actual, sources), tape.gradient(expected, sources)):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)
    for part in (result.weights[0], result.output_relevance):
        assert tape.gradient(part, sources) == [None] * len(sources)


def test_several_episodes_equal_each_alone():
    head, features = head_and_features(count=3)
    together = guided_scores(head, features, FSC)
    for e in range(3):
        alone = guided_scores(head, [x[e : e + 1] for x in features], FSC)
        for a, b in zip(parts(together), parts(alone)):
            np.testing.assert_allclose(a[e : e + 1], b, rtol=1e-3, atol=1e-4)


def test_graph_equals_eager():
    head, features = head_and_features()
    eager = guided_scores(head, features, FSC)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 4, 4, 3])] * 2)
    def graph(*x):
        return parts(guided_scores(head, x, FSC))

    for a, b in zip(graph(*features), parts(eager)):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_knowing_that_features_are_not_negative_changes_nothing():
    head, features = head_and_features()
    for a, b in zip(*(parts(guided_scores(head, features, FSC, nonnegative=known)) for known in (False, True))):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# === loss weights ===


@pytest.mark.parametrize(
    ("mode", "plain", "guided", "shots", "expected"),
    [
        ("none", 1.0, None, 5, (1.0, 0.0)),
        ("none", 0.7, 3.0, 1, (0.7, 0.0)),
        ("guided", 1.0, None, 1, (1.0, 0.5)),
        ("guided", 1.0, None, 5, (1.0, 1.0)),
        ("guided", 1.0, None, 2, (1.0, 1.0)),
        ("guided", 0.2, 0.3, 1, (0.2, 0.3)),
        ("guided", 1.0, 0.0, 5, (1.0, 0.0)),
        ("guided", 0.0, 2.0, 5, (0.0, 2.0)),
        ("guided_only", 1.0, None, 1, (0.0, 0.5)),
        ("guided_only", 1.0, 2.0, 5, (0.0, 2.0)),
    ],
)
def test_loss_weights(mode, plain, guided, shots, expected):
    weights = loss_weights(mode, plain, guided, shots)
    assert (weights.plain, weights.guided) == expected


@pytest.mark.parametrize(
    ("mode", "plain", "guided", "message"),
    [
        ("lrp", 1.0, None, "`guidance.mode` must be one of none, guided, guided_only. Received: 'lrp'"),
        ("none", 0.0, 1.0, "not both 0. Received: plain=0.0, guided=0.0"),
        ("guided", 0.0, 0.0, "not both 0"),
        ("guided_only", 1.0, 0.0, "not both 0"),
        ("guided", -1.0, 1.0, "must be >= 0"),
        ("guided", 1.0, -1.0, "must be >= 0"),
        ("guided", float("nan"), 1.0, "must be >= 0"),
        ("guided", 1.0, float("inf"), "finite"),
    ],
)
def test_bad_loss_weights(mode, plain, guided, message):
    with pytest.raises(ConfigError, match=message):
        loss_weights(mode, plain, guided, 5)


def test_loss_weights_default_to_the_published_sum():
    assert (LossWeights().plain, LossWeights().guided) == (1.0, 1.0)
