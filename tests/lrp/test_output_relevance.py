"""What explanations begin with at the scores; `log_odds` itself is tested with the guidance."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.errors import ExplainError
from egt_tf.lrp.output_relevance import LOG_ODDS, MARGIN, get_start, log_odds, margin_weights

SCORES = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
PROBABILITIES = tf.nn.softmax(SCORES)


def chosen_classes(targets):
    return tf.one_hot(targets, SCORES.shape[-1])


@pytest.mark.parametrize("target", range(4))
def test_the_margin_is_to_the_strongest_of_the_others(target):
    chosen = chosen_classes(np.full(SCORES.shape[:2], target))
    relevance = MARGIN.relevance(tf.constant(SCORES), PROBABILITIES, chosen).numpy()
    others = np.delete(SCORES, target, axis=-1).max(-1)
    np.testing.assert_allclose(relevance.sum(-1), SCORES[..., target] - others, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(relevance[..., target], SCORES[..., target])
    assert ((relevance != 0).sum(-1) == 2).all()


def test_queries_that_are_not_explained_get_nothing():
    chosen = tf.pad(chosen_classes([[1], [2]]), [[0, 0], [0, 5], [0, 0]])
    weights = margin_weights(tf.constant(SCORES), chosen).numpy()
    assert not weights[:, 1:].any()
    np.testing.assert_array_equal(np.sort(weights[:, 0]), [[-1, 0, 0, 1]] * 2)


def test_the_first_of_equal_rivals_counts():
    weights = margin_weights(tf.constant([2.0, 5.0, 2.0]), tf.constant([0.0, 1.0, 0.0]))
    np.testing.assert_array_equal(weights, [-1, 1, 0])


def test_log_odds_of_the_class_alone():
    chosen = chosen_classes(np.full(SCORES.shape[:2], 3))
    relevance = LOG_ODDS.relevance(tf.constant(SCORES), PROBABILITIES, chosen).numpy()
    np.testing.assert_array_equal(relevance[..., 3], log_odds(PROBABILITIES)[..., 3])
    assert not relevance[..., :3].any()
    np.testing.assert_array_equal(LOG_ODDS.weights(tf.constant(SCORES), PROBABILITIES, chosen), chosen)


def test_unknown_starts_are_refused():
    with pytest.raises(ExplainError, match=r"unknown start 'margn'; did you mean 'margin'"):
        get_start("margn")
