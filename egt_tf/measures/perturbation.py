"""How fast a score falls when the most relevant windows of an image are filled with noise.

Source: Goh, Lapuschkin, Weber, Samek and Binder, "Understanding Integrated Gradients with SmoothTaylor for deep neural
network attribution", ICPR 2020, arXiv 2004.10484, after Samek et al., 2017.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from egt_tf.errors import ConfigError, ExplainError, check_integer
from egt_tf.measures.simpson import simpson

# (n, fills, H, W, 3) -> (n, fills): the score of a class of its own for each of n images.
Score = Callable[[np.ndarray], np.ndarray]

# Of the source, whose images have this side.
_SIDE, _WINDOW = 224, 15


@dataclasses.dataclass(frozen=True)
class Perturbation:
    """Which windows of an image are filled, and how.

    Attributes:
        window: side of a window in pixels; None: 15 for images of 224 pixels and more, and of smaller images the same
            share of the side, `round(15/224 * side)`, one pixel at least.
        windows: how many are visited, at most; there may be fewer in an image.
        fills: random fills of each window, of which the mean score counts and that with the median score stays.
        seed: of the fills. They depend on it and on the number of the visit alone: all maps are judged by the same ones.

    Raises:
        ExplainError: a value that is no integer >= 1, or a seed below 0.

    Notes:
        The rule for small images is ours.

    Example:
        >>> Perturbation().window_of(224), Perturbation().window_of(84), Perturbation(window=7).window_of(84)
        (15, 6, 7)
    """

    window: int | None = None
    windows: int = 30
    fills: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        smallest = {"windows": 1, "fills": 1, "seed": 0} | ({} if self.window is None else {"window": 1})
        try:
            for name, least in smallest.items():
                check_integer(name, getattr(self, name), least)
        except ConfigError as error:
            raise ExplainError(str(error)) from None

    def window_of(self, side: int) -> int:
        """The side of a window in an image whose shorter side is given.

        Raises:
            ExplainError: the window is larger than the image.
        """
        window = self.window or min(_WINDOW, max(1, round(_WINDOW * side / _SIDE)))
        if window > side:
            raise ExplainError(f"`window` must not be larger than the image. Received: window={window}, side={side}")
        return window


def perturbation_curves(score: Score, images: np.ndarray, maps: np.ndarray, how: Perturbation) -> np.ndarray:
    """The scores of images while their most relevant windows are filled with noise, one after the other.

    Windows lie on a grid; those at the right and at the bottom may be cut off by the border. They are visited by their
    mean magnitude of relevance, the largest first, equal ones row by row. At each visit the window gets several fills of
    uniform noise, all grey levels 0..255 of each channel alike; the mean of their scores is recorded, and the fill whose
    score is nearest to the median stays.

    Args:
        score: of images with their fills, `(n, fills, H, W, 3)`, to `(n, fills)`; the class of each of the n stays the
            same.
        images: uint8 `(n, H, W, 3)`.
        maps: relevance or its magnitudes, summed over the channels, `(n, H, W)`.
        how: windows and fills.

    Returns:
        float64 `(n, 1 + visits)`, the score of the whole image first.

    Raises:
        ExplainError: shapes that do not fit, or a window larger than the image.

    Notes:
        The published code leaves out the last row and the last column of windows, and mixes up height and width in the
        place of a window; here it does neither.

    Example:
        >>> def brightness(images):
        ...     return images.mean(axis=(-3, -2, -1))
        >>> image, relevance = np.full((1, 4, 4, 3), 255, np.uint8), np.arange(16.0).reshape(1, 4, 4)
        >>> curve = perturbation_curves(brightness, image, relevance, Perturbation(window=2, windows=2, fills=3))
        >>> curve.shape, bool(curve[0, 2] < curve[0, 1] < curve[0, 0])
        ((1, 3), True)
    """
    images, maps = np.asarray(images), np.asarray(maps, np.float64)
    if images.ndim != 4 or images.dtype != np.uint8 or maps.shape != images.shape[:3]:
        raise ExplainError(
            "`images` must be uint8 (n, H, W, 3) and `maps` (n, H, W). Received: "
            f"{images.dtype} {images.shape} and {maps.shape}"
        )
    height, width = images.shape[1:3]
    side = how.window_of(min(height, width))
    order = _most_relevant_first(np.abs(maps), side)[:, : how.windows]
    columns = -(-width // side)
    current = images.copy()
    curve = [np.asarray(score(current[:, None]), np.float64)[:, 0]]
    for visit, windows in enumerate(order.T):
        noise = np.random.default_rng([how.seed, visit]).integers(
            0, 256, (how.fills, side, side, images.shape[-1]), np.uint8
        )
        candidates = np.repeat(current[:, None], how.fills, axis=1)
        for candidate, window in zip(candidates, windows, strict=True):
            top, left = side * (window // columns), side * (window % columns)
            here = candidate[:, top : top + side, left : left + side]
            here[...] = noise[:, : here.shape[1], : here.shape[2]]
        scores = np.asarray(score(candidates), np.float64)
        curve.append(scores.mean(axis=1))
        nearest = np.abs(scores - np.median(scores, axis=1, keepdims=True)).argmin(axis=1)
        current = candidates[np.arange(len(candidates)), nearest]
    return np.stack(curve, axis=1)


def aupc(curves: np.ndarray) -> np.ndarray:
    """The area under perturbation curves, `Simpson([s0, s1, ...] / |s0|)`, visits 1 apart; lower is more faithful.

    Args:
        curves: of `perturbation_curves`, `(n, 1 + visits)`.

    Returns:
        float64 `(n,)`; not a number where the score of the whole image is 0. Curves of different numbers of visits
        cannot be compared.

    Example:
        >>> aupc(np.array([[2.0, 1.0, 0.0]])).item()
        1.0
    """
    curves = np.asarray(curves, np.float64)
    whole = np.abs(curves[:, :1])
    return simpson(np.divide(curves, whole, out=np.full_like(curves, np.nan), where=whole > 0))


def _most_relevant_first(magnitudes: np.ndarray, side: int) -> np.ndarray:
    """Numbers of the windows, row by row, `(n, windows)`, by their mean magnitude."""
    starts = [np.arange(0, length, side) for length in magnitudes.shape[1:]]
    sums = np.add.reduceat(np.add.reduceat(magnitudes, starts[0], axis=1), starts[1], axis=2)
    sizes = [np.diff([*start, length]) for start, length in zip(starts, magnitudes.shape[1:], strict=True)]
    means = sums / np.multiply.outer(*sizes)
    return np.argsort(-means.reshape(len(means), -1), axis=1, kind="stable")
