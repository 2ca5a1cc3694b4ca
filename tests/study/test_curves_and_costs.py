from __future__ import annotations

import dataclasses

import numpy as np

from egt_tf.study.costs import relative_costs
from egt_tf.study.curves import mean_curve
from egt_tf.study.verdicts import Group
from tests.helpers.simulated_studies import simulated_cells


def test_a_mean_curve_has_the_points_that_all_seeds_have():
    curve = mean_curve([[(30, 0.9), (10, 0.2), (20, 0.5)], [(10, 0.4), (30, 0.7), (40, 1.0)]])
    assert curve.episodes.tolist() == [10, 30]
    np.testing.assert_allclose(
        [curve.mean, curve.lowest, curve.highest], [[0.3, 0.8], [0.2, 0.7], [0.4, 0.9]], rtol=1e-12
    )


def test_curves_without_a_common_point_have_no_mean():
    assert mean_curve([[(10, 0.2)], [(20, 0.4)]]).mean.size == 0
    assert mean_curve([]).episodes.size == 0


def test_costs_are_medians_relative_to_the_baseline():
    cells = simulated_cells(("cosine", "graph"), {"plain": 0.0, "guided": 0.0}, ("cub",), 3)
    seconds = {"plain": (0.02, 0.04, 9.0), "guided": (float("nan"), 0.1, 0.3)}
    cells = [
        dataclasses.replace(cell, seconds_per_step=seconds[cell.name.arm][cell.name.seed - 1])
        for cell in cells
        if (cell.name.head, cell.name.arm) != ("graph", "plain")
    ]
    (group,) = costs = relative_costs(cells, "plain")
    assert group == Group("default", "cosine", 5)
    np.testing.assert_allclose(list(costs[group].values()), [1.0, 5.0])
    assert list(costs[group]) == ["plain", "guided"]
