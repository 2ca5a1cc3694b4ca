"""Layers of backbones: batch normalisation as the published PyTorch code sets it up, and other units of the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from egt_tf.errors import check_positive
from egt_tf.keras_api import keras
from egt_tf.lrp.composites import register_rule
from egt_tf.registry import serializable
from egt_tf.tensors import IMAGENET_MEAN, IMAGENET_STD, widen

# PyTorch's defaults; Keras has 1e-3 and 0.99. PyTorch's momentum 0.1 is Keras's 0.9.
BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_MOMENTUM = 0.9


@serializable
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalisation that can take its statistics over all replicas of a distribution strategy.

    On one replica, and in inference, it is Keras's layer. On several, with the same number of rows each, the numbers
    of a training step are those that one replica gets from all the rows together, up to rounding, the moving averages
    included.

    Args:
        across_replicas: in training, take mean and variance over the batches of all replicas; False: each replica
            normalises by its own batch, and the moving averages are the mean of what the replicas have.

    Notes:
        Keras's own `synchronized=True` keeps the biased variance in its moving average, where the layer on one replica
        keeps the one corrected by n / (n - 1); here it is always corrected.
    """

    def __init__(self, *args: Any, across_replicas: bool = True, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.across_replicas = across_replicas

    def build(self, input_shape: tf.TensorShape) -> None:
        super().build(input_shape)
        # Keras's layer leaves this out, and a copy of a copy would be written down differently.
        keras.layers.Layer.build(self, input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        if not (training and self.trainable and self.across_replicas and context and context.num_replicas_in_sync > 1):
            return super().call(inputs, training=training)
        x = tf.cast(inputs, self.variable_dtype)
        mean, variance, rows = self._joint_moments(x, context)
        self._follow(self.moving_mean, mean)
        self._follow(self.moving_variance, variance * rows / tf.maximum(rows - 1.0, 1.0))
        return tf.cast(tf.nn.batch_normalization(x, mean, variance, self.beta, self.gamma, self.epsilon), inputs.dtype)

    @staticmethod
    def _joint_moments(x: tf.Tensor, context: tf.distribute.ReplicaContext) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Mean and biased variance of each channel over all replicas, and how many rows they are of."""
        axes = list(range(len(x.shape) - 1))
        rows = tf.cast(context.num_replicas_in_sync * tf.reduce_prod(tf.shape(x)[:-1]), x.dtype)

        def mean_of(values: tf.Tensor) -> tf.Tensor:
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.reduce_sum(values, axes)) / rows

        mean = mean_of(x)
        # In two passes: the mean of the squares less the square of the mean would cancel.
        return mean, mean_of(tf.math.squared_difference(x, mean)), rows

    def _follow(self, average: tf.Variable, value: tf.Tensor) -> None:
        average.assign_sub((average - tf.stop_gradient(value)) * (1.0 - self.momentum))

    def get_config(self) -> dict:
        """Every argument of the constructor."""
        return {**super().get_config(), "across_replicas": self.across_replicas}


# In inference it is Keras's layer: it may be folded.
register_rule(BatchNormalization, like="batch_norm")


def batch_normalization(name: str) -> BatchNormalization:
    """Batch normalisation with PyTorch's epsilon and momentum."""
    return BatchNormalization(epsilon=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM, name=name)


@serializable
class ChannelScale(keras.layers.Layer):
    """`y = factor x + shift`, channel by channel: normalised images in the units that another network was trained with.

    Relevance passes it unchanged, and what lies behind counts as seeing the model's input.

    Args:
        factors: one number for each channel, not 0.
        shifts: likewise.
    """

    def __init__(self, factors: Sequence[float], shifts: Sequence[float], **kwargs: Any):
        super().__init__(**kwargs)
        self.factors, self.shifts = tuple(map(float, factors)), tuple(map(float, shifts))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs * tf.constant(self.factors, inputs.dtype) + tf.constant(self.shifts, inputs.dtype)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(input_shape)

    def get_config(self) -> dict:
        """Every argument of the constructor."""
        return {**super().get_config(), "factors": self.factors, "shifts": self.shifts}


register_rule(ChannelScale, like="rescaling")


@serializable
class ReverseChannels(keras.layers.Layer):
    """The channels in the opposite order: red, green, blue to blue, green, red."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.reverse(inputs, axis=[-1])

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(input_shape)


register_rule(ReverseChannels, like="channel_order")


@serializable
class Power(keras.layers.Layer):
    """`y = x^exponent` for `x >= 0`; values below 0 count as 0.

    Args:
        exponent: > 0.

    Notes:
        The derivative at 0, which is infinite for exponents below 1, counts as 0.
    """

    def __init__(self, exponent: float, **kwargs: Any):
        super().__init__(**kwargs)
        check_positive("exponent", exponent)
        self.exponent = float(exponent)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        x = widen(inputs)
        positive = x > 0
        # Twice where: an infinite derivative times zero is no number.
        y = tf.where(positive, tf.where(positive, x, tf.ones_like(x)) ** self.exponent, tf.zeros_like(x))
        return tf.cast(y, inputs.dtype)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(input_shape)

    def get_config(self) -> dict:
        """Every argument of the constructor."""
        return {**super().get_config(), "exponent": self.exponent}


register_rule(Power, like="activation")


def from_normalized(mean: Sequence[float], std: Sequence[float], name: str) -> ChannelScale:
    """A layer from images normalised as everywhere in the package to `(grey level - mean) / std`.

    Args:
        mean: of the grey levels 0..255, one for each channel.
        std: likewise, > 0.
        name: of the layer.

    Example:
        >>> layer = from_normalized(mean=[127.0] * 3, std=[128.0] * 3, name="scaled")
        >>> black = [-m / s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
        >>> layer(tf.constant([[[black]]])).numpy().round(4)
        array([[[[-0.9922, -0.9922, -0.9922]]]], dtype=float32)
    """
    factors = [255.0 * own / theirs for own, theirs in zip(IMAGENET_STD, std, strict=True)]
    shifts = [(255.0 * own - theirs) / scale for own, theirs, scale in zip(IMAGENET_MEAN, mean, std, strict=True)]
    return ChannelScale(factors, shifts, name=name)
