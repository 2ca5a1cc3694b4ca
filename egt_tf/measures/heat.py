"""What a measure sees of a map: magnitudes between 0 and 1."""

from __future__ import annotations

import numpy as np

# Of the magnitudes, which counts as 1.
PERCENTILE = 99.0


def heat(maps: np.ndarray) -> np.ndarray:
    """`clip((|h| - min |h|) / (P99(|h|) - min |h|), 0, 1)`, for each map by itself.

    Args:
        maps: signed, summed over colour channels, `(..., H, W)`.

    Returns:
        float64, of the same shape, in [0, 1]; a map whose magnitudes are all the same is 0 everywhere.

    Notes:
        Source: Goh et al., "Understanding Integrated Gradients with SmoothTaylor", ICPR 2020.

    Example:
        >>> heat(np.array([[0.0, -2.0], [1.0, 2.0]])).round(2)
        array([[0. , 1. ],
               [0.5, 1. ]])
    """
    magnitudes = np.abs(np.asarray(maps, np.float64))
    least = magnitudes.min(axis=(-2, -1), keepdims=True)
    most = np.percentile(magnitudes, PERCENTILE, axis=(-2, -1), keepdims=True)
    return np.clip(np.divide(magnitudes - least, most - least, out=np.zeros_like(magnitudes), where=most > least), 0, 1)
