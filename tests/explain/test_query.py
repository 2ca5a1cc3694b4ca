"""Relevance of a whole few-shot model, down to the pixels of query and support."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.data.preprocessing import normalize
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ExplainError
from egt_tf.explain.methods import get_method
from egt_tf.explain.query import classes_to_explain, explain_image, query_inputs, relevance_of_query
from egt_tf.lrp import COMPOSITES, record, reverse
from egt_tf.lrp.output_relevance import Start, log_odds
from tests.helpers.random_images import random_image, random_support

SIZE, WAYS, SHOTS = 32, 3, 2
FSC, METHOD = COMPOSITES.get("fsc"), get_method("fsc")


@pytest.fixture(scope="module")
def support():
    return random_support(WAYS, SHOTS, SIZE)


@pytest.fixture(scope="module")
def image():
    return random_image(SIZE)


def test_pixels_get_what_the_two_stages_give_one_after_the_other(model, support, image):
    whole = relevance_of_query(model, support, query_inputs(model, support, image), [1], METHOD)

    # By hand: relevance at the pairs, its halves, and each half on through the backbone.
    query = normalize(np.concatenate([image[None], support.images.reshape(-1, SIZE, SIZE, 3)]))
    backbone = record(model.backbone, [tf.concat([query[1:], query], 0)])
    features = backbone.outputs[0]
    labels = tf.one_hot([[0, 0, 1, 1, 2, 2]], WAYS)
    score = record(model.head.score_model, model.head.relate(features[None, :6], labels, features[None, 6:]))
    start = log_odds(model.head.probabilities(score.outputs[0]))
    chosen = np.zeros(start.shape, np.float32)
    chosen[0, 0, 1] = 1.0
    pair_relevance = reverse(score, start * chosen, FSC, [score.output_of("pairs")])[0][0, 0]
    channels = features.shape[-1]
    at_features = np.zeros(features.shape, np.float32)
    at_features[6] = pair_relevance[1, :, :, channels:]
    shots = features[2:4]
    prototype = tf.reduce_mean(shots, 0)
    share = pair_relevance[1, :, :, :channels] / tf.where(prototype == 0, 1e-7, prototype)
    at_features[2:4] = shots / SHOTS * share
    pixels = reverse(backbone, tf.constant(at_features), FSC)[0].numpy()

    np.testing.assert_allclose(whole.query[0], pixels[6], rtol=1e-3, atol=1e-5 * np.abs(pixels).max())
    np.testing.assert_allclose(
        whole.support[0].reshape(-1, SIZE, SIZE, 3), pixels[:6], rtol=1e-3, atol=1e-5 * np.abs(pixels).max()
    )


def test_only_the_explained_class_has_support_relevance(model, support, image):
    result = relevance_of_query(model, support, query_inputs(model, support, image), [0, 2], METHOD)
    assert result.query.shape == (2, SIZE, SIZE, 3)
    assert result.support.shape == (2, WAYS, SHOTS, SIZE, SIZE, 3)
    assert np.any(result.support[0, 0])
    assert not np.any(result.support[0, 1:])
    assert np.any(result.support[1, 2])
    assert not np.any(result.support[1, :2])


def _queries(model, support, image):
    return dict(zip(model.input_names, query_inputs(model, support, image)))["query_images"].shape[1]


def test_a_head_without_batch_statistics_is_asked_about_the_query_alone(support, image):
    model = EpisodicModel.build_from(
        {"name": "conv4", "width": 8}, {"name": "relation", "batch_statistics": False}, SIZE
    )
    assert _queries(model, support, image) == 1


def test_filler_queries_keep_statistics_those_of_an_episode(model, support, image):
    # One query alone would be normalised by its own few pairs.
    assert _queries(model, support, image) == 1 + WAYS * SHOTS


def test_explanations_hold_pictures_and_raw_maps(model, support, image):
    explanation = explain_image(model, support, image, target="cow", image_name="x.png", run_name="r")
    assert explanation.explained[0] == 2
    assert len(explanation.explained) == 2
    assert explanation.query_image.dtype == np.uint8
    assert explanation.query_relevance.shape == (2, SIZE, SIZE)
    assert explanation.method_name == "fsc"
    assert np.isclose(explanation.probabilities.sum(), 1.0)


def test_classes_to_explain():
    probabilities, names = np.array([0.1, 0.6, 0.3]), ("ant", "bee", "cow")
    assert classes_to_explain(probabilities, names, None) == (1, 2)
    assert classes_to_explain(probabilities, names, "all") == (1, 2, 0)
    assert classes_to_explain(probabilities, names, "ant") == (0, 1)
    assert classes_to_explain(probabilities, names, "bee") == (1, 2)
    with pytest.raises(ExplainError, match="did you mean 'bee'"):
        classes_to_explain(probabilities, names, "bees")


def test_the_margin_hands_back_both_scores(support, image):
    """The layers behind the scores are linear in them: relevance of a difference is the difference of relevances."""
    model = EpisodicModel.build_from({"name": "conv4", "width": 8}, "cosine", SIZE, seed=3)
    inputs = query_inputs(model, support, image)
    scores = model(dict(zip(model.input_names, inputs)))[0, 0].numpy()
    ranking = np.argsort(-scores)
    method = get_method("epsilon_plus", start="margin")
    margin = relevance_of_query(model, support, inputs, [ranking[0]], method)

    def of_score(target):
        only = Start("score", lambda scores, _, chosen: scores * chosen, lambda scores, _, chosen: chosen)
        return relevance_of_query(model, support, inputs, [target], get_method("epsilon_plus", start=only))

    best, rival = (of_score(target) for target in ranking[:2])
    scale = np.abs(best.query).max()
    np.testing.assert_allclose(margin.query, best.query - rival.query, atol=1e-4 * scale)
    np.testing.assert_allclose(margin.support, best.support - rival.support, atol=1e-4 * scale)
    assert np.any(margin.support[0, ranking[1]])


def test_a_derivative_of_the_margin_is_the_difference_of_derivatives(model, support, image):
    inputs = query_inputs(model, support, image)
    scores = model(dict(zip(model.input_names, inputs)))[0, 0].numpy()
    ranking = np.argsort(-scores)
    both = relevance_of_query(model, support, inputs, ranking[:2], get_method("gradient")).query
    margin = relevance_of_query(model, support, inputs, ranking[:1], get_method("gradient", start="margin")).query
    np.testing.assert_allclose(margin[0], both[0] - both[1], atol=1e-5 * np.abs(both).max())


def test_an_image_is_explained_from_the_margin(model, support, image):
    log_odds_of, margin_of = (explain_image(model, support, image, start=start) for start in (None, "margin"))
    np.testing.assert_array_equal(log_odds_of.probabilities, margin_of.probabilities)
    assert np.any(log_odds_of.query_relevance != margin_of.query_relevance)
    assert np.any(margin_of.support_relevance[0, margin_of.runner_up])
