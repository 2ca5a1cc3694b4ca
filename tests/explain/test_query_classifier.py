"""A few-shot model and its support set as an ordinary classifier."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.data.preprocessing import normalize
from egt_tf.data.support import SupportSet
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import DataError, ExplainError
from egt_tf.evaluation.explained_model import explainer_of
from egt_tf.explain.class_maps import class_maps, explain_func
from egt_tf.explain.methods import get_method
from egt_tf.explain.query import query_inputs
from egt_tf.explain.query_classifier import FirstQuery, WithSupport, query_classifier
from egt_tf.keras_api import keras
from tests.helpers.quick import all_but_slow

SIZE = 32
HEADS = [
    "prototype",
    "relation",
    "cross_attention",
    pytest.param(
        {"name": "graph", "ways": 3, "embedding": 6, "adjacency_width": 4, "growth": 3},
        id="graph",
        marks=pytest.mark.slow,
    ),
]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (9, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def support(images):
    return SupportSet(("ant", "bee", "fly"), images[:6].reshape(3, 2, SIZE, SIZE, 3))


@pytest.mark.parametrize("head", HEADS)
def test_scores_are_those_of_each_image_alone(head, images, support):
    model = EpisodicModel.build_from({"name": "conv4", "width": 4}, head, SIZE, seed=1)
    found = query_classifier(model, support)(normalize(images[6:])).numpy()
    for image, scores in zip(images[6:], found, strict=True):
        inputs = dict(zip(model.input_names, query_inputs(model, support, image), strict=True))
        np.testing.assert_allclose(scores, model(inputs, training=False)[0, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", all_but_slow(["epsilon_plus", "grad_cam", "gradient"], {"grad_cam", "gradient"}))
def test_maps_are_those_of_the_few_shot_model(name, images, support):
    model = EpisodicModel.build_from({"name": "conv4", "width": 4}, "relation", SIZE, seed=1)
    method, targets = get_method(name), [2, 0, 1]
    found = class_maps(query_classifier(model, support), normalize(images[6:]), targets, method)
    explain = explainer_of(model, method)
    for image, target, one in zip(images[6:], targets, found, strict=True):
        expected = explain(query_inputs(model, support, image), target)
        np.testing.assert_allclose(one, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_it_follows_the_weights_of_the_model(images, support):
    model = EpisodicModel.build_from({"name": "conv4", "width": 4}, "relation", SIZE, seed=1)
    classifier = query_classifier(model, support)
    before = classifier(normalize(images[6:])).numpy()
    kernel = model.head.score_model.get_layer("fc2").kernel
    kernel.assign(2 * kernel)
    after = classifier(normalize(images[6:])).numpy()
    assert np.abs(after - before).max() > 1e-3


def test_it_is_made_again_from_its_configuration(images, support):
    model = EpisodicModel.build_from({"name": "conv4", "width": 4}, "prototype", SIZE, seed=1)
    classifier = query_classifier(model, support)
    again = keras.Model.from_config(classifier.get_config())
    again.set_weights(classifier.get_weights())
    queries = normalize(images[6:])
    np.testing.assert_allclose(again(queries), classifier(queries), rtol=1e-6)


def test_shapes_of_the_layers():
    layer = WithSupport(support=4, ways=2, company=3)
    shapes = [x.shape for x in layer(tf.zeros((5, 3, 3, 2)))]
    assert shapes == layer.compute_output_shape((5, 3, 3, 2))
    assert WithSupport.from_config(layer.get_config()).get_config() == layer.get_config()
    scores = tf.random.stateless_normal((5, 4, 2), (1, 2))
    np.testing.assert_array_equal(FirstQuery()(scores), scores[:, 0])


def test_quantus_gets_an_axis_for_the_channels(images, support):
    model = EpisodicModel.build_from({"name": "conv4", "width": 2}, "prototype", SIZE, seed=1)
    classifier, queries = query_classifier(model, support), normalize(images[6:])
    with_axis = explain_func(model=classifier, inputs=queries.numpy(), targets=np.array([0, 1, 2]), method="gradient")
    np.testing.assert_array_equal(with_axis[:, 0], class_maps(classifier, queries, [0, 1, 2], "gradient"))


def test_what_is_wrong(images, support):
    model = EpisodicModel.build_from({"name": "conv4", "width": 2}, "prototype", SIZE, seed=1)
    classifier = query_classifier(model, support)
    with pytest.raises(ExplainError, match=r"one class for each of 2 images, from 0 to 2. Received: \[0, 3\]"):
        class_maps(classifier, normalize(images[:2]), [0, 3])
    with pytest.raises(ExplainError, match="one class for each of 2 images"):
        class_maps(classifier, normalize(images[:2]), [0])
    with pytest.raises(DataError):
        query_classifier(model, SupportSet(("ant", "bee"), np.zeros((2, 1, 8, 8, 3), np.uint8)))
