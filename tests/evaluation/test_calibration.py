from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.errors import DataError
from egt_tf.evaluation.calibration import (
    BINS,
    confidence_bins,
    expected_calibration_error,
    mean_negative_log_likelihood,
)
from egt_tf.heads import Head


def random_predictions(seed: int, n: int = 300, ways: int = 4, sharpness: float = 3.0):
    """Probabilities `(n, ways)` and labels that have nothing to do with them."""
    rng = np.random.default_rng(seed)
    powers = np.exp(sharpness * rng.normal(size=(n, ways)))
    return powers / powers.sum(axis=1, keepdims=True), rng.integers(ways, size=n)


def of_predicted(probabilities, labels):
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def slow_error(confidences, right, bins: int) -> float:
    """The definition of Guo et al., bin by bin and sample by sample."""
    error = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [i for i, c in enumerate(confidences) if low < c <= high or (number == 0 and c == 0)]
        if inside:
            accuracy = sum(bool(right[i]) for i in inside) / len(inside)
            confidence = sum(float(confidences[i]) for i in inside) / len(inside)
            error += len(inside) / len(confidences) * abs(accuracy - confidence)
    return error


@pytest.mark.parametrize("bins", [1, 2, BINS])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_error_is_that_of_the_definition(seed, bins):
    confidences, right = of_predicted(*random_predictions(seed))
    found = expected_calibration_error(confidences, right, bins)
    assert found == pytest.approx(slow_error(confidences, right, bins), abs=1e-12)
    assert found > 0.1


@pytest.mark.parametrize("bins", [1, 4, BINS])
def test_the_bins_that_are_kept_are_those_of_the_error(bins):
    confidences, right = of_predicted(*random_predictions(4))
    found = confidence_bins(confidences, right, bins)
    assert [each.confidence for each in found] == sorted(each.confidence for each in found)
    assert sum(each.queries for each in found) == len(right)
    error = sum(each.queries / len(right) * abs(each.accuracy - each.confidence) for each in found)
    assert error == pytest.approx(expected_calibration_error(confidences, right, bins), abs=1e-12)
    assert sum(each.queries * each.accuracy for each in found) == pytest.approx(right.sum())


def test_empty_bins_are_not_kept_and_no_confidence_exceeds_1():
    (bin_of_all,) = confidence_bins(np.array([1.0, 1.000001]), np.array([True, False]))
    assert (bin_of_all.queries, bin_of_all.confidence, bin_of_all.accuracy) == (2, 1.0, 0.5)


def test_fifteen_bins_unless_told_otherwise():
    confidences, right = of_predicted(*random_predictions(2))
    found = expected_calibration_error(confidences, right)
    assert found == pytest.approx(slow_error(confidences, right, 15), abs=1e-12)
    assert abs(found - slow_error(confidences, right, 14)) > 1e-4


def test_what_happens_as_often_as_it_is_expected_has_a_small_error():
    rng = np.random.default_rng(0)
    probabilities, _ = random_predictions(3, n=20_000)
    labels = (rng.random((20_000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    confidences, right = of_predicted(probabilities, labels)
    assert expected_calibration_error(confidences, right) < 0.015
    # Surer than it is right.
    assert expected_calibration_error(confidences**0.25, right) > 0.05


@pytest.mark.parametrize(
    ("confidences", "right", "error"),
    [
        ([1.0], [True], 0.0),
        ([1.0], [False], 1.0),
        ([0.0], [False], 0.0),
        ([0.0], [True], 1.0),
        # Both ends of one bin are not the same bin: errors of different signs do not cancel.
        ([0.0, 1.0], [True, False], 1.0),
        # In one bin they do; the others are empty.
        ([0.5, 0.5], [True, False], 0.0),
        # The upper end belongs to a bin, the lower does not.
        ([1 / 15, np.nextafter(1 / 15, 1)], [True, False], (14 / 15 + 1 / 15) / 2),
        # Rounding of a softmax in float32.
        ([1 + 1e-7], [True], 1e-7),
    ],
)
def test_ends_and_empty_bins(confidences, right, error):
    assert expected_calibration_error(np.array(confidences), np.array(right)) == pytest.approx(error, abs=1e-12)


def test_the_likelihood_is_that_of_the_definition():
    probabilities, labels = random_predictions(4)
    expected = sum(-math.log(row[label]) for row, label in zip(probabilities, labels, strict=True)) / len(labels)
    own = np.log(probabilities)[np.arange(len(labels)), labels]
    assert mean_negative_log_likelihood(own) == pytest.approx(expected, rel=1e-12)
    assert mean_negative_log_likelihood(np.log(np.full(7, 0.2))) == pytest.approx(math.log(5))


def test_the_log_probabilities_of_a_head_stay_finite_where_a_probability_rounds_to_zero():
    head, scores = Head((1, 1, 1)), tf.constant([[[0.0, 500.0], [0.0, 2.0]]])
    logs = head.log_probabilities(scores)[0, :, 0].numpy()
    assert head.probabilities(scores)[0, 0, 0] == 0
    np.testing.assert_allclose(logs, [-500.0, -math.log(1 + math.exp(2))], rtol=1e-6)
    assert mean_negative_log_likelihood(logs) == pytest.approx((500 + math.log(1 + math.exp(2))) / 2, rel=1e-6)
    np.testing.assert_allclose(np.exp(head.log_probabilities(scores)), head.probabilities(scores), rtol=1e-6)


def test_certainty():
    # Not -0.0, which would be printed.
    assert math.copysign(1, mean_negative_log_likelihood(np.zeros(3))) == 1
    assert mean_negative_log_likelihood(np.array([0.0, -np.inf])) == np.inf


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: expected_calibration_error(np.zeros(0), np.zeros(0)), "at least one prediction"),
        (lambda: expected_calibration_error(np.zeros(2), np.zeros(3)), r"shapes \(2,\) and \(3,\)"),
        (lambda: expected_calibration_error(np.array([0.5, np.nan]), np.zeros(2)), r"in \[0, 1\]. Received: nan"),
        (lambda: expected_calibration_error(np.array([-0.1]), np.zeros(1)), r"in \[0, 1\]. Received: -0.1"),
        (lambda: expected_calibration_error(np.array([1.1]), np.zeros(1)), r"in \[0, 1\]. Received: 1.1"),
        (lambda: expected_calibration_error(np.ones(1), np.ones(1), bins=0), "Received: bins=0"),
        (lambda: mean_negative_log_likelihood(np.zeros(0)), "at least one sample"),
        (lambda: mean_negative_log_likelihood(np.array([np.nan])), "<= 0. Received: nan"),
        (lambda: mean_negative_log_likelihood(np.array([0.2])), "<= 0. Received: 0.2"),
    ],
)
def test_what_is_no_probability_is_refused(call, words):
    with pytest.raises(DataError, match=words):
        call()
