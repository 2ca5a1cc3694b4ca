from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from egt_tf.errors import ExplainError
from egt_tf.explain.explanation import pool_channels, to_json
from tests.figures.random_explanation import random_explanation as make


def test_ranking_predicted_and_runner_up():
    explanation = make(ways=4)
    assert explanation.ranking == (1, 0, 2, 3)
    assert (explanation.predicted, explanation.runner_up) == (1, 0)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("class_names", ("one",), "at least two"),
        ("probabilities", np.ones(4) / 4, "probabilities"),
        ("probabilities", np.array([0.5, 0.5, 0.5, 0.5, -0.1]), "in \\[0, 1\\]"),
        ("probabilities", np.full(5, np.nan), "in \\[0, 1\\]"),
        ("explained", (), "at least one"),
        ("explained", (1, 1), "different"),
        ("explained", (1, 5), "0..4"),
        ("explained", (1,), "query_relevance"),
        ("query_image", np.zeros((12, 12, 3)), "uint8"),
        ("query_image", np.zeros((12, 11, 3), np.uint8), "query_relevance"),
        ("support_images", np.zeros((4, 5, 12, 12, 3), np.uint8), "5 classes"),
        ("support_images", np.zeros((5, 0, 12, 12, 3), np.uint8), "support_images"),
        ("support_relevance", np.zeros((2, 5, 4, 12, 12)), "support_relevance"),
        ("support_counts", (5, 5, 5, 5), "5 numbers from 0 to 5"),
        ("support_counts", (5, 5, 6, 5, 5), "5 numbers from 0 to 5"),
        ("query_relevance", np.full((2, 12, 12), np.inf), "finite"),
        ("support_relevance", np.full((2, 5, 5, 12, 12), np.nan), "finite"),
    ],
)
def test_what_does_not_fit_together_is_refused(field, value, message):
    with pytest.raises(ExplainError, match=message):
        dataclasses.replace(make(), **{field: value})


def test_sums_are_taken_over_the_pixels_of_every_image():
    explanation = make(ways=3, shots=2)
    assert explanation.query_sums.shape == (2,)
    assert explanation.query_sums[1] == pytest.approx(explanation.query_relevance[1].sum())
    assert explanation.support_sums.shape == (2, 3, 2)
    assert explanation.support_sums[0, 2, 1] == pytest.approx(explanation.support_relevance[0, 2, 1].sum())


def test_sums_of_half_precision_maps_do_not_overflow():
    explanation = make(ways=2, shots=1)
    large = np.full(explanation.query_relevance.shape, 60000, np.float16)
    assert dataclasses.replace(explanation, query_relevance=large).query_sums[0] == 144 * 60000.0


def test_to_json_holds_the_numbers():
    explanation = make(ways=3, shots=2)
    content = to_json(explanation)
    assert content["image"] == "bird.jpg"
    assert content["run"] == "cub-5way"
    assert content["method"] == "fsc"
    assert content["class_names"] == list(explanation.class_names)
    assert content["probabilities"] == explanation.probabilities.tolist()
    assert content["predicted"] == {
        "index": 1,
        "name": "001.Kind_of_Bird_1",
        "probability": explanation.probabilities[1],
    }
    assert content["runner_up"]["index"] == 0
    assert content["explained"] == [1, 0]
    assert content["query_relevance_sums"][1] == pytest.approx(explanation.query_relevance[1].sum())
    assert np.shape(content["support_relevance_sums"]) == (2, 3, 2)
    one = explanation.support_relevance[0, 2, 1].sum()
    assert content["support_relevance_sums"][0][2][1] == pytest.approx(one)


def test_blank_support_images_are_not_among_the_numbers():
    explanation = dataclasses.replace(make(ways=3, shots=4), support_counts=(4, 0, 2))
    sums = to_json(explanation)["support_relevance_sums"]
    assert [len(each) for each in sums[0]] == [4, 0, 2]
    assert sums[1][2] == explanation.support_sums[1, 2, :2].tolist()


def test_pool_channels_keeps_the_total():
    relevance = np.random.default_rng(7).normal(size=(2, 3, 5, 4, 3))
    pooled = pool_channels(relevance)
    assert pooled.shape == (2, 3, 5, 4)
    np.testing.assert_allclose(pooled.sum(), relevance.sum())


def test_pool_channels_refuses_a_map_without_channels():
    with pytest.raises(ExplainError, match="H, W, C"):
        pool_channels(np.zeros((4, 4)))
