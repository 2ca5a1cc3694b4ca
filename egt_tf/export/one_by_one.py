"""Queries scored and explained one by one, so that no answer depends on what else was asked."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from egt_tf.data.preprocessing import normalize
from egt_tf.episodic_model import EpisodicModel
from egt_tf.heads.base import Head
from egt_tf.keras_api import keras
from egt_tf.lrp.composites import Composite
from egt_tf.lrp.output_relevance import LOG_ODDS, Start
from egt_tf.lrp.propagation import record, reverse


@dataclasses.dataclass(frozen=True, eq=False)
class Relevance:
    """What the explanation of n queries gives.

    Attributes:
        scores: raw scores `(n, ways)`.
        targets: the class explained of each query, int64 `(n,)`.
        images: relevance of the query's pixels, summed over the colours, `(n, size, size)`.
        support_features: relevance of the support features, `(n, support, h, w, c)`.
    """

    scores: tf.Tensor
    targets: tf.Tensor
    images: tf.Tensor
    support_features: tf.Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class HeadRelevance:
    """What the explanation of n queries gives at the features.

    Attributes:
        scores: raw scores `(n, ways)`.
        targets: the class explained of each query, int64 `(n,)`.
        query: relevance of the query's features, `(n, h, w, c)`.
        support: relevance of the support features, `(n, support, h, w, c)`.
    """

    scores: tf.Tensor
    targets: tf.Tensor
    query: tf.Tensor
    support: tf.Tensor


class OneByOne:
    """Asks a model about each query as if it were alone: every query is an episode of its own.

    A head that normalises by the statistics of its episode gets the support images as filler queries
    (`Head.filler_queries`), as in `egt_tf.explain.query.query_inputs`; its statistics are then those of a fixed set
    and the one query. Images are grey levels 0..255, uint8 or float32, as a person sees them. All methods work eagerly
    and inside graphs, for any number of queries, support images and ways.

    Args:
        model: the classifier.
        composite: gives each layer its rule of relevance.
        start: what relevance begins with at the scores.

    Example:
        >>> from egt_tf.lrp import COMPOSITES
        >>> model = EpisodicModel.build_from("conv4", "relation", image_size=32, seed=1)
        >>> answers = OneByOne(model, COMPOSITES.get("fsc"))
        >>> support = answers.features(np.zeros((2, 32, 32, 3), np.uint8))
        >>> images, targets = np.full((3, 32, 32, 3), 200, np.uint8), tf.constant([0, 1, -1], tf.int64)
        >>> answers.relevance(support, tf.eye(2), images, targets).images.shape
        TensorShape([3, 32, 32])
    """

    def __init__(self, model: EpisodicModel, composite: Composite, start: Start = LOG_ODDS):
        self.model = model
        self.composite = composite
        self.start = start
        self._head_model = _head_model(model.head)

    def features(self, images: tf.Tensor) -> tf.Tensor:
        """The backbone's maps `(n, h, w, c)` of images `(n, size, size, 3)`."""
        return self.model.backbone(normalize(images), training=False)

    def scores(self, support: tf.Tensor, labels: tf.Tensor, query: tf.Tensor) -> tf.Tensor:
        """Raw scores `(n, ways)`.

        Args:
            support: features of the support images, `(support, h, w, c)`.
            labels: their one-hot labels, float32 `(support, ways)`.
            query: features of the queries, `(n, h, w, c)`.
        """
        if _independent(self.model.head):
            # One episode of all queries, which holds the support set once.
            return self.scores_together(support, labels, query)
        return self._head_model(self._episodes(support, labels, query), training=False)[:, 0]

    def scores_together(self, support: tf.Tensor, labels: tf.Tensor, query: tf.Tensor) -> tf.Tensor:
        """As `scores`, but with the queries as one episode, to compare the two."""
        return self._head_model([support[None], labels[None], query[None]], training=False)[0]

    def probabilities(self, scores: tf.Tensor) -> tf.Tensor:
        """What the head makes of raw scores, both `(n, ways)`."""
        return self.model.head.probabilities(scores[:, None])[:, 0]

    def relevance(self, support: tf.Tensor, labels: tf.Tensor, images: tf.Tensor, targets: tf.Tensor) -> Relevance:
        """Explains a class of each query, from what `start` makes of its scores down to the pixels.

        Args:
            support: see `scores`.
            labels: see `scores`.
            images: the queries, `(n, size, size, 3)`.
            targets: class indices, int64 `(n,)`; -1 for the most probable class.
        """
        backbone = record(self.model.backbone, [normalize(images)])
        head = self.head_relevance(support, labels, backbone.outputs[0], targets)
        pixels = reverse(backbone, head.query, self.composite)[0]
        return Relevance(head.scores, head.targets, tf.reduce_sum(pixels, axis=-1), head.support)

    def head_relevance(
        self, support: tf.Tensor, labels: tf.Tensor, query: tf.Tensor, targets: tf.Tensor
    ) -> HeadRelevance:
        """Explains a class of each query down to the features.

        Args:
            support: see `scores`.
            labels: see `scores`.
            query: see `scores`.
            targets: see `relevance`.
        """
        # What a backbone gives is not known to be positive; rules that take the sign into account look at the values.
        head = record(self._head_model, self._episodes(support, labels, query), raw=False)
        scores = head.outputs[0][:, 0]
        targets = tf.where(targets < 0, tf.argmax(scores, axis=-1), targets)
        chosen = tf.one_hot(targets, tf.shape(scores)[-1], dtype=scores.dtype)
        at_scores = self.start.relevance(scores, self.probabilities(scores), chosen)
        output_relevance = tf.pad(at_scores[:, None], [[0, 0], [0, tf.shape(head.outputs[0])[1] - 1], [0, 0]])
        at_support, _, at_query = reverse(head, output_relevance, self.composite)
        return HeadRelevance(scores, targets, at_query[:, 0], at_support)

    def support_relevance(self, images: tf.Tensor, relevance: tf.Tensor) -> tf.Tensor:
        """Takes relevance of support features on to the pixels.

        Args:
            images: support images `(support, size, size, 3)`.
            relevance: `Relevance.support_features`.

        Returns:
            Summed over the colours, `(n, support, size, size)`.
        """
        backbone = record(self.model.backbone, [normalize(images)])

        def pixels(at_features: tf.Tensor) -> tf.Tensor:
            return tf.reduce_sum(reverse(backbone, at_features, self.composite)[0], axis=-1)

        # One query after the other: each walk back is as large as the whole support set.
        return tf.map_fn(pixels, relevance, parallel_iterations=1)

    def _episodes(self, support: tf.Tensor, labels: tf.Tensor, query: tf.Tensor) -> list[tf.Tensor]:
        """Inputs of the head, an episode for each query, which is the first of its episode."""
        queries = tf.shape(query)[0]
        chosen = self.model.head.filler_queries(tf.shape(support)[0], tf.shape(labels)[1])
        fillers = _repeated(tf.gather(support, chosen), queries)
        return [
            _repeated(support, queries),
            _repeated(labels, queries),
            tf.concat([query[:, None], fillers], axis=1),
        ]


def _independent(head: Head) -> bool:
    """Whether a query's scores are the same whatever other queries are in its episode."""
    return not head.uses_batch_statistics and head.query_multiple(ways=2) == 1


def _repeated(x: tf.Tensor, times: tf.Tensor) -> tf.Tensor:
    return tf.repeat(x[None], times, axis=0)


def _head_model(head: Head) -> keras.Model:
    """Both stages of the head as one model, from support features, labels and query features to raw scores."""
    inputs = [keras.Input(x.shape[1:], name=x.name.split(":")[0]) for x in head.relate_model.inputs]
    return keras.Model(inputs, head.score_model(head.relate_model(inputs)), name="head")
