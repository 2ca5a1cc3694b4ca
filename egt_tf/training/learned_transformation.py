"""Learns how strong a backbone's feature-wise transformation is, so that the model holds up on another domain.

Source: Tseng, Lee, Huang, Yang, "Cross-Domain Few-Shot Classification via Learned Feature-Wise Transformation",
ICLR 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from egt_tf.backbones.feature_transformation import transformations
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError, check_positive
from egt_tf.keras_api import keras
from egt_tf.registry import serializable
from egt_tf.training.guided_model import GuidedModel
from egt_tf.training.health import Statistics, apply_if
from egt_tf.training.optimizers import OPTIMIZERS


@serializable
class TransformationLearner(GuidedModel):
    """A `GuidedModel` that learns the thetas of its backbone's `FeatureTransformation` layers too.

    `fit` takes data sets of `(seen, unseen)`, each as a `GuidedModel` takes it; their episodes are of different
    domains. With the loss L_seen of the model (transformed, guided), its weights w and its learning rate a, one step is

        g = d L_seen / dw,    w' = w - a g,    theta <- Adam(d L_unseen(w') / d theta),    w <- optimizer(g).

    L_unseen is the plain loss in inference: not transformed, not guided, normalised by running averages. Theta acts
    on it through w' alone, so its gradient is one of the second order, computed without a second copy of the model:

        d L_unseen(w') / d theta = -a (d g / d theta)^T v,    v = d L_unseen / dw at w'.

    One metric more than a `GuidedModel` has: `unseen_loss`.

    Args:
        classifier: the model to train, whose backbone transforms its features.
        transformation_learning_rate: of the thetas' Adam.
        **kwargs: as for `GuidedModel`.

    Raises:
        ConfigError: the backbone has no transformation.

    Example:
        >>> backbone = {"name": "conv4", "width": 2, "feature_transformation": True}
        >>> model = TransformationLearner(EpisodicModel.build_from(backbone, "prototype", image_size=16, seed=0))
        >>> len(model.thetas)
        8

    Notes:
        The published code decays the thetas by 1e-8 beside; this one does not. It draws one pair of domains an epoch,
        this one a pair a step.
    """

    def __init__(
        self,
        classifier: EpisodicModel,
        *,
        transformation_learning_rate: float = 1e-3,
        name: str = "transformation_learner",
        **kwargs: Any,
    ):
        super().__init__(classifier, name=name, **kwargs)
        check_positive("transformation_learning_rate", transformation_learning_rate)
        self.transformation_learning_rate = transformation_learning_rate
        layers = transformations(classifier.backbone)
        if not layers:
            raise ConfigError(
                "to learn a feature-wise transformation the backbone must have one. Received: none; set "
                "model.backbone.feature_transformation=true"
            )
        self.thetas = [theta for layer in layers for theta in (layer.theta_gamma, layer.theta_beta)]
        self.theta_optimizer = OPTIMIZERS.get("adam", learning_rate=transformation_learning_rate)
        self.theta_optimizer.build(self.thetas)
        self.trackers["unseen_loss"] = keras.metrics.Mean("unseen_loss")

    def compile(self, *args: Any, jit_compile: bool | None = None, **kwargs: Any) -> None:
        """As Keras does.

        Raises:
            ConfigError: `jit_compile`, or batch normalisations of the backbone that are not Keras's fused ones: the
                second derivative would be wrong; several replicas; or another precision than float32.
        """
        if jit_compile:
            raise ConfigError(
                "`jit_compile` must be false where a transformation is learned: XLA computes wrong "
                "second derivatives of max-pooling. Received: true"
            )
        if self.distribute_strategy.num_replicas_in_sync > 1:
            raise ConfigError(
                "a transformation is learned on one replica. Received: "
                f"{self.distribute_strategy.num_replicas_in_sync} replicas"
            )
        parts = self.classifier.backbone.submodules
        norms = [layer for layer in parts if isinstance(layer, keras.layers.BatchNormalization)]
        # Others than the fused ones take the mean in the variance as a constant, which spoils the second derivative; in
        # half precision the gradients would have to be scaled.
        if not all(layer.fused and layer.compute_dtype == "float32" for layer in norms):
            raise ConfigError(
                "a transformation is learned in single precision with Keras's fused batch normalisation "
                f"in the backbone. Received: {norms[0].compute_dtype}, fused={norms[0].fused}"
            )
        super().compile(*args, jit_compile=False, **kwargs)

    @property
    def training_variables(self) -> dict[str, tf.Variable]:
        """The state of the thetas' optimizer."""
        return {f"theta/{index:04d}": variable for index, variable in enumerate(self.theta_optimizer.variables)}

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One update of the weights by the seen episodes, and of the thetas by the unseen ones."""
        seen, unseen = data
        statistics = Statistics(self.classifier)
        weights = self.classifier.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as theta_tape:
            theta_tape.watch(self.thetas)
            with tf.GradientTape() as tape:
                losses = self.step_losses(seen)
            gradients = tape.gradient(losses.minimised, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        rate = tf.convert_to_tensor(self.optimizer.learning_rate)
        unseen_loss, slopes = self._unseen_loss(unseen, weights, gradients, rate)
        products = theta_tape.gradient(gradients, self.thetas, output_gradients=slopes)
        of_thetas = [-tf.cast(rate, product.dtype) * product for product in products]
        slopes_of_thetas = {f"gradient of theta {i}": gradient for i, gradient in enumerate(of_thetas)}
        watched = {**losses.watched, "unseen loss": unseen_loss, **slopes_of_thetas}
        pairs = list(zip(gradients, weights, strict=True))
        healthy = self.check_step(watched, pairs)
        apply_if(healthy, self.optimizer, pairs)
        apply_if(healthy, self.theta_optimizer, list(zip(of_thetas, self.thetas, strict=True)))
        statistics.keep_if(healthy)
        return self.track({**losses.measured, "unseen_loss": unseen_loss})

    def _unseen_loss(
        self, data: Any, weights: Sequence[tf.Variable], gradients: Sequence[tf.Tensor], rate: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The loss of the unseen episodes after a step of gradient descent, and its slopes; the step is taken back."""
        inputs, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        head, before = self.classifier.head, [tf.identity(w) for w in weights]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.assign_sub(tf.cast(rate, weight.dtype) * gradient)
        with tf.GradientTape() as tape:
            features = tf.nest.flatten(self.classifier.relate(inputs, training=False))
            scores = head.score(features if len(features) > 1 else features[0], training=False)
            loss = tf.reduce_mean(head.loss(head.training_scores(features, scores, training=False), labels))
        slopes = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        for weight, value in zip(weights, before, strict=True):
            weight.assign(value)
        return loss, slopes

    def get_config(self) -> dict[str, Any]:
        """Every argument of the constructor."""
        return {**super().get_config(), "transformation_learning_rate": self.transformation_learning_rate}
