"""What the arms of a study cost, relative to one of them."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from egt_tf.study.results import CellResult
from egt_tf.study.verdicts import Group, by_group


def relative_costs(cells: Iterable[CellResult], baseline: str) -> dict[Group, dict[str, float]]:
    """Group -> arm -> median over the seeds of the seconds a training step, divided by that of `baseline`.

    Comparable as far as the cells of a group were trained on machines alike. A group without a time of the baseline
    has no costs.

    Args:
        cells: of the study.
        baseline: name of the arm that costs 1.

    Raises:
        RunError: two cells have the same name.

    Example:
        >>> from egt_tf.study.results import CellName
        >>> names = [CellName("default", "cosine", 5, arm, 1) for arm in ("plain", "guided")]
        >>> cells = [CellResult(name, 9, (), seconds, {}) for name, seconds in zip(names, (0.02, 0.05))]
        >>> relative_costs(cells, "plain")
        {Group(setting='default', head='cosine', shots=5): {'plain': 1.0, 'guided': 2.5}}
    """
    costs = {}
    for group, members in by_group(cells).items():
        medians = _medians(members)
        if baseline in medians:
            costs[group] = {arm: seconds / medians[baseline] for arm, seconds in medians.items()}
    return costs


def _medians(cells: Iterable[CellResult]) -> dict[str, float]:
    """Arm -> median of the seconds a step, of the cells that know them."""
    seconds: dict[str, list[float]] = {}
    for cell in cells:
        if math.isfinite(cell.seconds_per_step) and cell.seconds_per_step > 0:
            seconds.setdefault(cell.name.arm, []).append(cell.seconds_per_step)
    return {arm: float(np.median(values)) for arm, values in seconds.items()}
