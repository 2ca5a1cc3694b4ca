"""What every head has: two stages, a loss and probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
from tensorflow import keras

from egt_tf.errors import ConfigError


class Head(keras.layers.Layer):
    """Compares the queries of an episode with its support set in two stages.

    `features = relate(support, support_labels, query)` are the maps that get explained and weighted;
    `scores = score(features)`. A subclass sets `relate_model` and `score_model`, two Functional Keras models,
    in its constructor; guidance and explanation need nothing else.

    Args:
        feature_shape: (height, width, channels) of the backbone's feature map.
    """

    relate_model: keras.Model
    score_model: keras.Model

    def __init__(self, feature_shape: Sequence[int], **kwargs):
        super().__init__(**kwargs)
        if len(feature_shape) != 3 or any(not side or side < 1 for side in feature_shape):
            raise ConfigError("`feature_shape` must be (height, width, channels), all >= 1. "
                              f"Received: feature_shape={tuple(feature_shape)}")
        self.feature_shape = tuple(int(side) for side in feature_shape)

    @property
    def uses_batch_statistics(self) -> bool:
        """Whether a query's score depends, in inference, on the other queries of its episode."""
        return False

    def relate(self, support: tf.Tensor, support_labels: tf.Tensor, query: tf.Tensor) -> tf.Tensor:
        """First stage.

        Args:
            support: features of the support images, `(episodes, support, height, width, channels)`.
            support_labels: one-hot labels, `(episodes, support, ways)`.
            query: features of the query images, `(episodes, queries, height, width, channels)`.

        Returns:
            The features that `score` takes; the last axis holds channels.
        """
        return self.relate_model([support, support_labels, query])

    def score(self, features: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Second stage: raw scores `(episodes, queries, ways)`, unbounded; larger means more alike."""
        return self.score_model(features, training=training)

    def call(self, inputs, training=None):
        support, support_labels, query = inputs
        return self.score(self.relate(support, support_labels, query), training=training)

    def loss(self, scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Loss of each episode.

        Args:
            scores: raw scores `(episodes, queries, ways)`.
            labels: class of each query, integers `(episodes, queries)`.

        Returns:
            `(episodes,)`, >= 0.
        """
        raise NotImplementedError

    def probabilities(self, scores: tf.Tensor) -> tf.Tensor:
        """Softmax of the raw scores over the ways, `(episodes, queries, ways)`; what explanations start from."""
        return tf.nn.softmax(scores, axis=-1)

    def get_config(self) -> dict:
        """Every argument of the constructor."""
        return {**super().get_config(), "feature_shape": self.feature_shape}
