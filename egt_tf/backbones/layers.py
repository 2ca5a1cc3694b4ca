"""Layers of backbones: normalisations, other units of the images, and what vision transformers add to their patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from egt_tf.errors import check_integer, check_positive
from egt_tf.keras_api import keras
from egt_tf.lrp.composites import register_rule
from egt_tf.lrp.linear_parts import LinearPart, linear_parts
from egt_tf.lrp.plain_operations import Transposed, plain_derivative
from egt_tf.lrp.rules import Derivative, Tensors
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
class RMSNormalization(keras.layers.Layer):
    """`y = gamma x / sqrt(mean(x^2) + epsilon)`, the mean taken over the last axis.

    For relevance, the root is a constant.

    Args:
        epsilon: > 0.

    Notes:
        Source: Zhang and Sennrich, NeurIPS 2019.

    Example:
        >>> RMSNormalization()(tf.constant([[3.0, 4.0]])).numpy().round(4)
        array([[0.8485, 1.1314]], dtype=float32)
    """

    def __init__(self, epsilon: float = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
        check_positive("epsilon", epsilon)
        self.epsilon = float(epsilon)

    def build(self, input_shape: tf.TensorShape) -> None:
        self.gamma = self.add_weight("gamma", (input_shape[-1],), initializer="ones")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        x = widen(inputs)
        return tf.cast(x * self.scale(x), inputs.dtype)

    def scale(self, x: tf.Tensor) -> tf.Tensor:
        """What each value is multiplied by: `gamma / sqrt(mean(x^2) + epsilon)`."""
        power = tf.reduce_mean(tf.square(x), axis=-1, keepdims=True)
        return tf.math.rsqrt(power + self.epsilon) * tf.cast(self.gamma, x.dtype)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(input_shape)

    def get_config(self) -> dict:
        """Every argument of the constructor."""
        return {**super().get_config(), "epsilon": self.epsilon}


register_rule(RMSNormalization, like="normalization")


@linear_parts.register(RMSNormalization)
def _(layer: RMSNormalization, x: tf.Tensor) -> tuple[LinearPart, ...]:
    return (LinearPart(layer.scale(x), None, lambda v, kernel: v * kernel, transposed=lambda v, kernel, s: s * kernel),)


@serializable
class PositionEmbedding(keras.layers.Layer):
    """`y = x + p`, with a learned vector p for each position: `(..., positions, width)` to the same shape.

    For relevance, p is a constant that is added: it keeps its share, `R_x = R x / y`.

    Args:
        initializer: of p.
    """

    def __init__(self, initializer: Any = "zeros", **kwargs: Any):
        super().__init__(**kwargs)
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape: tf.TensorShape) -> None:
        self.embedding = self.add_weight("embedding", tuple(input_shape[-2:]), initializer=self.initializer)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs + tf.cast(self.embedding, inputs.dtype)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(input_shape)

    def get_config(self) -> dict:
        """Every argument of the constructor."""
        return {**super().get_config(), "initializer": keras.initializers.serialize(self.initializer)}


register_rule(PositionEmbedding, like="linear")


@plain_derivative.register(PositionEmbedding)
def _(layer: PositionEmbedding) -> Transposed:
    return lambda xs, y, upstream: [upstream]


@serializable
class LearnedTokens(keras.layers.Layer):
    """Learned vectors in front of those of the patches: `(images, n, width)` to `(images, count + n, width)`.

    The relevance that arrives at them is theirs: no input gets it.

    Args:
        count: how many, >= 1: a class token, and registers.
        initializer: of the vectors.
    """

    def __init__(self, count: int = 1, initializer: Any = "zeros", **kwargs: Any):
        super().__init__(**kwargs)
        check_integer("count", count, 1)
        self.count = count
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape: tf.TensorShape) -> None:
        self.tokens = self.add_weight("tokens", (self.count, input_shape[-1]), initializer=self.initializer)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        tokens = tf.cast(self.tokens, inputs.dtype)[None] + tf.zeros_like(inputs[:, :1])
        return tf.concat([tokens, inputs], axis=1)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        images, patches, width = tf.TensorShape(input_shape)
        return tf.TensorShape([images, None if patches is None else self.count + patches, width])

    def get_config(self) -> dict:
        """Every argument of the constructor."""
        initializer = keras.initializers.serialize(self.initializer)
        return {**super().get_config(), "count": self.count, "initializer": initializer}


# Not "like route": the tokens may be negative where no patch is.
register_rule(LearnedTokens, Derivative())


@plain_derivative.register(LearnedTokens)
def _(layer: LearnedTokens) -> Transposed:
    def transposed(xs: Tensors, y: tf.Tensor, upstream: tf.Tensor) -> list[tf.Tensor | None]:
        return [upstream[:, layer.count :]]

    return transposed


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
