"""Cosine classifier (Chen et al., ICLR 2019, "A Closer Look at Few-shot Classification", Baseline++)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from egt_tf.errors import check_positive
from egt_tf.heads.base import HEADS, Head
from egt_tf.heads.similarity import AxisSum, PairProduct, Scale, cross_entropy, pair_model, pooled_pairs
from egt_tf.keras_api import keras


@HEADS.register("cosine")
class CosineHead(Head):
    """Classifies a query by its cosine with the prototypes, after spatial averaging.

    Features: the prototype's map beside the query's, `(episodes, queries, ways, h, w, 2 c)`. Scores, for their spatial
    means p and q: `scale cos(q, p)`, in [-scale, scale]. The head has no weights of its own.

    Args:
        feature_shape: (h, w, c) of the backbone's map.
        scale: of the cosines, the inverse temperature of the probabilities.
        seed: not used; every head takes one.

    Notes:
        Baseline++ learns a vector for each base class and, in each episode, fits one for each new class to its support
        images. Here the prototype is that vector and training is episodic, so that nothing is fitted in an episode.

    Example:
        >>> head = CosineHead((4, 4, 8), seed=0)
        >>> support, query = tf.ones((1, 6, 4, 4, 8)), tf.ones((1, 3, 4, 4, 8))
        >>> labels = tf.one_hot([[0, 1, 2, 0, 1, 2]], 3)
        >>> head([support, labels, query]).shape
        TensorShape([1, 3, 3])
    """

    first_pairs = "pair_features"
    has_halves = True

    def __init__(
        self,
        feature_shape: Sequence[int],
        scale: float = 10.0,
        seed: int | None = None,
        name: str = "cosine",
        **kwargs: Any,
    ):
        super().__init__(feature_shape, name=name, **kwargs)
        check_positive("scale", scale)

        # === Config ===
        self.scale = float(scale)
        self.seed = seed

        # === Functional Models ===
        self.relate_model = pair_model(self.feature_shape)
        self.score_model = self._score_model()

    def _score_model(self) -> keras.Model:
        pairs, query, prototype = pooled_pairs(self.feature_shape)
        product = PairProduct(normalize=True, name="product")([query, prototype])
        cosine = AxisSum(-1, name="cosine")(product)
        return keras.Model(pairs, Scale(self.scale, name="scores")(cosine), name="score")

    def loss(self, scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Cross-entropy over the ways, averaged over the queries of each episode; see `Head.loss` for the shapes."""
        return cross_entropy(labels, scores)

    def get_config(self) -> dict:
        """Every argument of the constructor."""
        return {**super().get_config(), "scale": self.scale, "seed": self.seed}
