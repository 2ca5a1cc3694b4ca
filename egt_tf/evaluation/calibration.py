"""Whether the probabilities of a model can be believed. Pure functions."""

from __future__ import annotations

import dataclasses

import numpy as np

from egt_tf.errors import DataError
from egt_tf.wording import calibration_text

# Equal widths from 0 to 1, as many as Guo et al. have.
BINS = 15
# How far the rounding of a softmax in float32 may take a probability beyond 1.
_ROUNDING = 1e-5


@dataclasses.dataclass(frozen=True)
class ConfidenceBin:
    """Predictions of similar confidence: a point of the reliability diagram.

    Attributes:
        queries: how many, >= 1.
        confidence: their mean probability of the predicted class, in [0, 1].
        accuracy: the share that is right, in [0, 1]; the confidence where probabilities can be believed.

    Example:
        >>> ConfidenceBin(queries=10, confidence=0.9, accuracy=0.7).accuracy
        0.7
    """

    queries: int
    confidence: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How well probabilities agree with what is right.

    Attributes:
        error: see `expected_calibration_error`, with 15 bins.
        negative_log_likelihood: see `mean_negative_log_likelihood`.
        bins: those of `error` that hold predictions; none where they were not kept.

    Example:
        >>> str(Calibration(error=0.0421, negative_log_likelihood=0.7312))
        'calibration error 4.21 % (15 bins), negative log-likelihood 0.7312'
    """

    error: float
    negative_log_likelihood: float
    bins: tuple[ConfidenceBin, ...] = ()

    def __str__(self) -> str:
        return calibration_text(self.error, self.negative_log_likelihood, BINS)


def expected_calibration_error(confidences: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """`sum over bins of (n_b / n) |accuracy_b - confidence_b|`, with the means of the `n_b` predictions in bin b.

    Bin b of B holds the confidences in `((b - 1) / B, b / B]`, the first one also 0. Empty bins count nothing. Small
    samples give an error above 0 even to perfect probabilities.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Args:
        confidences: probability of the predicted class, `(n,)` in [0, 1], n >= 1.
        right: whether it is the true class, `(n,)`.
        bins: B, >= 1.

    Returns:
        In [0, 1]; 0 is best.

    Raises:
        DataError: the arrays do not fit together or are empty, a confidence is outside [0, 1], or `bins` is below 1.

    Example:
        >>> round(expected_calibration_error(np.array([0.9, 0.9, 0.5, 0.5]), np.array([True, True, True, False])), 4)
        0.05
    """
    confidences, right, bin_of = _binned(confidences, right, bins)
    gaps = np.bincount(bin_of, weights=right - confidences)
    return float(np.abs(gaps).sum() / confidences.size)


def confidence_bins(confidences: np.ndarray, right: np.ndarray, bins: int = BINS) -> tuple[ConfidenceBin, ...]:
    """The bins of `expected_calibration_error` that are not empty, from the least to the most confident.

    Args:
        confidences, right, bins: as there.

    Raises:
        DataError: as there.

    Example:
        >>> confidence_bins(np.array([0.9, 0.9, 0.5]), np.array([True, False, True]), bins=2)[1]
        ConfidenceBin(queries=2, confidence=0.9, accuracy=0.5)
    """
    confidences, right, bin_of = _binned(confidences, right, bins)
    groups = [bin_of == number for number in np.unique(bin_of)]
    # The rounding of a softmax may exceed 1.
    return tuple(
        ConfidenceBin(int(each.sum()), min(1.0, float(confidences[each].mean())), float(right[each].mean()))
        for each in groups
    )


def _binned(confidences: np.ndarray, right: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Checked confidences, whether each is right, and its bin, counted from 0 on."""
    confidences, right = np.asarray(confidences, np.float64), np.asarray(right, bool)
    if confidences.ndim != 1 or confidences.shape != right.shape or not confidences.size:
        raise DataError(
            "`confidences` and `right` must have one value for each of at least one prediction. "
            f"Received: shapes {confidences.shape} and {right.shape}"
        )
    if bins < 1:
        raise DataError(f"`bins` must be >= 1. Received: bins={bins}")
    outside = ~((confidences >= 0) & (confidences <= 1 + _ROUNDING))
    if outside.any():
        raise DataError(f"confidences must be in [0, 1]. Received: {confidences[outside][0]}")
    return confidences, right, np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], confidences)


def mean_negative_log_likelihood(log_probabilities: np.ndarray) -> float:
    """`-mean(log p)` of the probability p that each sample's true class was given, in nats.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Args:
        log_probabilities: natural logarithm of p, `(n,)`, at most 0, n >= 1. A log-softmax keeps it finite where p
            itself rounds to 0.

    Returns:
        >= 0; 0 is best, and `log(ways)` is what equal probabilities get. Infinite if a p is exactly 0.

    Raises:
        DataError: there is no value, or one is above 0 or not a number.

    Example:
        >>> round(mean_negative_log_likelihood(np.log([0.5, 0.25])), 4)
        1.0397
    """
    logs = np.asarray(log_probabilities, np.float64)
    if logs.ndim != 1 or not logs.size:
        raise DataError(
            f"`log_probabilities` must have one value for each of at least one sample. Received: shape {logs.shape}"
        )
    outside = ~(logs <= _ROUNDING)
    if outside.any():
        raise DataError(f"logarithms of probabilities must be <= 0. Received: {logs[outside][0]}")
    return float(np.mean(-np.minimum(logs, 0.0)))
