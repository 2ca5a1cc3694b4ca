"""Whether relevance says how much a score changes when pixels go."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from egt_tf.errors import ConfigError, ExplainError, check_integer

# (n, runs, H, W, 3) -> (n, runs): the score of a class of its own for each of n images.
Score = Callable[[np.ndarray], np.ndarray]


def faithfulness_correlation(
    score: Score,
    images: np.ndarray,
    maps: np.ndarray,
    replacement: np.ndarray,
    share: float = 0.2,
    runs: int = 100,
    seed: int = 0,
) -> np.ndarray:
    """Correlation of the relevance of random sets of pixels with what the score loses without them; higher is better.

    `corr_S( sum_{i in S} R_i, f(x) - f(x with S replaced) )` over sets S of so many pixels, the same sets for all maps.

    Args:
        score: of `(n, runs, H, W, 3)` to `(n, runs)`; the class of each of the n stays the same.
        images: `(n, H, W, 3)`; or one, `(1, H, W, 3)`, that all maps are of.
        maps: signed relevance, summed over the channels, `(n, H, W)`.
        replacement: what pixels are replaced by, shaped as the images; see `blurred`.
        share: of the pixels that are in a set, in (0, 1).
        runs: sets, >= 3.
        seed: of the sets.

    Returns:
        float64 `(n,)` in [-1, 1]; not a number where the score never changes or the relevance of all sets is the same.

    Raises:
        ExplainError: a share or a number out of range.

    Notes:
        Source: Bhatt, Weller and Moura, "Evaluating and aggregating feature-based model explanations", IJCAI 2020.

    Example:
        >>> images, weights = np.ones((1, 4, 4, 3)), np.arange(16.0).reshape(4, 4)
        >>> def score(images):
        ...     return (images[..., 0] * weights).sum((-2, -1))
        >>> faithfulness_correlation(score, images, weights[None], np.zeros_like(images), runs=9).round(6).item()
        1.0
    """
    try:
        check_integer("runs", runs, 3)
    except ConfigError as error:
        raise ExplainError(str(error)) from None
    if not 0 < share < 1:
        raise ExplainError(f"`share` must lie between 0 and 1. Received: share={share!r}")
    count, height, width = maps.shape
    size = max(1, round(share * height * width))
    rng = np.random.default_rng(seed)
    gone = np.zeros((runs, height * width), bool)
    for one in gone:
        one[rng.choice(height * width, size, replace=False)] = True
    gone = gone.reshape(runs, height, width)
    lost = np.asarray(score(images[:, None]), np.float64) - np.asarray(
        score(np.where(gone[None, ..., None], replacement[:, None], images[:, None])), np.float64
    )
    relevance = np.einsum("nhw,rhw->nr", np.asarray(maps, np.float64), gone.astype(np.float64))
    varies = _varies(relevance) & _varies(lost)
    first, second = (each - each.mean(axis=1, keepdims=True) for each in (relevance, lost))
    scale = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    return np.divide((first * second).sum(1), scale, out=np.full(count, np.nan), where=varies)


def _varies(values: np.ndarray) -> np.ndarray:
    """Whether the values of each row differ by more than rounding."""
    return np.ptp(values, axis=1) > 1e-9 * np.abs(values).max(axis=1)
