"""Where relevance starts: the log-odds of a few-shot prediction, or its margin to the strongest rival."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from egt_tf.errors import ExplainError, did_you_mean
from egt_tf.lrp.rules import PUBLISHED_EPSILON

OfScores = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def log_odds(probabilities: tf.Tensor, epsilon: float = PUBLISHED_EPSILON, beta: float | None = None) -> tf.Tensor:
    """Relevance of the output, `R = log(beta (p + epsilon) / (1 + epsilon - p))`.

    Zero (nearly) for a class at chance, positive above, negative below; every class of every query has its own.

    Args:
        probabilities: `(..., ways)` in [0, 1], ways >= 2.
        epsilon: keeps the logarithm finite; 0.01 as published.
        beta: odds against a class at chance, `ways - 1` by default.

    Returns:
        `(..., ways)`, within +-log(beta (1 + epsilon) / epsilon).

    Notes:
        The published code has beta = 4 at any number of ways; at 5 ways this is the default.
        Source: Sun et al., ICPR 2020.

    Example:
        >>> log_odds(tf.constant([0.5, 0.25, 0.25, 0.0, 0.0])).numpy().round(2)
        array([ 1.39,  0.31,  0.31, -3.23, -3.23], dtype=float32)
    """
    if beta is None:
        beta = tf.cast(tf.shape(probabilities)[-1] - 1, probabilities.dtype)
    return tf.math.log(beta * (probabilities + epsilon) / (1.0 + epsilon - probabilities))


def margin_weights(scores: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """+1 for the chosen class and -1 for its strongest rival: the weights of the scores in the margin between the two.

    Args:
        scores: raw scores `(..., ways)`, ways >= 2.
        chosen: one-hot `(..., ways)`; zeros where nothing is explained, and the weights are zeros there.

    Returns:
        `(..., ways)`; of rivals with equal scores the first counts.

    Example:
        >>> margin_weights(tf.constant([3.0, 5.0, 4.0]), tf.constant([0.0, 1.0, 0.0])).numpy()
        array([ 0.,  1., -1.], dtype=float32)
    """
    others = tf.where(chosen > 0, tf.constant(-float("inf"), scores.dtype), scores)
    rival = tf.one_hot(tf.argmax(others, axis=-1), tf.shape(scores)[-1], dtype=scores.dtype)
    return chosen - rival * tf.reduce_sum(chosen, axis=-1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class Start:
    """What an explanation begins with at the scores.

    Both functions take raw scores, their probabilities and the one-hot choice of a class, all `(..., ways)`, and give
    values of that shape.

    Attributes:
        name: what it is called.
        relevance: the output relevance, for methods that distribute it.
        weights: of the scores in the value that is explained, for methods that take derivatives.

    Example:
        >>> scores, chosen = tf.constant([3.0, 5.0, 4.0]), tf.constant([0.0, 1.0, 0.0])
        >>> MARGIN.relevance(scores, tf.nn.softmax(scores), chosen).numpy()
        array([ 0.,  5., -4.], dtype=float32)
    """

    name: str
    relevance: OfScores
    weights: OfScores


LOG_ODDS = Start(
    "log_odds",
    relevance=lambda scores, probabilities, chosen: chosen * log_odds(probabilities),
    weights=lambda scores, probabilities, chosen: chosen,
)
"""The log-odds of the chosen class alone; for derivatives, its score."""

MARGIN = Start(
    "margin",
    # Each of the two scores is handed back to what it came from: what speaks for both classes alike cancels.
    relevance=lambda scores, probabilities, chosen: margin_weights(scores, chosen) * scores,
    weights=lambda scores, probabilities, chosen: margin_weights(scores, chosen),
)
"""The score of the chosen class minus that of its strongest rival."""

STARTS = {start.name: start for start in (LOG_ODDS, MARGIN)}


def get_start(name: str | Start) -> Start:
    """The start called `name`.

    Raises:
        ExplainError: there is none.

    Example:
        >>> get_start("margin") is MARGIN
        True
    """
    if isinstance(name, Start):
        return name
    if name not in STARTS:
        hint = did_you_mean(name, STARTS, otherwise=".")
        raise ExplainError(f"unknown start {name!r}{hint} Known: {', '.join(STARTS)}")
    return STARTS[name]
