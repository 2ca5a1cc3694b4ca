"""Deletion curves: which patches go, in which order, and what the curve and its area are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from egt_tf.errors import ExplainError
from egt_tf.measures.deletion import (
    area_under,
    blurred,
    deletion_curve,
    most_relevant_first,
    patch_sums,
    random_order,
    without,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("size", "grid"), [(12, 4), (10, 4), (7, 7), (9, 1)])
def test_patches_cover_each_pixel_once(size, grid):
    maps = RNG.normal(size=(3, size, size))
    edges = [round(i * size / grid) for i in range(grid + 1)]
    expected = [
        [
            each[top:bottom, left:right].sum()
            for top, bottom in itertools.pairwise(edges)
            for left, right in itertools.pairwise(edges)
        ]
        for each in maps
    ]
    np.testing.assert_allclose(patch_sums(maps, grid), expected, atol=1e-12)


@pytest.mark.parametrize("grid", [1, 3, 4])
def test_what_is_removed_is_what_is_most_relevant(grid):
    size = 10
    images, replacement = RNG.integers(1, 255, (2, size, size, 3), np.uint8), np.zeros((2, size, size, 3), np.uint8)
    relevance = RNG.normal(size=(2, size, size))
    order = most_relevant_first(relevance, grid)
    sums = patch_sums(relevance, grid)
    for removed in range(grid * grid + 1):
        left = without(images, replacement, order, removed)
        gone = (left == 0).all(-1)
        np.testing.assert_array_equal(left[~gone], images[~gone])
        for map_, hole, of_patches in zip(relevance, gone, sums):
            np.testing.assert_allclose(map_[hole].sum(), np.sort(of_patches)[::-1][:removed].sum(), atol=1e-9)


def test_orders_hold_every_patch_once_and_random_ones_depend_on_the_seed():
    for order in (most_relevant_first(RNG.normal(size=(5, 8, 8)), 4), random_order(5, 4, seed=1)):
        np.testing.assert_array_equal(np.sort(order), np.tile(np.arange(16), (5, 1)))
    assert np.any(random_order(5, 4, seed=1) != random_order(5, 4, seed=2))
    np.testing.assert_array_equal(random_order(5, 4, seed=1), random_order(5, 4, seed=1))


def test_the_curve_of_a_model_that_looks_at_one_place_falls_at_once_for_the_map_that_knows():
    """The model sees the brightness of one patch; an honest map finds it first, its opposite last."""
    images = np.full((1, 8, 8, 3), 200, np.uint8)
    shares = np.linspace(0, 1, 17)

    def probability(images):
        return images[:, 2:4, 4:6].mean(axis=(1, 2, 3)) / 255

    relevance = np.zeros((1, 8, 8))
    relevance[:, 2:4, 4:6] = 1.0
    curves = [
        deletion_curve(probability, images, np.zeros_like(images), most_relevant_first(sign * relevance, 4), shares)
        for sign in (1, -1)
    ]
    expected = np.full((2, 1, 17), 200 / 255)
    expected[0, 0, 1:], expected[1, 0, -1] = 0, 0
    np.testing.assert_allclose(curves, expected)
    assert area_under(curves[0], shares) < 0.05 < 0.7 < area_under(curves[1], shares)


def test_the_area_of_unequal_steps_is_the_mean_height():
    shares = np.array([0.0, 0.1, 0.5, 1.0])
    np.testing.assert_allclose(area_under(np.stack([np.full(4, 0.3), shares]), shares), [0.3, 0.5])
    np.testing.assert_allclose(area_under(shares[None, 1:], shares[1:]), [0.55])


def test_blurring_keeps_the_mean_colour_and_loses_the_contents():
    images = RNG.integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    grey = blurred(images)
    assert grey.dtype == np.uint8
    np.testing.assert_allclose(grey.mean((1, 2)), images.mean((1, 2)), atol=0.5)
    assert grey.std((1, 2)).max() < 0.15 * images.std((1, 2)).min()


@pytest.mark.parametrize(("shape", "grid"), [((1, 4, 6), 2), ((1, 4, 4), 5), ((1, 4, 4), 0), ((4, 4), 2)])
def test_maps_and_grids_that_do_not_fit_are_refused(shape, grid):
    with pytest.raises(ExplainError, match="must be square"):
        patch_sums(np.zeros(shape), grid)
