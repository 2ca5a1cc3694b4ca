from __future__ import annotations

import numpy as np
import pytest

from egt_tf.errors import ExplainError
from egt_tf.figures import colormap


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_values_over_their_maximum():
    np.testing.assert_array_equal(
        colormap.over_maximum(np.array([[-4.0, 1.0], [0.0, 2.0]])), [[-1.0, 0.25], [0.0, 0.5]]
    )
    np.testing.assert_array_equal(colormap.over_maximum(np.zeros((3, 3))), np.zeros((3, 3)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_relevance_that_is_not_finite_is_refused(value):
    with pytest.raises(ExplainError, match="finite"):
        colormap.over_maximum(np.array([1.0, value]))
    with pytest.raises(ExplainError, match="finite"):
        colormap.shared_scale([np.array([1.0, value])])


def test_shared_scale_is_one_for_all_maps_and_blind_to_sign(rng):
    strong, weak = rng.normal(size=(40, 40)), 0.1 * rng.normal(size=(40, 40))
    scale = colormap.shared_scale([strong, weak])
    assert scale == colormap.shared_scale([-weak, strong])
    assert np.abs(colormap.scaled(weak, scale)).max() < 0.3
    assert colormap.shared_scale([strong, weak], percentile=100) == np.abs(strong).max()


def test_shared_scale_falls_back_to_the_maximum_and_to_one():
    lone = np.zeros((100, 100))
    lone[3, 4] = -2.0
    assert colormap.shared_scale([lone]) == 2.0
    assert colormap.shared_scale([np.zeros((5, 5))]) == 1.0


def test_shared_scale_refuses_no_maps_and_a_wrong_percentile():
    with pytest.raises(ExplainError, match="at least one map"):
        colormap.shared_scale([])
    with pytest.raises(ExplainError, match="percentile"):
        colormap.shared_scale([np.ones((2, 2))], percentile=0)


def test_normalize_is_symmetric_and_clipped():
    np.testing.assert_array_equal(
        colormap.scaled(np.array([-4.0, -1.0, 0.0, 1.0, 4.0]), 2.0), [-1.0, -0.5, 0.0, 0.5, 1.0]
    )
    with pytest.raises(ExplainError, match="`scale` must be > 0"):
        colormap.scaled(np.ones(2), 0.0)


def test_overlay_is_red_for_and_blue_against():
    picture = colormap.overlay(np.full((1, 3, 3), 128, np.uint8), np.array([[1.0, 0.0, -1.0]])).astype(int)
    ((red, neutral, blue),) = picture
    assert red[0] > red[2] + 80
    assert blue[2] > blue[0] + 80
    assert np.ptp(neutral) == 0


def test_overlay_hides_more_of_the_image_the_stronger_the_relevance(rng):
    dark, bright = np.full((1, 50, 3), 20, np.uint8), np.full((1, 50, 3), 230, np.uint8)
    ramp = np.linspace(0, 1, 50)[None]
    seen = np.abs(colormap.overlay(bright, ramp).astype(int) - colormap.overlay(dark, ramp)).sum(axis=-1)[0]
    assert np.all(np.diff(seen) <= 3)
    assert seen[-1] < 0.2 * seen[0]


def test_overlay_of_zero_is_the_greyed_photograph(rng):
    image = rng.integers(0, 256, size=(6, 7, 3), dtype=np.uint8)
    picture = colormap.overlay(image, np.zeros((6, 7))).astype(int)
    assert picture.shape == image.shape
    assert np.ptp(picture, axis=-1).max() < np.ptp(image, axis=-1).max() / 5
    luma = (image @ np.array([0.299, 0.587, 0.114])).ravel()
    brightness = np.corrcoef(picture.mean(axis=-1).ravel(), luma)[0, 1]
    assert brightness > 0.99


@pytest.mark.parametrize(
    ("image", "relevance", "message"),
    [
        (np.zeros((4, 4, 3)), np.zeros((4, 4)), "uint8"),
        (np.zeros((4, 4, 1), np.uint8), np.zeros((4, 4)), "uint8"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5)), "shape"),
        (np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 1.5), "-1, 1"),
        (np.zeros((4, 4, 3), np.uint8), np.full((4, 4), np.nan), "-1, 1"),
    ],
)
def test_overlay_refuses_what_it_cannot_draw(image, relevance, message):
    with pytest.raises(ExplainError, match=message):
        colormap.overlay(image, relevance)
