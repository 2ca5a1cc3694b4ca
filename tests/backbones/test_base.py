from __future__ import annotations

import numpy as np
import pytest

from egt_tf.backbones.base import InitialWeights, seed_beside


def test_convolution_has_the_published_spread():
    kernel = InitialWeights(0).convolution()((3, 3, 40, 80)).numpy()
    expected = np.sqrt(2 / (9 * 80))
    assert kernel.std() == pytest.approx(expected, rel=0.02)
    assert abs(kernel.mean()) < 5 * expected / np.sqrt(kernel.size)
    assert np.abs(kernel).max() > 3.5 * expected


def test_uniform_fills_its_range():
    values = InitialWeights(0).uniform(25)((100, 100)).numpy()
    assert -0.2 <= values.min() < -0.199
    assert 0.199 < values.max() <= 0.2
    assert values.std() == pytest.approx(0.2 / np.sqrt(3), rel=0.02)


def test_the_nth_initializer_depends_on_the_seed_and_n_alone():
    first, second = InitialWeights(7), InitialWeights(7)
    # What is asked for between does not matter, only how often.
    first.convolution()((3, 3, 2, 2)), second.uniform(9)
    a, b = first.uniform(4)((50,)), second.uniform(4)((50,))
    np.testing.assert_array_equal(a, b)
    assert np.any(a != InitialWeights(7).uniform(4)((50,)))
    assert np.any(a != first.uniform(4)((50,)))


def test_without_a_seed_every_call_gives_other_weights():
    weights = InitialWeights(None)
    assert np.any(weights.uniform(4)((50,)) != InitialWeights(None).uniform(4)((50,)))


def test_a_dense_layer_has_the_next_two_initializers():
    layer = InitialWeights(7).dense(4, 3, "scores")
    layer.build((None, 4))
    weights = InitialWeights(7)
    for values in layer.get_weights():
        np.testing.assert_array_equal(values, weights.uniform(4)(values.shape))
    assert (layer.name, layer.units) == ("scores", 3)


def test_what_a_model_has_beside_its_backbone_has_a_seed_of_its_own():
    # Weights of a seed are the same in every version.
    assert (seed_beside(5), seed_beside(None)) == (1_000_008, None)
