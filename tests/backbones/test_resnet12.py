from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.backbones import BACKBONES, resnet12
from egt_tf.errors import ConfigError
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, record, reverse
from tests.helpers.networks import layers_of, random_inputs

NARROW = (2, 3, 4, 5)


@pytest.mark.parametrize(
    ("size", "sides"),
    [(84, (42, 21, 11, 6)), (224, (112, 56, 28, 14)), (32, (16, 8, 4, 2)), (17, (9, 5, 3, 2)), (1, (1, 1, 1, 1))],
)
def test_map_sizes(size, sides):
    model = resnet12(size, NARROW)
    assert tuple(model.get_layer(f"stage{stage}_block1_relu").output_shape[1] for stage in (1, 2, 3, 4)) == sides
    assert model.output_shape == (None, sides[-1], sides[-1], 5)


def test_published_parameters():
    model = resnet12()
    assert model.output_shape == (None, 6, 6, 512)
    kernels, width = 9 * 3 * 64, 64
    for wide in (64, 128, 256, 512):
        kernels += 9 * width * wide + 2 * 9 * wide * wide + width * wide
        width = wide
    convolutions = layers_of(model, keras.layers.Conv2D)
    assert len(convolutions) == 1 + 4 * 4
    assert not any(layer.use_bias for layer in convolutions)
    assert sum(int(np.prod(layer.kernel.shape)) for layer in convolutions) == kernels
    assert {layer.name for layer in convolutions if layer.strides == (2, 2)} == {
        f"stage{stage}_block1_{part}" for stage in (1, 2, 3, 4) for part in ("conv2", "shortcut_conv")
    }
    for layer in layers_of(model, keras.layers.BatchNormalization):
        assert (layer.epsilon, layer.momentum) == (1e-5, 0.9)


def convolution(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """One image, zeros on all four sides."""
    pad = kernel.shape[0] // 2
    x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
    side = (x.shape[0] - kernel.shape[0]) // stride + 1
    size = kernel.shape[0]
    return np.array(
        [
            [
                np.tensordot(x[i * stride : i * stride + size, j * stride : j * stride + size], kernel, 3)
                for j in range(side)
            ]
            for i in range(side)
        ]
    )


def normalised(x: np.ndarray, layer: keras.layers.BatchNormalization) -> np.ndarray:
    gamma, beta, mean, variance = (w.astype(np.float64) for w in layer.get_weights())
    return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta


@pytest.mark.parametrize("size", [16, 17])
def test_forward_pass_is_the_published_one(size):
    model = resnet12(size, NARROW, seed=0)
    rng = np.random.default_rng(1)
    for layer in layers_of(model, keras.layers.BatchNormalization):
        layer.set_weights(
            [
                rng.uniform(0.5, 1.5, w.shape)
                if "variance" in w.name or "gamma" in w.name
                else rng.normal(0, 0.2, w.shape)
                for w in layer.weights
            ]
        )

    def step(x, name, part, stride):
        y = convolution(x, model.get_layer(name.format(f"conv{part}")).kernel.numpy().astype(np.float64), stride)
        return normalised(y, model.get_layer(name.format(f"bn{part}")))

    x = np.maximum(step(random_inputs(size, 1)[0].astype(np.float64), "stem_{}", "", 1), 0)
    for stage in (1, 2, 3, 4):
        name = f"stage{stage}_block1_{{}}"
        shortcut = step(x, name.replace("{}", "shortcut_{}"), "", 2)
        main = np.maximum(step(x, name, 1, 1), 0)
        main = np.maximum(step(main, name, 2, 2), 0)
        x = np.maximum(step(main, name, 3, 1) + shortcut, 0)
    np.testing.assert_allclose(model(random_inputs(size, 1))[0], x, rtol=1e-4, atol=1e-5)


def test_initial_weights_seeds_and_names():
    same, again, other = (resnet12(32, (16, 32, 64, 64), seed=seed) for seed in (3, 3, 4))
    for a, b in zip(same.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert any(np.any(a != b) for a, b in zip(same.get_weights(), other.get_weights()))
    names = [weight.name for weight in same.weights]
    assert len(set(names)) == len(names)
    for layer in layers_of(same, keras.layers.Conv2D):
        size, _, _, width = layer.kernel.shape
        expected = np.sqrt(2 / (size * size * width))
        assert layer.kernel.numpy().std() == pytest.approx(expected, rel=4 / np.sqrt(2 * np.prod(layer.kernel.shape)))


def test_config_round_trip_and_gradients():
    model = resnet12(32, NARROW, seed=4)
    copy = keras.Model.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(copy(random_inputs(32)), model(random_inputs(32)))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(random_inputs(32), training=True) ** 2)
    assert all(np.isfinite(g).all() for g in tape.gradient(loss, model.trainable_variables))


@pytest.mark.parametrize("name", ["fsc", "fsc_can", "epsilon_plus"])
def test_relevance_reaches_the_pixels(name):
    trace = record(resnet12(32, (4, 4, 8, 8), seed=0), [tf.constant(random_inputs(32))])
    (relevance,) = reverse(trace, trace.outputs[0], COMPOSITES.get(name))
    assert np.isfinite(relevance).all()
    assert np.any(relevance)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": [64, 128, 256]}, "`widths` must hold 4"),
        ({"widths": "wide"}, "`widths` must hold 4"),
        ({"widths": [64, 128, 0, 512]}, r"`widths\[2\]` must be an integer >= 1"),
        ({"image_size": 0}, "`image_size` must be"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
        ({"stem": "small"}, "takes no argument 'stem'"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        BACKBONES.get({"name": "resnet12", **arguments})
