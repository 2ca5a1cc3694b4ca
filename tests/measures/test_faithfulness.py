"""Faithfulness correlation, sensitivity and agreement, against slow forms."""

from __future__ import annotations

import numpy as np
import pytest

from egt_tf.errors import ExplainError
from egt_tf.measures import (
    faithfulness_correlation,
    insertion_curve,
    max_sensitivity,
    most_relevant_first,
    rank_correlation,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_faithfulness_correlation_by_loops(rng):
    images, maps = rng.uniform(0, 255, (2, 5, 6, 3)), rng.normal(size=(2, 5, 6))
    replacement, kernel = np.zeros_like(images), rng.normal(size=(5, 6, 3))

    def score(batch):
        return np.tanh((batch * kernel).sum((-3, -2, -1)) / 500)

    found = faithfulness_correlation(score, images, maps, replacement, share=0.3, runs=20, seed=4)
    chosen = np.random.default_rng(4)
    sets = [chosen.choice(30, 9, replace=False) for _ in range(20)]
    for number in range(2):
        sums, losses = [], []
        for one in sets:
            changed = images[number].copy()
            changed.reshape(30, 3)[one] = 0
            sums.append(maps[number].reshape(30)[one].sum())
            losses.append(score(images[number]) - score(changed))
        np.testing.assert_allclose(found[number], np.corrcoef(sums, losses)[0, 1])


def test_the_sign_of_relevance_counts(rng):
    images, kernel = np.ones((1, 6, 6, 3)), rng.normal(size=(6, 6))

    def score(batch):
        return (batch[..., 0] * kernel).sum((-2, -1))

    for sign in (1, -1):
        found = faithfulness_correlation(score, images, sign * kernel[None], np.zeros_like(images))
        np.testing.assert_allclose(found, sign, atol=1e-12)


def test_a_score_that_never_changes_has_no_correlation(rng):
    images = np.ones((1, 4, 4, 3))
    assert np.isnan(
        faithfulness_correlation(lambda b: np.ones(b.shape[:2]), images, rng.normal(size=(1, 4, 4)), images)
    )


def test_sensitivity_by_loops(rng):
    images = rng.integers(0, 256, (2, 4, 5, 3), np.uint8)

    def explain(batch):
        return np.sqrt(batch.astype(float)).sum(-1)

    found = max_sensitivity(explain, images, explain(images), radius=0.1, samples=3, seed=8)
    noise = np.random.default_rng(8)
    worst = [0.0, 0.0]
    for _ in range(3):
        e = noise.uniform(-25.5, 25.5, (4, 5, 3))
        for n in range(2):
            changed = np.clip(np.rint(images[n] + e), 0, 255).astype(np.uint8)
            change = np.linalg.norm(explain(changed) - explain(images[n])) / np.linalg.norm(explain(images[n]))
            worst[n] = max(worst[n], change)
    np.testing.assert_allclose(found, worst)


def test_rank_correlation_is_that_of_mean_ranks(rng):
    one, other = rng.integers(-3, 4, (5, 5)), rng.normal(size=(5, 5))

    def ranks(values):
        flat = np.abs(values).ravel().tolist()
        return [sum(v < x for v in flat) + (sum(v == x for v in flat) + 1) / 2 for x in flat]

    np.testing.assert_allclose(rank_correlation(one, other), np.corrcoef(ranks(one), ranks(other))[0, 1])
    assert np.isnan(rank_correlation(np.ones((3, 3)), other[:3, :3]))


def test_insertion_ends_where_deletion_begins(rng):
    images = rng.integers(0, 256, (2, 8, 8, 3), np.uint8)
    order = most_relevant_first(rng.normal(size=(2, 8, 8)), grid=4)
    curve = insertion_curve(lambda b: b.mean((1, 2, 3)), images, np.zeros_like(images), order, [0.0, 0.5, 1.0])
    np.testing.assert_allclose(curve[:, [0, 2]], np.stack([np.zeros(2), images.mean((1, 2, 3))], axis=1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, m: faithfulness_correlation(None, x, m, x, share=0.0), "`share` must lie between 0 and 1"),
        (lambda x, m: faithfulness_correlation(None, x, m, x, runs=2), "`runs` must be an integer >= 3"),
        (lambda x, m: max_sensitivity(None, x, m, radius=0.0), "`radius` must lie in"),
        (lambda x, m: max_sensitivity(None, x, m, samples=0), "`samples` must be an integer >= 1"),
    ],
)
def test_wrong_numbers(call, message):
    with pytest.raises(ExplainError, match=message):
        call(np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 4, 4)))
