"""Faithfulness of relevance: how fast a prediction falls when what is called relevant is taken away.

Patches of an image are replaced, the most relevant first, by a picture of it that shows next to nothing, and the model
is asked again and again. The lower the curve of its probability, the better the map knew what the prediction used. All
maps are judged with the same patches, the same replacement and the same model; a random order is the control.

Source: Samek et al., "Evaluating the visualization of what a deep neural network has learned", 2017. Everything here is
NumPy; the model is a function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from egt_tf.errors import ExplainError
from egt_tf.measures.smoothing import smooth

Probability = Callable[[np.ndarray], np.ndarray]


def patch_sums(relevance: np.ndarray, grid: int) -> np.ndarray:
    """Adds relevance up in a grid of patches.

    Args:
        relevance: signed `(n, size, size)`.
        grid: patches along each side, 1..size; where it does not divide the size, some are a pixel larger.

    Returns:
        float64 `(n, grid * grid)`, row by row.

    Raises:
        ExplainError: maps that are not square, or a grid that does not fit.

    Example:
        >>> patch_sums(np.arange(16.0).reshape(1, 4, 4), grid=2)
        array([[10., 18., 42., 50.]])
    """
    relevance = np.asarray(relevance, np.float64)
    starts = _edges(relevance, grid)[:-1]
    sums = np.add.reduceat(np.add.reduceat(relevance, starts, axis=1), starts, axis=2)
    return sums.reshape(len(relevance), grid * grid)


def most_relevant_first(relevance: np.ndarray, grid: int) -> np.ndarray:
    """The order in which a map wants the patches removed; equal ones keep theirs.

    Args:
        relevance: see `patch_sums`.
        grid: see `patch_sums`.

    Returns:
        Indices of patches, `(n, grid * grid)`.

    Example:
        >>> most_relevant_first(np.arange(16.0).reshape(1, 4, 4), grid=2)
        array([[3, 2, 1, 0]])
    """
    return np.argsort(-patch_sums(relevance, grid), axis=1, kind="stable")


def random_order(count: int, grid: int, seed: int) -> np.ndarray:
    """An order of its own for each image, the control: `(count, grid * grid)`.

    Example:
        >>> sorted(random_order(1, 2, seed=0)[0].tolist())
        [0, 1, 2, 3]
    """
    patches = np.tile(np.arange(grid * grid), (count, 1))
    return np.random.default_rng(seed).permuted(patches, axis=1)


def blurred(images: np.ndarray, share: float = 0.1) -> np.ndarray:
    """What patches are replaced by: the image, so blurred that it keeps its colours and loses its contents.

    Args:
        images: uint8 `(n, size, size, 3)`.
        share: standard deviation of the blur as a share of the size.

    Returns:
        uint8, of the same shape.

    Example:
        >>> int(blurred(np.full((1, 8, 8, 3), 7, np.uint8)).max())
        7
    """
    channels = smooth(np.moveaxis(images, -1, 1), share * images.shape[1])
    return np.moveaxis(np.rint(channels), 1, -1).astype(np.uint8)


def without(images: np.ndarray, replacement: np.ndarray, order: np.ndarray, removed: int) -> np.ndarray:
    """The images with the first patches of an order replaced.

    Args:
        images: `(n, size, size, 3)`.
        replacement: of the same shape and type.
        order: indices of patches, `(n, grid * grid)`.
        removed: how many are replaced, 0..grid * grid.

    Raises:
        ExplainError: images that are not square, or a grid that does not fit.

    Example:
        >>> image, black = np.full((1, 2, 2, 3), 9), np.zeros((1, 2, 2, 3), int)
        >>> without(image, black, np.array([[3, 0, 1, 2]]), removed=1)[0, ..., 0]
        array([[9, 9],
               [9, 0]])
    """
    grid = round(order.shape[1] ** 0.5)
    edges = _edges(images[..., 0], grid)
    gone = np.zeros(order.shape, bool)
    np.put_along_axis(gone, order[:, :removed], True, axis=1)
    for axis in (1, 2):
        gone = np.repeat(gone.reshape(-1, grid, grid) if axis == 1 else gone, np.diff(edges), axis=axis)
    return np.where(gone[..., None], replacement, images)


def deletion_curve(
    probability: Probability,
    images: np.ndarray,
    replacement: np.ndarray,
    order: np.ndarray,
    shares: Sequence[float],
) -> np.ndarray:
    """The probability of each image's class while more and more of its patches are replaced.

    Args:
        probability: from images `(n, size, size, 3)` to the probability of one class of each, `(n,)`; the class stays
            that of the whole image.
        images: uint8 `(n, size, size, 3)`.
        replacement: see `blurred`.
        order: see `most_relevant_first` and `random_order`.
        shares: of the patches that are replaced, each in 0..1, ascending.

    Returns:
        `(n, len(shares))`.

    Example:
        >>> def brightness(images):
        ...     return images.mean(axis=(1, 2, 3)) / 255
        >>> image = np.full((1, 4, 4, 3), 255, np.uint8)
        >>> order = most_relevant_first(np.ones((1, 4, 4)), grid=4)
        >>> deletion_curve(brightness, image, np.zeros_like(image), order, [0, 0.5, 1])
        array([[1. , 0.5, 0. ]])
    """
    counts = [round(share * order.shape[1]) for share in shares]
    return np.stack([np.asarray(probability(without(images, replacement, order, k))) for k in counts], axis=1)


def insertion_curve(
    probability: Probability,
    images: np.ndarray,
    replacement: np.ndarray,
    order: np.ndarray,
    shares: Sequence[float],
) -> np.ndarray:
    """The probability of each image's class while more and more of its patches are put into a picture without contents.

    Args:
        probability, images, replacement, order: see `deletion_curve`.
        shares: of the patches that are put in, each in 0..1, ascending.

    Returns:
        `(n, len(shares))`; the higher the area under it, the better the map knew what suffices for the prediction.

    Notes:
        Source: Petsiuk, Das and Saenko, "RISE", BMVC 2018.

    Example:
        >>> def brightness(images):
        ...     return images.mean(axis=(1, 2, 3)) / 255
        >>> image = np.full((1, 4, 4, 3), 255, np.uint8)
        >>> order = most_relevant_first(np.ones((1, 4, 4)), grid=4)
        >>> insertion_curve(brightness, image, np.zeros_like(image), order, [0, 0.5, 1])
        array([[0. , 0.5, 1. ]])
    """
    # What is put in is what is not taken away from the other picture.
    return deletion_curve(probability, replacement, images, order, shares)


def area_under(curves: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """The mean height of curves between the first and the last share, by the trapezoidal rule.

    Args:
        curves: `(n, len(shares))`.
        shares: ascending, at least two.

    Returns:
        `(n,)`; for probabilities in 0..1, the lower the more faithful.

    Example:
        >>> area_under(np.array([[1.0, 0.5, 0.0]]), [0.0, 0.5, 1.0])
        array([0.5])
    """
    widths = np.diff(np.asarray(shares, np.float64))
    curves = np.asarray(curves, np.float64)
    return ((curves[:, 1:] + curves[:, :-1]) / 2 @ widths) / widths.sum()


def _edges(maps: np.ndarray, grid: int) -> np.ndarray:
    """Where patches begin, along each side, and the end of the last."""
    if maps.ndim != 3 or maps.shape[1] != maps.shape[2] or not 1 <= grid <= maps.shape[1]:
        raise ExplainError(
            f"maps must be square, `(n, size, size)`, with 1 <= `grid` <= size. Received: shape={maps.shape}, "
            f"grid={grid}"
        )
    return np.linspace(0, maps.shape[1], grid + 1).round().astype(int)
