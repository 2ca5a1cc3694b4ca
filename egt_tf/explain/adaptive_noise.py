"""Adaptive noising: the degree of noise at which the map of one image is best, found for each image.

Source: Goh, Lapuschkin, Weber, Samek and Binder, "Understanding Integrated Gradients with SmoothTaylor for deep neural
network attribution", ICPR 2020, arXiv 2004.10484.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence

import numpy as np
import tensorflow as tf

from egt_tf.data.preprocessing import denormalize
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ExplainError, did_you_mean
from egt_tf.explain.gradients import Select
from egt_tf.explain.noise import Noise
from egt_tf.explain.noisy_gradients import QUERY, mean_slope, smooth_taylor
from egt_tf.explain.query_scores import QueryScores
from egt_tf.keras_api import keras
from egt_tf.measures import Perturbation, aupc, autvc, perturbation_curves

Report = Callable[[int, int], None]
Maps = list[tf.Tensor]

OBJECTIVES = ("aupc", "autvc")
# As published.
RATE, DECAY, STOPS, ITERATIONS = 0.1, 0.9, 3, 20
# A noise of 0 is none, and its Taylor term is 0.
_LEAST = 1e-6


@dataclasses.dataclass(frozen=True)
class Adapted:
    """The best degree of noise that was found.

    Attributes:
        sigma: the degree.
        score: of its map; lower is better.
        maps: what was made with it.

    Example:
        >>> Adapted(0.5, 1.2, []).sigma
        0.5
    """

    sigma: float
    score: float
    maps: Maps


def adapt_noise(
    first: float,
    evaluate: Callable[[float], Adapted],
    rate: float = RATE,
    decay: float = DECAY,
    stops: int = STOPS,
    iterations: int = ITERATIONS,
    report: Report = lambda done, total: None,
) -> Adapted:
    """Looks for the degree of noise with the lowest score, step by step from a first one.

    Each iteration tries `|sigma + rate|`; if that is worse than sigma, `|sigma - rate|` is taken instead. What was taken
    becomes the current sigma unless it is worse: then the rate shrinks and it is tried again, at most `stops` times in a
    row.

    Args:
        first: sigma to begin with.
        evaluate: makes the maps of a sigma > 0, and their score.
        rate: step.
        decay: by which the step is multiplied after a failure.
        stops: failures in a row before the search ends.
        iterations: at most.
        report: gets how many iterations are done, and of how many at most.

    Example:
        >>> best = adapt_noise(0.3, lambda sigma: Adapted(sigma, (sigma - 0.61) ** 2, []))
        >>> abs(best.sigma - 0.61) < 0.02
        True
    """
    best, stopped = evaluate(max(abs(first), _LEAST)), 0
    for iteration in range(iterations):
        report(iteration, iterations)
        taken = evaluate(max(abs(best.sigma + rate), _LEAST))
        if taken.score > best.score:
            taken = evaluate(max(abs(best.sigma - rate), _LEAST))
        if taken.score <= best.score:
            best, stopped = taken, 0
        elif stopped < stops:
            rate, stopped = rate * decay, stopped + 1
        else:
            break
    report(iterations, iterations)
    return best


def smooth_taylor_adaptive(
    model: keras.Model,
    inputs: Sequence[tf.Tensor],
    select: Select,
    objective: str = "aupc",
    samples: int = 150,
    seed: int = 0,
    windows: int = 30,
    fills: int = 50,
    fixed: Collection[str] = (),
    report: Report = lambda done, total: None,
) -> Maps:
    """SmoothTaylor with the noise that gives this query the best map; takes minutes.

    Args:
        model: a few-shot model, which says how its images are normalised.
        inputs, select: see `noisy_gradients`.
        objective: "aupc" (the map must know what the score uses) or "autvc" (it must be smooth).
        samples, seed, fixed: see `smooth_taylor`.
        windows, fills: of AUPC, see `Perturbation`; fewer are quicker.
        report: see `adapt_noise`.

    Raises:
        ExplainError: an unknown objective, or another model.
    """

    def maps(sigma: float) -> Maps:
        return smooth_taylor(model, inputs, select, sigma, samples, seed=seed, fixed=fixed)

    return _best(model, inputs, select, maps, _Search(objective, Perturbation(windows=windows, fills=fills), report))


def smoothgrad_adaptive(
    model: keras.Model,
    inputs: Sequence[tf.Tensor],
    select: Select,
    objective: str = "aupc",
    samples: int = 50,
    seed: int = 0,
    windows: int = 30,
    fills: int = 50,
    fixed: Collection[str] = (),
    report: Report = lambda done, total: None,
) -> Maps:
    """SmoothGrad with the noise that gives this query the best map; takes minutes.

    Args:
        model, inputs, select, objective, samples, seed, windows, fills, fixed, report: see `smooth_taylor_adaptive`.

    Raises:
        ExplainError: see `smooth_taylor_adaptive`.
    """

    def maps(sigma: float) -> Maps:
        return mean_slope(model, inputs, select, Noise(sigma, samples, seed=seed), fixed)

    return _best(model, inputs, select, maps, _Search(objective, Perturbation(windows=windows, fills=fills), report))


@dataclasses.dataclass(frozen=True)
class _Search:
    """What maps are judged by."""

    objective: str
    perturbation: Perturbation
    report: Report

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            hint = did_you_mean(self.objective, OBJECTIVES)
            raise ExplainError(
                f"`objective` must be one of {', '.join(OBJECTIVES)}. Received: {self.objective!r}{hint}"
            )


def _best(
    model: keras.Model, inputs: Sequence[tf.Tensor], select: Select, maps: Callable[[float], Maps], search: _Search
) -> Maps:
    if not isinstance(model, EpisodicModel):
        raise ExplainError(f"adaptive noise is for few-shot models. Received: a {type(model).__name__}")
    place = model.input_names.index(QUERY)
    judge = _variation if search.objective == "autvc" else _perturbation(model, inputs, select, search.perturbation)

    def evaluate(sigma: float) -> Adapted:
        found = maps(sigma)
        # The first query's, summed over the channels.
        return Adapted(sigma, judge(found[place][0, 0].numpy().sum(-1)), found)

    first = float(tf.reduce_mean(tf.abs(inputs[place][0, 0])))
    return adapt_noise(first, evaluate, report=search.report).maps


def _variation(relevance: np.ndarray) -> float:
    return float(autvc(relevance))


def _perturbation(
    model: EpisodicModel, inputs: Sequence[tf.Tensor], select: Select, how: Perturbation
) -> Callable[[np.ndarray], float]:
    """AUPC of the score that is explained."""
    scores, query = QueryScores(model), inputs[model.input_names.index(QUERY)][:1, :1]
    image = denormalize(query[0]).numpy()
    weights = select(model(dict(zip(model.input_names, inputs, strict=True)), training=False))[0, 0].numpy()

    def explained(images: np.ndarray) -> np.ndarray:
        return (scores(inputs, images.reshape(-1, *images.shape[2:])) @ weights).reshape(images.shape[:2])

    def judge(relevance: np.ndarray) -> float:
        return float(aupc(perturbation_curves(explained, image, relevance[None], how))[0])

    return judge
