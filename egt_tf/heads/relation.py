"""RelationNet (Sung et al., CVPR 2018, "Learning to Compare: Relation Network for Few-Shot Learning")."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
from tensorflow import keras

from egt_tf.backbones.initializers import InitialWeights
from egt_tf.errors import ConfigError, check_integer
from egt_tf.heads.base import Head
from egt_tf.heads.layers import (DropLastAxis, EpisodeBatchNormalization, FlattenMap, MapMaxPooling2D, PairConcat,
                                 PrototypeMean)
from egt_tf.heads.tables import HEADS

LOSSES = ("mse", "cross_entropy")
# The published relation module pads its convolutions for maps below this side.
UNPADDED_FROM = 10


@HEADS.register("relation")
class RelationHead(Head):
    """Scores each pair of a prototype and a query with a small convolutional network.

    Features: `pair[e, j, k] = [mean of the support maps of class k ; map of query j]`,
    `(episodes, queries, ways, h, w, 2 c)`. Scores: two blocks (3x3 convolution to c channels, batch normalisation
    over the pairs of the episode, ReLU, 2x2 max-pooling), Dense(hidden), ReLU, Dense(1).

    Args:
        feature_shape: (h, w, c) of the backbone's map.
        hidden: width of the first dense layer.
        loss: "mse" (mean squared error between sigmoid(score) and the one-hot label, as published) or
            "cross_entropy" over the ways.
        batch_statistics: see `EpisodeBatchNormalization`; False makes a query's score independent of the others.
        seed: of the initial weights.

    Notes:
        A block pools only a map of at least 2x2, so that maps too small for the published module (3x3, say) work.
    """

    def __init__(self, feature_shape: Sequence[int], hidden: int = 8, loss: str = "mse", batch_statistics: bool = True,
                 seed: int | None = None, name: str = "relation", **kwargs):
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
        self.score_model = self._score_model(InitialWeights(seed))

    @property
    def uses_batch_statistics(self) -> bool:
        """Whether a query's score depends, in inference, on the other queries of its episode."""
        return self.batch_statistics

    def _relate_model(self) -> keras.Model:
        support = keras.Input((None, *self.feature_shape), name="support_features")
        labels = keras.Input((None, None), name="support_labels")
        query = keras.Input((None, *self.feature_shape), name="query_features")
        prototypes = PrototypeMean(name="prototypes")([support, labels])
        pairs = PairConcat(name="pairs")([prototypes, query])
        return keras.Model([support, labels, query], pairs, name="relate")

    def _score_model(self, weights: InitialWeights) -> keras.Model:
        height, width, channels = self.feature_shape
        pairs = keras.Input((None, None, height, width, 2 * channels), name="pair_features")
        padding = "same" if max(height, width) < UNPADDED_FROM else "valid"
        x = self._block(pairs, channels, padding, "block1", weights)
        x = self._block(x, channels, padding, "block2", weights)
        x = FlattenMap(name="flatten")(x)
        x = self._dense(x, self.hidden, "fc1", weights)
        x = keras.layers.Activation("relu", name="fc1_relu")(x)
        x = self._dense(x, 1, "fc2", weights)
        return keras.Model(pairs, DropLastAxis(name="scores")(x), name="score")

    def _block(self, x, channels, padding, name, weights):
        if padding == "valid" and min(x.shape[-3:-1]) < 3:
            raise ConfigError("the relation module needs a feature map of at least 3x3 where it does not pad. "
                              f"Received: feature_shape={self.feature_shape}")
        x = keras.layers.Conv2D(channels, 3, padding=padding, name=f"{name}_conv",
                                kernel_initializer=weights.convolution(),
                                bias_initializer=weights.uniform(9 * x.shape[-1]))(x)
        x = EpisodeBatchNormalization(batch_statistics=self.batch_statistics, name=f"{name}_bn")(x)
        x = keras.layers.Activation("relu", name=f"{name}_relu")(x)
        if min(x.shape[-3:-1]) >= 2:
            x = MapMaxPooling2D(2, name=f"{name}_pool")(x)
        return x

    @staticmethod
    def _dense(x, units, name, weights):
        fan_in = x.shape[-1]
        return keras.layers.Dense(units, name=name, kernel_initializer=weights.uniform(fan_in),
                                  bias_initializer=weights.uniform(fan_in))(x)

    def loss(self, scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Loss of each episode: `mean over queries and ways of (sigmoid(score) - one-hot)^2`, or cross-entropy.

        See `Head.loss` for the shapes.
        """
        scores = tf.cast(scores, tf.keras.backend.floatx())
        if self.loss_name == "mse":
            target = tf.one_hot(labels, tf.shape(scores)[-1], dtype=scores.dtype)
            return tf.reduce_mean(tf.square(tf.sigmoid(scores) - target), axis=[1, 2])
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores), axis=1)

    def get_config(self) -> dict:
        """Every argument of the constructor."""
        return {**super().get_config(), "hidden": self.hidden, "loss": self.loss_name,
                "batch_statistics": self.batch_statistics, "seed": self.seed}
