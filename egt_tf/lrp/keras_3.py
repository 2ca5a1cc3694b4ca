"""Keras 3 models, which lie beside ours on the current lane: relevance walks a copy of them in Keras 2 that follows them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from egt_tf.errors import ConfigError, ExplainError
from egt_tf.keras_api import LANE, keras
from egt_tf.keras_config import Description, model_from


def is_keras_3(model: Any) -> bool:
    """Whether `model` is a model of Keras 3; without importing it, since there is none before that is done.

    Example:
        >>> is_keras_3(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
        False
    """
    keras_3 = None if LANE == "classic" else sys.modules.get("keras")
    return keras_3 is not None and isinstance(model, keras_3.Model)


class Keras3Copy:
    """A copy in Keras 2 of a Functional or Sequential model of Keras 3, whose weights can be brought up to date.

    Layers are made anew from their configurations, as those in a model file are: see `egt_tf.keras_config`.

    Args:
        model: of Keras 3, whatever its backend.

    Raises:
        ExplainError: it is of another class, is not built yet, or has a layer or an argument that is not known.
    """

    def __init__(self, model: Any):
        if not model.built:
            raise ExplainError(
                "the model must have its input: begin it with keras.Input(shape), or call it once. "
                f"Received: {model.name!r} of class {type(model).__name__}, not built yet"
            )
        self.source = model
        origin = f"the Keras 3 model {model.name!r}"
        try:
            described = Description(type(model).__name__, model.get_config(), origin, model.count_params(), False)
            self.model = model_from(described, image_size=0)
        except ConfigError as error:
            raise ExplainError(f"{error}; build it with tf_keras, for which there are more rules") from error
        self.follow()

    def follow(self) -> None:
        """Gives the copy the weights that the model has now."""
        for target, source in _layers_with_weights(self.model, self.source):
            target.set_weights([np.asarray(weight) for weight in source.get_weights()])


def _layers_with_weights(target: keras.Model, source: Any) -> Iterator[tuple[keras.layers.Layer, Any]]:
    """Layers of the copy and of its model, those of nested models among them."""
    named = {layer.name: layer for layer in source.layers}
    for layer in target.layers:
        if isinstance(layer, keras.Model):
            yield from _layers_with_weights(layer, named[layer.name])
        elif layer.weights:
            yield layer, named[layer.name]
