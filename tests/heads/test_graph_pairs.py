"""Layers of pairs against the same computed for every pair of every graph."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.heads.graph_pairs import PairBatchNormalization, PairDense, PairDifferences, PairMatrix
from egt_tf.heads.layers import EpisodeBatchNormalization
from egt_tf.keras_api import keras
from tests.helpers.quick import all_but_slow
from tests.layer_harness import check_layer

RNG = np.random.default_rng(3)
SUPPORT_PAIRS, QUERY_PAIRS = [[2], [1, 2]], [[1, 2], [1, 2]]


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def blocks(width: int, shared: bool = False) -> list[np.ndarray]:
    """Of two episodes of three graphs of three support and two query nodes."""
    return [normal(2, 1 if shared else 3, 4, width), normal(2, 3, 7, width)]


CASES = {
    "differences": (lambda: PairDifferences(2), [normal(2, 3, 5, 4)], [[1, 2]], (0,)),
    "differences of one support": (lambda: PairDifferences(2, True), [normal(2, 3, 5, 4)], [[1, 2]], (0,)),
    "dense": (lambda: PairDense(3), blocks(4, shared=True), SUPPORT_PAIRS, (0, 1)),
    "dense in parts": (
        lambda: PairDense(3, centred=False),
        [*blocks(4, shared=True), *blocks(2)],
        [*SUPPORT_PAIRS, *QUERY_PAIRS],
        (0, 1, 2, 3),
    ),
    "normalisation": (
        lambda: PairBatchNormalization(2, 0.3, epsilon=1e-3),
        blocks(2, shared=True),
        SUPPORT_PAIRS,
        (0, 1),
    ),
    "normalisation with averages": (
        lambda: PairBatchNormalization(2, batch_statistics=False, momentum=0.7),
        blocks(2),
        QUERY_PAIRS,
        (0, 1),
    ),
    "matrix": (lambda: PairMatrix(2), blocks(1, shared=True), SUPPORT_PAIRS, (0, 1)),
}


@pytest.mark.parametrize("case", all_but_slow(CASES, {"differences of one support", "dense in parts"}))
def test_layer(case, tmp_path):
    make, inputs, free_axes, differentiable = CASES[case]
    check_layer(make, inputs, free_axes, tmp_path, differentiable=differentiable)


# === Against every pair of every graph ===

SIZES = [(1, 1), (1, 2), (2, 1), (4, 3), (5, 2)]


def graphs_of(support: int, queries: int, width: int) -> np.ndarray:
    """Two episodes of three graphs, which have the same support nodes."""
    shared = np.tile(normal(2, 1, support, width), (1, 3, 1, 1))
    return np.concatenate([shared, normal(2, 3, queries, width)], axis=2)


def every_pair(x):
    return abs(tf.expand_dims(x, -2) - tf.expand_dims(x, -3))


def matrices(pairs: list[tf.Tensor], queries: int) -> np.ndarray:
    """Blocks of values as a matrix of each channel, `(..., nodes, nodes, channels)`."""
    channels = [[block[..., c : c + 1] for block in pairs] for c in range(pairs[0].shape[-1])]
    return np.stack([PairMatrix(queries)(channel) for channel in channels], axis=-1)


@pytest.mark.parametrize("same_support", [False, True])
@pytest.mark.parametrize(("support", "queries"), SIZES)
def test_each_pair_is_looked_at_once(support, queries, same_support):
    x = graphs_of(support, queries, 2)
    pairs = PairDifferences(queries, same_support)(x)
    nodes = support + queries
    assert pairs[0].shape[2] + pairs[1].shape[2] == 1 + nodes * (nodes - 1) // 2
    assert pairs[0].shape[1] == (1 if same_support else 3)
    np.testing.assert_array_equal(matrices(pairs, queries), every_pair(x))


def test_a_dense_layer_in_parts_is_one_of_all_channels():
    first, second = blocks(4, shared=True), blocks(2)
    layer = PairDense(3)
    ys = layer(first + second)
    joined = [np.concatenate([a + 0 * b[..., :1], b], axis=-1) for a, b in zip(first, second)]
    for y, x in zip(ys, joined):
        np.testing.assert_allclose(y, x @ layer.kernel + layer.bias, rtol=1e-5, atol=1e-6)


def test_a_bias_that_a_normalisation_takes_away_is_not_added():
    xs, layer = blocks(4), PairDense(3, centred=True, bias_initializer="ones")
    with tf.GradientTape() as tape:
        ys = layer(xs)
    np.testing.assert_allclose(ys[1], xs[1] @ layer.kernel, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(tape.gradient(ys, layer.bias), np.zeros(3))


@pytest.mark.parametrize("batch_statistics", [True, False])
@pytest.mark.parametrize("same_support", [False, True])
@pytest.mark.parametrize(("support", "queries"), SIZES)
def test_the_statistics_are_those_of_every_pair(support, queries, same_support, batch_statistics):
    x = 3 * graphs_of(support, queries, 2)
    full = EpisodeBatchNormalization(batch_statistics=batch_statistics)
    layer = PairBatchNormalization(queries, 0.3, batch_statistics=batch_statistics)
    expected = tf.nn.leaky_relu(full(every_pair(x), training=True), 0.3)
    pairs = layer(PairDifferences(queries, same_support)(x), training=True)
    np.testing.assert_allclose(matrices(pairs, queries), expected, rtol=1e-4, atol=1e-5)
    for average, of_full in zip(layer.get_weights(), full.get_weights()):
        np.testing.assert_allclose(average, of_full, rtol=1e-5)


@pytest.mark.parametrize("same_support", [False, True])
def test_first_and_second_derivatives_are_those_of_every_pair(same_support, float64):
    support, queries = 3, 2
    support_nodes = tf.constant(RNG.normal(size=(2, 1, support, 2)))
    query_nodes = tf.constant(RNG.normal(size=(2, 3, queries, 2)))
    upstream = tf.constant(RNG.normal(size=(2, 3, 5, 5, 1)))
    full, layer = EpisodeBatchNormalization(), PairBatchNormalization(queries, 0.3)
    last, matrix = keras.layers.Dense(1), PairMatrix(queries)

    def by_every_pair(x):
        return last(tf.nn.leaky_relu(full(every_pair(x)), 0.3))

    def by_pairs(x):
        return matrix([last(block) for block in layer(PairDifferences(queries, same_support)(x))])[..., None]

    def derivatives(function, weights):
        with tf.GradientTape() as outer:
            outer.watch([support_nodes, query_nodes])
            with tf.GradientTape() as inner:
                inner.watch([support_nodes, query_nodes])
                x = tf.concat([tf.tile(support_nodes, [1, 3, 1, 1]), query_nodes], axis=2)
                loss = tf.reduce_sum(upstream * tf.square(function(x)))
            first = inner.gradient(loss, [support_nodes, query_nodes, *weights()])
            total = tf.add_n([tf.reduce_sum(tf.sin(g)) for g in first])
        return [*first, *outer.gradient(total, [support_nodes, query_nodes, *weights()])]

    expected = derivatives(by_every_pair, lambda: [full.gamma, full.beta])
    for got, reference in zip(derivatives(by_pairs, lambda: [layer.gamma, layer.beta]), expected, strict=True):
        # TensorFlow holds the slope of its leaky ReLU in float32.
        np.testing.assert_allclose(got, reference, rtol=1e-6, atol=1e-6 * np.abs(reference).max())
