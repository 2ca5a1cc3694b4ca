"""Where relevance starts: the log-odds of a few-shot prediction."""

from __future__ import annotations

import tensorflow as tf

from egt_tf.lrp.rules import PUBLISHED_EPSILON


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
