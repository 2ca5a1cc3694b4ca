"""How rough a map is, at several resolutions.

Source: Goh, Lapuschkin, Weber, Samek and Binder, "Understanding Integrated Gradients with SmoothTaylor for deep neural
network attribution", ICPR 2020, arXiv 2004.10484.
"""

from __future__ import annotations

import math

import numpy as np

from egt_tf.errors import ExplainError
from egt_tf.measures.heat import heat
from egt_tf.measures.simpson import simpson
from egt_tf.measures.smoothing import smooth

# From one level of the pyramid to the next.
FACTOR = 1.5
# No level has a shorter side, unless there would be fewer levels than these.
SMALLEST, FEWEST = 30, 3


def average_total_variation(maps: np.ndarray) -> np.ndarray:
    """`ATV(H) = (sum |H[:, j+1] - H[:, j]| + sum |H[i+1, :] - H[i, :]|) / (h w)`; lower is smoother.

    Args:
        maps: `(..., h, w)`, usually of `heat`.

    Returns:
        float64 `(...)`, >= 0.

    Example:
        >>> average_total_variation(np.array([[0.0, 1.0], [0.0, 1.0]])).item()
        0.5
    """
    maps = np.asarray(maps, np.float64)
    steps = np.abs(np.diff(maps, axis=-1)).sum((-2, -1)) + np.abs(np.diff(maps, axis=-2)).sum((-2, -1))
    return steps / (maps.shape[-2] * maps.shape[-1])


def autvc(maps: np.ndarray) -> np.ndarray:
    """The area under the total variation curve: of ATV over the levels of a Gaussian pyramid; lower is smoother.

    The pyramid is of the raw map, and each of its `levels` is made a heat map of its own; Simpson's rule, a level 1 apart.

    Args:
        maps: signed, summed over colour channels, `(..., h, w)`.

    Returns:
        float64 `(...)`, >= 0. Values of maps of different sizes cannot be compared: larger ones have more levels.

    Raises:
        ExplainError: fewer than two axes, or a side below 5 pixels.

    Example:
        >>> smooth_ramp = np.add.outer(np.arange(40.0), np.arange(40.0))
        >>> noise = np.random.default_rng(0).normal(size=(40, 40))
        >>> bool(autvc(smooth_ramp) < autvc(noise))
        True
    """
    return simpson(np.stack([average_total_variation(heat(level)) for level in levels(maps)], axis=-1))


def levels(maps: np.ndarray) -> list[np.ndarray]:
    """A Gaussian pyramid: each level is smoothed and has 1/1.5 of the pixels along each side.

    Args:
        maps: `(..., h, w)`.

    Returns:
        The map itself first. No level has a side below 30 pixels; of small maps, whose pyramid would have fewer than
        three levels by that, there are three all the same.

    Raises:
        ExplainError: fewer than two axes, or a side below 5 pixels, of which there are no three levels.

    Notes:
        The smoothing has a deviation of `2 * 1.5 / 6` pixels, as scikit-image has it; then the map is interpolated
        linearly. The rule for small maps is ours: the source has images of 224 pixels.

    Example:
        >>> [level.shape for level in levels(np.zeros((84, 84)))], [level.shape for level in levels(np.zeros((32, 32)))]
        ([(84, 84), (56, 56), (38, 38)], [(32, 32), (22, 22), (15, 15)])
    """
    maps = np.asarray(maps, np.float64)
    if maps.ndim < 2 or min(maps.shape[-2:]) < 5:
        raise ExplainError(f"a map must be (..., h, w) with sides >= 5 pixels. Received: shape={maps.shape}")
    found = [maps]
    while True:
        height, width = (math.ceil(side / FACTOR) for side in found[-1].shape[-2:])
        if min(height, width) < SMALLEST and len(found) >= FEWEST:
            return found
        smoothed = smooth(found[-1], 2 * FACTOR / 6)
        rows, columns = _interpolation(smoothed.shape[-2], height), _interpolation(smoothed.shape[-1], width)
        found.append(rows @ smoothed @ columns.T)


def _interpolation(length: int, wanted: int) -> np.ndarray:
    """The matrix `(wanted, length)` that interpolates linearly between the centres of pixels."""
    places = np.clip((np.arange(wanted) + 0.5) * length / wanted - 0.5, 0, length - 1)
    return np.stack([np.interp(places, np.arange(length), unit) for unit in np.eye(length)], axis=1)
