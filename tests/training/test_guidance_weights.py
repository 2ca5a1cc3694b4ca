from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.errors import ConfigError
from egt_tf.training.guidance_weights import (
    GUIDANCE_WEIGHTS,
    ByRelevance,
    Challenger,
    Noise,
    Shuffled,
    relevance_weights,
    weights_of,
)

SEED = tf.constant([3, 4])


def relevance(shape=(2, 3, 4, 8)) -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).normal(size=shape), tf.float32)


def test_weights_by_relevance_are_one_plus_the_share_of_the_largest():
    np.testing.assert_array_equal(ByRelevance()(relevance(), SEED), relevance_weights(relevance()))


def test_shuffled_weights_keep_the_histogram_of_each_position_and_nothing_of_the_order():
    weights, plain = Shuffled()(relevance(), SEED).numpy(), relevance_weights(relevance()).numpy()
    np.testing.assert_array_equal(np.sort(weights, axis=-1), np.sort(plain, axis=-1))
    correlation = np.corrcoef((weights - weights.mean(-1, keepdims=True)).ravel(), plain.ravel())[0, 1]
    assert abs(correlation) < 0.2


def test_each_position_is_shuffled_by_itself():
    same = tf.tile(tf.range(16.0)[None], [500, 1])
    weights = Shuffled()(same, SEED).numpy()
    # A shift each, of one order.
    assert len({tuple(row) for row in weights}) == 16


def test_positions_that_are_shuffled_together_stay_alike():
    r = relevance()
    weights, plain = Shuffled(together=True)(r, SEED).numpy(), relevance_weights(r).numpy()
    # One permutation explains all of it.
    found = [next(c for c in range(8) if (plain[..., c] == weights[..., to]).all()) for to in range(8)]
    assert sorted(found) == list(range(8))
    assert found != list(range(8))
    assert (Shuffled(together=True)(r, tf.constant([3, 5])).numpy() != weights).any()


def test_every_channel_gets_every_weight_equally_often():
    weights = Shuffled()(tf.tile(tf.range(4.0)[None], [20_000, 1]), SEED).numpy()
    for weight in np.unique(weights):
        np.testing.assert_allclose((weights == weight).mean(axis=0), 0.25, atol=0.015)


def test_a_gradient_flows_through_permuted_weights():
    x = tf.Variable(relevance((1, 5)))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(Shuffled()(x, SEED)))
    assert np.abs(tape.gradient(loss, x)).max() > 0.1


def test_noise_is_uniform_between_zero_and_two_and_knows_nothing_of_the_relevance():
    weights = Noise()(tf.zeros((10_000,)), SEED).numpy()
    np.testing.assert_array_equal(weights, Noise()(tf.ones((10_000,)), SEED))
    np.testing.assert_allclose([weights.mean(), weights.std()], [1, 2 / np.sqrt(12)], atol=0.02)
    assert weights.min() >= 0
    assert weights.max() < 2


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_the_challenger_takes_away_what_spoke_for_the_prediction(strength):
    r = relevance().numpy()
    expected = 1 - strength * np.maximum(r, 0) / np.abs(r).max(-1, keepdims=True)
    np.testing.assert_allclose(Challenger(strength)(tf.constant(r), SEED), expected, rtol=1e-6)


def test_together_is_true_or_false():
    with pytest.raises(ConfigError, match=r"`together` must be true or false\. Received: together='yes'"):
        Shuffled("yes")


@pytest.mark.parametrize("strength", [0, -1, 1.5, "much", None])
def test_a_strength_out_of_range_is_refused(strength):
    with pytest.raises(ConfigError, match="`strength` must be above 0 and at most 1"):
        Challenger(strength)


@pytest.mark.parametrize("name", ["relevance", "shuffled", "noise", "challenger"])
def test_weights_follow_from_the_seed_and_stay_between_zero_and_two(name):
    kind = GUIDANCE_WEIGHTS.get(name)
    first, again, other = (kind(relevance(), tf.constant(seed)).numpy() for seed in ([3, 4], [3, 4], [3, 5]))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() == (name in ("shuffled", "noise"))
    assert first.min() >= 0
    assert first.max() <= 2


@pytest.mark.parametrize("name", ["relevance", "shuffled"])
def test_halves_have_a_largest_relevance_each(name):
    r = relevance()
    weights = weights_of(r, GUIDANCE_WEIGHTS.get(name), SEED, halves=True).numpy()
    for half, of_half in zip(np.split(weights, 2, axis=-1), tf.split(r, 2, axis=-1), strict=True):
        np.testing.assert_array_equal(np.sort(half, -1), np.sort(relevance_weights(of_half).numpy(), -1))


def test_relevance_of_zero_weighs_one():
    for name in ("relevance", "shuffled", "challenger"):
        np.testing.assert_array_equal(GUIDANCE_WEIGHTS.get(name)(tf.zeros((2, 3)), SEED), np.ones((2, 3)))
