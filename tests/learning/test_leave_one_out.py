"""Closed forms against heads that really have not seen the photo."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.heads import HEADS
from egt_tf.learning.defaults import PENALTY
from egt_tf.learning.fitting import CANDIDATES
from egt_tf.learning.known_scores import KNOWN_SCORES, left_out_scores
from egt_tf.learning.leave_one_out import can_be_left_out, ridge_scores

# Classes of 4, 1, 2 and 3 photos.
ARGUMENTS = {"ridge": {"penalty": PENALTY}}
LABELS = np.array([0, 2, 3, 0, 0, 1, 3, 2, 0, 3])


def features(seed: int = 0) -> np.ndarray:
    """Positive, as those of a network that ends in a ReLU."""
    return np.abs(np.random.default_rng(seed).normal(size=(len(LABELS), 7))).astype(np.float32)


def by_the_head(name: str, x: np.ndarray, **arguments) -> np.ndarray:
    """Scores of the head with each photo as the query of an episode of the others."""
    head = HEADS.get({"name": name, "scale": 1.0, **arguments}, feature_shape=(1, 1, x.shape[1]))
    maps, targets = x[:, None, None], np.eye(4, dtype=np.float32)[LABELS]
    rows = []
    for index in range(len(x)):
        others = np.arange(len(x)) != index
        inputs = [maps[others][None], targets[others][None], maps[index][None, None]]
        rows.append(head([tf.constant(each) for each in inputs])[0, 0].numpy())
    return np.array(rows)


@pytest.mark.parametrize("name", CANDIDATES)
def test_scores_are_those_of_the_head_without_the_photo(name):
    x, possible = features(), can_be_left_out(LABELS)
    np.testing.assert_allclose(
        CANDIDATES[name](x, LABELS)[possible],
        by_the_head(name, x, **ARGUMENTS.get(name, {}))[possible],
        rtol=2e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("penalty", [0.1, 30.0])
def test_ridge_with_other_penalties(penalty):
    x, possible = features(1), can_be_left_out(LABELS)
    expected = by_the_head("ridge", x, penalty=penalty)[possible]
    np.testing.assert_allclose(ridge_scores(x, LABELS, penalty)[possible], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_photo_without_features_gives_numbers(name):
    x = features()
    x[3] = 0
    assert np.isfinite(CANDIDATES[name](x, LABELS)).all()


def slow_score(name: str, query: np.ndarray, support: np.ndarray, labels: np.ndarray) -> float:
    """A score by loops over classes or photos."""

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    if name == "nearest_photo":
        return max(cosine(query, photo) for photo in support)
    if name == "cosine_and_margin":
        support = support / np.linalg.norm(support, axis=1, keepdims=True)
        cosines = [cosine(query, support[labels == k].mean(axis=0)) for k in np.unique(labels)]
        return 2 * max(cosines) - float(np.mean(cosines))
    cosines = sorted(cosine(query, support[labels == k].mean(axis=0)) for k in np.unique(labels))
    return cosines[-1] if name == "largest_cosine" else cosines[-1] - float(np.mean(cosines[:-1]))


@pytest.mark.parametrize("name", KNOWN_SCORES.names())
def test_scores_of_known_images_without_the_photo(name):
    x = features()
    found = left_out_scores(KNOWN_SCORES.member(name), x, LABELS)
    for index in range(len(x)):
        others = np.arange(len(x)) != index
        if LABELS[index] == 1:
            assert np.isnan(found[index])
        else:
            assert found[index] == pytest.approx(slow_score(name, x[index], x[others], LABELS[others]), abs=1e-5)
