"""From the features of labelled photos to all that a classifier needs: head, temperature, threshold, and a report."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from egt_tf.errors import OVERFLOW, ConfigError, DataError, NotFiniteError, did_you_mean
from egt_tf.learning.calibration import Threshold, choose_threshold, fit_temperature, wilson_interval
from egt_tf.learning.defaults import KEPT, KNOWN_SCORE, PENALTY, SUSPICION
from egt_tf.learning.known_scores import KNOWN_SCORES, left_out_scores
from egt_tf.learning.leave_one_out import can_be_left_out, cosine_scores, prototype_scores, ridge_scores

AUTO = "auto"
# Heads without trained weights: name -> scores by leave-one-out. The first of those that do equally well is taken; the
# order is that of benchmarks/photographs.py.
LeaveOneOut = Callable[[np.ndarray, np.ndarray], np.ndarray]
CANDIDATES: Mapping[str, LeaveOneOut] = MappingProxyType(
    {"ridge": ridge_scores, "cosine": cosine_scores, "prototype": prototype_scores}
)
# What leave-one-out takes for granted of a head.
_ARGUMENTS: Mapping[str, Mapping[str, Any]] = MappingProxyType({"ridge": {"penalty": PENALTY}})


@dataclasses.dataclass(frozen=True)
class Suspect:
    """A photo that looks mislabelled.

    Attributes:
        photo: its index.
        looks_like: index of the class that leave-one-out puts it in.
        probability: of that class.

    Example:
        >>> Suspect(3, 0, 0.97).looks_like
        0
    """

    photo: int
    looks_like: int
    probability: float


@dataclasses.dataclass(frozen=True)
class Confusion:
    """Photos of one class that leave-one-out takes for another.

    Attributes:
        class_index: their own class.
        taken_for: the other one.
        photos: how many.

    Example:
        >>> Confusion(0, 2, 3).photos
        3
    """

    class_index: int
    taken_for: int
    photos: int


@dataclasses.dataclass(frozen=True)
class LeaveOneOutReport:
    """How well each photo is classified by all others.

    Attributes:
        right: photos that get their own class.
        count: photos that could be left out; those that are the only ones of their class cannot.
        confusions: the most frequent first.
        suspects: photos that look mislabelled, the surest first.
        alternatives: name of each head that was tried -> photos it gets right.

    Example:
        >>> report = LeaveOneOutReport(9, 10, (), (), {"cosine": 9})
        >>> [round(end, 3) for end in report.interval]
        [0.596, 0.982]
    """

    right: int
    count: int
    confusions: tuple[Confusion, ...]
    suspects: tuple[Suspect, ...]
    alternatives: Mapping[str, int]

    @property
    def accuracy(self) -> float | None:
        """Share of photos that get their own class, in [0, 1]; None if no photo could be left out."""
        return self.right / self.count if self.count else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the accuracy; None if no photo could be left out."""
        return wilson_interval(self.right, self.count) if self.count else None


@dataclasses.dataclass(frozen=True)
class Fit:
    """What is learnt beside the features themselves.

    Attributes:
        head: name of the head.
        scale: of the head, the inverse temperature of its probabilities; None if it could not be fitted, see `fit`.
        known_score: name of the score that "none of these" is decided by.
        threshold: of that score; None if it could not be chosen.
        report: by leave-one-out.
        kept: share of new photos of the classes that was asked for, in (0, 1).

    Example:
        >>> features, labels = np.repeat(np.eye(2, dtype=np.float32), 3, axis=0), np.repeat([0, 1], 3)
        >>> fit(features, labels, head="cosine").report.right
        6
    """

    head: str
    scale: float | None
    known_score: str
    threshold: Threshold | None
    report: LeaveOneOutReport
    kept: float = KEPT

    @property
    def photos_needed(self) -> int:
        """How many photos must be left out in turn before as much can be promised as was asked for."""
        return math.ceil(self.kept / (1 - self.kept) - 1e-9)

    @property
    def head_spec(self) -> dict[str, Any]:
        """The head, as `HEADS` takes it; with its usual scale if none was fitted."""
        scale = {} if self.scale is None else {"scale": self.scale}
        return {"name": self.head, **_ARGUMENTS.get(self.head, {}), **scale}


def fit(
    features: np.ndarray, labels: np.ndarray, head: str = AUTO, known_score: str = KNOWN_SCORE, kept: float = KEPT
) -> Fit:
    """Chooses the head and calibrates it, by leaving out each photo in turn.

    Args:
        features: `(n, c)`.
        labels: class of each photo, integers `(n,)`; at least two classes, each with a photo.
        head: a name of `CANDIDATES`, or "auto" for the one that gets most photos right, the first of equals.
        known_score: a name of `KNOWN_SCORES`.
        kept: share of new photos of the classes that the threshold is to keep, in (0, 1).

    Returns:
        Without scale and threshold if every class has one photo only.

    Raises:
        ConfigError: an unknown head or score.
        DataError: fewer than two classes.
        NotFiniteError: a feature or a score is not finite.

    Example:
        >>> features, labels = np.repeat(np.eye(2, dtype=np.float32), 10, axis=0), np.repeat([0, 1], 10)
        >>> found = fit(features, labels)
        >>> found.report.accuracy, round(found.threshold.promised, 3)
        (1.0, 0.952)
    """
    if len(np.unique(labels)) < 2:
        raise DataError("a classifier needs photos of at least two classes. Received: one class")
    _check_finite("features", features)
    possible = can_be_left_out(labels)
    scores = {name: CANDIDATES[name](features, labels)[possible] for name in _candidates(head)}
    for each in scores.values():
        _check_finite("scores", each)
    truth = labels[possible]
    right = {name: int(np.sum(np.argmax(each, axis=1) == truth)) for name, each in scores.items()}
    # The first of the largest.
    best = max(right, key=right.__getitem__)
    scale = 1.0 / fit_temperature(scores[best], truth) if len(truth) else None
    known = left_out_scores(KNOWN_SCORES.member(known_score), features, labels)[possible]
    return Fit(
        head=best,
        scale=scale,
        known_score=known_score,
        threshold=choose_threshold(known, kept),
        report=LeaveOneOutReport(
            right=right[best],
            count=len(truth),
            confusions=_confusions(truth, np.argmax(scores[best], axis=1)),
            suspects=_suspects(np.flatnonzero(possible), truth, (scale or 1.0) * scores[best]),
            alternatives=right,
        ),
        kept=kept,
    )


def _check_finite(name: str, numbers: np.ndarray) -> None:
    if not np.isfinite(numbers).all():
        raise NotFiniteError(f"the {name} of photos must be finite. Received: NaN or infinity; {OVERFLOW}")


def _candidates(head: str) -> Sequence[str]:
    if head == AUTO:
        return list(CANDIDATES)
    if head not in CANDIDATES:
        hint = did_you_mean(head, [AUTO, *CANDIDATES])
        raise ConfigError(f"`head` must be {AUTO} or one of {', '.join(CANDIDATES)}. Received: head={head!r}{hint}")
    return [head]


def _confusions(truth: np.ndarray, predicted: np.ndarray) -> tuple[Confusion, ...]:
    wrong = truth != predicted
    counts = Counter(zip(truth[wrong].tolist(), predicted[wrong].tolist(), strict=True))
    return tuple(Confusion(*pair, photos) for pair, photos in sorted(counts.items(), key=lambda item: (-item[1], item)))


def _suspects(photos: np.ndarray, truth: np.ndarray, scores: np.ndarray) -> tuple[Suspect, ...]:
    probabilities = softmax(scores)
    predicted = np.argmax(scores, axis=1)
    surest = probabilities[np.arange(len(scores)), predicted] if len(scores) else np.zeros(0)
    found = [
        Suspect(int(photos[row]), int(predicted[row]), float(surest[row]))
        for row in np.flatnonzero((predicted != truth) & (surest >= SUSPICION))
    ]
    return tuple(sorted(found, key=lambda suspect: -suspect.probability))


def softmax(scores: np.ndarray) -> np.ndarray:
    """`exp(x) / sum exp(x)` over the last axis.

    Example:
        >>> softmax(np.array([0.0, 0.0])).tolist()
        [0.5, 0.5]
    """
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True)) if scores.size else scores
    return powers / powers.sum(axis=-1, keepdims=True)
