"""A model whose costly parts are one function each in the graph, however many signatures call them."""

from __future__ import annotations

import tensorflow as tf

from egt_tf.export.one_by_one import OneByOne, Relevance
from egt_tf.keras_api import compiled


class TracedOnce(OneByOne):
    """As `OneByOne`; the network's forward and backward passes are traced once and called from then on.

    A graph with every pass written out where it is used takes several times longer to make, to write and to load.

    Args:
        answers: the model.

    Example:
        >>> from egt_tf.episodic_model import EpisodicModel
        >>> from egt_tf.lrp import COMPOSITES
        >>> answers = OneByOne(EpisodicModel.build_from("conv4", "cosine", image_size=16, seed=1), COMPOSITES.get("fsc"))
        >>> TracedOnce(answers).features(tf.zeros((2, 16, 16, 3))).shape
        TensorShape([2, 1, 1, 64])
    """

    def __init__(self, answers: OneByOne):
        super().__init__(answers.model, answers.composite, answers.start)
        size, maps = answers.model.image_size, answers.model.head.feature_shape
        images = tf.TensorSpec([None, size, size, 3], tf.float32)
        support, labels = tf.TensorSpec([None, *maps], tf.float32), tf.TensorSpec([None, None], tf.float32)

        def relevance(*inputs: tf.Tensor) -> tuple[tf.Tensor, ...]:
            found = answers.relevance(*inputs)
            return found.scores, found.targets, found.images, found.support_features

        self._features = compiled(answers.features, input_signature=[images])
        self._relevance = compiled(
            relevance, input_signature=[support, labels, images, tf.TensorSpec([None], tf.int64)]
        )
        self._support_relevance = compiled(
            answers.support_relevance, input_signature=[images, tf.TensorSpec([None, None, *maps], tf.float32)]
        )

    def features(self, images: tf.Tensor) -> tf.Tensor:
        """See `OneByOne`; images are float32."""
        return self._features(images)

    def relevance(self, support: tf.Tensor, labels: tf.Tensor, images: tf.Tensor, targets: tf.Tensor) -> Relevance:
        """See `OneByOne`; images are float32."""
        return Relevance(*self._relevance(support, labels, images, targets))

    def support_relevance(self, images: tf.Tensor, relevance: tf.Tensor) -> tf.Tensor:
        """See `OneByOne`; images are float32."""
        return self._support_relevance(images, relevance)
