from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.errors import RunError
from egt_tf.study.statistics import episode_interval, mean_over_seeds, paired_difference, t_quantile

# From printed tables of Student's t, two-sided 95 %, by degrees of freedom.
T_OF_TABLES = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 29: 2.045, 120: 1.980}


@pytest.mark.parametrize(("degrees", "quantile"), T_OF_TABLES.items())
def test_quantiles_are_those_of_tables(degrees, quantile):
    assert t_quantile(degrees) == pytest.approx(quantile, abs=5e-4)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 8, 50, 51])
def test_quantiles_invert_the_incomplete_beta_function(degrees, share):
    t = t_quantile(degrees, share)
    outside = tf.math.betainc(*(tf.constant(x, tf.float64) for x in (degrees / 2, 0.5, degrees / (degrees + t * t))))
    assert 1 - float(outside) == pytest.approx(share, abs=1e-10)


@pytest.mark.parametrize(("degrees", "share"), [(0, 0.95), (3, 0.0), (3, 1.0)])
def test_quantiles_outside_their_range_are_refused(degrees, share):
    with pytest.raises(RunError, match="Received"):
        t_quantile(degrees, share)


def arms(seeds=(1, 2, 3, 4, 5), episodes=40, effect=0.02):
    """Accuracies of two arms on the same episodes."""
    random = np.random.default_rng(3)
    difficulty = random.normal(0.5, 0.1, episodes)
    return [
        {seed: (difficulty + shift + random.normal(0, 0.03, episodes)).tolist() for seed in seeds}
        for shift in (effect, 0.0)
    ]


def slow_reference(first, second):
    """Mean, interval over seeds and interval over episodes, by loops."""
    seeds = [seed for seed in first if seed in second]
    by_seed = {}
    for seed in seeds:
        total = 0.0
        for ours, theirs in zip(first[seed], second[seed]):
            total += ours - theirs
        by_seed[seed] = total / len(first[seed])
    by_episode = []
    for episode in range(len(first[seeds[0]])):
        total = 0.0
        for seed in seeds:
            total += first[seed][episode] - second[seed][episode]
        by_episode.append(total / len(seeds))
    over_seeds = T_OF_TABLES[len(seeds) - 1] * statistics.stdev(by_seed.values()) / math.sqrt(len(seeds))
    over_episodes = 1.96 * statistics.pstdev(by_episode) / math.sqrt(len(by_episode))
    return statistics.mean(by_seed.values()), over_seeds, over_episodes, by_seed


@pytest.mark.parametrize("seeds", [(1, 2), (3, 1, 2), (1, 2, 3, 4, 5)])
def test_a_difference_is_that_of_a_slow_form(seeds):
    first, second = arms(seeds)
    first[77], second[78] = first[1], second[1]
    mean, over_seeds, over_episodes, by_seed = slow_reference(first, second)
    found = paired_difference(first, second)
    assert found.mean == pytest.approx(mean)
    assert found.seed_interval == pytest.approx(over_seeds, rel=3e-4)
    assert found.episode_interval == pytest.approx(over_episodes)
    assert found.by_seed == pytest.approx(by_seed)


def test_a_difference_by_hand():
    found = paired_difference({1: [0.5, 0.75], 2: [0.5, 1.0]}, {1: [0.25, 0.75], 2: [0.25, 0.5]})
    assert found.by_seed == {1: 0.125, 2: 0.375}
    # std with n - 1 is 0.25 / sqrt(2), the episodes' means are 0.25 and 0.25.
    assert (found.mean, found.episode_interval) == (0.25, 0.0)
    assert found.seed_interval == pytest.approx(12.706 * 0.125, rel=1e-4)
    assert not found.is_above_zero


def test_the_order_decides_the_sign():
    first, second = arms(effect=0.05)
    ahead, behind = paired_difference(first, second), paired_difference(second, first)
    assert ahead.mean == -behind.mean
    assert (ahead.is_above_zero, ahead.is_below_zero) == (True, False)
    assert (behind.is_above_zero, behind.is_below_zero) == (False, True)


def test_one_seed_decides_nothing():
    first, second = arms(seeds=(1,), effect=0.1)
    found = paired_difference(first, second)
    assert found.seed_interval is None
    assert found.episode_interval < found.mean
    assert not found.is_above_zero
    assert not found.is_below_zero


def test_one_episode_has_no_interval_over_episodes():
    assert paired_difference({1: [0.5], 2: [0.6]}, {1: [0.5], 2: [0.5]}).episode_interval is None
    assert episode_interval([0.5]) is None


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({1: [0.5]}, {2: [0.5]}, r"in common.*Received: seeds \[1\] and \[2\]"),
        ({}, {}, "in common"),
        ({1: [0.5, 0.5]}, {1: [0.5]}, "same test episodes.*1 and 2 episodes"),
        ({1: [0.5], 2: [0.5, 0.6]}, {1: [0.5], 2: [0.5, 0.6]}, "1 and 2 episodes"),
        ({1: []}, {1: []}, "0 episodes"),
        ({1: [50.0]}, {1: [0.5]}, r"in \[0, 1\]. Received: 50"),
        ({1: [0.5]}, {1: [float("nan")]}, "Received: nan"),
    ],
)
def test_what_cannot_be_compared_is_refused(first, second, message):
    with pytest.raises(RunError, match=message):
        paired_difference(first, second)


def test_a_mean_over_seeds():
    found = mean_over_seeds([0.4, 0.5, 0.6, 0.7])
    assert (found.mean, found.seeds) == (pytest.approx(0.55), 4)
    assert found.interval == pytest.approx(3.182 * statistics.stdev([0.4, 0.5, 0.6, 0.7]) / 2, rel=3e-4)
    assert mean_over_seeds([0.4]).interval is None
    with pytest.raises(RunError, match="at least one seed"):
        mean_over_seeds([])


@pytest.mark.parametrize("seeds", [2, 5])
def test_the_interval_over_seeds_covers_the_effect_in_95_of_100_studies(seeds):
    """Each seed shifts each arm, episodes are as hard for both arms, and each accuracy has noise of its own."""
    effect, studies, episodes = 0.01, 4000, 30
    random = np.random.default_rng(11)
    covered = false_alarms = 0
    for _ in range(studies):
        difficulty = random.normal(0.5, 0.05, episodes)
        shifts = random.normal(0, 0.01, (3, seeds, 1))
        guided, plain, twin = np.clip(difficulty + shifts + random.normal(0, 0.03, (3, seeds, episodes)), 0, 1)
        found = paired_difference(dict(enumerate(guided + effect)), dict(enumerate(plain)))
        covered += abs(found.mean - effect) <= found.seed_interval
        # Two arms that do not differ.
        null = paired_difference(dict(enumerate(twin)), dict(enumerate(plain)))
        false_alarms += null.is_above_zero or null.is_below_zero
    assert 0.93 <= covered / studies <= 0.97
    assert 0.04 <= false_alarms / studies <= 0.06
