"""The Keras shell of every training: a step with a number that is not finite changes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from egt_tf.keras_api import keras, unconverted
from egt_tf.training.health import Health, Statistics, apply_if, may_overflow
from egt_tf.weights import named_weights

Gradients = Sequence[tuple["tf.Tensor | None", tf.Variable]]


@dataclasses.dataclass(frozen=True)
class StepLosses:
    """What the forward pass of a training step gives.

    Attributes:
        minimised: the loss to minimise, a scalar.
        measured: for each metric the values whose mean it is.
        watched: what must be finite, by name, in the order it is computed in.
    """

    minimised: tf.Tensor
    measured: Mapping[str, tf.Tensor]
    watched: Mapping[str, tf.Tensor]


class CheckedModel(keras.Model):
    """Trains a classifier step by step; a subclass says by `step_losses` on what.

    A step with a number that is not finite changes no weight, nor does any step after it; `health.failure()` says where
    it was. It is left to a callback to stop then.

    Args:
        classifier: the model to train, whose weights are named (see `egt_tf.weights.Partitioned`).
        metrics: names of the running means that `step_losses` gives values for.

    Attributes:
        first_step: finished steps of the epoch that `fit` begins with.
        stored: the model whose weights the files of the training hold: the classifier, or one that has all its parts
            and more.
    """

    def __init__(self, classifier: keras.Model, metrics: Sequence[str], name: str, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.classifier = self.stored = classifier
        self.trackers = {key: keras.metrics.Mean(key) for key in metrics}
        self.health = Health()
        self.first_step = 0

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The running means, which Keras resets at every epoch."""
        return list(self.trackers.values())

    @property
    def training_variables(self) -> dict[str, tf.Variable]:
        """What a training goes on from beside the weights and the optimizer, by name."""
        return {}

    @unconverted
    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        return self.classifier(inputs, training=training)

    def step_losses(self, data: Any) -> StepLosses:
        """The forward pass of a training step on an element of the data set."""
        raise NotImplementedError

    @unconverted
    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One update of the weights on an element of the data set."""
        statistics = Statistics(self.classifier)
        with tf.GradientTape() as tape:
            losses = self.step_losses(data)
            # Replicas have as much of a step each, and their gradients are summed up.
            share = losses.minimised / tf.distribute.get_strategy().num_replicas_in_sync
        pairs = self.optimizer.compute_gradients(share, self.classifier.trainable_variables, tape)
        healthy = self.check_step(losses.watched, pairs)
        apply_if(healthy, self.optimizer, pairs)
        statistics.keep_if(healthy)
        return self.track(losses.measured)

    def check_step(self, watched: Mapping[str, tf.Tensor], pairs: Gradients) -> tf.Tensor:
        """Whether the step may change the weights, a bool scalar."""
        names = {id(weight): name for name, weight in named_weights(self.classifier).items()}
        weights = {f"weight {names[id(weight)]}": weight for _, weight in pairs}
        gradients = {f"gradient of {names[id(weight)]}": gradient for gradient, weight in pairs if gradient is not None}
        return self.health.check(
            weights, watched, gradients, self.optimizer.iterations + 1, may_overflow(self.optimizer)
        )

    def track(self, measured: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Enters values into the running means, and returns these."""
        for key, value in measured.items():
            self.trackers[key].update_state(value)
        return {metric.name: metric.result() for metric in self.metrics}

    def _maybe_load_initial_counters_from_ckpt(self, steps_per_epoch: int, initial_epoch: int) -> tuple[int, int]:
        # Keras asks here where `fit` begins, for its own callback that backs up models; no argument of `fit` says it.
        return initial_epoch, self.first_step

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "classifier": keras.saving.serialize_keras_object(self.classifier)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> CheckedModel:
        """Makes the model from `get_config`, with new weights."""
        classifier = keras.saving.deserialize_keras_object(config["classifier"], custom_objects=custom_objects)
        return cls(**{**config, "classifier": classifier})
