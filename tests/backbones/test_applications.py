"""Networks of keras.applications. Their downloads are not tried: the weights here are initial ones."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.backbones import BACKBONES
from egt_tf.backbones.applications import _draw_weights, _with_fixed_names, application_names
from egt_tf.backbones.layers import ReverseChannels
from egt_tf.config import config_from_dict
from egt_tf.data.preprocessing import normalize
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError
from egt_tf.heads import HEADS
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, LRP, record, reverse
from egt_tf.lrp.linear_rules import Bounded
from egt_tf.lrp.presets import BRIGHTEST, DARKEST
from egt_tf.runs import RunFolder
from egt_tf.training.guided_model import GuidedModel
from egt_tf.weights import layer_weights, save_arrays, weight_arrays

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


def _unnamed(image_shape):
    """A network some of whose layers have no name."""
    images = keras.Input(image_shape)
    x = keras.layers.Conv2D(2, 1, name="first")(images)
    x = keras.layers.Conv2D(2, 1, name="conv2d_of_mine")(keras.layers.ReLU()(keras.layers.Conv2D(2, 1)(x)))
    x = keras.layers.BatchNormalization()(keras.layers.DepthwiseConv2D(1)(keras.layers.Conv2D(2, 1)(x)))
    return keras.Model(images, keras.layers.ReLU()(x), name="unnamed")


def test_names_do_not_depend_on_what_was_made_before():
    for _ in range(2):
        model = _with_fixed_names(_unnamed((8, 8, 3)))
        assert [layer.name for layer in model.layers[1:]] == [
            *("first", "conv2d", "re_lu", "conv2d_of_mine", "conv2d_1", "depthwise_conv2d"),
            *("batch_normalization", "re_lu_1"),
        ]
        copy = keras.Model.from_config(model.get_config())
        assert [name for name, _ in layer_weights(copy)] == [name for name, _ in layer_weights(model)]


def test_weights_follow_from_the_seed_alone():
    before = np.random.get_state()[1].copy()
    first, again, other = (_unnamed((8, 8, 3)) for _ in range(3))
    for model, seed in ((first, 1), (again, 1), (other, 2)):
        _draw_weights(model, np.random.default_rng(seed))
    assert np.array_equal(before, np.random.get_state()[1])
    weights = zip(*(model.get_weights() for model in (first, again, other)))
    kernels = [each for each in weights if each[0].ndim == 4]
    assert len(kernels) == 5
    for a, b, c in kernels:
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


@pytest.mark.slow
@pytest.mark.parametrize(("network", "size"), [("ResNet50", 32), ("Xception", 71), ("ConvNeXtTiny", 32)])
def test_a_run_is_loaded_again(network, size, tmp_path):
    config = config_from_dict(
        {
            "data": {"image_size": size},
            "model": {"backbone": {"name": f"applications:{network}", "weights": "none"}, "head": "prototype"},
        },
        origin="a test",
    )
    model = EpisodicModel.build_from(config.model.backbone, config.model.head, size, seed=3)
    run = RunFolder(tmp_path / "run")
    run.create(config)
    save_arrays(run.best_file, weight_arrays(model))
    images = normalize(np.random.default_rng(1).integers(0, 256, (2, size, size, 3)).astype(np.uint8))
    np.testing.assert_array_equal(run.load_model().backbone(images), model.backbone(images))
    np.testing.assert_array_equal(
        EpisodicModel.from_config(model.get_config()).backbone.output_shape, model.backbone.output_shape
    )


@pytest.mark.slow
@pytest.mark.parametrize("network", ["ResNet50", "MobileNetV2"])
def test_relevance_is_conserved(network):
    backbone = _made(network)
    model = keras.Sequential([backbone, keras.layers.Flatten()])
    images = normalize(np.random.default_rng(1).integers(0, 256, (8, 32, 32, 3)).astype(np.uint8))
    (nested,) = (layer for layer in backbone.layers if isinstance(layer, keras.Model))
    normalisations = [layer for layer in nested.layers if isinstance(layer, keras.layers.BatchNormalization)]
    # With the statistics of a new network its maps vanish.
    for layer in normalisations:
        layer.momentum = 0.0
    model(images, training=True)
    # Biases, which the means are once they are folded into the convolutions, keep their part of the relevance.
    for layer in normalisations:
        layer.moving_mean.assign(0 * layer.moving_mean)
    images = images[:1]
    scores = model(images).numpy()[0]
    strongest = int(scores.argmax())
    found = LRP(model, "epsilon_plus", neuron_selection_mode="index").analyze(images, neuron_selection=strongest)
    assert np.isfinite(found).all()
    assert found.sum() == pytest.approx(scores[strongest], rel=0.01)
    assert scores[strongest] > 0.1


# One of each family of today, and a size that it takes.
OF_TODAY = {"ConvNeXtTiny": 32, "EfficientNetV2B0": 32, "MobileNetV3Small": 32}


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS.names())
@pytest.mark.parametrize("network", OF_TODAY)
def test_networks_of_today_learn_and_are_explained_with_every_head(network, head):
    size, ways = OF_TODAY[network], 2
    arguments = {"ways": ways} if HEADS.member(head).needs_ways else {}
    backbone = {"name": f"applications:{network}", "weights": "none"}
    classifier = EpisodicModel.build_from(backbone, {"name": head, **arguments}, size, seed=3)
    rng = np.random.default_rng(1)
    images = rng.normal(size=(2, 1, ways, size, size, 3)).astype(np.float32)
    labels = np.eye(ways, dtype=np.float32)[None]
    inputs = {"support_images": images[0], "support_labels": labels, "query_images": images[1]}
    model = GuidedModel(classifier)
    model.compile(optimizer=keras.optimizers.Adam(1e-4), run_eagerly=True)
    before = classifier.backbone.get_weights()
    losses = model.train_step((inputs, np.array([[0, 1]], np.int32)))
    assert all(np.isfinite(value) for value in losses.values())
    assert any(np.any(a != b) for a, b in zip(before, classifier.backbone.get_weights()))
    trace = record(classifier, [tf.constant(inputs[name]) for name in classifier.input_names])
    # Initial weights leave relevance near the limits of float32; a start of one is far from them.
    start = tf.one_hot([[1, -1]], ways)
    wanted = [trace.output_of(name) for name in ("support_images", "query_images")]
    for relevance in reverse(trace, start, COMPOSITES.get("epsilon_plus"), wanted):
        assert np.isfinite(relevance).all()
        assert np.any(relevance)


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
