"""Adaptive noising: the search by itself, and with few-shot models."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ExplainError
from egt_tf.explain.adaptive_noise import Adapted, adapt_noise, smooth_taylor_adaptive
from egt_tf.explain.methods import get_method
from egt_tf.explain.noisy_gradients import smooth_taylor
from egt_tf.explain.query import explain_image, query_inputs
from egt_tf.explain.query_scores import QueryScores
from egt_tf.keras_api import keras
from egt_tf.measures import Perturbation, aupc, autvc, perturbation_curves
from tests.helpers.random_images import random_image, random_support

SIZE = 16
GRAPH = {"name": "graph", "ways": 3}


def published(first, score):
    """The search as it is described, with every evaluation."""
    seen = []

    def tried(sigma):
        seen.append(sigma)
        return score(sigma)

    sigma, rate, stops = first, 0.1, 0
    current = tried(sigma)
    for _ in range(20):
        other = abs(sigma + rate)
        value = tried(other)
        if value > current:
            other = abs(sigma - rate)
            value = tried(other)
        if value > current:
            if stops == 3:
                break
            rate, stops = 0.9 * rate, stops + 1
        else:
            sigma, current, stops = other, value, 0
    return sigma, current, seen


@pytest.mark.parametrize(
    ("first", "score"),
    [
        (0.3, lambda sigma: (sigma - 0.61) ** 2),
        (0.9, lambda sigma: (sigma - 0.45) ** 2),
        (0.5, lambda sigma: np.sin(9 * sigma) + sigma),
        (0.05, lambda sigma: -sigma),
        (0.2, lambda sigma: abs(sigma - 0.2)),
    ],
)
def test_the_search(first, score):
    seen, reports = [], []

    def evaluate(sigma):
        seen.append(sigma)
        return Adapted(sigma, score(sigma), [])

    best = adapt_noise(first, evaluate, report=lambda done, total: reports.append((done, total)))
    sigma, value, expected = published(first, score)
    np.testing.assert_allclose(seen, expected)
    np.testing.assert_allclose((best.sigma, best.score), (sigma, value))
    assert reports[0] == (0, 20)
    assert reports[-1] == (20, 20)


def test_no_noise_is_never_tried():
    seen = []
    adapt_noise(0.1, lambda sigma: Adapted(seen.append(sigma) or sigma, sigma, []))
    assert min(seen) > 0


@pytest.fixture(scope="module")
def support():
    return random_support(3, 2, SIZE)


def episodic(head) -> EpisodicModel:
    return EpisodicModel.build_from({"name": "conv4", "width": 4}, head, SIZE, seed=1)


@pytest.mark.parametrize("head", ["prototype", pytest.param(GRAPH, marks=pytest.mark.slow)], ids=["prototype", "graph"])
def test_scores_of_other_images_in_the_place_of_the_query(support, head):
    model = episodic(head)
    inputs = query_inputs(model, support, random_image(SIZE))
    images = np.random.default_rng(5).integers(0, 256, (7, SIZE, SIZE, 3), np.uint8)
    found = QueryScores(model, batch=36)(inputs, images)
    for image, scores in zip(images, found, strict=True):
        alone = model(dict(zip(model.input_names, query_inputs(model, support, image), strict=True)), training=False)
        np.testing.assert_allclose(scores, alone[0, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("objective", ["aupc", pytest.param("autvc", marks=pytest.mark.slow)])
def test_the_best_map_is_that_of_its_noise(support, objective):
    model = episodic("prototype")
    inputs = query_inputs(model, support, random_image(SIZE))
    levels = []

    def select(scores):
        return tf.pad(tf.one_hot([[1]], 3), [[0, 0], [0, tf.shape(scores)[1] - 1], [0, 0]])

    arguments = {"samples": 2, "windows": 3, "fills": 2, "fixed": ("support_labels",)}
    found = smooth_taylor_adaptive(
        model, inputs, select, objective, report=lambda done, total: levels.append(done), **arguments
    )
    place = model.input_names.index("query_images")
    first = float(np.abs(inputs[place][0, 0]).mean())
    begun = smooth_taylor(model, inputs, select, first, 2, fixed=("support_labels",))
    assert len(levels) >= 2
    assert not np.allclose(found[place], begun[place])
    judge = _aupc_of(model, inputs) if objective == "aupc" else autvc
    best, first = (judge(maps[place][0, 0].numpy().sum(-1)) for maps in (found, begun))
    assert best < first


def _aupc_of(model, inputs):
    """The area that the search makes smaller, anew."""
    image, scores = random_image(SIZE)[None], QueryScores(model)

    def judge(relevance):
        def score(images):
            return scores(inputs, images.reshape(-1, SIZE, SIZE, 3))[:, 1].reshape(images.shape[:2])

        return aupc(perturbation_curves(score, image, relevance[None], Perturbation(windows=3, fills=2)))[0]

    return judge


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smooth_taylor_adaptive", "smoothgrad_adaptive"])
def test_by_its_name(support, name):
    method = get_method({"name": name, "objective": "autvc", "samples": 2})
    explanation = explain_image(episodic("prototype"), support, random_image(SIZE), method=method, target="ant")
    assert np.any(explanation.query_relevance)


def test_what_cannot_be(support):
    with pytest.raises(ExplainError, match=r"one of aupc, autvc. Received: 'aucp'; did you mean 'aupc'"):
        explain_image(
            episodic("prototype"),
            support,
            random_image(SIZE),
            method={"name": "smooth_taylor_adaptive", "objective": "aucp"},
        )
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ExplainError, match=r"for few-shot models. Received: a Sequential"):
        smooth_taylor_adaptive(model, [tf.ones((1, 4))], lambda scores: scores)
