"""The Keras shell around a few-shot classifier that learns with explanation guidance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from egt_tf.config import GUIDED_CLASSES, NORMALIZATIONS
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError, check_integer
from egt_tf.keras_api import keras
from egt_tf.lrp.composites import Composite
from egt_tf.lrp.presets import COMPOSITES
from egt_tf.lrp.value_ranges import outputs_nonnegative
from egt_tf.registry import serializable
from egt_tf.training.checked_model import CheckedModel, StepLosses
from egt_tf.training.guidance import LossWeights, check_head, guided_scores
from egt_tf.training.guidance_weights import GUIDANCE_WEIGHTS, GuidanceWeights
from egt_tf.training.seeds import step_seed

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
        weights: what the features are weighted with, a name of `GUIDANCE_WEIGHTS` or its mapping.
        normalize: "joint", or "halves": see `guided_scores`.
        classes: "all", or "true_and_rival": what is weighted and scored again, see `guided_scores`.
        start_after: steps of the training before the guided loss has any weight, >= 0.
        ramp: steps over which its weight then rises to `guided_weight`, in equal parts; 0: at once.
        seed: of the random numbers of `weights`.

    Raises:
        ConfigError: a weight of a loss, a name or a number out of its range, or a setting that is not for this head.

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
        weights: str | Mapping[str, Any] = "relevance",
        normalize: str = "joint",
        classes: str = "all",
        start_after: int = 0,
        ramp: int = 0,
        seed: int = 0,
        name: str = "guided_model",
        **kwargs: Any,
    ):
        super().__init__(classifier, METRICS, name, **kwargs)

        # === Config ===
        self.loss_weights = LossWeights(plain_weight, guided_weight)
        self.composite_identifier = composite
        self.beta = beta
        self.detach = detach
        self.weights_identifier = weights
        self.normalize = normalize
        self.classes = classes
        self.start_after = start_after
        self.ramp = ramp
        self.seed = seed

        # === Parts ===
        self.composite: Composite = COMPOSITES.get(composite)
        self.guidance_weights: GuidanceWeights = GUIDANCE_WEIGHTS.get(weights)
        self._check_arguments()
        # Whether the layers that make the features let no negative value through: of the support, labels, the queries.
        (maps,) = outputs_nonnegative(classifier.backbone, [False])
        self.features_nonnegative = all(outputs_nonnegative(classifier.head.relate_model, [maps, True, maps]))

    def _check_arguments(self) -> None:
        choices = (("normalize", self.normalize, NORMALIZATIONS), ("classes", self.classes, GUIDED_CLASSES))
        for name, value, known in choices:
            if value not in known:
                raise ConfigError(f"`guidance.{name}` must be one of {', '.join(known)}. Received: {value!r}")
        for name in ("start_after", "ramp"):
            check_integer(name, getattr(self, name), 0)
        if self.loss_weights.guided:
            some = self.classes == "true_and_rival"
            check_head(self.classifier.head, self.normalize == "halves", some, self.guidance_weights)
        if (self.start_after or self.ramp) and not self.loss_weights.plain:
            raise ConfigError(
                "`guidance.start_after` and `guidance.ramp` must be 0 where the guided loss is the only one: there would "
                f"be nothing to learn from. Received: {self.start_after} and {self.ramp} steps"
            )

    def guided_weight(self) -> tf.Tensor | float:
        """The weight that the guided loss has in the step that comes next."""
        weight = self.loss_weights.guided
        if not (self.start_after or self.ramp):
            return weight
        done = tf.cast(self.optimizer.iterations, keras.backend.floatx())
        return weight * tf.clip_by_value((done + 1.0 - self.start_after) / max(self.ramp, 1), 0.0, 1.0)

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
        weighted = [weights.plain * plain] if weights.plain else []
        weighted += [self.guided_weight() * guided] if weights.guided else []
        loss = tf.reduce_mean(tf.add_n(weighted) + auxiliary)
        watched |= {"plain loss": plain, "guided loss": guided, "auxiliary loss": auxiliary, "loss": loss}
        return StepLosses(loss, _measured(loss, plain, guided, auxiliary, scores, labels), watched)

    def _scores_and_losses(
        self, features: list[tf.Tensor], labels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
        """The plain scores, their loss, the guided loss, and what must be finite, by name."""
        head = self.classifier.head
        if self.loss_weights.guided:
            some = self.classes == "true_and_rival"
            result = guided_scores(
                head,
                features,
                self.composite,
                self.beta,
                detach=self.detach,
                nonnegative=self.features_nonnegative,
                weights=self.guidance_weights,
                halves=self.normalize == "halves",
                seed=step_seed(self.seed, self.optimizer.iterations),
                labels=labels,
                some_classes=some,
            )
            # Of two classes the true one is the first.
            scores, guided = result.plain, head.loss(result.guided, tf.zeros_like(labels) if some else labels)
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
            "weights": self.weights_identifier,
            "normalize": self.normalize,
            "classes": self.classes,
            "start_after": self.start_after,
            "ramp": self.ramp,
            "seed": self.seed,
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
