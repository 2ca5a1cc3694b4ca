"""Layers as the published PyTorch backbones set them up."""

from __future__ import annotations

from tensorflow import keras

# PyTorch's defaults; Keras has 1e-3 and 0.99. PyTorch's momentum 0.1 is Keras's 0.9.
BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_MOMENTUM = 0.9


def batch_normalization(name: str) -> keras.layers.BatchNormalization:
    """Batch normalisation with PyTorch's epsilon and momentum."""
    return keras.layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM, name=name)
