"""Localisation of relevance: how much of what speaks for a class lies where its object is."""

from __future__ import annotations

import numpy as np

from egt_tf.errors import ExplainError


def share_inside(relevance: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Positive relevance inside a mask over all positive relevance.

    Args:
        relevance: signed `(..., size, size)`.
        mask: bool `(..., size, size)`, true on the object.

    Returns:
        `(...)` in 0..1; not a number where a map has no positive relevance. Relevance spread evenly has the share of
        the picture that the mask covers.

    Example:
        >>> float(share_inside(np.array([[3.0, 1.0], [-9.0, 0.0]]), np.array([[True, False], [True, False]])))
        0.75
    """
    positive = np.maximum(np.asarray(relevance, np.float64), 0.0)
    inside, everything = (np.where(part, positive, 0.0).sum(axis=(-2, -1)) for part in (mask, True))
    return np.divide(inside, everything, out=np.full_like(everything, np.nan), where=everything > 0)[()]


def rank_inside(relevance: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Relevance rank: how many of the K most relevant pixels lie in a mask of K pixels, as a share; higher is better.

    Args:
        relevance: signed `(..., size, size)`; of equally relevant pixels the first count, row by row.
        mask: bool `(..., size, size)`, true on the object.

    Returns:
        `(...)` in 0..1; not a number where the mask is empty. Relevance at random has the share of the picture that the
        mask covers.

    Notes:
        Source: Arras, Osman and Samek, "CLEVR-XAI", Information Fusion 2022.

    Example:
        >>> float(rank_inside(np.array([[3.0, 1.0], [2.0, 0.0]]), np.array([[True, True], [False, False]])))
        0.5
    """
    flat, inside = (np.asarray(each).reshape(*each.shape[:-2], -1) for each in (relevance, mask))
    order = np.argsort(-np.asarray(flat, np.float64), axis=-1, kind="stable")
    ranked = np.take_along_axis(np.broadcast_to(inside, flat.shape), order, axis=-1)
    size = ranked.sum(axis=-1, keepdims=True)
    found = (ranked & (np.arange(flat.shape[-1]) < size)).sum(axis=-1)
    return np.divide(found, size[..., 0], out=np.full(found.shape, np.nan), where=size[..., 0] > 0)[()]


def points_inside(relevance: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The pointing game: whether the most relevant pixel lies in a mask; higher is better.

    Args:
        relevance: signed `(..., size, size)`; of equally relevant pixels the first counts.
        mask: bool `(..., size, size)`, true on the object.

    Returns:
        1.0 or 0.0, `(...)`; not a number where no pixel has positive relevance. By chance, the share of the picture that
        the mask covers.

    Notes:
        Source: Zhang et al., "Top-down neural attention by excitation backprop", ECCV 2016; without their tolerance of 15
        pixels around the object.

    Example:
        >>> float(points_inside(np.array([[3.0, 1.0], [2.0, 0.0]]), np.array([[True, True], [False, False]])))
        1.0
    """
    flat, inside = (np.asarray(each).reshape(*each.shape[:-2], -1) for each in (relevance, mask))
    flat = np.asarray(flat, np.float64)
    best = flat.argmax(axis=-1)[..., None]
    hit = np.take_along_axis(np.broadcast_to(inside, flat.shape), best, axis=-1)[..., 0].astype(np.float64)
    return np.where(flat.max(axis=-1) > 0, hit, np.nan)[()]


def mosaic(quarters: np.ndarray) -> np.ndarray:
    """Four photographs side by side: the first above on the left, the last below on the right.

    A model is asked about the class of one of them; relevance for it should lie in that quarter, of which `share_inside`
    is 1/4 by chance.

    Args:
        quarters: `(4, side, side, 3)`.

    Returns:
        `(2 side, 2 side, 3)`.

    Raises:
        ExplainError: not four square images.

    Notes:
        Source: the grid pointing game (Boehle et al., CVPR 2021).

    Example:
        >>> mosaic(np.arange(4).repeat(3).reshape(4, 1, 1, 3))[..., 0]
        array([[0, 1],
               [2, 3]])
    """
    if quarters.ndim != 4 or quarters.shape[0] != 4 or quarters.shape[1] != quarters.shape[2]:
        raise ExplainError(f"`quarters` must have shape (4, side, side, 3). Received: shape={quarters.shape}")
    upper, lower = (np.concatenate(list(half), axis=1) for half in (quarters[:2], quarters[2:]))
    return np.concatenate([upper, lower], axis=0)


def quarter_mask(size: int, quarter: int) -> np.ndarray:
    """Where a quarter of a mosaic lies: bool `(size, size)`.

    Args:
        size: even.
        quarter: 0..3, in the order of `mosaic`.

    Example:
        >>> quarter_mask(2, 1)
        array([[False,  True],
               [False, False]])
    """
    rows, columns = (np.arange(size) >= size // 2,) * 2
    return (rows[:, None] == bool(quarter // 2)) & (columns[None] == bool(quarter % 2))
