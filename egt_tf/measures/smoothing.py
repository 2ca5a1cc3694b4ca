"""Gaussian smoothing of maps."""

from __future__ import annotations

import math

import numpy as np

from egt_tf.errors import ExplainError


def smooth(relevance: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian smoothing over the last two axes: `(..., H, W)` -> float64 `(..., H, W)`.

    LRP gives single pixels high relevance, which looks like noise at 84 px; a sigma of about one pixel in 84
    joins them into the strokes and parts that a person can name.

    Args:
        relevance: signed maps.
        sigma: standard deviation in pixels; 0 leaves the maps as they are.

    Notes:
        The borders mirror, so the sum of every map stays the same.

    Raises:
        ExplainError: `sigma` < 0, or fewer than two axes.

    Example:
        >>> smooth(np.array([[0.0, 0.0, 1.0, 0.0, 0.0]]), sigma=0.5).round(2).tolist()
        [[0.0, 0.11, 0.79, 0.11, 0.0]]
    """
    relevance = np.asarray(relevance, np.float64)
    if not sigma >= 0:
        raise ExplainError(f"`sigma` must be >= 0. Received: sigma={sigma}")
    if relevance.ndim < 2:
        raise ExplainError(f"`relevance` must have shape (..., H, W). Received: shape={relevance.shape}")
    if sigma == 0:
        return relevance
    radius = math.ceil(3 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    return _convolve_axis(_convolve_axis(relevance, kernel, axis=-1), kernel, axis=-2)


def _convolve_axis(maps: np.ndarray, kernel: np.ndarray, axis: int) -> np.ndarray:
    """Convolution with a symmetric odd kernel along one axis, mirrored at the borders."""
    radius = len(kernel) // 2
    pads = [(0, 0)] * maps.ndim
    pads[axis] = (radius, radius)
    padded = np.moveaxis(np.pad(maps, pads, mode="symmetric"), axis, 0)
    length = maps.shape[axis]
    total = sum(weight * padded[shift : shift + length] for shift, weight in enumerate(kernel))
    return np.moveaxis(total, 0, axis)
