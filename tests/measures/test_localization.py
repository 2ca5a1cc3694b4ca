"""How much positive relevance lies where it should."""

from __future__ import annotations

import numpy as np
import pytest

from egt_tf.errors import ExplainError
from egt_tf.measures.localization import mosaic, points_inside, quarter_mask, rank_inside, share_inside


def test_negative_relevance_counts_nowhere():
    relevance = np.array([[[2.0, -7.0], [6.0, 0.0]], [[-1.0, -2.0], [0.0, -3.0]]])
    mask = np.array([[True, True], [False, False]])
    np.testing.assert_array_equal(share_inside(relevance, np.stack([mask, mask])), [0.25, np.nan])


@pytest.mark.parametrize("quarter", range(4))
def test_the_mask_of_a_quarter_is_where_the_mosaic_has_its_photograph(quarter):
    photographs = np.stack([np.full((3, 3, 3), k, np.uint8) for k in range(4)])
    np.testing.assert_array_equal(mosaic(photographs)[..., 0] == quarter, quarter_mask(6, quarter))


def test_even_relevance_has_a_quarter_in_each_quarter():
    assert [share_inside(np.ones((8, 8)), quarter_mask(8, k)) for k in range(4)] == [0.25] * 4


def test_a_mosaic_has_four_square_photographs():
    with pytest.raises(ExplainError, match=r"shape \(4, side, side, 3\)"):
        mosaic(np.zeros((3, 2, 2, 3)))


def test_rank_and_pointing_by_loops():
    rng = np.random.default_rng(3)
    relevance, mask = rng.normal(size=(4, 6, 6)), rng.uniform(size=(4, 6, 6)) < 0.3
    for one, inside, rank, point in zip(
        relevance, mask, rank_inside(relevance, mask), points_inside(relevance, mask), strict=True
    ):
        order = sorted(np.ndindex(6, 6), key=lambda place: -one[place])
        size = int(inside.sum())
        assert rank == sum(bool(inside[place]) for place in order[:size]) / size
        assert point == float(inside[order[0]])


def test_what_cannot_be_located():
    nothing = np.zeros((4, 4), bool)
    assert np.isnan(rank_inside(np.ones((4, 4)), nothing))
    assert np.isnan(points_inside(-np.ones((4, 4)), ~nothing))
    assert np.isnan(share_inside(-np.ones((4, 4)), ~nothing))


def test_a_map_that_is_the_mask_is_the_best():
    mask = quarter_mask(8, 2)
    assert [float(measure(1.0 * mask, mask)) for measure in (share_inside, rank_inside, points_inside)] == [1.0] * 3
