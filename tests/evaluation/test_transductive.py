from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.config import EpisodeConfig
from egt_tf.errors import ConfigError
from egt_tf.evaluation.transductive import Transduction, transductive_scores
from egt_tf.heads import RelationHead
from tests.helpers.quick import all_but_slow

WAYS, SHOTS, QUERIES, EPISODES = 3, 2, 4, 3
SHAPE = (4, 4, 5)


class SlowHead(RelationHead):
    """A relation head whose queries come in multiples of the ways, as a graph network's do."""

    def query_multiple(self, ways):
        return ways


@pytest.fixture(scope="module")
def head():
    return RelationHead(SHAPE, seed=3)


def episodes(rng, spread=1.0):
    """Features of both signs around a centre a class, and one-hot support labels."""
    centres = rng.normal(size=(EPISODES, WAYS, 1, *SHAPE))
    support, query = (centres + spread * rng.normal(size=(EPISODES, WAYS, n, *SHAPE)) for n in (SHOTS, QUERIES))
    labels = np.tile(np.repeat(np.eye(WAYS), SHOTS, axis=0), (EPISODES, 1, 1))
    return [
        array.astype(np.float32).reshape(EPISODES, -1, *shape)
        for array, shape in ((support, SHAPE), (labels, (WAYS,)), (query, SHAPE))
    ]


def scores_of(head, prototypes, query):
    """Scores of one episode from its prototypes, pair by pair laid out by hand."""
    pairs = np.stack([[np.concatenate([prototype, one], axis=-1) for prototype in prototypes] for one in query])
    return head.weighted_model(tf.constant(pairs[None])).numpy()[0]


def slow_scores(head, support, labels, query, rounds, candidates, duplicates):
    """One episode, one image at a time."""
    original = [(image, int(np.argmax(label))) for image, label in zip(support, labels)]
    added = []
    for number in range(rounds + 1):
        prototypes = [np.mean([image for image, k in original + added if k == way], axis=0) for way in range(WAYS)]
        scores = scores_of(head, np.array(prototypes), query)
        if number == rounds:
            return scores
        order = sorted(range(len(query)), key=lambda j: (-scores[j].max(), j))
        chosen = [(query[j], int(scores[j].argmax())) for j in order[: candidates * (number + 1)]]
        added = added + chosen if duplicates else chosen


@pytest.mark.parametrize("duplicates", [True, False])
@pytest.mark.parametrize(
    ("rounds", "candidates"), all_but_slow([(0, 35), (1, 5), (2, 3), (3, 4), (1, 12)], {(0, 35), (1, 5), (1, 12)})
)
def test_against_one_image_at_a_time(head, rounds, candidates, duplicates):
    support, labels, query = episodes(np.random.default_rng(rounds))
    scores = transductive_scores(
        head, *map(tf.constant, (support, labels, query)), Transduction(rounds, candidates, duplicates)
    )
    expected = [slow_scores(head, s, y, q, rounds, candidates, duplicates) for s, y, q in zip(support, labels, query)]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_no_round_is_inductive_and_a_round_is_not(head):
    support, labels, query = map(tf.constant, episodes(np.random.default_rng(7)))
    plain = head.score(head.relate(support, labels, query))
    np.testing.assert_array_equal(transductive_scores(head, support, labels, query, Transduction(rounds=0)), plain)
    assert np.abs(transductive_scores(head, support, labels, query, Transduction(1, 4)) - plain).max() > 1e-4


def test_duplicates_matter_from_the_second_round_on(head):
    inputs = [tf.constant(array) for array in episodes(np.random.default_rng(8))]
    once, twice = (
        [transductive_scores(head, *inputs, Transduction(rounds, 3, duplicates)) for duplicates in (True, False)]
        for rounds in (1, 2)
    )
    np.testing.assert_array_equal(*once)
    assert np.abs(twice[0] - twice[1]).max() > 1e-5


def test_episodes_do_not_mix(head):
    inputs = episodes(np.random.default_rng(9))
    together = transductive_scores(head, *map(tf.constant, inputs), Transduction(2, 4))
    alone = [
        transductive_scores(head, *(tf.constant(array[e : e + 1]) for array in inputs), Transduction(2, 4))[0]
        for e in range(EPISODES)
    ]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_the_options_are_said():
    assert str(Transduction()) == "transductive (2 x 35)"
    assert str(Transduction(1, 5, duplicates=False)) == "transductive (1 x 5 without duplicates)"


# === errors ===


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rounds": -1}, "`rounds` must be an integer >= 0. Received: rounds=-1"),
        ({"candidates": 0}, "`candidates` must be an integer >= 1. Received: candidates=0"),
        ({"candidates": 2.5}, "`candidates` must be an integer >= 1"),
    ],
)
def test_numbers_that_make_no_sense(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Transduction(**arguments)


def test_more_candidates_than_queries(head):
    Transduction(2, 37).check(head, EpisodeConfig(5, 1, 15))
    with pytest.raises(ConfigError, match=r"38 candidates [*] 2 rounds = 76, and 5 ways [*] 15 queries = 75"):
        Transduction(2, 38).check(head, EpisodeConfig(5, 1, 15))


def test_a_head_that_needs_balanced_queries():
    with pytest.raises(ConfigError, match=r"any number. Received: a head whose queries come in multiples of 5"):
        Transduction().check(SlowHead(SHAPE), EpisodeConfig(5, 1, 15))
