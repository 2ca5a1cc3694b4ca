"""Measures of one map against slow loops and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from egt_tf.errors import ExplainError
from egt_tf.measures import (
    Perturbation,
    aupc,
    autvc,
    average_total_variation,
    heat,
    levels,
    perturbation_curves,
    simpson,
    smooth,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# === Heat maps and Simpson's rule ===


def test_heat_by_its_formula(rng):
    maps = rng.normal(size=(3, 9, 7))
    for found, h in zip(heat(maps), np.abs(maps), strict=True):
        top = sorted(h.ravel())
        place = 0.99 * (len(top) - 1)
        low = int(place)
        percentile = top[low] + (place - low) * (top[low + 1] - top[low])
        np.testing.assert_allclose(found, np.clip((h - h.min()) / (percentile - h.min()), 0, 1), atol=1e-12)
    assert heat(maps).max() == 1.0


def test_heat_of_a_flat_map_is_nothing():
    assert not heat(np.full((4, 4), -3.0)).any()


@pytest.mark.parametrize("count", range(3, 9))
def test_simpson_is_exact_for_parabolas(count):
    x = np.arange(count)
    end = count - 1
    np.testing.assert_allclose(simpson(2.0 - 3.0 * x + 0.5 * x**2), 2 * end - 1.5 * end**2 + 0.5 * end**3 / 3)


def test_simpson_of_few_samples():
    assert simpson(np.array([3.0])) == 0.0
    assert simpson(np.array([3.0, 5.0])) == 4.0
    np.testing.assert_allclose(simpson(np.arange(5.0) ** 3), 64.0)


# === Smoothing ===


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0])
def test_smooth_keeps_the_sum_and_the_mirror_symmetry(rng, sigma):
    maps = rng.normal(size=(2, 9, 6))
    smoothed = smooth(maps, sigma)
    assert smoothed.shape == maps.shape
    np.testing.assert_allclose(smoothed.sum(axis=(-2, -1)), maps.sum(axis=(-2, -1)))
    np.testing.assert_allclose(smooth(maps[..., ::-1], sigma), smoothed[..., ::-1])
    assert np.abs(smoothed).max() < np.abs(maps).max()


def test_smooth_spreads_a_point_as_a_gaussian():
    point = np.zeros((31, 31))
    point[15, 15] = 1.0
    smoothed = smooth(point, 2.0)
    np.testing.assert_allclose(smoothed[15, 17] / smoothed[15, 15], np.exp(-0.5), rtol=1e-12)
    np.testing.assert_allclose(smoothed[17, 17] / smoothed[15, 15], np.exp(-1.0), rtol=1e-12)


def test_smooth_with_zero_sigma_changes_nothing(rng):
    maps = rng.normal(size=(4, 4))
    np.testing.assert_array_equal(smooth(maps, 0.0), maps)


def test_smooth_refuses_a_negative_sigma():
    with pytest.raises(ExplainError, match="`sigma` must be >= 0"):
        smooth(np.zeros((2, 2)), -1.0)


# === Variation ===


def test_total_variation_by_loops(rng):
    maps = rng.uniform(size=(5, 8))
    total = sum(abs(maps[i, j + 1] - maps[i, j]) for i in range(5) for j in range(7))
    total += sum(abs(maps[i + 1, j] - maps[i, j]) for i in range(4) for j in range(8))
    np.testing.assert_allclose(average_total_variation(maps), total / 40)


@pytest.mark.parametrize(
    ("size", "sides"), [(224, [224, 150, 100, 67, 45, 30]), (84, [84, 56, 38]), (32, [32, 22, 15]), (5, [5, 4, 3])]
)
def test_sides_of_the_pyramid(size, sides):
    assert [level.shape for level in levels(np.zeros((size, size)))] == [(side, side) for side in sides]


def test_a_pyramid_keeps_what_is_linear(rng):
    ramp = np.add.outer(2.0 * np.arange(60), -1.0 * np.arange(60))
    coarse = levels(ramp)[1]
    # Away from the border, where mirroring bends it: the same ramp at the centres of larger pixels.
    places = (np.arange(40) + 0.5) * 1.5 - 0.5
    np.testing.assert_allclose(coarse[5:-5, 5:-5], np.add.outer(2 * places, -places)[5:-5, 5:-5], atol=1e-9)
    # A point spreads with the deviation that scikit-image has, 2 * 1.5 / 6.
    point = np.zeros((61, 61))
    point[30, 30] = 1.0
    kernel = np.exp(-0.5 * (np.arange(-3, 4) / 0.5) ** 2)
    kernel = kernel[1:-1] / kernel[1:-1].sum()
    spread = np.zeros((61, 61))
    spread[28:33, 28:33] = np.outer(kernel, kernel)
    centres = np.clip((np.arange(41) + 0.5) * 61 / 41 - 0.5, 0, 60)
    rows = np.stack([np.interp(centres, np.arange(61), column) for column in spread.T], axis=1)
    np.testing.assert_allclose(
        levels(point)[1], np.stack([np.interp(centres, np.arange(61), row) for row in rows]), atol=1e-12
    )
    flat = rng.uniform() * np.ones((40, 40))
    np.testing.assert_allclose(levels(flat)[-1], flat[0, 0])


def test_autvc_of_the_levels(rng):
    maps = rng.normal(size=(2, 40, 40))
    expected = [
        simpson(np.array([average_total_variation(heat(level[n])) for level in levels(maps)])) for n in range(2)
    ]
    np.testing.assert_allclose(autvc(maps), expected)


def test_noise_is_rougher_than_what_is_smooth(rng):
    blob = np.exp(-np.add.outer(np.linspace(-2, 2, 84) ** 2, np.linspace(-2, 2, 84) ** 2))
    assert autvc(blob) < autvc(blob + 0.3 * rng.normal(size=blob.shape))


def test_a_map_too_small_for_a_pyramid():
    with pytest.raises(ExplainError, match=r"sides >= 5 pixels. Received: shape=\(4, 9\)"):
        autvc(np.zeros((4, 9)))


# === Perturbation ===


def slow_curve(score, image, relevance, window, windows, fills, seed):
    """One image, window by window and fill by fill."""
    height, width = relevance.shape
    places = [(top, left) for top in range(0, height, window) for left in range(0, width, window)]
    means = [np.abs(relevance)[t : t + window, left : left + window].mean() for t, left in places]
    ordered = sorted(range(len(places)), key=lambda k: (-means[k], k))[:windows]
    image, curve = image.copy(), [score(image)]
    for visit, place in enumerate(ordered):
        noise = np.random.default_rng([seed, visit]).integers(0, 256, (fills, window, window, 3), np.uint8)
        tried, scores = [], []
        for fill in noise:
            top, left = places[place]
            one = image.copy()
            for i in range(min(window, height - top)):
                for j in range(min(window, width - left)):
                    one[top + i, left + j] = fill[i, j]
            tried.append(one)
            scores.append(score(one))
        curve.append(np.mean(scores))
        image = tried[int(np.argmin(np.abs(np.array(scores) - np.median(scores))))]
    return curve


def test_curves_by_loops(rng):
    images = rng.integers(0, 256, (2, 10, 13, 3), np.uint8)
    maps, kernel = rng.normal(size=(2, 10, 13)), rng.normal(size=(10, 13, 3))

    def score(batch):
        return np.tanh((batch / 255.0 * kernel).sum((-3, -2, -1)) / 5)

    how = Perturbation(window=4, windows=5, fills=4, seed=7)
    found = perturbation_curves(score, images, maps, how)
    expected = [slow_curve(score, image, one, 4, 5, 4, 7) for image, one in zip(images, maps, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_last_row_and_column_of_windows_count():
    """Relevance in the corner that the published code never visits."""
    image, relevance = np.full((1, 9, 9, 3), 255, np.uint8), np.zeros((1, 9, 9))
    relevance[0, 8, 8] = 1.0
    curve = perturbation_curves(
        lambda batch: batch[..., 8, 8, :].mean(-1), image, relevance, Perturbation(window=4, windows=1, fills=20)
    )
    assert curve[0, 0] == 255
    assert curve[0, 1] < 200


def test_maps_are_judged_by_the_same_fills(rng):
    images = rng.integers(0, 256, (1, 8, 8, 3), np.uint8)
    seen = []

    def score(batch):
        seen.append(batch.copy())
        return batch.mean((-3, -2, -1))

    for corner in (0, 7):
        relevance = np.zeros((1, 8, 8))
        relevance[0, corner, corner] = 1.0
        perturbation_curves(score, images, relevance, Perturbation(window=4, windows=1, fills=3))
    np.testing.assert_array_equal(seen[1][0, :, :4, :4], seen[3][0, :, 4:, 4:])


def test_a_knowing_map_has_a_smaller_area(rng):
    kernel = np.zeros((12, 12, 3))
    kernel[3:6, 3:6] = 1.0
    images = np.full((1, 12, 12, 3), 255, np.uint8)
    how = Perturbation(window=3, windows=16, fills=5)

    def area(relevance):
        return aupc(perturbation_curves(lambda b: (b * kernel).sum((-3, -2, -1)), images, relevance[None], how))[0]

    knowing = kernel.sum(-1)
    assert area(knowing) < area(1.0 * (knowing == 0)) - 1


def test_aupc_is_relative_to_the_whole_image():
    curve = np.array([[-2.0, -1.0, 0.0, 1.0, 2.0], [0.0, 1.0, 1.0, 1.0, 1.0]])
    found = aupc(curve)
    np.testing.assert_allclose(found[0], 0.0, atol=1e-12)
    assert np.isnan(found[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 0}, "`window` must be an integer >= 1"),
        ({"windows": 0}, "`windows` must be an integer >= 1"),
        ({"fills": 1.5}, "`fills` must be an integer >= 1"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
    ],
)
def test_wrong_numbers(arguments, message):
    with pytest.raises(ExplainError, match=message):
        Perturbation(**arguments)


def test_what_does_not_fit():
    images, maps = np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8))

    def score(batch):
        return batch.mean((-3, -2, -1))

    with pytest.raises(ExplainError, match=r"must not be larger than the image. Received: window=9, side=8"):
        perturbation_curves(score, images, maps, Perturbation(window=9))
    with pytest.raises(ExplainError, match=r"`maps` .n, H, W."):
        perturbation_curves(score, images, maps[:, 1:], Perturbation())
    with pytest.raises(ExplainError, match="uint8"):
        perturbation_curves(score, images.astype(float), maps, Perturbation())
