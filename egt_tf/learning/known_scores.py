"""Scores that are large for images of the classes and small for others: what "none of these" is decided by.

Each is a pure function of features, which works eagerly and inside the graph of a model that is served.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from egt_tf.heads.similarity import unit
from egt_tf.registry import Registry

# From query features `(q, c)`, support features `(s, c)` and one-hot labels `(s, ways)` to scores `(q,)`.
KnownScore = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]

KNOWN_SCORES = Registry("score of known images")


@KNOWN_SCORES.register("largest_cosine")
def largest_cosine(query: tf.Tensor, support: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The cosine with the most similar prototype, the mean of a class's photos.

    Example:
        >>> largest_cosine(tf.constant([[0.0, 2.0]]), tf.eye(2), tf.eye(2)).numpy().tolist()
        [1.0]
    """
    return tf.reduce_max(_cosines(query, _prototypes(support, labels)), axis=-1)


@KNOWN_SCORES.register("cosine_and_margin")
def cosine_and_margin(query: tf.Tensor, support: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The largest cosine plus how far it is above the mean of all: `2 max_c cos_c - mean_c cos_c`.

    The prototypes are here the means of unit vectors, in which each photo counts alike.

    Example:
        >>> cosine_and_margin(tf.constant([[0.0, 2.0]]), tf.eye(2), tf.eye(2)).numpy().tolist()
        [1.5]
    """
    cosines = _cosines(query, _prototypes(unit(tf.convert_to_tensor(support)), labels))
    return 2.0 * tf.reduce_max(cosines, axis=-1) - tf.reduce_mean(cosines, axis=-1)


@KNOWN_SCORES.register("nearest_photo")
def nearest_photo(query: tf.Tensor, support: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The cosine with the most similar photo of any class.

    Example:
        >>> nearest_photo(tf.constant([[3.0, 4.0]]), tf.eye(2), tf.eye(2)).numpy().round(2)
        array([0.8], dtype=float32)
    """
    return tf.reduce_max(_cosines(query, support), axis=-1)


@KNOWN_SCORES.register("cosine_margin")
def cosine_margin(query: tf.Tensor, support: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """How far the cosine with the most similar prototype is above the mean of those with all others.

    Example:
        >>> cosine_margin(tf.constant([[0.0, 2.0]]), tf.eye(2), tf.eye(2)).numpy().tolist()
        [1.0]
    """
    cosines = _cosines(query, _prototypes(support, labels))
    largest = tf.reduce_max(cosines, axis=-1)
    others = tf.cast(tf.shape(cosines)[-1] - 1, cosines.dtype)
    return largest - (tf.reduce_sum(cosines, axis=-1) - largest) / others


def left_out_scores(score: KnownScore, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What each photo gets from the others.

    Args:
        score: one of `KNOWN_SCORES`.
        features: `(n, c)`.
        labels: integers `(n,)`.

    Returns:
        float64 `(n,)`; not a number for the only photo of a class, which cannot be left out.

    Example:
        >>> features = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], np.float32)
        >>> left_out_scores(largest_cosine, features, np.array([0, 0, 1])).tolist()
        [1.0, 1.0, nan]
    """
    counts, targets = np.bincount(labels), np.eye(int(labels.max()) + 1, dtype=np.float32)[labels]
    found = np.full(len(labels), np.nan)
    for index in np.flatnonzero(counts[labels] > 1):
        kept = np.arange(len(labels)) != index
        found[index] = score(features[index : index + 1], features[kept], targets[kept])[0]
    return found


def _prototypes(support: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    shares = tf.math.divide_no_nan(labels, tf.reduce_sum(labels, axis=0, keepdims=True))
    return tf.matmul(shares, support, transpose_a=True)


def _cosines(query: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
    return tf.matmul(unit(tf.convert_to_tensor(query)), unit(tf.convert_to_tensor(vectors)), transpose_b=True)
