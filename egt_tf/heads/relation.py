"""RelationNet (Sung et al., CVPR 2018, "Learning to Compare: Relation Network for Few-Shot Learning")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from egt_tf.backbones.base import InitialWeights
from egt_tf.errors import ConfigError, check_integer
from egt_tf.heads.base import HEADS, Head, relate_inputs, take_classes
from egt_tf.heads.layers import (
    DropLastAxis,
    EpisodeBatchNormalization,
    FlattenMap,
    MapMaxPooling2D,
    PairConcat,
    PairConvolution2D,
    PrototypeMean,
)
from egt_tf.heads.similarity import cross_entropy
from egt_tf.heads.weighting import Weighting
from egt_tf.keras_api import keras

LOSSES = ("mse", "cross_entropy")
# The published relation module pads its convolutions for maps below this side.
UNPADDED_FROM = 10


@HEADS.register("relation")
class RelationHead(Head):
    """Scores each pair of a prototype and a query with a small convolutional network.

    Features: prototypes, the mean of the support maps of each class, `(episodes, ways, h, w, c)`, and the maps of the
    queries, `(episodes, queries, h, w, c)`. Scores, with `pair[e, j, k] = [prototype k ; query j]`: two blocks
    (3x3 convolution to c channels, batch normalisation over the pairs of the episode, ReLU, 2x2 max-pooling),
    Dense(hidden), ReLU, Dense(1). Explained and weighted are the pairs, `(episodes, queries, ways, h, w, 2 c)`.

    Args:
        feature_shape: (h, w, c) of the backbone's map.
        hidden: width of the first dense layer.
        loss: "mse" (mean squared error between sigmoid(score) and the one-hot label, as published) or
            "cross_entropy" over the ways.
        batch_statistics: see `EpisodeBatchNormalization`; False makes a query's score independent of the others.
        seed: of the initial weights.

    Notes:
        A block pools only a map of at least 2x2, so that maps too small for the published module (3x3, say) work.
        The published module convolves every pair; see `PairConvolution2D` for what is done here, with the same result.

    Example:
        >>> head = RelationHead((4, 4, 8), seed=0)
        >>> support, query = tf.ones((1, 6, 4, 4, 8)), tf.ones((1, 3, 4, 4, 8))
        >>> labels = tf.one_hot([[0, 1, 2, 0, 1, 2]], 3)
        >>> head([support, labels, query]).shape
        TensorShape([1, 3, 3])
    """

    weighted_layers = ("pairs",)
    first_pairs = "pairs"
    has_halves = True

    def __init__(
        self,
        feature_shape: Sequence[int],
        hidden: int = 8,
        loss: str = "mse",
        batch_statistics: bool = True,
        seed: int | None = None,
        name: str = "relation",
        **kwargs: Any,
    ):
        super().__init__(feature_shape, name=name, **kwargs)
        if loss not in LOSSES:
            raise ConfigError(f"`loss` must be one of {', '.join(LOSSES)}. Received: loss={loss!r}")
        if not isinstance(batch_statistics, bool):
            raise ConfigError(f"`batch_statistics` must be true or false. Received: {batch_statistics!r}")
        check_integer("hidden", hidden, 1)

        # === Config ===
        self.hidden = hidden
        self.loss_name = loss
        self.batch_statistics = batch_statistics
        self.seed = seed

        # === Functional Models ===
        self.relate_model = self._relate_model()
        self.score_model, self.weighted_model = self._score_models(InitialWeights(seed))

    @property
    def uses_batch_statistics(self) -> bool:
        """Whether a query's score depends, in inference, on the other queries of its episode."""
        return self.batch_statistics

    def _relate_model(self) -> keras.Model:
        support, labels, query = inputs = relate_inputs(self.feature_shape)
        prototypes = PrototypeMean(name="prototypes")([support, labels])
        return keras.Model(inputs, [prototypes, query], name="relate")

    def _score_models(self, weights: InitialWeights) -> tuple[keras.Model, keras.Model]:
        """The scores of prototypes and queries, and by the same layers those of pairs that were weighted."""
        prototypes, query = (
            keras.Input((None, *self.feature_shape), name=name) for name in ("prototype_features", "query_features")
        )
        pairs = PairConcat(name="pairs")([prototypes, query])
        convolution, *behind = self._layers(weights)
        scores = _through(behind, convolution([pairs, prototypes, query]))
        height, width, channels = self.feature_shape
        weighted = keras.Input((None, None, height, width, 2 * channels), name="weighted_pairs")
        return (
            keras.Model([prototypes, query], scores, name="score"),
            keras.Model(weighted, _through(behind, convolution(weighted)), name="score_weighted"),
        )

    def _layers(self, weights: InitialWeights) -> list[keras.layers.Layer]:
        """The relation module, layer by layer."""
        height, width, channels = self.feature_shape
        padding = "same" if max(height, width) < UNPADDED_FROM else "valid"
        layers, shape = self._block(PairConvolution2D, (height, width, 2 * channels), padding, "block1", weights)
        more, shape = self._block(keras.layers.Conv2D, shape, padding, "block2", weights)
        fc1 = weights.dense(math.prod(shape), self.hidden, "fc1")
        fc2 = weights.dense(self.hidden, 1, "fc2")
        return [
            *layers,
            *more,
            FlattenMap(name="flatten"),
            fc1,
            keras.layers.Activation("relu", name="fc1_relu"),
            fc2,
            DropLastAxis(name="scores"),
        ]

    def _block(
        self,
        convolution: type[keras.layers.Conv2D],
        shape: tuple[int, int, int],
        padding: str,
        name: str,
        weights: InitialWeights,
    ) -> tuple[list[keras.layers.Layer], tuple[int, int, int]]:
        """Its layers, and the shape of their map."""
        if padding == "valid" and min(shape[:2]) < 3:
            raise ConfigError(
                "the relation module needs a feature map of at least 3x3 where it does not pad. "
                f"Received: feature_shape={self.feature_shape}"
            )
        layers = [
            convolution(
                self.feature_shape[-1],
                3,
                padding=padding,
                name=f"{name}_conv",
                kernel_initializer=weights.convolution(),
                bias_initializer=weights.uniform(9 * shape[-1]),
            ),
            EpisodeBatchNormalization(batch_statistics=self.batch_statistics, name=f"{name}_bn"),
            keras.layers.Activation("relu", name=f"{name}_relu"),
        ]
        height, width = (side - (2 if padding == "valid" else 0) for side in shape[:2])
        if min(height, width) >= 2:
            layers.append(MapMaxPooling2D(2, name=f"{name}_pool"))
            height, width = height // 2, width // 2
        return layers, (height, width, self.feature_shape[-1])

    def weighted_scores(
        self,
        features: Sequence[tf.Tensor],
        weightings: Sequence[Weighting],
        training: bool = True,
        classes: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The raw scores of the weighted pairs; see `Head.training_scores`."""
        pairs = self.score_model.get_layer("pairs")(features)
        pairs = pairs if classes is None else take_classes(pairs, classes)
        return self.weighted_model(weightings[0](pairs), training=training)

    def loss(self, scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Loss of each episode: `mean over queries and ways of (sigmoid(score) - one-hot)^2`, or cross-entropy.

        See `Head.loss` for the shapes.
        """
        if self.loss_name == "cross_entropy":
            return cross_entropy(labels, scores)
        scores = tf.cast(scores, keras.backend.floatx())
        target = tf.one_hot(labels, tf.shape(scores)[-1], dtype=scores.dtype)
        return tf.reduce_mean(tf.square(tf.sigmoid(scores) - target), axis=[1, 2])

    def get_config(self) -> dict:
        """Every argument of the constructor."""
        return {
            **super().get_config(),
            "hidden": self.hidden,
            "loss": self.loss_name,
            "batch_statistics": self.batch_statistics,
            "seed": self.seed,
        }


def _through(layers: Sequence[keras.layers.Layer], x: tf.Tensor) -> tf.Tensor:
    for layer in layers:
        x = layer(x)
    return x
