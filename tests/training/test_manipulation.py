from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.config import MANIPULATION_NAMES, MANIPULATION_UNITS
from egt_tf.errors import ConfigError
from egt_tf.training.manipulation import (
    MANIPULATIONS,
    UNITS,
    WITHOUT_POSITIONS,
    Challenge,
    blurred,
    noise_like,
    of_examples,
    rival_examples,
    top_share,
)

SEED = tf.constant([3, 4])


def numbers(shape=(2, 3, 4, 5, 6), seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def chosen_slowly(relevance: np.ndarray, share: float) -> np.ndarray:
    """Of each map `(h, w, c)` the ceil(share n) largest of the n positive values."""
    chosen = np.zeros_like(relevance)
    for index in np.ndindex(relevance.shape[:-3]):
        positive = sorted((value for value in relevance[index].ravel() if value > 0), reverse=True)
        kept = positive[: math.ceil(round(share * len(positive), 9))]
        chosen[index] = np.isin(relevance[index], kept)
    return chosen


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.999, 1.0])
def test_the_top_share_is_that_of_a_sorted_list(share):
    relevance = numbers()
    np.testing.assert_array_equal(top_share(tf.constant(relevance), share), chosen_slowly(relevance, share))


def test_a_share_that_is_a_whole_number_but_for_rounding_is_that_number():
    # 0.07 * 100 is above 7 in floating point.
    assert float(tf.reduce_sum(top_share(tf.range(1.0, 101.0), 0.07, WITHOUT_POSITIONS))) == 7


def test_what_is_not_positive_is_never_chosen():
    relevance = tf.constant([[-1.0, -2.0, 0.0], [0.0, 0.0, 5.0]])
    np.testing.assert_array_equal(top_share(relevance, 1.0, WITHOUT_POSITIONS), [[0, 0, 0], [0, 0, 1]])


def test_equal_values_are_chosen_together():
    np.testing.assert_array_equal(top_share(tf.constant([2.0, 2.0, 2.0, 1.0]), 0.25, WITHOUT_POSITIONS), [1, 1, 1, 0])


@pytest.mark.parametrize("strength", [0.25, 1.0])
@pytest.mark.parametrize("share", [0.2, 1.0])
def test_attenuation_leaves_one_minus_what_is_relevant(share, strength):
    r = numbers()
    expected = 1 - strength * chosen_slowly(r, share) * np.maximum(r, 0) / np.abs(r).max(-1, keepdims=True)
    np.testing.assert_allclose(Challenge("attenuate", share, "channel", strength).weights(r, SEED), expected, rtol=1e-6)


@pytest.mark.parametrize("manipulation", MANIPULATIONS.names())
def test_positions_are_chosen_by_the_sum_over_the_channels_and_as_a_whole(manipulation):
    r = numbers()
    chosen = chosen_slowly(r.sum(-1, keepdims=True), 0.3)
    weights = Challenge(manipulation, 0.3, "position", 0.5).weights(r, SEED)
    np.testing.assert_allclose(weights, np.broadcast_to(1 - 0.5 * chosen, r.shape))


def test_each_half_of_the_channels_is_a_map_of_its_own():
    r = numbers()
    weights = Challenge("noise", 0.2).weighting(r, SEED, halves=True).weights
    expected = np.concatenate([1 - chosen_slowly(half, 0.2) for half in np.split(r, 2, axis=-1)], axis=-1)
    np.testing.assert_array_equal(weights, expected)


@pytest.mark.parametrize("unit", UNITS)
def test_the_control_takes_as_much_of_each_map_from_other_places(unit):
    r = numbers()
    for manipulation in ("attenuate", "noise"):
        plain, control = (Challenge(manipulation, 0.2, unit, 1.0, each).weights(r, SEED) for each in (False, True))
        plain, control = (np.reshape(each, (6, -1)) for each in (plain, control))
        np.testing.assert_allclose(np.sort(control), np.sort(plain))
        assert abs(np.corrcoef(control.ravel(), plain.ravel())[0, 1]) < 0.2


def test_what_is_not_chosen_stays_and_the_rest_is_mixed():
    r, x = numbers(), tf.constant(numbers(seed=1))
    examples = tf.constant([[1, 2, 0], [2, 0, 1]])
    for name, replacement in (
        ("attenuate", tf.zeros_like(x)),
        ("noise", noise_like(x, tf.random.experimental.stateless_split(SEED, 2)[1])),
        ("blur", blurred(x)),
        ("exchange", of_examples(x, examples)),
    ):
        changed = Challenge(name, 0.1, "position", 0.75).weighting(r, SEED, examples)(x).numpy()
        m = 0.75 * chosen_slowly(r.sum(-1, keepdims=True), 0.1)
        np.testing.assert_allclose(changed, x + m * (replacement - x), atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(changed[np.broadcast_to(m == 0, r.shape)], x[np.broadcast_to(m == 0, r.shape)])


def test_noise_has_the_mean_and_the_deviation_of_the_map_channel_by_channel():
    scale, shift = tf.constant([1.0, 5.0]), tf.constant([0.0, -3.0])
    x = tf.constant(numbers((2, 80, 80, 2))) * scale + shift
    noise = noise_like(x, SEED).numpy()
    np.testing.assert_allclose(noise.mean(axis=(1, 2)), x.numpy().mean(axis=(1, 2)), atol=0.2)
    np.testing.assert_allclose(noise.std(axis=(1, 2)), x.numpy().std(axis=(1, 2)), rtol=0.05)
    assert abs(np.corrcoef(noise.ravel() / 5, x.numpy().ravel() / 5)[0, 1]) < 0.5
    np.testing.assert_array_equal(noise, noise_like(x, SEED))
    assert (noise != noise_like(x, tf.constant([3, 5])).numpy()).all()


def test_noise_without_positions_has_those_of_all_channels():
    x = numbers((3, 4000)) + np.array([[0.0], [9.0], [-9.0]], np.float32)
    noise = noise_like(tf.constant(x), SEED, WITHOUT_POSITIONS).numpy()
    np.testing.assert_allclose(noise.mean(-1), x.mean(-1), atol=0.1)
    np.testing.assert_allclose(noise.std(-1), x.std(-1), rtol=0.1)


@pytest.mark.parametrize(("shape", "windows"), [((1, 2, 5, 3, 2), (3, 3)), ((1, 1, 40, 24, 1), (11, 7))])
def test_a_blurred_position_is_the_mean_of_its_window(shape, windows):
    x = numbers(shape)
    expected = np.zeros_like(x)
    for i, j in np.ndindex(*shape[-3:-1]):
        rows, columns = (slice(max(p - w // 2, 0), p + w // 2 + 1) for p, w in zip((i, j), windows, strict=True))
        expected[..., i, j, :] = x[..., rows, columns, :].mean(axis=(-3, -2))
    np.testing.assert_allclose(blurred(tf.constant(x)), expected, atol=1e-5)


def test_a_rival_is_the_best_other_class_that_the_batch_has():
    scores, labels = numbers((3, 6, 4)), np.array([[0, 0, 1, 1, 2, 2], [3, 3, 3, 0, 0, 1], [2, 2, 2, 2, 2, 1]])
    examples = rival_examples(tf.constant(scores), tf.constant(labels), SEED).numpy()
    for e, n in np.ndindex(labels.shape):
        others = set(labels[e]) - {labels[e, n]}
        assert labels[e, examples[e, n]] == max(others, key=lambda k: scores[e, n, k])


def test_any_example_of_the_rival_may_be_drawn():
    scores, labels = tf.tile([[[1.0, 0.0]]], [300, 4, 1]), tf.tile([[0, 1, 1, 1]], [300, 1])
    drawn = rival_examples(scores, labels, SEED).numpy()
    assert set(drawn[:, 0]) == {1, 2, 3}
    assert (drawn[:, 1:] == 0).all()


def test_a_batch_of_one_class_exchanges_nothing():
    examples = rival_examples(tf.zeros((3, 2)), tf.constant([1, 1, 1]), SEED)
    assert examples.numpy().tolist() == [0, 1, 2]


def test_examples_are_taken_within_each_batch():
    x = numbers((2, 3, 4, 5))
    taken = of_examples(tf.constant(x), tf.constant([[2, 0, 0], [1, 1, 2]]))
    np.testing.assert_array_equal(taken, np.stack([x[0, [2, 0, 0]], x[1, [1, 1, 2]]]))
    np.testing.assert_array_equal(of_examples(tf.constant(x), tf.constant([1, 0])), x[[1, 0]])


def test_without_positions_what_needs_some_is_left_as_it_is():
    r, x = numbers((2, 6)), tf.constant(numbers((2, 6), seed=1))
    for arguments in (("blur",), ("noise", 0.5, "position"), ("attenuate", 1.0, "position")):
        np.testing.assert_array_equal(Challenge(*arguments).weighting(r, SEED, map_axes=WITHOUT_POSITIONS)(x), x)


@pytest.mark.parametrize("manipulation", MANIPULATIONS.names())
def test_a_graph_and_half_precision_give_what_eager_float32_does(manipulation):
    r, x = tf.constant(numbers()), tf.constant(numbers(seed=1))
    weighting = Challenge(manipulation, 0.2).weighting(r, SEED, tf.constant([[1, 2, 0], [2, 0, 1]]))
    np.testing.assert_allclose(tf.function(lambda x: weighting(x))(x), weighting(x), rtol=1e-6, atol=1e-6)
    half = weighting(tf.cast(x, tf.float16))
    assert half.dtype == tf.float16
    np.testing.assert_allclose(half, weighting(x), atol=0.02)


def test_no_gradient_flows_through_what_takes_the_place():
    r, x = numbers((1, 4, 4, 2)), tf.Variable(numbers((1, 4, 4, 2), seed=1))
    for name in ("noise", "blur"):
        weighting = Challenge(name, 0.3).weighting(r, SEED).detached()
        with tf.GradientTape() as tape:
            y = tf.reduce_sum(weighting(x))
        np.testing.assert_array_equal(tape.gradient(y, x), weighting.weights)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"manipulation": "blurr"}, "unknown manipulation 'blurr'; did you mean 'blur'"),
        ({"unit": "chanel"}, "`unit` must be one of channel, position. .*; did you mean 'channel'"),
        ({"share": 0}, r"`share` must be above 0 and at most 1\. Received: share=0"),
        ({"share": 1.01}, "`share` must be above 0"),
        ({"share": True}, "`share` must be above 0"),
        ({"shuffled": 1}, "`shuffled` must be true or false"),
        ({"strength": "much"}, "`strength` must be above 0 and at most 1. Received: strength='much'"),
    ],
)
def test_what_cannot_be_is_told(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Challenge(**arguments)


def test_the_configuration_names_what_there_is():
    assert set(MANIPULATION_NAMES) == set(MANIPULATIONS.names())
    assert set(MANIPULATION_UNITS) == set(UNITS)
