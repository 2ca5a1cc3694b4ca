"""Layers that give the input in other units: what lies behind still sees the model's input."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.backbones.layers import ChannelScale, from_normalized
from egt_tf.data.preprocessing import normalize
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, LRP, Composite, Entry
from egt_tf.lrp.linear_rules import Bounded
from egt_tf.lrp.presets import structural_entries
from tests.helpers.networks import random_inputs

L = keras.layers


def _convolution() -> keras.layers.Layer:
    return L.Conv2D(4, 3, padding="same", name="conv", kernel_initializer=keras.initializers.RandomNormal(seed=3))


def _box(low, high) -> Composite:
    first = Entry(Bounded(low, high), layer_type="convolution", first=True)
    return Composite((first, *structural_entries()), "box")


def _relevance(layers, composite, images):
    model = keras.Sequential([keras.Input(images.shape[1:]), *layers, L.Flatten()])
    return model, LRP(model, composite, neuron_selection_mode="index").analyze(images, neuron_selection=7)


@pytest.mark.parametrize(
    ("rescaling", "low", "high"),
    [
        (ChannelScale([2.0, 0.5, 3.0], [1.0, 0.0, -1.0]), [-3.0, -1.0, -7.0], [5.0, 1.0, 5.0]),
        (ChannelScale([-2.0, 0.5, 3.0], [1.0, 0.0, -1.0]), [-3.0, -1.0, -7.0], [5.0, 1.0, 5.0]),
        (L.Rescaling(2.0, offset=1.0), -3.0, 5.0),
    ],
)
def test_the_box_is_that_of_the_rescaled_input(rescaling, low, high):
    images = np.clip(random_inputs(8), -2, 2)
    conv = _convolution()
    _, found = _relevance([rescaling, conv], _box(-2.0, 2.0), images)
    _, wanted = _relevance([conv], _box(low, high), rescaling(images).numpy())
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_the_box_passes_two_rescalings_in_a_row():
    images = np.clip(random_inputs(8), -1, 1)
    conv = _convolution()
    _, found = _relevance([L.Rescaling(2.0), L.Rescaling(1.0, offset=3.0), conv], _box(-1.0, 1.0), images)
    _, wanted = _relevance([conv], _box(1.0, 5.0), 2 * images + 3)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon_gamma_box", "lrp.sequential_preset_a_flat"])
def test_relevance_passes_unchanged(composite):
    images = random_inputs(8)
    conv = _convolution()
    scale = ChannelScale([2.0, -0.5, 3.0], [1.0, 0.0, -1.0])
    arguments = {"name": composite}
    if composite == "epsilon_gamma_box":
        arguments.update(low=-4.0, high=4.0)
        wanted_arguments = {**arguments, "low": [-7.0, -2.0, -13.0], "high": [9.0, 2.0, 11.0]}
    else:
        wanted_arguments = arguments
    _, found = _relevance([scale, conv], COMPOSITES.get(arguments), images)
    _, wanted = _relevance([conv], COMPOSITES.get(wanted_arguments), scale(images).numpy())
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_a_gradient_is_scaled():
    images = random_inputs(8)
    scale, conv = ChannelScale([2.0, -0.5, 3.0], [1.0, 0.0, -1.0]), _convolution()
    model = keras.Sequential([keras.Input((8, 8, 3)), scale, conv])
    with tf.GradientTape() as tape:
        x = tf.constant(images)
        tape.watch(x)
        y = tf.reduce_sum(model(x)[..., 0])
    inner = tf.nn.conv2d_transpose(tf.ones((2, 8, 8, 1)), conv.kernel[..., :1], (2, 8, 8, 3), strides=1, padding="SAME")
    np.testing.assert_allclose(tape.gradient(y, x), inner * [2.0, -0.5, 3.0], rtol=1e-4, atol=1e-6)


def test_other_units_of_normalised_images():
    grey = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 3)).astype(np.uint8)
    layer = from_normalized([127.0, 100.0, 3.0], [128.0, 50.0, 2.0], name="scaled")
    wanted = (grey - np.array([127.0, 100.0, 3.0])) / [128.0, 50.0, 2.0]
    np.testing.assert_allclose(layer(normalize(grey)), wanted, atol=1e-4)
    copy = ChannelScale.from_config(layer.get_config())
    np.testing.assert_array_equal(copy(normalize(grey)), layer(normalize(grey)))
