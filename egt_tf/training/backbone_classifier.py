"""A backbone as an ordinary classifier of the base classes, and the Keras shell that trains it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from egt_tf.backbones.base import InitialWeights
from egt_tf.keras_api import keras
from egt_tf.registry import serializable
from egt_tf.training.checked_model import CheckedModel, StepLosses

METRICS = ("loss", "accuracy")


@serializable
class BackboneClassifier(keras.Model):
    """A backbone, the mean of its maps, and one linear layer: a Functional model from images to raw scores.

    Input: normalised images `(images, size, size, 3)`. Output: `(images, classes)`.

    Args:
        backbone: a Functional model from images to feature maps.
        classes: number of classes, >= 1.
        seed: of the initial weights of the linear layer.

    Example:
        >>> from egt_tf.backbones import conv4
        >>> classifier = BackboneClassifier(conv4(16, width=2), classes=5, seed=0)
        >>> classifier(tf.zeros((3, 16, 16, 3))).shape
        TensorShape([3, 5])
    """

    def __init__(
        self,
        backbone: keras.Model,
        classes: int,
        seed: int | None = None,
        name: str = "backbone_classifier",
        **kwargs: Any,
    ):
        # === Functional Model ===
        width, weights = backbone.output_shape[-1], InitialWeights(seed)
        pooled = keras.Input((width,), name="pooled")
        scores = weights.dense(width, classes, "scores")
        classifier = keras.Model(pooled, scores(pooled), name="classifier")
        images = keras.Input(backbone.input_shape[1:], name="images")
        means = keras.layers.GlobalAveragePooling2D(name="pool")(backbone(images))
        super().__init__(images, classifier(means), name=name, **kwargs)

        # === Config ===
        self.backbone, self.classifier, self.classes, self.seed = backbone, classifier, classes, seed

    @property
    def parts(self) -> dict[str, keras.Model]:
        """The models that hold the weights."""
        return {"backbone": self.backbone, "classifier": self.classifier}

    def get_config(self) -> dict[str, Any]:
        """Every argument of the constructor."""
        return {
            "name": self.name,
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "classes": self.classes,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> BackboneClassifier:
        """Makes the model from `get_config`, with new weights."""
        backbone = keras.saving.deserialize_keras_object(config["backbone"], custom_objects=custom_objects)
        return cls(**{**config, "backbone": backbone})


@serializable
class PretrainingModel(CheckedModel):
    """Trains a `BackboneClassifier` by cross-entropy.

    `fit` takes data sets of `(images, labels)` as `egt_tf.data.labelled.labelled_batches` makes them. Metrics: `loss`
    and `accuracy`, means over the images. As for every `CheckedModel`, a step with a number that is not finite changes
    no weight.

    Args:
        classifier: the model to train.

    Example:
        >>> from egt_tf.backbones import conv4
        >>> model = PretrainingModel(BackboneClassifier(conv4(16, width=2), classes=5, seed=0))
        >>> model.compile(optimizer="adam")
        >>> sorted(model.train_step((tf.zeros((3, 16, 16, 3)), tf.constant([0, 1, 2]))))
        ['accuracy', 'loss']
    """

    metric_names: tuple[str, ...] = METRICS

    def __init__(self, classifier: BackboneClassifier, name: str = "pretraining_model", **kwargs: Any):
        super().__init__(classifier, self.metric_names, name, **kwargs)

    def step_losses(self, data: Any) -> StepLosses:
        """The cross-entropy of a batch."""
        images, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        scores = self.classifier(images, training=True)
        losses = cross_entropy(labels, scores)
        loss = tf.reduce_mean(losses)
        measured = dict(zip(METRICS, (losses, is_right(labels, scores)), strict=True))
        return StepLosses(loss, measured, {"scores": scores, "loss": loss})

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """The same in inference mode."""
        images, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        scores = self.classifier(images, training=False)
        return self.track({"loss": cross_entropy(labels, scores), "accuracy": is_right(labels, scores)})


def cross_entropy(labels: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of each image, in nats.

    Args:
        labels: classes, integers `(images,)`.
        scores: raw, `(images, classes)`.

    Example:
        >>> round(float(cross_entropy(tf.constant([0]), tf.zeros((1, 4)))[0]), 4)
        1.3863
    """
    return keras.losses.sparse_categorical_crossentropy(labels, scores, from_logits=True)


def is_right(labels: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """1 for each image whose class has the largest score, else 0; float32 `(images,)`.

    Example:
        >>> is_right(tf.constant([1, 0]), tf.constant([[0.0, 2.0], [0.0, 2.0]])).numpy().tolist()
        [1.0, 0.0]
    """
    return tf.cast(tf.argmax(scores, axis=-1, output_type=labels.dtype) == labels, tf.float32)
