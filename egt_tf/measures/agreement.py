"""How alike two maps are."""

from __future__ import annotations

import numpy as np


def rank_correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Spearman's correlation of the magnitudes of maps, pixel by pixel; equal magnitudes share their mean rank.

    Of a map with that of the same model with random weights: low is better, since a map that stays the same has not looked
    at the weights (Adebayo et al., "Sanity checks for saliency maps", 2018).

    Args:
        one, other: `(..., H, W)`.

    Returns:
        `(...)` in [-1, 1]; not a number where all magnitudes of a map are the same.

    Example:
        >>> float(rank_correlation(np.array([[1.0, -2.0, 3.0]]), np.array([[-10.0, 20.0, 90.0]])))
        1.0
    """
    ranks = [_ranks(np.abs(np.asarray(each, np.float64))) for each in (one, other)]
    first, second = (each - each.mean(axis=-1, keepdims=True) for each in ranks)
    scale = np.sqrt((first**2).sum(-1) * (second**2).sum(-1))
    return np.divide((first * second).sum(-1), scale, out=np.full(scale.shape, np.nan), where=scale > 0)[()]


def _ranks(magnitudes: np.ndarray) -> np.ndarray:
    """Mean ranks, `(..., H * W)`."""
    flat = magnitudes.reshape(*magnitudes.shape[:-2], -1)
    return np.apply_along_axis(_mean_ranks, -1, flat)


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[places]
