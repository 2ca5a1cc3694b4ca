"""Inputs and layers of a network."""

from __future__ import annotations

import numpy as np

from egt_tf.keras_api import keras


def random_inputs(size: int, count: int = 2) -> np.ndarray:
    """Images as a network takes them, float32 `(count, size, size, 3)`."""
    return np.random.default_rng(5).normal(size=(count, size, size, 3)).astype(np.float32)


def layers_of(model: keras.Model, layer_class: type) -> list[keras.layers.Layer]:
    """Those of a class, in their order."""
    return [layer for layer in model.layers if isinstance(layer, layer_class)]
