"""Judges several ways to explain by the same queries, the same perturbations and the same model."""

from __future__ import annotations

import dataclasses
import time
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from egt_tf.data.image_set import OnProgress
from egt_tf.errors import ConfigError, did_you_mean
from egt_tf.evaluation.explained_model import Explained
from egt_tf.evaluation.explanation_measures import MEASURES, Effort, Judged, Measure
from egt_tf.evaluation.judged_queries import JudgedQuery

RANDOM = "random"
"""The control: maps of random numbers, which know nothing of the image or the model."""


@dataclasses.dataclass(frozen=True, eq=False)
class ExplanationQuality:
    """What methods are worth, query by query.

    Attributes:
        methods: M names, the control last.
        measures: what was measured, by name.
        values: name of a measure -> `(M, queries)`; not a number where it is not defined.
        curves: perturbation curves over the score of the whole image, `(M, queries, 1 + visits)`; None: not measured.

    Example:
        >>> found = ExplanationQuality(("fsc",), ("autvc",), {"autvc": np.array([[1.0, 3.0, np.nan]])}, None)
        >>> found.mean("autvc"), found.counts("autvc")
        (array([2.]), array([2]))
    """

    methods: tuple[str, ...]
    measures: tuple[str, ...]
    values: dict[str, np.ndarray]
    curves: np.ndarray | None

    def mean(self, measure: str) -> np.ndarray:
        """Means over the queries where the measure is defined, `(M,)`; not a number where there is none."""
        values, counts = self.values[measure], self.counts(measure)
        return np.divide(np.nansum(values, axis=1), counts, out=np.full(len(values), np.nan), where=counts > 0)

    def interval(self, measure: str) -> np.ndarray:
        """Half of the 95 % interval of the mean over queries, `1.96 std / sqrt(n)`; not a number for less than two."""
        values, counts = self.values[measure], self.counts(measure)
        deviations = np.nansum((values - self.mean(measure)[:, None]) ** 2, axis=1)
        spread = np.full(len(values), np.nan)
        several = counts > 1
        spread[several] = 1.96 * np.sqrt(deviations[several] / (counts[several] - 1) / counts[several])
        return spread

    def counts(self, measure: str) -> np.ndarray:
        """Queries for which the measure is defined, `(M,)`."""
        return np.isfinite(self.values[measure]).sum(axis=1)


def chosen_measures(names: Sequence[str] | None, has_masks: bool) -> list[Measure]:
    """The measures that are asked for; None: all that the source allows.

    Raises:
        ConfigError: no name, one twice, an unknown one, or one that needs masks where there are none.

    Example:
        >>> [measure.name for measure in chosen_measures(["autvc"], has_masks=False)]
        ['autvc']
    """
    if names is None:
        return [measure for measure in MEASURES.values() if has_masks or not measure.needs_mask]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"measures must be named, each once. Received: {', '.join(names) or 'none'}")
    for name in names:
        if name not in MEASURES:
            hint = did_you_mean(name, MEASURES, otherwise=".")
            raise ConfigError(f"unknown measure {name!r}{hint} Known: {', '.join(MEASURES)}")
        if MEASURES[name].needs_mask and not has_masks:
            raise ConfigError(
                f"the measure {name!r} needs a source whose images have masks of their objects, as synthetic:NAME has. "
                "Received: a source without"
            )
    return [MEASURES[name] for name in names]


class ExplanationJudge:
    """Judges methods by the queries of one model; what TensorFlow traces is kept from one query to the next.

    Args:
        explained: what is judged.
        measures: see `chosen_measures`.
        effort: how thoroughly.
        seed: of the control.

    Example:
        >>> from egt_tf.data.support import SupportSet
        >>> from egt_tf.episodic_model import EpisodicModel
        >>> from egt_tf.evaluation.explained_model import ExplainedModel
        >>> from egt_tf.evaluation.explanation_measures import QUICK
        >>> from egt_tf.explain.methods import get_method
        >>> model = EpisodicModel.build_from({"name": "conv4", "width": 2}, "prototype", image_size=16, seed=1)
        >>> explained = ExplainedModel(model, [get_method("gradient")])
        >>> judge = ExplanationJudge(explained, chosen_measures(["autvc"], False), QUICK)
        >>> support = SupportSet(("ant", "bee"), np.zeros((2, 1, 16, 16, 3), np.uint8))
        >>> judge([JudgedQuery(support, np.full((16, 16, 3), 200, np.uint8), None)]).methods
        ('gradient', 'random')
    """

    def __init__(self, explained: Explained, measures: Sequence[Measure], effort: Effort, seed: int = 0):
        self.explained, self.measures, self.effort, self.seed = explained, list(measures), effort, seed
        self.names = (*explained.methods, RANDOM)

    def __call__(self, queries: Sequence[JudgedQuery], progress: OnProgress | None = None) -> ExplanationQuality:
        """Judges every method by every query; the class is that which the model predicts.

        Args:
            queries: at least one.
            progress: called with (queries done, queries).
        """
        values: dict[str, list[np.ndarray]] = {measure.name: [] for measure in self.measures}
        curves = []
        for number, query in enumerate(queries):
            judged = self._judged(query, number)
            for measure in self.measures:
                values[measure.name].append(np.asarray(measure.of(judged), np.float64))
            if "aupc" in values:
                curves.append(judged.curves)
            if progress is not None:
                progress(number + 1, len(queries))
        found = {name: np.stack(of_queries, axis=1) for name, of_queries in values.items()}
        return ExplanationQuality(self.names, tuple(values), found, _relative(curves) if curves else None)

    def seconds(self, query: JudgedQuery, queries: int) -> float:
        """About how long so many queries take, by one explanation of each method and one batch of scores."""
        judged = self._judged(query, 0)
        images = np.repeat(query.image[None], 64, axis=0)
        judged.score(images)
        explaining, scoring = _timed(lambda: judged.explain(query.image)), _timed(lambda: judged.score(images)) / 64
        scored = sum(measure.scored(self.effort) for measure in self.measures)
        explained = 1 + sum(measure.explained(self.effort) for measure in self.measures)
        return queries * (explained * explaining + len(self.names) * scored * scoring)

    def _judged(self, query: JudgedQuery, number: int) -> Judged:
        answers = self.explained.answers(query)
        target = int(answers.scores(query.image[None])[0].argmax())

        def explain(image: np.ndarray) -> np.ndarray:
            # Of this very image: a map that stayed the same would be the most stable one.
            rng = np.random.default_rng([self.seed, number, zlib.crc32(image.tobytes())])
            return np.concatenate([answers.explain(image, target), rng.normal(size=(1, *image.shape[:2]))])

        return Judged(
            query.image,
            explain(query.image),
            query.mask,
            lambda images: answers.scores(images)[:, target],
            lambda images: answers.probabilities(images)[:, target],
            explain,
            self.effort,
        )


def _relative(curves: Sequence[np.ndarray]) -> np.ndarray:
    """Curves over the score of the whole image, `(M, queries, 1 + visits)`."""
    stacked = np.stack(curves, axis=1)
    whole = np.abs(stacked[..., :1])
    return np.divide(stacked, whole, out=np.full_like(stacked, np.nan), where=whole > 0)


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
