"""What a page about a run says, as plain objects."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence

from egt_tf.config import RunConfig
from egt_tf.explain.explanation import EpisodeExplanation
from egt_tf.run_table import EvaluationRow


class RunKind(enum.Enum):
    """Where the weights of a run come from."""

    TRAINED = "trained"
    PRETRAINED = "pre-trained"
    CONVERTED = "converted"


class Part(enum.Enum):
    """A part of the page, of which files may be damaged."""

    TRAINING = "training"
    EVALUATIONS = "evaluations"
    EXAMPLES = "explained examples"
    EXPLANATIONS = "judged explanations"
    ATTACKS = "attacks"
    ENVIRONMENT = "environment"


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something damaged.

    Attributes:
        part: what lacks it.
        text: what is wrong, one sentence.

    Example:
        >>> Problem(Part.TRAINING, "line 3 is damaged").part.value
        'training'
    """

    part: Part
    text: str


@dataclasses.dataclass(frozen=True)
class ReliabilityPoint:
    """Queries of similar confidence, see `egt_tf.evaluation.calibration.ConfidenceBin`.

    Attributes:
        queries: how many.
        confidence, accuracy: their means, in [0, 1].

    Example:
        >>> ReliabilityPoint(10, 0.9, 0.7).queries
        10
    """

    queries: int
    confidence: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class ClassCount:
    """Queries of one class.

    Attributes:
        name: of the class.
        queries, right: how many were asked, and answered rightly.

    Example:
        >>> ClassCount("ant", 4, 3).right
        3
    """

    name: str
    queries: int
    right: int


@dataclasses.dataclass(frozen=True)
class ConfusedPair:
    """How many of one class were taken for another.

    Attributes:
        true, taken_for: places in `ConfusedClasses.classes`.
        queries: of the class `true` that were.
        of: its queries in episodes that had both.

    Example:
        >>> ConfusedPair(0, 1, 3, 12).share
        0.25
    """

    true: int
    taken_for: int
    queries: int
    of: int

    @property
    def share(self) -> float:
        """In [0, 1]."""
        return self.queries / self.of


@dataclasses.dataclass(frozen=True)
class ConfusedClasses:
    """Answers by class, see `egt_tf.evaluation.confusion.Confusion.to_json`.

    Attributes:
        classes: that were asked for.
        pairs: the most frequent first.

    Example:
        >>> ConfusedClasses((ClassCount("ant", 4, 3), ClassCount("bee", 4, 4)), (ConfusedPair(0, 1, 1, 4),)).pairs[0].of
        4
    """

    classes: tuple[ClassCount, ...]
    pairs: tuple[ConfusedPair, ...]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One evaluation. What files of older versions do not say is None.

    Attributes:
        row: what `egt-tf runs` shows of it.
        seed: of the episodes.
        tied: share of the queries without a single best class, in [0, 1].
        points: of the reliability diagram.
        confusion: answers by class.

    Example:
        >>> row = EvaluationRow("synthetic:fog", "novel", 5, 1, 15, 600, "inductive", 0.6, 0.01)
        >>> Evaluation(row, 0).points is None
        True
    """

    row: EvaluationRow
    seed: int
    tied: float | None = None
    points: tuple[ReliabilityPoint, ...] | None = None
    confusion: ConfusedClasses | None = None


@dataclasses.dataclass(frozen=True)
class JudgedMeasure:
    """What explanations were judged by.

    Attributes:
        name, title: what it is called.
        better: "lower" or "higher".
        means: method -> mean over the queries; None where it is not defined.
        intervals: method -> half the width of its 95 % interval, or None.

    Example:
        >>> JudgedMeasure("aupc", "area", "lower", {"fsc": 1.0}, {"fsc": None}).means["fsc"]
        1.0
    """

    name: str
    title: str
    better: str
    means: Mapping[str, float | None]
    intervals: Mapping[str, float | None]


@dataclasses.dataclass(frozen=True)
class JudgedMethods:
    """What `egt-tf evaluate-explanations` wrote.

    Attributes:
        source, split, ways, shots: of which classes.
        queries: how many were explained.
        quick: whether with less effort.
        measures: in their order.
        pictures: title -> content of a PNG file.

    Example:
        >>> JudgedMethods("synthetic:fog", "novel", 5, 1, 30, False, (), {}).queries
        30
    """

    source: str
    split: str
    ways: int
    shots: int
    queries: int
    quick: bool
    measures: tuple[JudgedMeasure, ...]
    pictures: Mapping[str, bytes]


@dataclasses.dataclass(frozen=True)
class AttackedAccuracy:
    """Accuracy with or without an attack.

    Attributes:
        accuracy, interval: mean of the episodes in [0, 1], and half its 95 % interval, or None.
        calibration_error: in [0, 1], or None.

    Example:
        >>> AttackedAccuracy(0.5, 0.1, None).accuracy
        0.5
    """

    accuracy: float
    interval: float | None
    calibration_error: float | None


@dataclasses.dataclass(frozen=True)
class AttackResult:
    """One measurement of `egt-tf evaluate --attack`.

    Attributes:
        name: of its file.
        source, split, ways, shots, episodes: of which episodes.
        attack: name of the attack.
        epsilon: largest change of a pixel, in [0, 1].
        steps: of the attack.
        support: whether support images were changed too.
        degree: of the noise, or None.
        clean, attacked: without and under it.
        success: of the queries answered rightly, the share that it changed; None where none was.
        success_interval: half its 95 % interval, or None.

    Example:
        >>> half = AttackedAccuracy(0.5, None, None)
        >>> AttackResult("a", "s", "novel", 5, 1, 9, "fgsm", 0.1, 1, False, None, half, half, 0.0, None).success
        0.0
    """

    name: str
    source: str
    split: str
    ways: int
    shots: int
    episodes: int
    attack: str
    epsilon: float
    steps: int
    support: bool
    degree: float | None
    clean: AttackedAccuracy
    attacked: AttackedAccuracy
    success: float | None
    success_interval: float | None


@dataclasses.dataclass(frozen=True)
class Environment:
    """What was recorded when the run began.

    Attributes:
        rows: what -> its value, in words.
        command: the words of the command line, or none.
        checkpoint: what a converted run was made from, in words, or None.

    Example:
        >>> Environment({"Python": "3.11.7"}, ("egt-tf", "train")).rows["Python"]
        '3.11.7'
    """

    rows: Mapping[str, str]
    command: tuple[str, ...] = ()
    checkpoint: Mapping[str, str] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """One stored query, explained.

    Attributes:
        truth: name of its class.
        explanation: of its predicted class, first, and of its true class where that is another, else of the runner-up.

    Example:
        >>> from types import SimpleNamespace
        >>> Example("bee", SimpleNamespace(class_names=("ant", "bee"), predicted=0)).is_right
        False
    """

    truth: str
    explanation: EpisodeExplanation

    @property
    def is_right(self) -> bool:
        """Whether the prediction is the true class."""
        return self.explanation.class_names[self.explanation.predicted] == self.truth


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Stored queries, some of them explained.

    Attributes:
        asked, right: how many stored queries there are, and how many are answered rightly.
        shown: those that are explained, wrong ones first.
        method: what explains them.

    Example:
        >>> Examples(10, 9, (), "fsc").right
        9
    """

    asked: int
    right: int
    shown: tuple[Example, ...]
    method: str


@dataclasses.dataclass(frozen=True, eq=False)
class RunFacts:
    """All that a page says.

    Attributes:
        name: of the run.
        path: of its folder, as it was typed.
        config: its configuration.
        kind: where its weights come from.
        epochs: what each finished epoch measured, name -> number; `epoch` counts from 1 on.
        evaluations: by source and shape.
        judged: explanations that were judged, or None.
        attacks: results of attacks.
        environment: or None.
        examples: explained queries; None where there are none.
        problems: what is damaged.

    Example:
        >>> RunFacts("demo", "runs/demo", RunConfig(), RunKind.TRAINED).problems
        ()
    """

    name: str
    path: str
    config: RunConfig
    kind: RunKind
    epochs: Sequence[Mapping[str, float]] = ()
    evaluations: Sequence[Evaluation] = ()
    judged: JudgedMethods | None = None
    attacks: Sequence[AttackResult] = ()
    environment: Environment | None = None
    examples: Examples | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def best(self) -> Mapping[str, float] | None:
        """The epoch with the best validation accuracy, the first of several."""
        validated = [epoch for epoch in self.epochs if "val_accuracy" in epoch]
        return max(validated, key=lambda epoch: epoch["val_accuracy"], default=None)

    @property
    def epochs_planned(self) -> int:
        """Of the training, or of the pre-training."""
        return self.config.pretrain.epochs if self.kind is RunKind.PRETRAINED else self.config.training.epochs

    def damaged(self, part: Part) -> list[str]:
        """What is wrong with a part."""
        return [problem.text for problem in self.problems if problem.part is part]
