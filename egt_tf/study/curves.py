"""Learning curves of several trainings as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class MeanCurve:
    """Validation accuracy against training episodes, over seeds.

    Attributes:
        episodes: finished training episodes, `(points,)`, rising; those at which every seed was measured.
        mean: accuracy, mean over the seeds, `(points,)`, in [0, 1].
        lowest, highest: over the seeds, as `mean`.

    Example:
        >>> mean_curve([[(10, 0.2)], [(10, 0.4)]]).lowest.tolist()
        [0.2]
    """

    episodes: np.ndarray
    mean: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray


def mean_curve(curves: Sequence[Sequence[tuple[int, float]]]) -> MeanCurve:
    """The curve over all seeds, at the episodes that all of them have: a mean of some would jump where one ends.

    Args:
        curves: pairs of finished training episodes and accuracy, of each seed; without any, the result has no points.

    Example:
        >>> curve = mean_curve([[(10, 0.2), (20, 0.4), (30, 0.5)], [(10, 0.3), (20, 0.6)]])
        >>> curve.episodes.tolist(), curve.mean.tolist(), curve.highest.tolist()
        ([10, 20], [0.25, 0.5], [0.3, 0.6])
    """
    by_episode = [dict(curve) for curve in curves]
    common = sorted(set.intersection(*(set(curve) for curve in by_episode))) if by_episode else []
    if not common:
        return MeanCurve(*(np.zeros(0) for _ in range(4)))
    values = np.array([[curve[number] for number in common] for curve in by_episode])
    return MeanCurve(np.array(common), values.mean(axis=0), values.min(axis=0), values.max(axis=0))
