"""Cross attention network (Hou et al., NeurIPS 2019, "Cross Attention Network for Few-shot Classification")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from egt_tf.backbones.base import InitialWeights
from egt_tf.backbones.layers import batch_normalization
from egt_tf.errors import check_integer, check_positive
from egt_tf.heads.attention import AttendedPrototypeMean, AttendedQuery, FusedAttention, PositionCosines
from egt_tf.heads.base import HEADS, Head, relate_inputs, take_classes
from egt_tf.heads.layers import PrototypeMean
from egt_tf.heads.similarity import AxisMean, AxisSum, PairProduct, Scale, cross_entropy, unit
from egt_tf.heads.weighting import Weighting
from egt_tf.keras_api import keras
from egt_tf.tensors import widen

# Weight of the loss of the scores beside that of the base classes.
SCORES_WEIGHT = 0.5
# The fusion layer narrows 36 positions to 6.
FUSION_REDUCTION = 6


@HEADS.register("cross_attention")
class CrossAttentionHead(Head):
    """Cosine of maps in which each query and each prototype attend to what they have in common.

    For a pair of a prototype map p and a query map q, `cosines[a, b] = cos(p_a, q_b)` over all pairs of positions. A
    small network turns the mean of the cosines over a into a kernel, and `attention_a = 1 + softmax_a(mean_b
    cosines[a, b] kernel_b / temperature)` weights p; with a and b exchanged the same network weights q.

    Features: the attended query map `(episodes, queries, ways, h, w, c)` and the spatial mean t of the attended
    prototype map `(episodes, queries, ways, c)`. Scores: `scale cos(spatial mean of the attended query, t)`, in
    [-scale, scale]. The loss of training is taken at every position (`training_scores`), beside one that tells the base
    classes apart (`auxiliary_loss`).

    Args:
        feature_shape: (h, w, c) of the backbone's map, whose values should not be negative.
        base_classes: how many classes the training source has; 0 leaves the loss of the base classes out.
        scale: of the cosines.
        temperature: of the attention.
        seed: of the initial weights.

    Notes:
        The published network takes maps of 6x6 only: its kernel network has 36, 6 and 36 channels. Here they are
        `h w`, `max(1, h w // 6)` and `h w`.
        Its guided training is `L_base + 0.5 L(weighted scores)` and lets the gradient flow through the explanation:
        guided loss alone, weight 1, `detach` off. The 0.5 is part of `loss`.

    Example:
        >>> head = CrossAttentionHead((4, 4, 8), seed=0)
        >>> support, query = tf.ones((1, 6, 4, 4, 8)), tf.ones((1, 3, 4, 4, 8))
        >>> labels = tf.one_hot([[0, 1, 2, 0, 1, 2]], 3)
        >>> head([support, labels, query]).shape
        TensorShape([1, 3, 3])
    """

    weighted_layers = ("attended_query", "product")
    first_pairs = "attended_query"
    needs_base_classes = True

    def __init__(
        self,
        feature_shape: Sequence[int],
        base_classes: int = 0,
        scale: float = 7.0,
        temperature: float = 0.025,
        seed: int | None = None,
        name: str = "cross_attention",
        **kwargs: Any,
    ):
        super().__init__(feature_shape, name=name, **kwargs)
        check_integer("base_classes", base_classes, 0)
        check_positive("scale", scale)
        check_positive("temperature", temperature)

        # === Config ===
        self.base_classes = base_classes
        self.scale = float(scale)
        self.temperature = float(temperature)
        self.seed = seed

        # === Functional Models ===
        weights = InitialWeights(seed)
        self.relate_model = self._relate_model(weights)
        self.score_model = self._score_model()
        self.auxiliary_model = self._auxiliary_model(weights) if base_classes else None

    def _relate_model(self, weights: InitialWeights) -> keras.Model:
        support, labels, query = inputs = relate_inputs(self.feature_shape)
        prototypes = PrototypeMean(name="prototypes")([support, labels])
        cosines = PositionCosines(name="cosines")([prototypes, query])
        fusion = self._fusion_model(weights)
        of_support = self._attention(cosines, fusion, "support")
        of_query = self._attention(keras.layers.Permute((1, 2, 4, 3), name="transpose")(cosines), fusion, "query")
        attended_query = AttendedQuery(name="attended_query")([query, of_query])
        pooled_support = AttendedPrototypeMean(name="pooled_support")([prototypes, of_support])
        return keras.Model(inputs, [attended_query, pooled_support], name="relate")

    def _attention(self, cosines: tf.Tensor, fusion: keras.Model, name: str) -> tf.Tensor:
        kernel = fusion(AxisMean(-2, name=f"{name}_means")(cosines))
        return FusedAttention(self.feature_shape[:2], self.temperature, name=f"{name}_attention")([cosines, kernel])

    def _fusion_model(self, weights: InitialWeights) -> keras.Model:
        positions = self.feature_shape[0] * self.feature_shape[1]
        narrow = max(1, positions // FUSION_REDUCTION)
        means = keras.Input((None, None, positions), name="means")
        x = keras.layers.Dense(
            narrow, name="conv1", kernel_initializer=weights.convolution(), bias_initializer=weights.uniform(positions)
        )(means)
        x = batch_normalization("bn")(x)
        x = keras.layers.Activation("relu", name="relu")(x)
        kernel = keras.layers.Dense(
            positions, name="conv2", kernel_initializer=weights.convolution(), bias_initializer=weights.uniform(narrow)
        )(x)
        return keras.Model(means, kernel, name="fusion")

    def _score_model(self) -> keras.Model:
        attended = keras.Input((None, None, *self.feature_shape), name="attended_query")
        pooled_support = keras.Input((None, None, self.feature_shape[-1]), name="pooled_support")
        rows = AxisMean(-2, name="width_mean")(attended)
        pooled_query = AxisMean(-2, name="height_mean")(rows)
        product = PairProduct(normalize=True, name="product")([pooled_query, pooled_support])
        cosine = AxisSum(-1, name="cosine")(product)
        return keras.Model([attended, pooled_support], Scale(self.scale, name="scores")(cosine), name="score")

    def _auxiliary_model(self, weights: InitialWeights) -> keras.Model:
        channels = self.feature_shape[-1]
        maps = keras.Input((None, *self.feature_shape), name="attended_maps")
        scores = weights.dense(channels, self.base_classes, "base_scores")(maps)
        return keras.Model(maps, scores, name="auxiliary")

    def training_scores(
        self,
        features: Sequence[tf.Tensor],
        scores: tf.Tensor,
        weightings: Sequence[Weighting] | None = None,
        training: bool = True,
        classes: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Scores at every position of the query's map, `scale cos(attended query at the position, t)`.

        Guided, each channel of the cosine is weighted by `weightings[0]` at the position and `weightings[1]`
        everywhere; it can then exceed 1. The first is applied to the unit vector of the position, the second to that
        of t.

        Args:
            features: the attended query map and t.
            scores: not used.
            weightings: of the attended query map and of the product of the unit vectors, or None.
            training: not used.
            classes: see `Head.training_scores`.

        Returns:
            `(episodes, queries, h, w, ways)`.
        """
        attended, pooled = (widen(x if classes is None else take_classes(x, classes)) for x in features)
        query, support = unit(attended), unit(pooled)
        if weightings is not None:
            query, support = (weigh(x) for x, weigh in zip((query, support), weightings, strict=True))
        return self.scale * tf.einsum("eqkhwc,eqkc->eqhwk", query, support)

    def auxiliary_loss(
        self, features: Sequence[tf.Tensor], labels: tf.Tensor, base_labels: tf.Tensor | None, training: bool = True
    ) -> tf.Tensor:
        """Cross-entropy of the base classes at every position of the query attended for its true class.

        See `Head.auxiliary_loss`; zeros without `base_classes` or `base_labels`.
        """
        if self.auxiliary_model is None or base_labels is None:
            return super().auxiliary_loss(features, labels, base_labels, training)
        true_class = tf.gather(features[0], labels, axis=2, batch_dims=2)
        return cross_entropy(base_labels, self.auxiliary_model(true_class, training=training))

    def loss(self, scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Loss of each episode: half the cross-entropy over the ways, averaged over queries and positions, if any.

        See `Head.loss` for the shapes.
        """
        return SCORES_WEIGHT * cross_entropy(labels, scores)

    def get_config(self) -> dict:
        """Every argument of the constructor."""
        return {
            **super().get_config(),
            "base_classes": self.base_classes,
            "scale": self.scale,
            "temperature": self.temperature,
            "seed": self.seed,
        }
