"""Relevance maps as pictures: smoothing, one signed scale for several maps, overlays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from egt_tf.errors import ExplainError
from egt_tf.explain.explanation import check_finite

# Anchors of the diverging colour map at -1, -0.5, 0, 0.5 and 1: blue speaks against, red speaks for; both can
# be told apart with the common kinds of colour blindness.
DIVERGING = np.array([(20, 64, 150), (62, 128, 216), (255, 255, 255), (240, 84, 56), (172, 10, 30)], float)
LUMA = np.array([0.299, 0.587, 0.114])
# Of the magnitudes, which is drawn in the strongest colour; see `shared_scale`.
PERCENTILE = 99.5
# Opacity of the strongest relevance, and the exponent of weaker one; see `overlay`.
OPACITY, EXPONENT = 0.9, 0.6
# Contrast of the photograph behind, and the shares of its grey and of its own colours; see `overlay`.
CONTRAST, GREY, COLOUR = 0.72, 0.88, 0.12


def over_maximum(values: np.ndarray) -> np.ndarray:
    """Values over their absolute maximum, in [-1, 1]; zeros stay zeros.

    Raises:
        ExplainError: values that are not finite.
    """
    values = _finite(values)
    return values / (np.abs(values).max(initial=0.0) or 1.0)


def shared_scale(maps: np.ndarray | Sequence[np.ndarray], percentile: float = PERCENTILE) -> float:
    """One positive scale for several signed maps, to draw them with the same colours.

    Args:
        maps: maps of any shapes, for example those of the predicted class and of the runner-up.
        percentile: of `|relevance|` over all maps together, in (0, 100]. Below 100 a few extreme pixels
            saturate instead of making everything else pale.

    Returns:
        A float > 0. Maps that are zero almost everywhere fall back to their maximum; all zero gives 1.

    Raises:
        ExplainError: no map, a percentile out of range, or relevance that is not finite.

    Example:
        >>> shared_scale([np.array([[0.5, -2.0]]), np.array([[1.0]])], percentile=100)
        2.0
    """
    if not 0 < percentile <= 100:
        raise ExplainError(f"`percentile` must be in (0, 100]. Received: percentile={percentile}")
    flat = [np.abs(_finite(one)).ravel() for one in maps]
    if not sum(map(len, flat)):
        raise ExplainError("`maps` must hold at least one map. Received: none")
    magnitudes = np.concatenate(flat)
    return float(np.percentile(magnitudes, percentile)) or float(magnitudes.max()) or 1.0


def scaled(relevance: np.ndarray, scale: float) -> np.ndarray:
    """`relevance / scale`, clipped to [-1, 1]; zero stays zero, so the scale is symmetric.

    Raises:
        ExplainError: `scale` <= 0.

    Example:
        >>> scaled(np.array([-4.0, 0.0, 1.0]), scale=2.0).tolist()
        [-1.0, 0.0, 0.5]
    """
    if not scale > 0:
        raise ExplainError(f"`scale` must be > 0. Received: scale={scale}")
    return np.clip(np.asarray(relevance, np.float64) / scale, -1.0, 1.0)


def overlay(image: np.ndarray, relevance: np.ndarray) -> np.ndarray:
    """Draws a signed map over a grey, lightened copy of the image.

    Red pixels spoke for the class, blue ones against it. Opacity is `0.9 * |relevance| ** 0.6`: where nothing
    was relevant the photograph stays, and weak relevance can still be seen.

    Args:
        image: uint8 `(H, W, 3)`.
        relevance: `(H, W)` in [-1, 1], from `scaled`.

    Returns:
        uint8 `(H, W, 3)`.

    Raises:
        ExplainError: wrong shapes or types, or values outside [-1, 1].

    Example:
        >>> picture = overlay(np.full((1, 2, 3), 128, np.uint8), np.array([[-1.0, 1.0]]))
        >>> int(picture[0, 0].argmax()), int(picture[0, 1].argmax())  # blue against, red for
        (2, 0)
    """
    image, relevance = np.asarray(image), np.asarray(relevance, np.float64)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise ExplainError(f"`image` must be uint8 (H, W, 3). Received: {image.dtype} {image.shape}")
    if relevance.shape != image.shape[:2]:
        raise ExplainError(
            f"`relevance` must have the shape of the image, {image.shape[:2]}. Received: shape={relevance.shape}"
        )
    if not np.all(np.abs(relevance) <= 1):
        raise ExplainError("`relevance` must be in [-1, 1]; use `scaled` first. Received: values outside")
    opacity = OPACITY * np.abs(relevance)[..., None] ** EXPONENT
    blend = (1 - opacity) * _backdrop(image) + opacity * _interpolate(relevance, DIVERGING)
    return blend.round().clip(0, 255).astype(np.uint8)


def _backdrop(image: np.ndarray) -> np.ndarray:
    """Grey with a trace of colour, lifted towards white: dark photographs would swallow the blue."""
    image = image.astype(np.float64)
    grey = (image @ LUMA)[..., None]
    return 255 - CONTRAST * (255 - (GREY * grey + COLOUR * image))


def _interpolate(values: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Linear interpolation between equally spaced colours over [-1, 1]: (...) -> (..., 3)."""
    positions = np.linspace(-1, 1, len(anchors))
    return np.stack([np.interp(values, positions, channel) for channel in anchors.T], axis=-1)


def _finite(relevance: np.ndarray) -> np.ndarray:
    """The relevance as float64, or an error if a value is not finite."""
    check_finite("relevance", relevance)
    return np.asarray(relevance, np.float64)
