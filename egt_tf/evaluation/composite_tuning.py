"""The numbers of a composite chosen by measuring explanations, and what that gained on other queries."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from egt_tf.data.image_set import OnProgress
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError
from egt_tf.evaluation.explained_model import ExplainedModel
from egt_tf.evaluation.explanation_measures import LOWER, Effort, Measure
from egt_tf.evaluation.explanations import ExplanationJudge
from egt_tf.evaluation.judged_queries import JudgedQuery
from egt_tf.explain.methods import Method

Candidate = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Tuning:
    """What was chosen among candidates, and how it does on queries that it was not chosen on.

    Attributes:
        candidates: C names.
        values: the measure on the queries that were chosen on, `(C, n)`.
        best: position of the chosen one: the best mean, the first of equal ones.
        gains: how much better it is than what it is compared with, query by query of the others, `(m,)`; above 0 is
            better, whatever the direction of the measure.

    Example:
        >>> found = Tuning(("a", "b"), np.array([[2.0], [1.0]]), 1, np.array([0.5, 1.5]))
        >>> found.gain, round(found.interval, 2)
        (1.0, 0.98)
    """

    candidates: tuple[str, ...]
    values: np.ndarray
    best: int
    gains: np.ndarray

    @property
    def gain(self) -> float:
        """Mean of `gains`; not a number where there is none."""
        return float(self.gains.mean()) if len(self.gains) else float("nan")

    @property
    def interval(self) -> float:
        """Half of its 95 % interval, `1.96 std / sqrt(m)`; not a number for less than two."""
        count = len(self.gains)
        return float(1.96 * self.gains.std(ddof=1) / count**0.5) if count > 1 else float("nan")

    @property
    def verdict(self) -> str:
        """ "better than", "worse than" or, where the interval holds 0 or there is none, "not told apart from".

        Example:
            >>> [Tuning(("a",), np.ones((1, 1)), 0, np.array(gains)).verdict for gains in ([1.0, 1.1], [-1.0, -1.1])]
            ['better than', 'worse than']
            >>> [Tuning(("a",), np.ones((1, 1)), 0, np.array(gains)).verdict for gains in ([1.0, -1.1], [1.0], [])]
            ['not told apart from', 'not told apart from', 'not told apart from']
        """
        if not abs(self.gain) > self.interval:
            return "not told apart from"
        return "better than" if self.gain > 0 else "worse than"


def grid_of(values: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    """Every combination of the values of arguments, the last one's changing first.

    Raises:
        ConfigError: an argument without values.

    Example:
        >>> grid_of({"conv_gamma": [0.1, 1.0], "dense_gamma": [0.0]})
        [{'conv_gamma': 0.1, 'dense_gamma': 0.0}, {'conv_gamma': 1.0, 'dense_gamma': 0.0}]
    """
    empty = [name for name, of_name in values.items() if not len(of_name)]
    if empty or not values:
        raise ConfigError(f"a grid must have values for each argument. Received: none for {', '.join(empty) or 'any'}")
    return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]


def tune(
    model: EpisodicModel,
    candidates: Sequence[Method],
    against: Method,
    queries: Sequence[JudgedQuery],
    measure: Measure,
    effort: Effort,
    seed: int = 0,
    progress: OnProgress | None = None,
) -> Tuning:
    """Chooses the candidate with the best mean of a measure on half of the queries, and compares it on the other half.

    The queries are dealt out in turn. What the choice gained by chance is no part of the comparison.

    Args:
        model: the classifier.
        candidates: ways to explain, of different names.
        against: what the chosen one is compared with.
        queries: at least four.
        measure: of explanations.
        effort: see `ExplanationJudge`.
        seed: see `ExplanationJudge`.
        progress: called with (queries done, queries).

    Raises:
        ConfigError: too few queries, or a measure that is defined for no candidate.
        ExplainError: candidates of one name, or none.

    Notes:
        Queries for which the measure is not defined are left out of a mean, and of the comparison where it is not for
        both.
    """
    if len(queries) < 4:
        raise ConfigError(f"to choose and to compare there must be at least 4 queries. Received: {len(queries)}")

    def measured(methods: Sequence[Method], of: Sequence[JudgedQuery], done: int) -> np.ndarray:
        def show(number: int, _: int) -> None:
            if progress is not None:
                progress(done + number, len(queries))

        judge = ExplanationJudge(ExplainedModel(model, methods), [measure], effort, seed)
        # Without the control behind them.
        return judge(of, show).values[measure.name][:-1]

    chosen_on, others = queries[::2], queries[1::2]
    values = measured(candidates, chosen_on, 0)
    sign = -1.0 if measure.better == LOWER else 1.0
    means = [_mean(sign * each) for each in values]
    if not np.isfinite(means).any():
        raise ConfigError(
            f"the measure {measure.name!r} must be defined for a candidate. Received: for none, on {len(chosen_on)} queries"
        )
    best = int(np.argmax(means))
    first = dataclasses.replace(candidates[best], name="chosen")
    ours, theirs = measured([first, dataclasses.replace(against, name="against")], others, len(chosen_on))
    gains = sign * (ours - theirs)
    return Tuning(tuple(each.name for each in candidates), values, best, gains[np.isfinite(gains)])


def _mean(values: np.ndarray) -> float:
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else -np.inf
