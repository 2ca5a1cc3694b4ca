"""Probabilities that can be believed and a threshold for "none of these", from leave-one-out scores. Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from egt_tf.errors import DataError

# Of the standard normal distribution, for 95 %.
_QUANTILE = 1.959963984540054
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
# Temperatures that are searched, in units of the spread of the scores.
_BOUNDS = (1e-3, 1e3)
_STEPS = 60


def wilson_interval(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share by its score test, which stays within [0, 1] and is not empty at 0 or 1.

    Source: Wilson, Journal of the American Statistical Association 1927.

    Args:
        right: how many of `count`, 0 to count.
        count: >= 1.

    Returns:
        Its ends, in [0, 1].

    Raises:
        DataError: `count` is below 1, or `right` is not within 0 and `count`.

    Example:
        >>> [round(end, 3) for end in wilson_interval(9, 10)]
        [0.596, 0.982]
    """
    if count < 1 or not 0 <= right <= count:
        raise DataError(f"`right` must be within 0 and `count`, at least 1. Received: right={right}, count={count}")
    share, square = right / count, _QUANTILE**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = _QUANTILE / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def log_loss(scores: np.ndarray, labels: np.ndarray, temperature: float, sure: float = 1.0) -> float:
    """Mean cross-entropy of `softmax(scores / temperature)`.

    Args:
        scores: raw, `(n, ways)`.
        labels: class of each row, integers `(n,)`.
        temperature: > 0.
        sure: how much of the aim is on the row's own class; the rest is shared by the others alike.

    Returns:
        >= 0.

    Example:
        >>> round(log_loss(np.array([[0.0, 0.0]]), np.array([1]), 1.0), 4)
        0.6931
    """
    logits = np.asarray(scores, np.float64) / temperature
    logits = logits - logits.max(axis=1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    own = logs[np.arange(len(labels)), labels]
    others = (logs.sum(axis=1) - own) / (logs.shape[1] - 1)
    return float(-np.mean(sure * own + (1 - sure) * others))


def fit_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
    """The temperature whose probabilities have the smallest log loss.

    The search is over a closed interval, 0.001 to 1000 times the spread of the scores; the loss has one minimum there.
    Where every photo is classified rightly, the plain log loss would ask for certainty. The aim is therefore
    `(n + 1) / (n + 2)` for a photo's own class, what n successes out of n say by the rule of succession, as Platt
    (1999, "Probabilistic outputs for support vector machines") does.

    Args:
        scores: raw, `(n, ways)`, n >= 1; those of leave-one-out, or probabilities come out too sure.
        labels: class of each row, integers `(n,)`.

    Returns:
        > 0; 1 if all scores are alike.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> scores = rng.normal(size=(2000, 3))
        >>> labels = np.array([rng.choice(3, p=np.exp(row) / np.exp(row).sum()) for row in scores])
        >>> round(fit_temperature(5.0 * scores, labels))
        5
    """
    scores = np.asarray(scores, np.float64)
    spread = float(np.std(scores - scores.mean(axis=1, keepdims=True)))
    if not spread > 0:
        return 1.0
    sure = (len(labels) + 1) / (len(labels) + 2)
    low, high = (math.log(bound * spread) for bound in _BOUNDS)
    for _ in range(_STEPS):
        width = _GOLDEN * (high - low)
        left, right = high - width, low + width
        if log_loss(scores, labels, math.exp(left), sure) <= log_loss(scores, labels, math.exp(right), sure):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


@dataclass(frozen=True)
class Threshold:
    """Where photos of the classes begin, on the scale of a score that is larger for them.

    Attributes:
        value: a photo with a smaller score is none of the classes.
        promised: the share of new photos of the classes that is kept, on average over what might have been learnt from.
        count: scores that it was chosen from.

    Example:
        >>> Threshold(0.5, 0.95, 19).count
        19
    """

    value: float
    promised: float
    count: int


def choose_threshold(scores: np.ndarray, kept: float) -> Threshold | None:
    """The k-th largest of n scores, for the smallest k that keeps as much as is asked for.

    A new score that is exchangeable with the n is as likely in each of the n + 1 gaps between them, so at least the
    k-th largest with probability k / (n + 1), on average over the n that were drawn. With the smallest of all, k = n,
    no more than n / (n + 1) can be promised: below 19 scores less than 95 %.

    Args:
        scores: of photos of the classes, `(n,)`, each by a classifier that did not learn from it.
        kept: share to keep, in (0, 1).

    Returns:
        None if there are no scores.

    Example:
        >>> choose_threshold(np.linspace(0.0, 1.0, 39), 0.95).promised
        0.95
        >>> choose_threshold(np.array([0.25, 0.5, 0.75]), 0.95)
        Threshold(value=0.25, promised=0.75, count=3)
    """
    count = len(scores)
    if count == 0:
        return None
    # Rounding must not ask for one more.
    rank = min(max(math.ceil(kept * (count + 1) - 1e-9), 1), count)
    return Threshold(float(np.sort(scores)[count - rank]), rank / (count + 1), count)
