"""Which head is chosen, what is said of photos, and what cannot be said."""

from __future__ import annotations

import numpy as np
import pytest

from egt_tf.errors import ConfigError, DataError, NotFiniteError
from egt_tf.learning.defaults import PENALTY
from egt_tf.learning.fitting import CANDIDATES, fit


def clusters(counts, spread: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features around a mean for each class."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    means = rng.normal(size=(len(counts), 16))
    return (means[labels] + spread * rng.normal(size=(len(labels), 16))).astype(np.float32), labels


def test_of_equals_the_first_is_chosen():
    found = fit(*clusters([5, 6, 7]))
    assert found.report.alternatives == dict.fromkeys(CANDIDATES, 18)
    assert found.head == next(iter(CANDIDATES))
    assert (found.report.right, found.report.count, found.report.confusions) == (18, 18, ())


def test_the_head_that_gets_most_right_is_chosen():
    """Classes in one direction at different lengths: cosines cannot tell them, distances can."""
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 10)
    features = (np.array([1.0, 3.0])[labels][:, None] * np.ones(8) + 0.1 * rng.normal(size=(20, 8))).astype(np.float32)
    found = fit(features, labels)
    assert found.head == "prototype"
    assert found.report.right == 20
    assert fit(features, labels, head="cosine").head == "cosine"


def test_a_mislabelled_photo_is_found():
    features, labels = clusters([8, 8, 8])
    labels[3] = 2
    order = np.argsort(labels, kind="stable")
    found = fit(features[order], labels[order])
    (suspect,) = found.report.suspects
    assert (order[suspect.photo], suspect.looks_like) == (3, 0)
    (confusion,) = found.report.confusions
    assert (confusion.class_index, confusion.taken_for, confusion.photos) == (2, 0, 1)


def test_a_class_with_one_photo_is_left_in():
    found = fit(*clusters([4, 1, 4]))
    assert found.report.count == 8
    assert found.threshold.count == 8
    assert found.threshold.promised == pytest.approx(8 / 9)


def test_one_photo_of_each_class_cannot_be_calibrated():
    found = fit(*clusters([1, 1, 1]))
    assert (found.head, found.scale, found.threshold) == (next(iter(CANDIDATES)), None, None)
    assert (found.report.count, found.report.accuracy, found.report.interval) == (0, None, None)
    assert "scale" not in found.head_spec


def test_what_is_refused():
    features, labels = clusters([3, 3])
    with pytest.raises(DataError, match="at least two classes"):
        fit(features[:3], labels[:3])
    with pytest.raises(ConfigError, match=r"`head` must be auto or one of .* did you mean 'cosine'"):
        fit(features, labels, head="cosin")
    with pytest.raises(ConfigError, match="unknown score of known images"):
        fit(features, labels, known_score="largest_cosin")


def test_half_of_the_classes_are_new_ones_and_known_ones_are_kept():
    """The promise of the threshold for new photos of the classes, with everything in between."""
    from egt_tf.learning.known_scores import KNOWN_SCORES

    kept = []
    for seed in range(20):
        features, labels = clusters([30] * 4, spread=0.8, seed=seed)
        seen = np.arange(len(labels)) % 30 < 6
        found = fit(features[seen], labels[seen])
        targets = np.eye(4, dtype=np.float32)[labels[seen]]
        scores = KNOWN_SCORES.member(found.known_score)(features[~seen], features[seen], targets).numpy()
        kept.append(np.mean(scores >= found.threshold.value))
    # 24 photos promise 96 %; a new photo has one more of its class to be alike to.
    assert np.mean(kept) >= 0.95


@pytest.mark.parametrize("name", CANDIDATES)
def test_the_scale_makes_probabilities_of_the_head(name):
    found = fit(*clusters([6, 6, 6], spread=1.5), head=name)
    assert found.scale > 0
    assert found.head_spec["scale"] == found.scale
    # As leave-one-out takes it to be.
    assert found.head_spec.get("penalty", PENALTY) == PENALTY


@pytest.mark.parametrize("head", ["auto", *CANDIDATES])
def test_scores_that_overflow_are_no_accuracy(head):
    features, labels = clusters([5, 5])
    with pytest.raises(NotFiniteError, match=r"must be finite\. Received: NaN or infinity; the weights"):
        fit(np.where(np.arange(16) == 3, np.float32(np.nan), features), labels, head=head)
