"""Networks that others built: those of keras.applications, with random weights."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, LRP, record, reverse
from egt_tf.lrp.linear_rules import Flat
from tests.helpers.quick import all_but_slow, quick_ones

SIDE, CLASSES = 64, 10
NETWORKS = {
    "vgg16": (keras.applications.VGG16, {}),
    "resnet50": (keras.applications.ResNet50, {}),
    "mobilenet_v2": (keras.applications.MobileNetV2, {"alpha": 0.35}),
}


# Their images are grey levels, which a layer of theirs prepares.
OF_TODAY = {
    "efficientnet_b0": (keras.applications.EfficientNetB0, SIDE),
    "mobilenet_v3": (keras.applications.MobileNetV3Small, SIDE),
    "convnext_tiny": (keras.applications.ConvNeXtTiny, 32),
    "regnet_x002": (keras.applications.RegNetX002, SIDE),
}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(2, SIDE, SIDE, 3)).astype(np.float32)


@pytest.fixture(scope="module", params=NETWORKS)
def model(request, images):
    keras.utils.set_random_seed(1)
    build, options = NETWORKS[request.param]
    network = build(input_shape=(SIDE, SIDE, 3), weights=None, classes=CLASSES, classifier_activation=None, **options)
    _normalise(network, images)
    return network


def _normalise(network, images):
    """Gives batch normalisation the statistics of these images; with none at all, deep signals fade to nothing."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    network(images, training=True)


def _start(trace):
    return _start_of(trace.outputs[0])


def _start_of(scores):
    return scores * tf.one_hot(tf.argmax(scores, axis=1), CLASSES, dtype=scores.dtype)


@pytest.mark.parametrize(
    "composite",
    quick_ones(
        ["fsc", "fsc_can", "epsilon_plus", "epsilon_gamma_box", "lrp.sequential_preset_a"], {"epsilon_gamma_box"}
    ),
)
def test_relevance_reaches_the_pixels(model, images, composite):
    trace = record(model, [tf.constant(images)])
    assert len(trace.calls) == len(model.layers) - 1
    np.testing.assert_allclose(trace.outputs[0], model(images), rtol=1e-3, atol=1e-5 * np.abs(trace.outputs[0]).max())
    (relevance,) = reverse(trace, _start(trace), COMPOSITES.get(composite))
    assert relevance.shape == images.shape
    assert np.isfinite(relevance).all()
    for image in relevance:
        assert np.any(image)


# The epsilon rule without biases lets relevance grow wherever a sum nearly cancels, which fifty layers with batch
# normalisation take out of float32; z+ loses that of depthwise units without a positive product.
@pytest.mark.parametrize(
    ("model", "composite", "down_to"),
    [
        ("vgg16", "epsilon", "pixels"),
        ("vgg16", "epsilon_plus", "pixels"),
        pytest.param("resnet50", "epsilon_plus", "pixels", marks=pytest.mark.slow),
        ("mobilenet_v2", "epsilon", "block_16_project_BN"),
    ],
    indirect=["model"],
)
def test_relevance_is_conserved_without_biases(model, images, composite, down_to):
    trace = record(model, [tf.constant(images)])
    start = _start(trace)
    at = trace.inputs[0] if down_to == "pixels" else trace.output_of(down_to)
    (relevance,) = reverse(trace, start, COMPOSITES.get({"name": composite, "bias": False}), [at])
    np.testing.assert_allclose(tf.reduce_sum(relevance, (1, 2, 3)), tf.reduce_sum(start, 1), rtol=0.02)


def test_the_first_convolution_is_found(model, images):
    """ResNet50 pads its images in a layer of its own; its first convolution still is the one that sees pixels."""
    trace = record(model, [tf.constant(images[:1])])
    composite = COMPOSITES.get("epsilon_alpha2_beta1_flat")
    flat = [call.layer.name for call in trace.calls if isinstance(composite.rule_for(call.layer, call.first), Flat)]
    assert flat == [next(layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D))]


def _without_biases(name):
    """A network of today with random weights and no biases, and grey levels for it; its signals do not fade."""
    keras.utils.set_random_seed(1)
    build, side = OF_TODAY[name]
    network = build(input_shape=(side, side, 3), weights=None, classes=CLASSES, classifier_activation=None)
    grey_levels = np.random.default_rng(0).uniform(0.0, 255.0, (2, side, side, 3)).astype(keras.backend.floatx())
    _normalise(network, grey_levels)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(tf.zeros_like(layer.moving_mean))
    return network, tf.constant(grey_levels)


@pytest.mark.parametrize("name", all_but_slow(OF_TODAY, {"efficientnet_b0", "mobilenet_v3"}))
def test_networks_of_today_are_explained_and_conserve_relevance(name):
    network, grey_levels = _without_biases(name)
    trace = record(network, [grey_levels])
    np.testing.assert_allclose(trace.outputs[0], network(grey_levels), rtol=1e-4)
    (relevance,) = reverse(trace, _start(trace), COMPOSITES.get("epsilon_plus"))
    # z+ loses what arrives at units without one positive product, as depthwise units and those of few inputs can be.
    lost = 0.025 if name == "mobilenet_v3" else 0.01
    np.testing.assert_allclose(tf.reduce_sum(relevance, (1, 2, 3)), _start(trace).numpy().sum(1), rtol=lost)
    for image in relevance:
        assert np.any(image)


@pytest.mark.slow
def test_the_epsilon_rule_is_input_times_gradient_in_a_piecewise_linear_network_of_today():
    """RegNet in float64: sums, batch normalisation and ReLUs, no gate."""
    keras.backend.set_floatx("float64")
    try:
        network, pixels = _without_biases("regnet_x002")
    finally:
        keras.backend.set_floatx("float32")
    trace = record(network, [pixels])
    composite = COMPOSITES.get({"name": "lrp.epsilon", "epsilon": 1e-12})
    (relevance,) = reverse(trace, _start(trace), composite)
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        score = tf.reduce_sum(_start_of(network(pixels)))
    expected = pixels * tape.gradient(score, pixels)
    np.testing.assert_allclose(relevance, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


# The graphs of fifty layers take longest to make; what is in them is computed above, without a graph.
@pytest.mark.parametrize(
    "model",
    ["vgg16", *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet50", "mobilenet_v2"))],
    indirect=True,
)
def test_the_analyzer_gives_the_same_in_a_graph(model, images):
    trace = record(model, [tf.constant(images)])
    expected = reverse(trace, _start(trace), COMPOSITES.get("fsc"))[0].numpy()
    got = LRP(model, "fsc").analyze(images)
    assert got.shape == images.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-3 * np.abs(expected).max())
