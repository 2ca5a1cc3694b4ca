"""The Keras shell that pre-trains a backbone on images and on the same ones with their relevant parts manipulated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from egt_tf.errors import ConfigError
from egt_tf.keras_api import keras
from egt_tf.lrp.composites import Composite
from egt_tf.lrp.presets import COMPOSITES
from egt_tf.lrp.propagation import record, reverse
from egt_tf.registry import serializable
from egt_tf.training.backbone_classifier import BackboneClassifier, PretrainingModel, cross_entropy, is_right
from egt_tf.training.checked_model import StepLosses
from egt_tf.training.guidance import LossWeights
from egt_tf.training.health import Statistics
from egt_tf.training.manipulation import Challenge, rival_examples
from egt_tf.training.seeds import step_seed


def input_relevance(
    classifier: keras.Model, images: tf.Tensor, labels: tf.Tensor, composite: Composite
) -> tuple[tf.Tensor, tf.Tensor]:
    """The scores of images in inference mode, and what at the pixels the score of the true class came from.

    The walk back begins with `R_k = score_k` for the true class k, and with 0 for the others.

    Args:
        classifier: a Functional model from images to raw scores.
        images: normalised, `(images, h, w, 3)`.
        labels: the true classes, integers `(images,)`.
        composite: rules for the layers of the classifier.

    Returns:
        Raw scores `(images, classes)` and relevance `(images, h, w, 3)`, both without a gradient.

    Example:
        >>> from egt_tf.backbones import conv4
        >>> classifier = BackboneClassifier(conv4(16, width=2), classes=3, seed=0)
        >>> scores, relevance = input_relevance(
        ...     classifier, tf.ones((2, 16, 16, 3)), tf.constant([0, 2]), COMPOSITES.get("epsilon_plus"))
        >>> scores.shape, relevance.shape
        (TensorShape([2, 3]), TensorShape([2, 16, 16, 3]))
    """
    trace = record(classifier, [images]).detached()
    scores = trace.outputs[0]
    of_true_class = scores * tf.one_hot(labels, tf.shape(scores)[-1], dtype=scores.dtype)
    (relevance,) = reverse(trace, of_true_class, composite)
    # The rules read the layers' weights.
    return scores, tf.stop_gradient(relevance)


def challenged_images(
    images: tf.Tensor,
    labels: tf.Tensor,
    scores: tf.Tensor,
    relevance: tf.Tensor,
    challenge: Challenge,
    seed: tf.Tensor,
) -> tf.Tensor:
    """The images with what was relevant in them manipulated, `(images, h, w, 3)`, without a gradient.

    Args:
        images: normalised, so that 0 is the mean colour of ImageNet, `(images, h, w, 3)`.
        labels: the true classes, integers `(images,)`; an image is exchanged with one of the strongest rival among the
            classes of these images, and stays as it is if they have no other class.
        scores: raw, `(images, classes)`; they say which class is the rival.
        relevance: at the pixels, of the shape of the images.
        challenge: what is done.
        seed: of the random numbers, two integers `(2,)`.

    Example:
        >>> images, relevance = tf.ones((1, 1, 2, 3)), tf.constant([[[[1.0, 1.0, 1.0], [-1.0, 0.0, 0.0]]]])
        >>> challenge = Challenge("attenuate", unit="position")
        >>> changed = challenged_images(
        ...     images, tf.constant([0]), tf.zeros((1, 2)), relevance, challenge, tf.constant([1, 2]))
        >>> changed.numpy().tolist()
        [[[[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]]]
    """
    of_rivals, of_values = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    examples = rival_examples(scores, labels, of_rivals) if challenge.kind.needs_rivals else None
    return tf.stop_gradient(challenge.weighting(relevance, of_values, examples)(images))


@serializable
class ChallengedModel(PretrainingModel):
    """Trains a `BackboneClassifier` on images x and on challenged ones x', `plain_weight L(x) + weight L(x')`.

    L is the cross-entropy with the same labels. x' is x with its most relevant pixels manipulated, see
    `egt_tf.training.manipulation.Challenge`; the relevance is that of the true class's score, in inference mode, and x'
    a constant. Metrics: `loss` (that sum), `plain_loss`, `challenger_loss` and `accuracy` of the plain scores; a test
    has the plain loss alone.

    Our reading of Tomani and Cremers, "Challenger: Training with Attribution Maps", 2022 (arXiv 2205.15094).

    Args:
        classifier: the model to train.
        manipulation, share, unit, strength, shuffled: see `Challenge`.
        weight: lambda, of the loss of the challenged images.
        plain_weight: xi, of the loss of the images.
        composite: a name of `COMPOSITES`, or a `Composite`.
        seed: of the random numbers.

    Raises:
        ConfigError: one of them is not as it must be, or images of a single class are to be exchanged.

    Notes:
        Normalisations take the statistics of the challenged images in their pass, but update their moving averages by
        the plain ones alone, which are what is classified later.

    Example:
        >>> from egt_tf.backbones import conv4
        >>> model = ChallengedModel(BackboneClassifier(conv4(16, width=2), classes=5, seed=0), "blur", share=0.2)
        >>> model.compile(optimizer="adam")
        >>> sorted(model.train_step((tf.zeros((3, 16, 16, 3)), tf.constant([0, 1, 2]))))
        ['accuracy', 'challenger_loss', 'loss', 'plain_loss']
    """

    metric_names = ("loss", "plain_loss", "challenger_loss", "accuracy")

    def __init__(
        self,
        classifier: BackboneClassifier,
        manipulation: str = "attenuate",
        share: float = 0.2,
        unit: str = "position",
        strength: float = 1.0,
        shuffled: bool = False,
        weight: float = 1.0,
        plain_weight: float = 1.0,
        composite: str | Mapping[str, Any] | Composite = "epsilon_plus",
        seed: int = 0,
        name: str = "challenged_model",
        **kwargs: Any,
    ):
        super().__init__(classifier, name, **kwargs)

        # === Config ===
        self.challenge = Challenge(manipulation, share, unit, strength, shuffled)
        self.loss_weights = LossWeights(plain_weight, weight)
        self.composite_identifier = composite
        self.seed = seed

        # === Parts ===
        self.composite: Composite = COMPOSITES.get(composite)
        if self.challenge.kind.needs_rivals and classifier.classes < 2:
            raise ConfigError(
                "`manipulation` exchange must have images of two classes or more. Received: "
                f"{classifier.classes} class to train on"
            )

    def step_losses(self, data: Any) -> StepLosses:
        """The cross-entropy of a batch and of what its images are challenged to."""
        images, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        explained, relevance = input_relevance(self.classifier, images, labels, self.composite)
        seed = step_seed(self.seed, self.optimizer.iterations)
        changed = challenged_images(images, labels, explained, relevance, self.challenge, seed)
        scores = self.classifier(images, training=True)
        averages = Statistics(self.classifier)
        challenged = self.classifier(changed, training=True)
        averages.restore()
        plain, hard = cross_entropy(labels, scores), cross_entropy(labels, challenged)
        losses = self.loss_weights.plain * plain + self.loss_weights.guided * hard
        loss = tf.reduce_mean(losses)
        measured = dict(zip(self.metric_names, (losses, plain, hard, is_right(labels, scores)), strict=True))
        watched = {"scores": scores, "relevance": relevance, "challenged scores": challenged, "loss": loss}
        return StepLosses(loss, measured, watched)

    def get_config(self) -> dict[str, Any]:
        """Every argument of the constructor."""
        return {
            **super().get_config(),
            "manipulation": self.challenge.manipulation,
            "share": self.challenge.share,
            "unit": self.challenge.unit,
            "strength": self.challenge.strength,
            "shuffled": self.challenge.shuffled,
            "weight": self.loss_weights.guided,
            "plain_weight": self.loss_weights.plain,
            "composite": self.composite_identifier,
            "seed": self.seed,
        }
