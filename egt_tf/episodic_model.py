"""The few-shot classifier: a backbone and a head. What is explained, evaluated and exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from egt_tf.backbones import build_backbone
from egt_tf.backbones.base import seed_beside
from egt_tf.heads import HEADS, Head
from egt_tf.keras_api import keras
from egt_tf.lrp.canonizers import fold_batch_norm
from egt_tf.lrp.composites import register_rule
from egt_tf.registry import serializable


@serializable
class JoinEpisodes(keras.layers.Layer):
    """Support and query images of all episodes as one batch, episode by episode, the support first.

    Inputs: `(episodes, support, ...)` and `(episodes, queries, ...)`. Output: `(episodes * (support + queries), ...)`.
    """

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        joined = tf.concat(inputs, axis=1)
        return tf.reshape(joined, tf.concat([[-1], tf.shape(joined)[2:]], axis=0))

    def compute_output_shape(self, input_shape: Sequence[tf.TensorShape]) -> tf.TensorShape:
        return tf.TensorShape([None]).concatenate(tf.TensorShape(input_shape[0])[2:])


@serializable
class SplitEpisodes(keras.layers.Layer):
    """Undoes `JoinEpisodes` for the features of the joint batch.

    Inputs: features `(episodes * (support + queries), ...)` and the two tensors that were joined (for their sizes).
    Outputs: features `(episodes, support, ...)` and `(episodes, queries, ...)`.
    """

    def call(self, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        features, support, query = inputs
        sizes = [tf.shape(support)[1], tf.shape(query)[1]]
        shape = tf.concat([[tf.shape(support)[0], sum(sizes)], tf.shape(features)[1:]], axis=0)
        parts = tf.split(tf.reshape(features, shape), sizes, axis=1, num=2)
        shapes = self.compute_output_shape([x.shape for x in inputs])
        return [tf.ensure_shape(part, static) for part, static in zip(parts, shapes, strict=True)]

    def compute_output_shape(self, input_shape: Sequence[tf.TensorShape]) -> list[tf.TensorShape]:
        features, support, query = map(tf.TensorShape, input_shape)
        return [part[:2].concatenate(features[1:]) for part in (support, query)]


for _layer in (JoinEpisodes, SplitEpisodes):
    register_rule(_layer, like="route")


@serializable
class EpisodicModel(keras.Model):
    """A Functional Keras model from the images of episodes to raw scores.

    Inputs, a dictionary by name:
        `support_images` `(episodes, support, size, size, 3)`, normalised (`egt_tf.data.preprocessing`);
        `support_labels` `(episodes, support, ways)`, one-hot;
        `query_images` `(episodes, queries, size, size, 3)`.
    Output: raw scores `(episodes, queries, ways)`. Ways, shots and queries are free at every call.

    Support and query images pass the backbone in one batch, so that in training its batch statistics are joint.

    Args:
        backbone: a Functional model from images to feature maps.
        head: a head for the backbone's feature maps.

    Example:
        >>> model = EpisodicModel.build_from({"name": "conv4", "width": 4}, "prototype", image_size=16, seed=0)
        >>> images = tf.zeros((1, 4, 16, 16, 3))
        >>> labels = tf.one_hot([[0, 1, 0, 1]], 2)
        >>> model({"support_images": images, "support_labels": labels, "query_images": images}).shape
        TensorShape([1, 4, 2])
    """

    def __init__(self, backbone: keras.Model, head: Head, name: str = "episodic_model", **kwargs: Any):
        # === Functional Model ===
        image_shape = backbone.input_shape[1:]
        support_images = keras.Input((None, *image_shape), name="support_images")
        support_labels = keras.Input((None, None), name="support_labels")
        query_images = keras.Input((None, *image_shape), name="query_images")
        images = JoinEpisodes(name="join")([support_images, query_images])
        support, query = SplitEpisodes(name="split")([backbone(images), support_images, query_images])
        scores = head.score_model(head.relate_model([support, support_labels, query]))
        super().__init__(
            inputs={"support_images": support_images, "support_labels": support_labels, "query_images": query_images},
            outputs=scores,
            name=name,
            **kwargs,
        )

        # === Config ===
        self.backbone = backbone
        self.head = head

    @classmethod
    def build_from(
        cls, backbone: str | Mapping[str, Any], head: str | Mapping[str, Any], image_size: int, seed: int | None = None
    ) -> EpisodicModel:
        """Makes a model from the `model` part of a configuration.

        Args:
            backbone: a name of `BACKBONES`, or a mapping with `name` and arguments, see `build_backbone`.
            head: likewise of `HEADS`.
            image_size: height and width of the images in pixels.
            seed: of the initial weights.

        Raises:
            ConfigError: an unknown name or argument, or a backbone whose map is too small for the head.
        """
        maps = build_backbone(backbone, image_size, seed)
        return cls(maps, HEADS.get(head, feature_shape=maps.output_shape[1:], seed=seed_beside(seed)))

    @property
    def image_size(self) -> int:
        """Height and width of the images in pixels."""
        return self.backbone.input_shape[1]

    @property
    def parts(self) -> dict[str, keras.Model]:
        """The models that hold the weights: the backbone and what the head has of its own."""
        parts = {
            "backbone": self.backbone,
            "relate": self.head.relate_model,
            "score": self.head.score_model,
            "auxiliary": self.head.auxiliary_model,
        }
        return {name: model for name, model in parts.items() if model is not None}

    def relate(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor | list[tf.Tensor]:
        """Backbone and first stage of the head: the features that guidance explains and weights."""
        images = self.get_layer("join")([inputs["support_images"], inputs["query_images"]])
        features = self.backbone(images, training=training)
        support, query = self.get_layer("split")([features, inputs["support_images"], inputs["query_images"]])
        return self.head.relate(support, inputs["support_labels"], query, training=training)

    def get_config(self) -> dict:
        """The backbone and the head, each as Keras serialises it."""
        return {
            "name": self.name,
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "head": keras.saving.serialize_keras_object(self.head),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> EpisodicModel:
        """Makes the model from `get_config`, with new weights."""
        parts = {
            key: keras.saving.deserialize_keras_object(config[key], custom_objects=custom_objects)
            for key in ("backbone", "head")
        }
        return cls(**parts, name=config["name"])


@fold_batch_norm.register(EpisodicModel)
def _(model: EpisodicModel) -> EpisodicModel:
    head = type(model.head).from_config(model.head.get_config())
    head.set_weights(model.head.get_weights())
    head.relate_model = fold_batch_norm(head.relate_model)
    head.score_model = fold_batch_norm(head.score_model)
    return EpisodicModel(fold_batch_norm(model.backbone), head, name=model.name)
