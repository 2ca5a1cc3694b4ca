"""The Keras shell around a few-shot classifier that learns with explanation guidance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from tensorflow import keras

from egt_tf.episodic_model import EpisodicModel
from egt_tf.explain.composites import Composite
from egt_tf.explain.presets import COMPOSITES
from egt_tf.training.guidance import LossWeights, guided_scores

METRICS = ("loss", "plain_loss", "guided_loss", "auxiliary_loss", "accuracy")

register = keras.utils.register_keras_serializable("egt_tf")


@register
class GuidedModel(keras.Model):
    """Trains an `EpisodicModel` on its plain and its explanation-guided predictions.

    `fit` takes data sets of `(inputs, labels, base_labels)` as `egt_tf.data.pipeline.episode_dataset` makes them; heads
    without an auxiliary loss do without the last. Minimised is `plain_weight * loss(scores) + guided_weight *
    loss(guided scores) + auxiliary loss`. Metrics: `loss` (that sum), `plain_loss`, `guided_loss` (0 where its weight
    is 0), `auxiliary_loss` (0 where the head has none) and `accuracy` of the plain scores.

    Args:
        classifier: the model to train.
        plain_weight: xi, weight of the loss of the plain scores.
        guided_weight: lambda, weight of the loss of the guided scores; 0 computes no explanation.
        composite: a name of `COMPOSITES`, or a `Composite`.
        beta: see `log_odds`; `ways - 1` by default.
        detach: see `guided_scores`.
    """

    def __init__(self, classifier: EpisodicModel, plain_weight: float = 1.0, guided_weight: float = 1.0,
                 composite: str | Mapping[str, Any] | Composite = "fsc", beta: float | None = None,
                 detach: bool = True, name: str = "guided_model", **kwargs):
        super().__init__(name=name, **kwargs)
        self.classifier = classifier
        self.loss_weights = LossWeights(plain_weight, guided_weight)
        self.composite_identifier = composite
        self.composite: Composite = COMPOSITES.get(composite)
        self.beta = beta
        self.detach = detach
        self.trackers = {key: keras.metrics.Mean(key) for key in METRICS}

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The running means, which Keras resets at every epoch."""
        return list(self.trackers.values())

    def call(self, inputs, training=None):
        return self.classifier(inputs, training=training)

    def train_step(self, data):
        """One update of the weights on the episodes of one step."""
        inputs, labels, base_labels = keras.utils.unpack_x_y_sample_weight(data)
        head = self.classifier.head
        with tf.GradientTape() as tape:
            features = tf.nest.flatten(self.classifier.relate(inputs, training=True))
            scores, plain, guided = self._scores_and_losses(features, labels)
            auxiliary = head.auxiliary_loss(features, labels, base_labels)
            loss = tf.reduce_mean(self.loss_weights.plain * plain + self.loss_weights.guided * guided + auxiliary)
            # Replicas have as many episodes each, and their gradients are summed up.
            share = loss / tf.distribute.get_strategy().num_replicas_in_sync
        self.optimizer.minimize(share, self.classifier.trainable_variables, tape=tape)
        return self._track((loss, plain, guided, auxiliary), scores, labels)

    def test_step(self, data):
        """Plain prediction in inference mode; the other losses are reported as 0."""
        inputs, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        scores = self.classifier(inputs, training=False)
        plain = self.classifier.head.loss(scores, labels)
        return self._track((tf.reduce_mean(plain), plain, tf.zeros_like(plain), tf.zeros_like(plain)), scores, labels)

    def _scores_and_losses(self, features, labels):
        head = self.classifier.head
        if self.loss_weights.guided:
            result = guided_scores(head, features, self.composite, self.beta, detach=self.detach)
            scores, guided = result.plain, head.loss(result.guided, labels)
        else:
            scores = head.score(features if len(features) > 1 else features[0], training=True)
            guided = tf.zeros(tf.shape(labels)[:1], keras.backend.floatx())
        return scores, head.loss(head.training_scores(features, scores), labels), guided

    def _track(self, losses, scores, labels):
        correct = tf.cast(tf.argmax(scores, axis=-1, output_type=labels.dtype) == labels, tf.float32)
        for key, value in zip(METRICS, (*losses, correct), strict=True):
            self.trackers[key].update_state(value)
        return {metric.name: metric.result() for metric in self.metrics}

    def get_config(self) -> dict:
        """Every argument of the constructor."""
        return {"name": self.name, "classifier": keras.saving.serialize_keras_object(self.classifier),
                "plain_weight": self.loss_weights.plain, "guided_weight": self.loss_weights.guided,
                "composite": self.composite_identifier, "beta": self.beta, "detach": self.detach}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes the model from `get_config`, with new weights."""
        classifier = keras.saving.deserialize_keras_object(config["classifier"], custom_objects=custom_objects)
        return cls(**{**config, "classifier": classifier})
