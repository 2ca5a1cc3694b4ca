"""Probabilities that mean what they say, and which queries show none of the classes; both from leave-one-out scores."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import tensorflow as tf

from egt_tf.errors import DataError
from egt_tf.heads.similarity import unit
from egt_tf.learning.defaults import KEPT

# Of the logarithm of the scale; the scores of all heads are far from needing either end.
_BOUNDS = (math.log(1e-4), math.log(1e4))
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
_STEPS = 60


@dataclasses.dataclass(frozen=True)
class Threshold:
    """From which score on a query is taken for one of the known classes.

    Attributes:
        value: the score.
        kept: the share of queries of known classes whose score is at least `value`, on average.
        photos: how many leave-one-out scores it comes from.

    Example:
        >>> Threshold(value=0.4, kept=0.95, photos=19).kept
        0.95
    """

    value: float
    kept: float
    photos: int


def log_loss(scores: np.ndarray, labels: np.ndarray, scale: float) -> float:
    """Mean cross-entropy of `softmax(scale * scores)` with smoothed labels.

    Of n photographs that are all right, no more can be concluded than that `(n + 1) / (n + ways)` of further ones are
    (Laplace's rule of succession). The label has that share and the other classes have the rest, as in the targets of
    Platt (1999, "Probabilistic Outputs for Support Vector Machines"). Without it, scores that never fail would have
    probabilities of exactly 1.

    Args:
        scores: `(n, ways)`, ways >= 2; minus infinity for a class that could not be scored.
        labels: integers `(n,)`.
        scale: > 0, the inverse temperature.

    Returns:
        >= 0.

    Example:
        >>> round(log_loss(np.zeros((4, 2)), np.array([0, 1, 0, 1]), 1.0), 4)
        0.6931
    """
    count, ways = scores.shape
    shares = np.full((count, ways), (ways - 1) / (count + ways) / (ways - 1))
    shares[np.arange(count), labels] = (count + 1) / (count + ways)
    scaled = scale * np.asarray(scores, np.float64)
    scaled -= scaled.max(axis=1, keepdims=True)
    log_probabilities = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    return float(-(shares * log_probabilities).sum(axis=1).mean())


def fit_scale(scores: np.ndarray, labels: np.ndarray) -> float:
    """The scale of the scores, the inverse temperature, with the smallest `log_loss` (Guo et al., ICML 2017).

    The loss is convex in the scale, so that its only minimum is found by golden-section search over the logarithm,
    between 0.0001 and 10000.

    Args:
        scores: leave-one-out scores `(n, ways)` of a head whose own scale is 1.
        labels: integers `(n,)`.

    Raises:
        DataError: there are no scores.

    Example:
        >>> scores = np.array([[2.0, 0.0]] * 3 + [[0.0, 2.0]])
        >>> round(fit_scale(scores, np.array([0, 0, 0, 0])), 2)  # right 3 times of 4, with labels smoothed by 1/6
        0.17
    """
    if len(scores) == 0:
        raise DataError("a scale needs leave-one-out scores. Received: none, as no class has two photographs")
    low, high = _BOUNDS
    for _ in range(_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if log_loss(scores, labels, math.exp(left)) <= log_loss(scores, labels, math.exp(right)):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2.0)


def known_threshold(scores: np.ndarray, kept: float = KEPT) -> Threshold | None:
    """The threshold that keeps `kept` of the queries of known classes, on average over photographs and queries.

    A further score of the same kind is equally likely to fall into each of the n + 1 gaps between n scores. So it is
    below the k-th smallest with probability `k / (n + 1)`; the largest k is taken that is allowed. From fewer than 19
    scores, 95 % cannot be promised: the smallest score is the threshold then, and `n / (n + 1)` is promised.

    Args:
        scores: leave-one-out scores `(n,)`, see `known_scores`.
        kept: the share, in (0, 1).

    Returns:
        The threshold; None if there are no scores.

    Notes:
        Conformal prediction with one class (Vovk et al., 2005); a photograph's own score is computed with one
        photograph fewer in its class than a query's, so that slightly more are kept than promised.

    Example:
        >>> known_threshold(np.arange(39.0))
        Threshold(value=1.0, kept=0.95, photos=39)
        >>> known_threshold(np.arange(3.0))
        Threshold(value=0.0, kept=0.75, photos=3)
    """
    count = len(scores)
    if count == 0:
        return None
    # The small number is for 0.05 * 20, which is not quite 1.
    smallest = max(1, math.floor((1.0 - kept) * (count + 1) + 1e-9))
    return Threshold(float(np.sort(scores)[smallest - 1]), 1.0 - smallest / (count + 1), count)


def known_scores(cosines: tf.Tensor) -> tf.Tensor:
    """How much a query is like one of the classes, and only one: `2 max_c cos_c - mean_c cos_c`.

    Args:
        cosines: of the query with the prototype of each class, `(queries, ways)`.

    Returns:
        `(queries,)`, in [-3, 3].

    Example:
        >>> known_scores(tf.constant([[0.9, 0.1], [0.5, 0.5]])).numpy().round(2)
        array([1.3, 0.5], dtype=float32)
    """
    return 2.0 * tf.reduce_max(cosines, axis=-1) - tf.reduce_mean(cosines, axis=-1)


def unit_prototypes(vectors: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The directions of the mean unit vectors of the classes.

    Args:
        vectors: `(n, channels)`.
        labels: one-hot `(n, ways)`.

    Returns:
        `(ways, channels)`, each of length 1.

    Example:
        >>> unit_prototypes(tf.constant([[3.0, 0.0], [0.0, 2.0]]), tf.constant([[1.0], [1.0]])).numpy().round(3)
        array([[0.707, 0.707]], dtype=float32)
    """
    return unit(tf.matmul(labels, unit(vectors), transpose_a=True))


def pooled(features: tf.Tensor) -> tf.Tensor:
    """Spatial means of maps, `(n, h, w, c)` to `(n, c)`."""
    return tf.reduce_mean(features, axis=[1, 2])
