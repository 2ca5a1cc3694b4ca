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
from egt_tf.training.checked_model import CheckedModel, StepLosses
from egt_tf.training.guidance import LossWeights, guided_scores

METRICS = ("loss", "plain_loss", "guided_loss", "auxiliary_loss", "accuracy")


@serializable
class GuidedModel(CheckedModel):
    """Trains an `EpisodicModel` on its plain and its explanation-guided predictions.

    `fit` takes data sets of `(inputs, labels, base_labels)` as `egt_tf.data.pipeline.episode_dataset` makes them; heads
    without an auxiliary loss do without the last. Minimised is `plain_weight * loss(scores) + guided_weight *
    loss(guided scores) + auxiliary loss`. Metrics: `loss` (that sum), `plain_loss`, `guided_loss` (0 where its weight
    is 0), `auxiliary_loss` (0 where the head has none) and `accuracy` of the plain scores.

    As for every `CheckedModel`, a step with a number that is not finite changes no weight.

    Args:
        classifier: the model to train.
        plain_weight: xi, weight of the loss of the plain scores.
        guided_weight: lambda, weight of the loss of the guided scores; 0 computes no explanation.
        composite: a name of `COMPOSITES`, or a `Composite`.
        beta: see `log_odds`; `ways - 1` by default.
        detach: see `guided_scores`.

    Example:
        >>> from egt_tf.episodic_model import EpisodicModel
        >>> classifier = EpisodicModel.build_from({"name": "conv4", "width": 2}, "prototype", image_size=16, seed=0)
        >>> model = GuidedModel(classifier, guided_weight=0.5)
        >>> model.compile(optimizer="adam")
        >>> inputs = {
        ...     "support_images": tf.zeros((1, 2, 16, 16, 3)),
        ...     "support_labels": tf.eye(2)[None],
        ...     "query_images": tf.ones((1, 2, 16, 16, 3)),
        ... }
        >>> sorted(model.train_step((inputs, tf.constant([[0, 1]]))))
        ['accuracy', 'auxiliary_loss', 'guided_loss', 'loss', 'plain_loss']
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
        **kwargs: Any,
    ):
        super().__init__(classifier, METRICS, name, **kwargs)
        self.loss_weights = LossWeights(plain_weight, guided_weight)
        self.composite_identifier = composite
        self.composite: Composite = COMPOSITES.get(composite)
        self.beta = beta
        self.detach = detach
        # Whether the layers that make the features let no negative value through: of the support, labels, the queries.
        (maps,) = outputs_nonnegative(classifier.backbone, [False])
        self.features_nonnegative = all(outputs_nonnegative(classifier.head.relate_model, [maps, True, maps]))

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Plain prediction in inference mode; the other losses are reported as 0."""
        inputs, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        scores = self.classifier(inputs, training=False)
        plain = self.classifier.head.loss(scores, labels)
        none = tf.zeros_like(plain)
        return self.track(_measured(tf.reduce_mean(plain), plain, none, none, scores, labels))

    def step_losses(self, data: Any) -> StepLosses:
        """The plain scores of the queries, their explanation and the guided scores."""
        inputs, labels, base_labels = keras.utils.unpack_x_y_sample_weight(data)
        features = tf.nest.flatten(self.classifier.relate(inputs, training=True))
        scores, plain, guided, watched = self._scores_and_losses(features, labels)
        auxiliary = self.classifier.head.auxiliary_loss(features, labels, base_labels)
        weights = self.loss_weights
        # What has no weight is reported, but need not be differentiated.
        weighted = [weight * loss for weight, loss in ((weights.plain, plain), (weights.guided, guided)) if weight]
        loss = tf.reduce_mean(tf.add_n(weighted) + auxiliary)
        watched |= {"plain loss": plain, "guided loss": guided, "auxiliary loss": auxiliary, "loss": loss}
        return StepLosses(loss, _measured(loss, plain, guided, auxiliary, scores, labels), watched)

    def _scores_and_losses(
        self, features: list[tf.Tensor], labels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
        """The plain scores, their loss, the guided loss, and what must be finite, by name."""
        head = self.classifier.head
        if self.loss_weights.guided:
            result = guided_scores(
                head, features, self.composite, self.beta, detach=self.detach, nonnegative=self.features_nonnegative
            )
            scores, guided = result.plain, head.loss(result.guided, labels)
            layers = head.weighted_layers
            names = [f"relevance of {layer}" for layer in layers] if len(layers) > 1 else ["relevance"]
            relevance = dict(zip(names, result.relevance, strict=True))
            watched = {"scores": scores, **relevance, "guided scores": result.guided}
        else:
            scores = head.score(features if len(features) > 1 else features[0], training=True)
            guided = tf.zeros(tf.shape(labels)[:1], keras.backend.floatx())
            watched = {"scores": scores}
        return scores, head.loss(head.training_scores(features, scores), labels), guided, watched

    def get_config(self) -> dict[str, Any]:
        """Every argument of the constructor."""
        return {
            **super().get_config(),
            "plain_weight": self.loss_weights.plain,
            "guided_weight": self.loss_weights.guided,
            "composite": self.composite_identifier,
            "beta": self.beta,
            "detach": self.detach,
        }


def _measured(
    loss: tf.Tensor,
    plain: tf.Tensor,
    guided: tf.Tensor,
    auxiliary: tf.Tensor,
    scores: tf.Tensor,
    labels: tf.Tensor,
) -> dict[str, tf.Tensor]:
    """The values of `METRICS`."""
    correct = tf.cast(tf.argmax(scores, axis=-1, output_type=labels.dtype) == labels, tf.float32)
    return dict(zip(METRICS, (loss, plain, guided, auxiliary, correct), strict=True))
