"""The time axis of layers that do the same at every time step: taken into the batch, and out again."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from egt_tf.keras_api import keras
from egt_tf.lrp.layer_types import treat_like


class Copy(keras.layers.Layer):
    """A function that copies values, as a layer of a recorded pass; it is in no model.

    Example:
        >>> Copy(lambda x: x[:, 0])(tf.constant([[3.0, 4.0]])).numpy()
        array([3.], dtype=float32)
    """

    def __init__(self, function: Callable[[tf.Tensor], tf.Tensor], name: str | None = None):
        super().__init__(name=name, dtype=None)
        self.copy = function

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return self.copy(x)


treat_like(Copy, "route")


def merge_time(x: tf.Tensor) -> tf.Tensor:
    """`(batch, time, ...)` as `(batch * time, ...)`.

    Example:
        >>> merge_time(tf.ones((2, 3, 4))).shape
        TensorShape([6, 4])
    """
    merged = tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], axis=0))
    return tf.ensure_shape(merged, [None, *x.shape[2:]])


def split_time(x: tf.Tensor, steps: tf.Tensor, time: int | None = None) -> tf.Tensor:
    """`(batch * time, ...)` as `(batch, time, ...)`.

    Args:
        x: the tensor.
        steps: batch and time.
        time: the same, where it is known before the model is called.

    Example:
        >>> split_time(tf.ones((6, 4)), tf.constant([2, 3])).shape
        TensorShape([2, 3, 4])
    """
    split = tf.reshape(x, tf.concat([steps, tf.shape(x)[1:]], axis=0))
    return tf.ensure_shape(split, [None, time, *x.shape[1:]])
