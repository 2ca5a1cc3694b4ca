from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.backbones import BACKBONES, resnet10, resnet18
from egt_tf.errors import ConfigError
from egt_tf.keras_api import keras
from tests.helpers.networks import layers_of, random_inputs
from tests.helpers.quick import all_but_slow

NARROW = (2, 3, 4, 5)


# === architecture ===


@pytest.mark.parametrize("make", all_but_slow([resnet10, resnet18], {resnet18}))
@pytest.mark.parametrize(
    ("stem", "size", "side"),
    [
        ("imagenet", 224, 7),
        ("imagenet", 112, 4),
        ("imagenet", 84, 3),
        ("small", 84, 6),
        ("small", 32, 2),
        ("imagenet", 16, 1),
    ],
)
def test_map_sizes(make, stem, size, side):
    assert make(size, stem, NARROW).output_shape == (None, side, side, 5)


def test_published_sizes_inside_resnet10():
    model = resnet10(224)
    sides = [
        model.get_layer(name).output_shape[1:]
        for name in ("stem_relu", "stem_pool", "stage1_block1_relu", "stage2_block1_relu", "stage3_block1_relu")
    ]
    assert sides == [(112, 112, 64), (56, 56, 64), (56, 56, 64), (28, 28, 128), (14, 14, 256)]
    assert model.output_shape == (None, 7, 7, 512)


def test_resnet10_has_12_convolutions_and_4_9_million_parameters():
    model = resnet10(224)
    assert len(layers_of(model, keras.layers.Conv2D)) == 12
    kernels = 49 * 3 * 64 + 2 * 9 * 64 * 64
    for narrow, wide in ((64, 128), (128, 256), (256, 512)):
        kernels += 9 * narrow * wide + 9 * wide * wide + narrow * wide
    assert sum(np.prod(layer.kernel.shape) for layer in layers_of(model, keras.layers.Conv2D)) == kernels
    assert not any(layer.use_bias for layer in layers_of(model, keras.layers.Conv2D))
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert trainable == kernels + 2 * sum(
        layer.gamma.shape[0] for layer in layers_of(model, keras.layers.BatchNormalization)
    )
    assert 4.9e6 <= trainable < 4.95e6


def test_resnet18_has_20_convolutions():
    # 17 in the main path and a shortcut in every stage but the first.
    model = resnet18(84, widths=NARROW)
    assert len(layers_of(model, keras.layers.Conv2D)) == 1 + 16 + 3
    assert {layer.name for layer in layers_of(model, keras.layers.Conv2D) if "shortcut" in layer.name} == {
        f"stage{stage}_block1_shortcut_conv" for stage in (2, 3, 4)
    }


def test_values_are_not_negative():
    assert resnet10(32, widths=NARROW, seed=0)(random_inputs(32)).numpy().min() >= 0


def test_a_block_adds_its_shortcut():
    model = resnet10(32, widths=NARROW, seed=0)
    names = (
        "stem_pool",
        "stage1_block1_bn2",
        "stage1_block1_relu",
        "stage2_block1_shortcut_bn",
        "stage2_block1_bn2",
        "stage2_block1_relu",
    )
    stem, main, out, shortcut, main2, out2 = keras.Model(model.input, [model.get_layer(name).output for name in names])(
        random_inputs(32)
    )
    np.testing.assert_allclose(out, np.maximum(stem + main, 0), atol=1e-6)
    np.testing.assert_allclose(out2, np.maximum(shortcut + main2, 0), atol=1e-6)


# === padding ===


def convolution(x: np.ndarray, kernel: np.ndarray, stride: int, pad: int) -> np.ndarray:
    """One image, float64, zeros on all four sides."""
    x = np.pad(x.astype(np.float64), ((pad, pad), (pad, pad), (0, 0)))
    size = kernel.shape[0]
    side = (x.shape[0] - size) // stride + 1
    return np.array(
        [
            [
                np.tensordot(x[i * stride : i * stride + size, j * stride : j * stride + size], kernel, 3)
                for j in range(side)
            ]
            for i in range(side)
        ]
    )


@pytest.mark.parametrize(("stem", "pad"), [("imagenet", 3), ("small", 1)])
@pytest.mark.parametrize("size", [16, 17])
def test_the_stem_pads_evenly(stem, pad, size):
    model = resnet10(size, stem, NARROW, seed=0)
    layer = model.get_layer("stem_conv")
    x = random_inputs(size, 1)
    actual = keras.Model(model.input, layer.output)(x)[0]
    np.testing.assert_allclose(actual, convolution(x[0], layer.kernel.numpy(), 2, pad), atol=1e-5)


def test_the_stem_pools_3x3_windows_that_begin_one_before_the_edge():
    model = resnet10(16, widths=NARROW, seed=0)
    x, pooled = keras.Model(model.input, [model.get_layer(name).output for name in ("stem_relu", "stem_pool")])(
        random_inputs(16, 1)
    )
    padded = np.pad(x[0], ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    expected = [[padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max(axis=(0, 1)) for j in range(4)] for i in range(4)]
    np.testing.assert_array_equal(pooled[0], expected)


def test_halving_blocks_pad_evenly():
    model = resnet10(32, "small", NARROW, seed=0)
    names = ("stage1_block1_relu", "stage2_block1_conv1", "stage2_block1_shortcut_conv")
    x, main, shortcut = keras.Model(model.input, [model.get_layer(name).output for name in names])(random_inputs(32, 1))
    kernels = [model.get_layer(name).kernel.numpy() for name in names[1:]]
    np.testing.assert_allclose(main[0], convolution(x[0].numpy(), kernels[0], 2, 1), atol=1e-5)
    np.testing.assert_allclose(shortcut[0], convolution(x[0].numpy(), kernels[1], 2, 0), atol=1e-5)


# === batch normalisation ===


def test_batch_normalisation_is_set_up_as_in_torch():
    for layer in layers_of(resnet10(32, widths=NARROW), keras.layers.BatchNormalization):
        assert (layer.epsilon, layer.momentum) == (1e-5, 0.9)
        assert layer.center
        assert layer.scale


def test_running_statistics_move_as_in_torch():
    model = resnet10(32, widths=NARROW, seed=0)
    layer = model.get_layer("stem_bn")
    x = keras.Model(model.input, model.get_layer("stem_conv").output)(random_inputs(32)).numpy().astype(np.float64)
    output = keras.Model(model.input, layer.output)(random_inputs(32), training=True)
    np.testing.assert_allclose(output, (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5), atol=1e-4)
    np.testing.assert_allclose(layer.moving_mean, 0.1 * x.mean((0, 1, 2)), rtol=1e-4, atol=1e-7)
    # Corrected for the bias; the difference (1 in 512) is far above the tolerance.
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * x.var((0, 1, 2), ddof=1), rtol=1e-6)
    assert np.abs(layer.moving_variance - (0.9 + 0.1 * x.var((0, 1, 2)))).max() > 1e-5


# === weights and configuration ===


def test_initial_weights():
    model = resnet10(32, widths=(16, 32, 64, 128), seed=0)
    for layer in layers_of(model, keras.layers.Conv2D):
        size, _, _, width = layer.kernel.shape
        kernel = layer.kernel.numpy()
        expected = np.sqrt(2 / (size * size * width))
        assert kernel.std() == pytest.approx(expected, rel=4 / np.sqrt(2 * kernel.size))
        # Not cut off at two standard deviations, as Keras's default normal is.
        assert kernel.size < 2000 or np.abs(kernel).max() > 2.5 * expected


def test_seeds_and_names():
    same, again, other = (resnet10(32, widths=NARROW, seed=seed) for seed in (3, 3, 4))
    for a, b in zip(same.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert any(np.any(a != b) for a, b in zip(same.get_weights(), other.get_weights()))
    names = [weight.name for weight in same.weights]
    assert len(set(names)) == len(names)
    assert names == [weight.name for weight in again.weights]


def test_config_round_trip():
    model = resnet18(32, "small", NARROW, seed=4)
    copy = keras.Model.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(copy(random_inputs(32)), model(random_inputs(32)))


def test_gradients_reach_every_weight():
    model = resnet10(32, widths=NARROW, seed=0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(random_inputs(32), training=True) ** 2)
    assert all(np.isfinite(g).all() for g in tape.gradient(loss, model.trainable_variables))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stem": "imagnet"}, "`stem` must be one of imagenet, small. Received: stem='imagnet'"),
        ({"stem": None}, "`stem` must be one of"),
        ({"widths": [64, 128, 256]}, "`widths` must hold 4"),
        ({"widths": 64}, "`widths` must hold 4"),
        ({"widths": "wide"}, "`widths` must hold 4"),
        ({"widths": [64, 128, 0, 512]}, r"`widths\[2\]` must be an integer >= 1. Received: widths\[2\]=0"),
        ({"widths": [64, 128, "x", 512]}, r"`widths\[2\]` must be"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
        ({"image_size": 0}, "`image_size` must be"),
        ({"image_size": "big"}, "`image_size` must be"),
    ],
)
@pytest.mark.parametrize("name", ["resnet10", "resnet18"])
def test_bad_arguments_are_refused(name, arguments, message):
    with pytest.raises(ConfigError, match=message):
        BACKBONES.get({"name": name, **arguments})
