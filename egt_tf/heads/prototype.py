"""Prototypical network (Snell et al., NeurIPS 2017, "Prototypical Networks for Few-shot Learning")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from egt_tf.errors import check_positive
from egt_tf.heads.base import HEADS, Head
from egt_tf.heads.similarity import AxisSum, PairProduct, Scale, Square, cross_entropy, pair_model, pooled_pairs
from egt_tf.keras_api import keras


@HEADS.register("prototype")
class PrototypeHead(Head):
    """Classifies a query by its squared Euclidean distance to the prototypes, after spatial averaging.

    Features: the prototype's map beside the query's, `(episodes, queries, ways, h, w, 2 c)`. Scores, for their spatial
    means p and q: `scale sum_c (2 q_c p_c - p_c^2)`, unbounded. The head has no weights of its own.

    Args:
        feature_shape: (h, w, c) of the backbone's map.
        scale: of the distances, the inverse temperature of the probabilities.
        seed: not used; every head takes one.

    Notes:
        The score is `|q|^2 - |q - p|^2`: `|q|^2` is the same for every class and does not change the probabilities.
        A distance would make those channels relevant in which query and prototype differ most; here evidence for a
        class is what the query has of its prototype.
        Guidance weights the pairs; a query weighted differently for each class has no common `|q|^2`, and the score
        stays as written above.

    Example:
        >>> head = PrototypeHead((4, 4, 8), seed=0)
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
        scale: float = 1.0,
        seed: int | None = None,
        name: str = "prototype",
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
        agreement = Scale(2.0, name="twice")(PairProduct(name="product")([query, prototype]))
        length = Scale(-1.0, name="minus")(Square(name="square")(prototype))
        evidence = keras.layers.Add(name="evidence")([agreement, length])
        if self.scale == 1:
            return keras.Model(pairs, AxisSum(-1, name="scores")(evidence), name="score")
        distance = AxisSum(-1, name="distance")(evidence)
        return keras.Model(pairs, Scale(self.scale, name="scores")(distance), name="score")

    def loss(self, scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Cross-entropy over the ways, averaged over the queries of each episode; see `Head.loss` for the shapes."""
        return cross_entropy(labels, scores)

    def get_config(self) -> dict:
        """Every argument of the constructor."""
        return {**super().get_config(), "scale": self.scale, "seed": self.seed}
