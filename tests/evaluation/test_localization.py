"""How much positive relevance lies where it should."""

from __future__ import annotations

import numpy as np
import pytest

from egt_tf.errors import ExplainError
from egt_tf.evaluation.localization import mosaic, quarter_mask, share_inside


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
