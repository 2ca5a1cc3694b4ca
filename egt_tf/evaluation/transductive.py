"""Transductive inference: sure queries join the support set (Hou et al., "Cross Attention Network", NeurIPS 2019)."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from egt_tf.config import EpisodeConfig
from egt_tf.errors import ConfigError, check_integer
from egt_tf.heads import Head


@dataclasses.dataclass(frozen=True)
class Transduction:
    """How queries join the support set of their episode.

    Args:
        rounds: how often they do, >= 0; 0 is inductive inference.
        candidates: round t (0, 1, ...) adds the `candidates * (t + 1)` surest queries of the episode, >= 1.
        duplicates: whether a round adds to what the rounds before it added, so that a query can be in the support set
            more than once; False: it replaces that.

    Raises:
        ConfigError: a number is no integer or too small.

    Notes:
        The defaults are those of the published RelationNet, for 75 queries. The published CAN has `duplicates=False`.

    Example:
        >>> str(Transduction(rounds=1, candidates=20))
        'transductive (1 x 20)'
    """

    rounds: int = 2
    candidates: int = 35
    duplicates: bool = True

    def __post_init__(self) -> None:
        check_integer("rounds", self.rounds, 0)
        check_integer("candidates", self.candidates, 1)

    def check(self, head: Head, episode: EpisodeConfig) -> None:
        """Checks that a head can be used so on such episodes.

        Raises:
            ConfigError: the last round would add more queries than there are, or the head scores balanced queries only.
        """
        if self.rounds * self.candidates > episode.query_size:
            raise ConfigError(
                "`candidates * rounds`, which is what the last round of transductive inference adds, "
                "must not exceed the queries of an episode. Received: "
                f"{self.candidates} candidates * {self.rounds} rounds = {self.rounds * self.candidates}, "
                f"and {episode.ways} ways * {episode.queries} queries = {episode.query_size}"
            )
        if head.query_multiple(episode.ways) > 1:
            raise ConfigError(
                "transductive inference adds queries whatever their class, so a head must score queries "
                "one by one or in any number. Received: a head whose queries come in multiples of "
                f"{head.query_multiple(episode.ways)}; evaluate it without --transductive"
            )

    def __str__(self) -> str:
        return f"transductive ({self.rounds} x {self.candidates}{'' if self.duplicates else ' without duplicates'})"


def transductive_scores(
    head: Head, support: tf.Tensor, support_labels: tf.Tensor, query: tf.Tensor, transduction: Transduction
) -> tf.Tensor:
    """Raw scores after the surest queries have joined the support set with the classes they were given.

    In round t the queries are scored by the support set as it is; the confidence of a query is the largest of its
    scores, its label their argmax. The `candidates * (t + 1)` queries of highest confidence (at equal confidence, the
    first) are appended, whatever their class. The support set after the last round gives the scores.

    Args:
        head: runs in inference mode, on features: the backbone would give a query the same ones in every round.
        support: features of the support images, `(episodes, support, height, width, channels)`.
        support_labels: one-hot labels, `(episodes, support, ways)`.
        query: features of the query images, `(episodes, queries, height, width, channels)`.
        transduction: rounds and candidates, which must not ask for more queries than there are.

    Returns:
        `(episodes, queries, ways)`, unbounded.

    Notes:
        The published RelationNet takes the confidence of sigmoid(score), which has the same order.

    Example:
        >>> from egt_tf.heads import HEADS
        >>> head = HEADS.get("prototype", feature_shape=(1, 1, 4))
        >>> support, query = tf.random.normal((1, 2, 1, 1, 4)), tf.random.normal((1, 6, 1, 1, 4))
        >>> transductive_scores(head, support, tf.eye(2)[None], query, Transduction(1, 3)).shape
        TensorShape([1, 6, 2])
    """
    grown, labels = support, support_labels
    for number in range(1, transduction.rounds + 1):
        scores = _scores(head, grown, labels, query)
        surest = tf.math.top_k(tf.reduce_max(scores, axis=-1), transduction.candidates * number).indices
        predicted = tf.one_hot(tf.argmax(scores, axis=-1), tf.shape(labels)[-1], dtype=labels.dtype)
        first = (grown, labels) if transduction.duplicates else (support, support_labels)
        grown, labels = (
            tf.concat([before, tf.gather(added, surest, batch_dims=1)], axis=1)
            for before, added in zip(first, (query, predicted), strict=True)
        )
    return _scores(head, grown, labels, query)


def _scores(head: Head, support: tf.Tensor, support_labels: tf.Tensor, query: tf.Tensor) -> tf.Tensor:
    return head.score(head.relate(support, support_labels, query, training=False), training=False)
