"""Networks of keras.applications. Their downloads are not tried: the weights here are initial ones."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from tensorflow import keras

from egt_tf.backbones import BACKBONES
from egt_tf.backbones.applications import application_names
from egt_tf.backbones.layers import ReverseChannels
from egt_tf.data.preprocessing import normalize
from egt_tf.errors import ConfigError
from egt_tf.lrp import COMPOSITES, LRP
from egt_tf.lrp.linear_rules import Bounded
from egt_tf.lrp.presets import BRIGHTEST, DARKEST

# One for each way of preprocessing: reversed and centred; -1..1; as here; none.
NETWORKS = ("ResNet50", "MobileNetV2", "DenseNet121", "EfficientNetV2B0")


def _made(network, **arguments):
    return BACKBONES.get({"name": f"applications:{network}", "weights": "none", **arguments}, image_size=32, seed=1)


@pytest.mark.parametrize(
    "network",
    [*NETWORKS[:2], *(pytest.param(network, marks=pytest.mark.slow) for network in NETWORKS[2:])],
)
def test_images_are_prepared_as_the_network_wants_them(network):
    grey = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    model = _made(network)
    (nested,) = (layer for layer in model.layers if isinstance(layer, keras.Model))
    prepared = keras.Model(model.inputs, nested.inbound_nodes[-1].input_tensors)(normalize(grey))
    module = sys.modules[getattr(keras.applications, network).__module__]
    np.testing.assert_allclose(prepared, module.preprocess_input(grey.astype(np.float32)), atol=2e-4)


def test_names():
    assert {*NETWORKS, "VGG16", "ConvNeXtTiny"} <= set(application_names())
    with pytest.raises(ConfigError, match=r"'MobilNetV2'; did you mean 'MobileNetV2'\?"):
        _made("MobilNetV2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "noisy"}, "`weights` must be one of imagenet, none"),
        ({"output": "block_16_projct"}, r"must name a layer of MobileNetV2.*did you mean 'block_16_project'"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ConfigError, match=message):
        _made("MobileNetV2", **arguments)


def test_an_image_can_be_too_small():
    with pytest.raises(ConfigError, match="VGG16 cannot be made at 16 px"):
        BACKBONES.get({"name": "applications:VGG16", "weights": "none"}, image_size=16)


def test_an_output_and_a_copy():
    model = _made("MobileNetV2", output="block_5_add")
    assert model.output_shape == (None, 4, 4, 32)
    copy = keras.Model.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    images = normalize(np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8))
    np.testing.assert_array_equal(copy(images), model(images))


@pytest.mark.slow
def test_the_box_follows_channels_that_are_reversed():
    model = _made("ResNet50")
    analyzer = LRP(
        keras.Sequential([model, keras.layers.Flatten()]), "epsilon_gamma_box", neuron_selection_mode="index"
    )
    images = normalize(np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8))
    assert np.isfinite(analyzer.analyze(images, neuron_selection=3)).all()


def test_the_box_behind_reversed_channels_is_reversed():
    images = normalize(np.random.default_rng(1).integers(0, 256, (2, 6, 6, 3)).astype(np.uint8)).numpy()
    conv = keras.layers.Conv2D(2, 3, name="conv")
    inputs = keras.Input((6, 6, 3))
    reversing = keras.Model(inputs, keras.layers.Flatten()(conv(ReverseChannels()(inputs))))
    plain = keras.Model(inputs, keras.layers.Flatten()(conv(inputs)))
    box, mirrored = (
        COMPOSITES.get({"name": "epsilon_gamma_box", "low": low, "high": high})
        for low, high in ((DARKEST, BRIGHTEST), (DARKEST[::-1], BRIGHTEST[::-1]))
    )
    assert isinstance(box.rule_for(conv, first=True), Bounded)
    found = LRP(reversing, box, neuron_selection_mode="index").analyze(images, neuron_selection=3)
    wanted = LRP(plain, mirrored, neuron_selection_mode="index").analyze(images[..., ::-1], neuron_selection=3)
    np.testing.assert_allclose(found, wanted[..., ::-1], rtol=1e-4, atol=1e-7)
