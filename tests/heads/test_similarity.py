from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.heads.similarity import (
    AxisMean,
    AxisSum,
    PairProduct,
    PairSplit,
    Scale,
    Square,
    cross_entropy,
    pair_model,
    unit,
)
from tests.layer_harness import check_layer

RNG = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


CASES = {
    "mean of one axis": (lambda: AxisMean(-2), [normal(2, 3, 4, 5, 6)], [[1, 2]], (0,)),
    "mean of two axes": (lambda: AxisMean((-3, -2)), [normal(2, 3, 4, 5, 6)], [[1]], (0,)),
    "sum": (lambda: AxisSum(-1), [normal(2, 3, 4)], [[1]], (0,)),
    "product": (lambda: PairProduct(), [normal(2, 3, 4, 5), normal(2, 3, 4, 5)], [[1, 2], [1, 2]], (0, 1)),
    "product of unit vectors": (
        lambda: PairProduct(normalize=True),
        [normal(2, 3, 4, 5), normal(2, 3, 4, 5)],
        [[1, 2], [1, 2]],
        (0, 1),
    ),
    "scale": (lambda: Scale(-3.5), [normal(2, 3, 4)], [[1]], (0,)),
    "square": (lambda: Square(), [normal(2, 3, 4)], [[1]], (0,)),
    "halves": (lambda: PairSplit(), [normal(2, 3, 4, 6)], [[1, 2]], (0,)),
}


@pytest.mark.parametrize("case", CASES)
def test_layer(case, tmp_path):
    make, inputs, free_axes, differentiable = CASES[case]
    check_layer(make, inputs, free_axes, tmp_path, differentiable=differentiable)


def test_values():
    x, y = normal(2, 3, 4, 5), normal(2, 3, 4, 5)
    np.testing.assert_allclose(AxisMean((-3, -2))(x), x.mean((1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(AxisSum(1)(x), x.sum(1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(PairProduct()([x, y]), x * y, rtol=1e-5)
    cosine = (x * y).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)
    np.testing.assert_allclose(AxisSum(-1)(PairProduct(normalize=True)([x, y])), cosine, rtol=1e-4, atol=1e-6)


def test_halves_undo_pairs():
    support, query = normal(2, 3, 2, 2, 4), normal(2, 5, 2, 2, 4)
    labels = np.tile(np.eye(3, dtype=np.float32), (2, 1, 1))
    prototype, of_query = PairSplit()(pair_model((2, 2, 4))([support, labels, query]))
    np.testing.assert_array_equal(prototype, np.broadcast_to(support[:, None], (2, 5, 3, 2, 2, 4)))
    np.testing.assert_array_equal(of_query, np.broadcast_to(query[:, :, None], (2, 5, 3, 2, 2, 4)))


def test_unit_vectors_and_those_without_length():
    x = tf.constant([[3.0, 4.0], [0.0, 0.0], [1e-9, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = unit(x)
    np.testing.assert_allclose(y, [[0.6, 0.8], [0, 0], [1, 0]], rtol=1e-6)
    np.testing.assert_array_equal(tape.gradient(y, x)[1], [0, 0])


def test_means_of_large_float16_maps_do_not_overflow():
    x = tf.cast(tf.fill((1, 40, 50, 2), 3000.0), tf.float16)
    np.testing.assert_allclose(AxisMean((1, 2), dtype="mixed_float16")(x), [[3000, 3000]], rtol=1e-3)


@pytest.mark.parametrize("positions", [(), (2,), (2, 3)])
def test_cross_entropy(positions):
    scores, labels = normal(2, 4, *positions, 3), RNG.integers(0, 3, (2, 4))
    p = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = [np.mean([-np.log(p[e, j, ..., labels[e, j]]).mean() for j in range(4)]) for e in range(2)]
    np.testing.assert_allclose(cross_entropy(labels, scores), expected, rtol=1e-5)
