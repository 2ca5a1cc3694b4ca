from __future__ import annotations

import numpy as np
import pytest

from egt_tf.backbones import BACKBONES, conv4, conv4np
from egt_tf.errors import ConfigError
from egt_tf.keras_api import keras
from tests.helpers.networks import random_inputs


@pytest.mark.parametrize(
    ("make", "size", "side"),
    [
        (conv4, 84, 5),
        (conv4, 16, 1),
        (conv4, 31, 1),
        (conv4, 32, 2),
        (conv4np, 84, 19),
        (conv4np, 12, 1),
        (conv4np, 32, 6),
    ],
)
def test_map_sizes(make, size, side):
    assert make(size).output_shape == (None, side, side, 64)
    assert make(size, width=4)(random_inputs(size)).shape == (2, side, side, 4)


@pytest.mark.parametrize("make", [conv4, conv4np])
def test_the_parameters_are_those_of_four_blocks(make):
    # Four convolutions with bias and as many gammas, betas, means and variances.
    convolutions = (27 * 64 + 64) + 3 * (9 * 64 * 64 + 64)
    assert make(84).count_params() == convolutions + 4 * 4 * 64


def test_the_last_blocks_of_conv4np_keep_the_size():
    shapes = {
        layer.name: layer.output_shape[1]
        for layer in conv4np(84, width=2).layers
        if layer.name.endswith(("_conv", "_pool"))
    }
    assert shapes == {
        "block1_conv": 82,
        "block1_pool": 41,
        "block2_conv": 39,
        "block2_pool": 19,
        "block3_conv": 19,
        "block4_conv": 19,
    }


@pytest.mark.parametrize("make", [conv4, conv4np])
def test_config_round_trip(make):
    model = make(16, width=3, seed=4)
    copy = keras.Model.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(copy(random_inputs(16)), model(random_inputs(16)))
    assert [layer.name for layer in copy.layers] == [layer.name for layer in model.layers]


def test_seeds():
    same, again, other = (conv4(16, width=4, seed=seed).get_weights() for seed in (3, 3, 4))
    for a, b in zip(same, again):
        np.testing.assert_array_equal(a, b)
    assert any(np.any(a != b) for a, b in zip(same, other))
    unseeded = [conv4(16, width=4).get_weights()[0] for _ in range(2)]
    assert np.any(unseeded[0] != unseeded[1])


def test_initial_weights():
    model = conv4(16, width=64, seed=0)
    kernel, bias = model.get_layer("block2_conv").get_weights()
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.02)
    assert abs(kernel.mean()) < 5 * kernel.std() / np.sqrt(kernel.size)
    limit = 1 / np.sqrt(9 * 64)
    assert 0.8 * limit < np.abs(bias).max() <= limit
    assert bias.std() == pytest.approx(limit / np.sqrt(3), rel=0.2)


def test_seeded_layers_differ_from_each_other():
    model = conv4(16, width=8, seed=0)
    kernels = [model.get_layer(f"block{i}_conv").kernel.numpy() for i in (2, 3, 4)]
    assert np.any(kernels[0] != kernels[1])
    assert np.any(kernels[1] != kernels[2])


@pytest.mark.parametrize(("make", "size"), [(conv4, 15), (conv4np, 11), (conv4, 0), (conv4, -84)])
def test_too_small_images_are_refused(make, size):
    with pytest.raises(ConfigError, match=rf"`image_size` must be an integer >= 1[26]. .*image_size={size}$"):
        make(size)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"width": 0}, "width"),
        ({"width": -3}, "width"),
        ({"width": "wide"}, "width"),
        ({"width": 2.5}, "width"),
        ({"image_size": "big"}, "image_size"),
    ],
)
@pytest.mark.parametrize("name", ["conv4", "conv4np"])
def test_bad_arguments_are_refused(name, arguments, key):
    with pytest.raises(ConfigError, match=f"`{key}` must be"):
        BACKBONES.get({"name": name, **arguments})
