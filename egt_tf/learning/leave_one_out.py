"""How well each photograph is classified by all the others, computed from features without fitting anything again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from egt_tf.errors import ConfigError
from egt_tf.learning.calibration import fit_scale, known_scores

# The probability that goes with 95 % on both sides of a normal distribution.
_Z = 1.959964
# A photograph looks mislabelled if another class is this many times as probable as its own.
_SUSPICIOUS = 4.0


@dataclasses.dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """What leaving out each photograph in turn shows of one head.

    Photographs that are alone in their class are not among those left out: nothing would be left of the class.

    Attributes:
        head: its specification, its `scale` fitted.
        photos: indices of the photographs that were left out, `(n,)`.
        labels: their classes, `(n,)`.
        probabilities: calibrated, `(n, ways)`.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
        >>> found = LeaveOneOut({"name": "cosine"}, np.arange(3), np.array([0, 1, 1]), probabilities)
        >>> found.right, found.confusions, found.suspects.tolist()
        (2, [(1, 0, 1)], [1])
    """

    head: Mapping[str, Any]
    photos: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each photograph, `(n,)`."""
        return self.probabilities.argmax(axis=1)

    @property
    def right(self) -> int:
        """How many photographs are classified rightly."""
        return int((self.predicted == self.labels).sum())

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy, see `wilson_interval`."""
        return wilson_interval(self.right, len(self.labels))

    @property
    def confusions(self) -> list[tuple[int, int, int]]:
        """(class, class it was taken for, how often), the most frequent first."""
        wrong = self.predicted != self.labels
        pairs, counts = np.unique(
            np.stack([self.labels[wrong], self.predicted[wrong]], axis=1), axis=0, return_counts=True
        )
        found = [(int(own), int(other), int(count)) for (own, other), count in zip(pairs, counts, strict=True)]
        return sorted(found, key=lambda each: -each[2])

    @property
    def suspects(self) -> np.ndarray:
        """Which of `photos` look mislabelled, positions in it, the most suspicious first.

        Those for which another class is at least 4 times as probable as their own.
        """
        rows = np.arange(len(self.labels))
        ratio = self.probabilities.max(axis=1) / np.maximum(self.probabilities[rows, self.labels], 1e-12)
        order = np.argsort(-ratio, kind="stable")
        return order[ratio[order] >= _SUSPICIOUS]


def leave_one_out(head: Mapping[str, Any], vectors: np.ndarray, labels: np.ndarray, ways: int) -> LeaveOneOut | None:
    """Scores every photograph by a head that has the other photographs alone, and fits the head's scale to that.

    Args:
        head: "prototype", "cosine" or "ridge", with arguments.
        vectors: features of the photographs, `(n, channels)`.
        labels: integers `(n,)`.
        ways: number of classes, >= 2.

    Returns:
        The result; None if no class has two photographs.

    Raises:
        ConfigError: another head.

    Example:
        >>> vectors = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
        >>> leave_one_out({"name": "cosine"}, vectors, np.array([0, 0, 1, 1]), ways=2).right
        4
    """
    name = head["name"]
    if name not in _SCORES:
        raise ConfigError(f"the head must be auto or one of {', '.join(_SCORES)}. Received: {name!r}")
    vectors = np.asarray(vectors, np.float64)
    chosen = repeated(labels, ways)
    if len(chosen) == 0:
        return None
    scores = _SCORES[name](head, vectors, np.eye(ways)[labels])[chosen]
    scale = fit_scale(scores, labels[chosen])
    probabilities = tf.nn.softmax(scale * scores, axis=-1).numpy()
    return LeaveOneOut({**head, "scale": scale}, chosen, labels[chosen], probabilities)


def repeated(labels: np.ndarray, ways: int) -> np.ndarray:
    """Indices of the photographs that are not alone in their class.

    Example:
        >>> repeated(np.array([0, 1, 1]), ways=2).tolist()
        [1, 2]
    """
    return np.flatnonzero(np.bincount(labels, minlength=ways)[labels] > 1)


def left_out_known_scores(vectors: np.ndarray, labels: np.ndarray, ways: int) -> np.ndarray:
    """`known_scores` of the photographs that are not alone in their class, each left out of its prototype.

    Args:
        vectors: features `(n, channels)`.
        labels: integers `(n,)`.
        ways: number of classes.

    Example:
        >>> vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> left_out_known_scores(vectors, np.array([0, 0, 1]), ways=2)
        array([1.5, 1.5])
    """
    units = _units(np.asarray(vectors, np.float64))
    cosines = _cosine_scores({}, units, np.eye(ways)[labels])
    return known_scores(cosines).numpy()[repeated(labels, ways)]


def wilson_interval(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, JASA 1927), which is sensible for few photographs and for none wrong.

    Args:
        right: how many were right, 0..count.
        count: of how many, >= 1.

    Returns:
        The lower and the upper end, in [0, 1].

    Example:
        >>> low, high = wilson_interval(10, 10)
        >>> round(low, 3), high
        (0.722, 1.0)
    """
    share, square = right / count, _Z**2 / count
    middle = (share + square / 2) / (1 + square)
    half = _Z / (1 + square) * np.sqrt(share * (1 - share) / count + square / (4 * count))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


# === The heads, with scale 1: scores (n, ways), each photograph left out of its own class ===


def _left_out_means(vectors: np.ndarray, one_hot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The means of all classes, `(ways, c)`, and for each photograph that of its own class without it, `(n, c)`.

    The latter is zero where a class has one photograph.
    """
    sums, counts = one_hot.T @ vectors, one_hot.sum(axis=0)
    own = one_hot @ sums - vectors
    return sums / counts[:, None], own / np.maximum(one_hot @ counts - 1, 1)[:, None]


def _prototype_scores(head: Mapping[str, Any], vectors: np.ndarray, one_hot: np.ndarray) -> np.ndarray:
    means, own = _left_out_means(vectors, one_hot)
    scores = 2 * vectors @ means.T - np.square(means).sum(axis=1)
    left_out = 2 * (vectors * own).sum(axis=1) - np.square(own).sum(axis=1)
    return np.where(one_hot > 0, left_out[:, None], scores)


def _cosine_scores(head: Mapping[str, Any], vectors: np.ndarray, one_hot: np.ndarray) -> np.ndarray:
    means, own = _left_out_means(vectors, one_hot)
    units = _units(vectors)
    left_out = (units * _units(own)).sum(axis=1)
    return np.where(one_hot > 0, left_out[:, None], units @ _units(means).T)


def _ridge_scores(head: Mapping[str, Any], vectors: np.ndarray, one_hot: np.ndarray) -> np.ndarray:
    """Of `y - residual / (1 - h)` with the hat matrix H = K (K + penalty I)^-1.

    With A = (K + penalty I)^-1, the residuals are `penalty A Y` and `1 - h_ii = penalty A_ii`.
    """
    units = _units(vectors)
    inverse = np.linalg.inv(units @ units.T + head.get("penalty", 1.0) * np.eye(len(units)))
    return one_hot - inverse @ one_hot / np.diag(inverse)[:, None]


_Scores = Callable[[Mapping[str, Any], np.ndarray, np.ndarray], np.ndarray]
_SCORES: Mapping[str, _Scores] = {
    "prototype": _prototype_scores,
    "cosine": _cosine_scores,
    "ridge": _ridge_scores,
}


def _units(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-12)
