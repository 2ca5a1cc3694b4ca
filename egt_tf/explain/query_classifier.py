"""A few-shot model and a support set as an ordinary classifier of single images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from egt_tf.data.preprocessing import normalize
from egt_tf.data.support import SupportOrPath, as_support
from egt_tf.episodic_model import EpisodicModel
from egt_tf.keras_api import keras
from egt_tf.lrp.composites import register_rule
from egt_tf.registry import serializable


@serializable
class WithSupport(keras.layers.Layer):
    """Puts each image's features into an episode of its own, beside a support set that the layer holds.

    Input: features `(n, h, w, c)`. Outputs, as heads take them: support features `(n, support, h, w, c)`, one-hot labels
    `(n, support, ways)` and query features `(n, 1 + company, h, w, c)`, the image's first. What it holds are weights that
    are not trained.

    Args:
        support: number of support images.
        ways: number of classes.
        company: further queries of each episode, see `Head.filler_queries`.

    Example:
        >>> layer = WithSupport(support=4, ways=2)
        >>> [y.shape[:2].as_list() for y in layer(tf.zeros((3, 5, 5, 8)))]
        [[3, 4], [3, 4], [3, 1]]
    """

    def __init__(self, support: int, ways: int, company: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.support, self.ways, self.company = support, ways, company

    def build(self, input_shape: tf.TensorShape) -> None:
        of_image = list(tf.TensorShape(input_shape)[1:])
        shapes = {"support": [self.support, *of_image], "labels": [self.support, self.ways]}
        shapes["company"] = [self.company, *of_image]
        self._held = [self.add_weight(name, shape, trainable=False) for name, shape in shapes.items()]
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> list[tf.Tensor]:
        support, labels, company = (
            tf.repeat(tf.cast(held, inputs.dtype)[None], tf.shape(inputs)[0], axis=0) for held in self._held
        )
        return [support, labels, tf.concat([inputs[:, None], company], axis=1)]

    def compute_output_shape(self, input_shape: tf.TensorShape) -> list[tf.TensorShape]:
        count, *of_image = tf.TensorShape(input_shape)
        of_images = ([self.support, *of_image], [self.support, self.ways], [1 + self.company, *of_image])
        return [tf.TensorShape([count, *each]) for each in of_images]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "support": self.support, "ways": self.ways, "company": self.company}


@serializable
class FirstQuery(keras.layers.Layer):
    """The scores of each episode's first query: `(n, queries, ways)` to `(n, ways)`."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs[:, 0]

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tf.TensorShape:
        episodes, _, ways = tf.TensorShape(input_shape)
        return tf.TensorShape([episodes, ways])


for _layer in (WithSupport, FirstQuery):
    register_rule(_layer, like="route")


def query_classifier(model: EpisodicModel, support: SupportOrPath) -> keras.Model:
    """A Keras model from single images to the raw scores of a support set's classes.

    For tools that know ordinary classifiers only. It shares the backbone and the head of the model, whose weights it
    follows; what it holds of the support set was computed when it was made. Each image is classified by itself, as
    `explain_image` does.

    Args:
        model: the classifier.
        support: the classes: a support set, or a folder with one sub-folder of images a class.

    Returns:
        A Functional model: normalised images `(n, size, size, 3)` (see `egt_tf.data.preprocessing.normalize`) to raw
        scores `(n, ways)`.

    Raises:
        DataError: an image cannot be read, or is not of the size that the model takes.

    Example:
        >>> from egt_tf.data.support import SupportSet
        >>> model = EpisodicModel.build_from({"name": "conv4", "width": 2}, "relation", image_size=32, seed=1)
        >>> support = SupportSet(("ant", "bee"), np.zeros((2, 1, 32, 32, 3), np.uint8))
        >>> query_classifier(model, support)(tf.zeros((3, 32, 32, 3))).shape
        TensorShape([3, 2])
    """
    support = as_support(support, model.image_size)
    flat = support.flat_images
    fillers = model.head.filler_queries(len(flat), support.ways).numpy()
    features = model.backbone(normalize(flat), training=False).numpy()
    layer = WithSupport(len(flat), support.ways, len(fillers), name="support")
    images = keras.Input(model.backbone.input_shape[1:], name="images")
    scores = model.head.score_model(model.head.relate_model(layer(model.backbone(images))))
    layer.set_weights([features, np.eye(support.ways, dtype=np.float32)[support.flat_labels], features[fillers]])
    # Tools ask the last layer for its activation.
    outputs = keras.layers.Activation("linear", name="scores")(FirstQuery(name="first_query")(scores))
    return keras.Model(images, outputs, name="query_classifier")
