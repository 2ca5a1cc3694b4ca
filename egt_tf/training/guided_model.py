"""The Keras shell around a few-shot classifier that learns with explanation guidance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from tensorflow import keras

from egt_tf.episodic_model import EpisodicModel
from egt_tf.lrp.composites import Composite
from egt_tf.lrp.layer_types import outputs_nonnegative
from egt_tf.lrp.presets import COMPOSITES
from egt_tf.registry import serializable
from egt_tf.training.guidance import LossWeights, guided_scores
from egt_tf.training.health import Health, Statistics, apply_if, may_overflow
from egt_tf.weights import named_weights

METRICS = ("loss", "plain_loss", "guided_loss", "auxiliary_loss", "accuracy")


@serializable
class GuidedModel(keras.Model):
    """Trains an `EpisodicModel` on its plain and its explanation-guided predictions.

    `fit` takes data sets of `(inputs, labels, base_labels)` as `egt_tf.data.pipeline.episode_dataset` makes them; heads
    without an auxiliary loss do without the last. Minimised is `plain_weight * loss(scores) + guided_weight *
    loss(guided scores) + auxiliary loss`. Metrics: `loss` (that sum), `plain_loss`, `guided_loss` (0 where its weight
    is 0), `auxiliary_loss` (0 where the head has none) and `accuracy` of the plain scores.

    A step with a number that is not finite changes no weight, nor does any step after it; `health.failure()` says where
    it was. It is left to a callback to stop then.

    Args:
        classifier: the model to train.
        plain_weight: xi, weight of the loss of the plain scores.
        guided_weight: lambda, weight of the loss of the guided scores; 0 computes no explanation.
        composite: a name of `COMPOSITES`, or a `Composite`.
        beta: see `log_odds`; `ways - 1` by default.
        detach: see `guided_scores`.
    """

    def __init__(
        self,
        classifier: EpisodicModel,
        plain_weight: float = 1.0,
        guided_weight: float = 1.0,
        composite: str | Mapping[str, Any] | Composite = "fsc",
        beta: float | None = None,
        detach: bool = True,
        name: str = "guided_model",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.classifier = classifier
        self.loss_weights = LossWeights(plain_weight, guided_weight)
        self.composite_identifier = composite
        self.composite: Composite = COMPOSITES.get(composite)
        self.beta = beta
        self.detach = detach
        self.features_nonnegative = _features_nonnegative(classifier)
        self.trackers = {key: keras.metrics.Mean(key) for key in METRICS}
        self.health = Health()
        self.first_step = 0

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The running means, which Keras resets at every epoch."""
        return list(self.trackers.values())

    def call(self, inputs, training=None):
        return self.classifier(inputs, training=training)

    @property
    def training_variables(self) -> dict[str, tf.Variable]:
        """What a training goes on from beside the weights and the optimizer, by name."""
        return {}

    def train_step(self, data):
        """One update of the weights on the episodes of one step."""
        statistics = Statistics(self.classifier)
        with tf.GradientTape() as tape:
            losses, scores, labels, watched = self._training_losses(data)
            # Replicas have as many episodes each, and their gradients are summed up.
            share = losses[0] / tf.distribute.get_strategy().num_replicas_in_sync
        pairs = self.optimizer.compute_gradients(share, self.classifier.trainable_variables, tape)
        healthy = self._check(watched, pairs)
        apply_if(healthy, self.optimizer, pairs)
        statistics.keep_if(healthy)
        return self._track(losses, scores, labels)

    def test_step(self, data):
        """Plain prediction in inference mode; the other losses are reported as 0."""
        inputs, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        scores = self.classifier(inputs, training=False)
        plain = self.classifier.head.loss(scores, labels)
        return self._track((tf.reduce_mean(plain), plain, tf.zeros_like(plain), tf.zeros_like(plain)), scores, labels)

    def _training_losses(self, data):
        """What `METRICS` names of losses, the first of them to be minimised; the plain scores; the labels; all that
        must be finite, by name."""
        inputs, labels, base_labels = keras.utils.unpack_x_y_sample_weight(data)
        features = tf.nest.flatten(self.classifier.relate(inputs, training=True))
        scores, plain, guided, watched = self._scores_and_losses(features, labels)
        auxiliary = self.classifier.head.auxiliary_loss(features, labels, base_labels)
        loss = tf.reduce_mean(self._weighted(plain, guided) + auxiliary)
        watched |= {"plain loss": plain, "guided loss": guided, "auxiliary loss": auxiliary, "loss": loss}
        return (loss, plain, guided, auxiliary), scores, labels, watched

    def _scores_and_losses(self, features, labels):
        head = self.classifier.head
        if self.loss_weights.guided:
            result = guided_scores(
                head, features, self.composite, self.beta, detach=self.detach, nonnegative=self.features_nonnegative
            )
            scores, guided = result.plain, head.loss(result.guided, labels)
            watched = {"scores": scores, **self._relevance(result), "guided scores": result.guided}
        else:
            scores = head.score(features if len(features) > 1 else features[0], training=True)
            guided = tf.zeros(tf.shape(labels)[:1], keras.backend.floatx())
            watched = {"scores": scores}
        return scores, head.loss(head.training_scores(features, scores), labels), guided, watched

    def _relevance(self, result):
        layers = self.classifier.head.weighted_layers
        names = [f"relevance of {layer}" for layer in layers] if len(layers) > 1 else ["relevance"]
        return dict(zip(names, result.relevance, strict=True))

    def _check(self, watched, pairs):
        """Whether the step may change the weights."""
        names = {id(weight): name for name, weight in named_weights(self.classifier).items()}
        weights = {f"weight {names[id(weight)]}": weight for _, weight in pairs}
        gradients = {f"gradient of {names[id(weight)]}": gradient for gradient, weight in pairs if gradient is not None}
        return self.health.check(
            weights, watched, gradients, self.optimizer.iterations + 1, may_overflow(self.optimizer)
        )

    def _maybe_load_initial_counters_from_ckpt(self, steps_per_epoch, initial_epoch):
        # Keras asks here where `fit` begins, for its own callback that backs up models; no argument of `fit` says it.
        return initial_epoch, self.first_step

    def _weighted(self, plain, guided):
        weighted = zip((self.loss_weights.plain, self.loss_weights.guided), (plain, guided), strict=True)
        # What has no weight is reported, but need not be differentiated.
        return tf.add_n([weight * loss for weight, loss in weighted if weight])

    def _track(self, losses, scores, labels):
        correct = tf.cast(tf.argmax(scores, axis=-1, output_type=labels.dtype) == labels, tf.float32)
        for key, value in zip(METRICS, (*losses, correct), strict=True):
            self.trackers[key].update_state(value)
        return {metric.name: metric.result() for metric in self.metrics}

    def get_config(self) -> dict:
        """Every argument of the constructor."""
        return {
            "name": self.name,
            "classifier": keras.saving.serialize_keras_object(self.classifier),
            "plain_weight": self.loss_weights.plain,
            "guided_weight": self.loss_weights.guided,
            "composite": self.composite_identifier,
            "beta": self.beta,
            "detach": self.detach,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes the model from `get_config`, with new weights."""
        classifier = keras.saving.deserialize_keras_object(config["classifier"], custom_objects=custom_objects)
        return cls(**{**config, "classifier": classifier})


def _features_nonnegative(classifier: EpisodicModel) -> bool:
    """Whether the layers that make the features of the classifier's head let no negative value through."""
    (maps,) = outputs_nonnegative(classifier.backbone, [False])
    # Support maps, labels, query maps.
    return all(outputs_nonnegative(classifier.head.relate_model, [maps, True, maps]))
