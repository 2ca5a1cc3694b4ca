from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.heads.ridge_layers import CentredMaps, MapCombination, RidgeCoefficients, UnitVector
from tests.heads.feature_episodes import episodes
from tests.layer_harness import check_layer

RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


CASES = {
    "coefficients": (lambda: RidgeCoefficients(0.5), episodes()[:2], [[1], [1, 2]], (0,)),
    "centred coefficients": (lambda: RidgeCoefficients(2.0, centre=True), episodes()[:2], [[1], [1, 2]], (0,)),
    "combination": (MapCombination, [normal(2, 5, 3, 3, 4), normal(2, 5, 3)], [[1], [1, 2]], (0, 1)),
    "centred maps": (CentredMaps, [normal(2, 4, 3, 3, 5), normal(2, 6, 3, 3, 5)], [[1], [1]], (0, 1)),
    "unit vector": (UnitVector, [normal(2, 3, 4, 5)], [[1, 2]], (0,)),
}


@pytest.mark.parametrize("case", CASES)
def test_layer(case, tmp_path):
    make, inputs, free_axes, differentiable = CASES[case]
    check_layer(make, inputs, free_axes, tmp_path, differentiable=differentiable)


def test_values():
    maps, coefficients = normal(2, 5, 3, 2, 4), normal(2, 5, 3)
    np.testing.assert_allclose(
        MapCombination()([maps, coefficients]), np.einsum("enk,enhwc->ekhwc", coefficients, maps), rtol=1e-4, atol=1e-5
    )
    query = normal(2, 6, 3, 2, 4)
    np.testing.assert_allclose(
        CentredMaps()([query, maps]), query - maps.mean((1, 2, 3))[:, None, None, None], rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(UnitVector()(tf.constant([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0, 0]], rtol=1e-6)


def test_the_gradient_goes_through_the_solution(float64):
    """Against differences of the layer's values."""
    maps, labels = (x[:1].astype(np.float64) for x in episodes(shots=1)[:2])
    layer, direction = RidgeCoefficients(0.3), np.random.default_rng(1).normal(size=maps.shape)
    variable = tf.constant(maps)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        total = tf.reduce_sum(layer([variable, tf.constant(labels)]) * np.arange(9.0).reshape(1, 3, 3))
    got = float(np.sum(tape.gradient(total, variable) * direction))

    def value(step: float) -> float:
        return float(np.sum(layer([maps + step * direction, labels]) * np.arange(9.0).reshape(1, 3, 3)))

    assert got == pytest.approx((value(1e-5) - value(-1e-5)) / 2e-5, rel=1e-5)
