"""The picture of a relevance map, drawn inside the graph; the same as `egt_tf.figures.colormap` draws."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from egt_tf.figures.colormap import COLOUR, CONTRAST, DIVERGING, EXPONENT, GREY, LUMA, OPACITY, PERCENTILE
from egt_tf.figures.explanation import SMOOTHING


def overlay_pictures(images: tf.Tensor, relevance: tf.Tensor) -> tf.Tensor:
    """Draws each map over its image: red spoke for the class, blue against it, on a scale of its own.

    Args:
        images: grey levels 0..255, float32 `(n, size, size, 3)`.
        relevance: signed float32 `(n, size, size)`.

    Returns:
        strings `(n,)`: PNG files of `size x size` RGB.
    """
    return tf.map_fn(
        lambda pair: tf.io.encode_png(overlay_picture(tf.cast(tf.round(pair[0]), tf.uint8), pair[1])),
        (images, relevance),
        fn_output_signature=tf.string,
    )


def overlay_picture(image: tf.Tensor, relevance: tf.Tensor) -> tf.Tensor:
    """As `colormap.overlay` of a map that was smoothed and scaled as for the figure.

    Args:
        image: uint8 `(size, size, 3)`.
        relevance: signed float32 `(size, size)`.

    Returns:
        uint8 `(size, size, 3)`.
    """
    values = smoothed(tf.cast(relevance, tf.float64), SMOOTHING * relevance.shape[-1])
    values = tf.clip_by_value(values / _scale(values), -1.0, 1.0)
    opacity = OPACITY * tf.abs(values)[..., None] ** EXPONENT
    blend = (1.0 - opacity) * _backdrop(tf.cast(image, tf.float64)) + opacity * _colours(values)
    return tf.cast(tf.clip_by_value(tf.round(blend), 0.0, 255.0), tf.uint8)


def smoothed(maps: tf.Tensor, sigma: float) -> tf.Tensor:
    """As `egt_tf.measures.smooth`: a square map `(size, size)`, Gaussian over both axes with mirrored borders."""
    matrix = tf.constant(_smoothing_matrix(int(maps.shape[-1]), sigma), maps.dtype)
    return tf.matmul(tf.matmul(matrix, maps), matrix, transpose_b=True)


def _smoothing_matrix(side: int, sigma: float) -> np.ndarray:
    """Row i has the weights with which the values of a line make its smoothed value i."""
    radius = math.ceil(3 * sigma)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    sources = np.pad(np.arange(side), radius, mode="symmetric")
    matrix = np.zeros((side, side))
    for offset, weight in zip(offsets, kernel / kernel.sum(), strict=True):
        np.add.at(matrix, (np.arange(side), sources[np.arange(side) + radius + offset]), weight)
    return matrix


def _scale(values: tf.Tensor) -> tf.Tensor:
    """As `colormap.shared_scale` of one map: a percentile of the magnitudes, else their maximum, else 1."""
    ordered = tf.sort(tf.reshape(tf.abs(values), [-1]))
    position = PERCENTILE / 100 * (int(ordered.shape[0]) - 1)
    below, share = int(position), position - int(position)
    percentile = ordered[below] + share * (ordered[min(below + 1, int(ordered.shape[0]) - 1)] - ordered[below])
    candidates = [percentile, ordered[-1], tf.ones_like(percentile)]
    return tf.where(candidates[0] > 0, candidates[0], tf.where(candidates[1] > 0, *candidates[1:]))


def _backdrop(image: tf.Tensor) -> tf.Tensor:
    grey = tf.reduce_sum(image * tf.constant(LUMA, image.dtype), axis=-1, keepdims=True)
    return 255.0 - CONTRAST * (255.0 - (GREY * grey + COLOUR * image))


def _colours(values: tf.Tensor) -> tf.Tensor:
    """Linear interpolation between the equally spaced anchors of the colour map over [-1, 1]."""
    anchors = tf.constant(DIVERGING, values.dtype)
    position = (values + 1.0) / 2.0 * (len(DIVERGING) - 1)
    below = tf.clip_by_value(tf.cast(tf.floor(position), tf.int32), 0, len(DIVERGING) - 2)
    share = (position - tf.cast(below, values.dtype))[..., None]
    return tf.gather(anchors, below) * (1.0 - share) + tf.gather(anchors, below + 1) * share
