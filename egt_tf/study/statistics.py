"""Means over training seeds, paired differences between trainings, and their intervals."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from egt_tf.errors import RunError

# Of the standard normal distribution, as `egt_tf.evaluation.accuracy` takes it for its intervals.
_NORMAL_95 = 1.96


@dataclasses.dataclass(frozen=True)
class SeedMean:
    """What trainings that differ in their seed reached together.

    Attributes:
        mean: over the seeds.
        interval: half of the 95 % t interval of the mean; None with one seed.
        seeds: number of seeds.

    Example:
        >>> mean_over_seeds([0.5, 0.7]).seeds
        2
    """

    mean: float
    interval: float | None
    seeds: int


@dataclasses.dataclass(frozen=True)
class Difference:
    """By how much one arm of a study is more accurate than another, in shares of 1.

    Attributes:
        mean: over the seeds common to both of the mean paired difference over the test episodes.
        seed_interval: half of the 95 % t interval over the seeds: what other trainings would give on these episodes;
            None with one seed.
        episode_interval: half of the 95 % normal interval over the episodes: what other episodes would give with these
            trainings; None with one episode.
        by_seed: seed -> mean paired difference over the episodes, for each seed common to both.

    Example:
        >>> Difference(0.03, 0.01, 0.004, {1: 0.03, 2: 0.03}).is_above_zero
        True
    """

    mean: float
    seed_interval: float | None
    episode_interval: float | None
    by_seed: dict[int, float]

    @property
    def is_above_zero(self) -> bool:
        """Whether the interval over the seeds lies above zero; never with one seed."""
        return self.seed_interval is not None and self.mean > self.seed_interval

    @property
    def is_below_zero(self) -> bool:
        """Whether the interval over the seeds lies below zero; never with one seed."""
        return self.seed_interval is not None and self.mean < -self.seed_interval


def paired_difference(first: Mapping[int, Sequence[float]], second: Mapping[int, Sequence[float]]) -> Difference:
    """The difference first - second of two arms, trained with the same seeds and tested on the same episodes.

    With `d[s, e]` the difference of the accuracies of seed s in episode e, `n` seeds and `m` episodes:

        by_seed[s] = mean over e of d[s, e],    mean = mean over s of by_seed[s]
        seed_interval    = t(0.975; n - 1) std(by_seed) / sqrt(n),  std with n - 1
        episode_interval = 1.96 std over e (mean over s of d[s, e]) / sqrt(m),  std with m as of single accuracies

    Args:
        first: training seed -> accuracy of each test episode, in [0, 1].
        second: as `first`; the same episodes in the same order.

    Raises:
        RunError: no seed is common; seeds have different numbers of episodes or none; an accuracy is not in [0, 1].

    Example:
        >>> guided = {1: [0.6, 0.8], 2: [0.7, 0.7], 3: [0.9, 0.5]}
        >>> plain = {1: [0.5, 0.6], 2: [0.5, 0.7], 4: [0.1, 0.1]}
        >>> difference = paired_difference(guided, plain)
        >>> {seed: round(value, 3) for seed, value in difference.by_seed.items()}
        {1: 0.15, 2: 0.1}
        >>> round(difference.mean, 3), round(difference.seed_interval, 3), difference.is_above_zero
        (0.125, 0.318, False)
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        raise RunError(
            "arms must have a training seed in common to be compared. Received: "
            f"seeds {sorted(first)} and {sorted(second)}"
        )
    differences = _accuracies(first, seeds, second) - _accuracies(second, seeds, first)
    by_seed = differences.mean(axis=1)
    overall = mean_over_seeds(by_seed)
    return Difference(
        overall.mean,
        overall.interval,
        episode_interval(differences.mean(axis=0)),
        dict(zip(seeds, by_seed.tolist(), strict=True)),
    )


def mean_over_seeds(values: Sequence[float] | np.ndarray) -> SeedMean:
    """The mean of a number that each seed gives, with half of its 95 % interval `t(0.975; n - 1) std / sqrt(n)`.

    Args:
        values: a number for each of n >= 1 seeds, in any unit.

    Raises:
        RunError: there is none.

    Example:
        >>> mean_over_seeds([0.5, 0.6, 0.7])
        SeedMean(mean=0.6, interval=0.248..., seeds=3)
    """
    numbers = np.asarray(values, np.float64)
    if not numbers.size:
        raise RunError("a mean over seeds must have at least one seed. Received: none")
    if numbers.size == 1:
        return SeedMean(float(numbers[0]), None, 1)
    half = t_quantile(numbers.size - 1) * numbers.std(ddof=1) / math.sqrt(numbers.size)
    return SeedMean(float(numbers.mean()), float(half), numbers.size)


def episode_interval(values: Sequence[float] | np.ndarray) -> float | None:
    """Half of the 95 % normal interval of a mean over m episodes, `1.96 std / sqrt(m)` with the population's std.

    Args:
        values: a number for each episode, in any unit.

    Returns:
        In the unit of the values; None for a single episode, which does not tell how far episodes lie apart.

    Example:
        >>> round(episode_interval([0.5, 0.7, 0.6]), 4)
        0.0924
    """
    numbers = np.asarray(values, np.float64)
    return None if numbers.size < 2 else float(_NORMAL_95 * numbers.std() / math.sqrt(numbers.size))


def t_quantile(degrees: int, share: float = 0.95) -> float:
    """How far from zero Student's t lies at most with probability `share`: `P(|T| <= t) = share`.

    Args:
        degrees: of freedom, >= 1.
        share: in (0, 1).

    Raises:
        RunError: an argument is not in its range.

    Example:
        >>> round(t_quantile(1), 3), round(t_quantile(4), 3)
        (12.706, 2.776)
    """
    if degrees < 1 or not 0 < share < 1:
        raise RunError(
            "a quantile of t must be of at least one degree of freedom and a share in (0, 1). Received: "
            f"degrees={degrees}, share={share}"
        )
    low, high = 0.0, math.pi / 2
    # Each step halves the interval of the angle; doubles have no finer.
    for _ in range(60):
        angle = (low + high) / 2
        low, high = (angle, high) if _share_within(angle, degrees) < share else (low, angle)
    return math.sqrt(degrees) * math.tan(low)


def _share_within(angle: float, degrees: int) -> float:
    """`P(|T| <= sqrt(degrees) tan(angle))`, a finite sum: Abramowitz & Stegun, 26.7.3 and 26.7.4."""
    sine, cosine, odd = math.sin(angle), math.cos(angle), degrees % 2
    term, total = (cosine, cosine if degrees > 1 else 0.0) if odd else (1.0, 1.0)
    for power in range(2 + odd, degrees - 1, 2):
        term *= cosine * cosine * (power - 1) / power
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def _accuracies(
    arm: Mapping[int, Sequence[float]], seeds: Sequence[int], other: Mapping[int, Sequence[float]]
) -> np.ndarray:
    """The accuracies of the seeds, `(seeds, episodes)`; `other` is the arm that they are compared with."""
    numbers = {len(accuracies[seed]) for accuracies in (arm, other) for seed in seeds}
    if len(numbers) != 1 or 0 in numbers:
        raise RunError(
            "arms must have the same test episodes for each seed, at least one, to be compared. Received: "
            f"{' and '.join(map(str, sorted(numbers)))} episodes"
        )
    rows = np.array([arm[seed] for seed in seeds], np.float64)
    if not np.all((rows >= 0) & (rows <= 1)):
        raise RunError(f"accuracies must be in [0, 1]. Received: {rows[~((rows >= 0) & (rows <= 1))][0]}")
    return rows
