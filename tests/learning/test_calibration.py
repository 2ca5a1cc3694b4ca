"""Intervals, temperatures and thresholds: against known values, a fine grid, and simulation."""

from __future__ import annotations

import numpy as np
import pytest

from egt_tf.errors import DataError
from egt_tf.learning.calibration import Threshold, choose_threshold, fit_temperature, log_loss, wilson_interval
from egt_tf.learning.fitting import softmax


def test_wilson_interval_solves_its_equation():
    """Its ends are the shares p with (share - p)^2 = z^2 p (1 - p) / n."""
    for right, count in ((0, 1), (1, 1), (3, 7), (50, 50), (199, 200)):
        share = right / count
        for end in wilson_interval(right, count):
            assert (share - end) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / count, abs=1e-6)


def test_wilson_interval_holds_the_share_of_nineteen_in_twenty():
    rng = np.random.default_rng(0)
    ends = np.array([wilson_interval(int(right), 30) for right in rng.binomial(30, 0.85, size=3000)])
    assert np.mean((ends[:, 0] <= 0.85) & (ends[:, 1] >= 0.85)) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(("right", "count"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_interval_of_nothing(right, count):
    with pytest.raises(DataError, match="`right` must be within 0 and `count`"):
        wilson_interval(right, count)


def drawn(count: int, ways: int = 4, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose softmax is right, and labels drawn from it."""
    rng = np.random.default_rng(seed)
    scores = 2.0 * rng.normal(size=(count, ways))
    shares = softmax(scores)
    return scores, (shares.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)


@pytest.mark.parametrize("factor", [1e-3, 0.1, 1.0, 30.0, 1e4])
def test_the_temperature_that_scores_were_drawn_with_is_found(factor):
    scores, labels = drawn(8000)
    assert fit_temperature(factor * scores, labels) == pytest.approx(factor, rel=0.05)


def test_the_temperature_is_the_best_of_a_fine_grid():
    scores, labels = drawn(40, seed=3)
    sure = 41 / 42
    losses = {t: log_loss(scores, labels, t, sure) for t in np.geomspace(0.01, 100, 4001)}
    assert fit_temperature(scores, labels) == pytest.approx(min(losses, key=losses.get), rel=2e-3)


def test_photos_that_are_all_right_do_not_make_certain():
    """n successes out of n are no more than (n + 1) / (n + 2)."""
    labels = np.repeat([0, 1], 5)
    scores = np.eye(2)[labels]
    shares = softmax(scores / fit_temperature(scores, labels))
    np.testing.assert_allclose(shares[np.arange(10), labels], 11 / 12, rtol=1e-6)


def test_probabilities_are_as_often_right_as_they_say():
    """Ten classes of twelve photos each in leave-one-out, and many new ones."""
    from egt_tf.learning.leave_one_out import cosine_scores

    rng = np.random.default_rng(5)
    means = rng.normal(size=(10, 32))
    labels, new = np.repeat(np.arange(10), 12), np.repeat(np.arange(10), 300)
    photos, queries = (means[each] + 2.5 * rng.normal(size=(len(each), 32)) for each in (labels, new))
    temperature = fit_temperature(cosine_scores(photos, labels), labels)
    prototypes = np.stack([photos[labels == k].mean(axis=0) for k in range(10)])
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, prototypes)]
    shares = softmax(unit[0] @ unit[1].T / temperature)
    assert shares.max(axis=1).mean() == pytest.approx(np.mean(shares.argmax(axis=1) == new), abs=0.06)


def test_alike_scores_have_no_temperature():
    assert fit_temperature(np.zeros((4, 3)), np.array([0, 1, 2, 0])) == 1.0


@pytest.mark.parametrize("count", [1, 5, 18, 19, 40, 99])
def test_the_threshold_keeps_what_it_promises_on_average(count):
    """Over many draws of n scores and one new one, which only their order decides."""
    rng = np.random.default_rng(count)
    scores = rng.gumbel(size=(20_000, count + 1))
    found = [choose_threshold(row[:-1], 0.95) for row in scores]
    kept = np.mean([row[-1] >= threshold.value for row, threshold in zip(scores, found, strict=True)])
    assert kept == pytest.approx(found[0].promised, abs=0.012)
    assert (found[0].promised >= 0.95) == (count >= 19)
    # No more than was asked for, but for what lies between two scores.
    assert found[0].promised < 0.95 + 1 / (count + 1)


def test_no_scores_no_threshold():
    assert choose_threshold(np.zeros(0), 0.95) is None
    assert choose_threshold(np.array([3.0, 1.0, 2.0]), 0.5) == Threshold(2.0, 0.5, 3)
