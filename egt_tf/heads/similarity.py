"""Layers that compare queries with prototypes: pooling, products, sums. Relevance has a rule for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from egt_tf.heads.base import relate_inputs
from egt_tf.heads.layers import PairConcat, PrototypeMean
from egt_tf.keras_api import keras
from egt_tf.registry import serializable
from egt_tf.tensors import widen

# Shorter vectors count as zero; PyTorch's floor of a norm.
SHORTEST = 1e-12


def unit(x: tf.Tensor) -> tf.Tensor:
    """`x / ||x||` over the last axis.

    Notes:
        A vector shorter than 1e-12 becomes zero, with a derivative of zero; PyTorch divides it by 1e-12.
    """
    return x * inverse_length(x)


def inverse_length(x: tf.Tensor) -> tf.Tensor:
    """`1 / ||x||` over the last axis, which is kept with length 1; 0 for a vector shorter than 1e-12.

    NaN stays NaN: taken for a short vector, it would be a score like any other.
    """
    square = tf.reduce_sum(tf.square(x), axis=-1, keepdims=True)
    # Twice where: the root's derivative at zero is infinite, and infinity times zero is no number.
    short = square <= SHORTEST**2
    return tf.where(short, tf.zeros_like(square), tf.math.rsqrt(tf.where(short, tf.ones_like(square), square)))


class _AxisReduction(keras.layers.Layer):
    """Base of the layers that reduce axes.

    Args:
        axis: the axis, or the axes, negative ones counted from the end.
    """

    def __init__(self, axis: int | Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = axis if isinstance(axis, int) else tuple(axis)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        shape = tf.TensorShape(input_shape)
        reduced = {axis % shape.rank for axis in tf.nest.flatten(self.axis)}
        return tf.TensorShape([side for index, side in enumerate(shape) if index not in reduced])

    def get_config(self) -> dict:
        return {**super().get_config(), "axis": self.axis}


@serializable
class AxisMean(_AxisReduction):
    """Mean over one or several axes, which vanish."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.reduce_mean(widen(inputs), axis=self.axis), inputs.dtype)


@serializable
class AxisSum(_AxisReduction):
    """Sum over one or several axes, which vanish."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.reduce_sum(widen(inputs), axis=self.axis), inputs.dtype)


@serializable
class PairProduct(keras.layers.Layer):
    """Value by value product of two vectors of a pair: `y_c = a_c b_c`, or that of the two unit vectors.

    The sum of `y` over the channels is the inner product, or the cosine.

    Args:
        normalize: whether the vectors are divided by their lengths first.

    Inputs: the query's and the prototype's vectors, `(..., c)` both. Output: `(..., c)`.
    """

    def __init__(self, normalize: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.normalize = normalize

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        query, prototype = map(widen, inputs)
        if self.normalize:
            query, prototype = unit(query), unit(prototype)
        return tf.cast(query * prototype, inputs[0].dtype)

    def compute_output_shape(self, input_shape: Sequence[tf.TensorShape]) -> tf.TensorShape:
        return tf.TensorShape(input_shape[0])

    def get_config(self) -> dict:
        return {**super().get_config(), "normalize": self.normalize}


@serializable
class Scale(keras.layers.Layer):
    """`y = factor x`.

    Args:
        factor: any number but 0.
    """

    def __init__(self, factor: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.constant(self.factor, inputs.dtype) * inputs

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(input_shape)

    def get_config(self) -> dict:
        return {**super().get_config(), "factor": self.factor}


@serializable
class Square(keras.layers.Layer):
    """`y = x^2`."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.square(widen(inputs)), inputs.dtype)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(input_shape)


@serializable
class PairSplit(keras.layers.Layer):
    """Undoes `PairConcat`: `(..., 2c)` to the prototype's and the query's channels, `(..., c)` each."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.split(inputs, 2, axis=-1)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        shape = tf.TensorShape(input_shape)
        return 2 * [shape[:-1].concatenate(shape[-1] // 2)]


def pair_model(feature_shape: Sequence[int]) -> keras.Model:
    """First stage of heads that compare pooled maps: every query's map beside every prototype's.

    Args:
        feature_shape: (h, w, c).

    Returns:
        A model from support maps, one-hot support labels and query maps to `(episodes, queries, ways, h, w, 2c)`, the
        prototype's channels first.
    """
    support, labels, query = inputs = relate_inputs(feature_shape)
    prototypes = PrototypeMean(name="prototypes")([support, labels])
    return keras.Model(inputs, PairConcat(name="pairs")([prototypes, query]), name="relate")


def pooled_pairs(feature_shape: Sequence[int]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Beginning of the second stage of such heads.

    Args:
        feature_shape: (h, w, c).

    Returns:
        The input of the pairs, and the spatial means of its query half and its prototype half,
        `(episodes, queries, ways, c)`.
    """
    height, width, channels = feature_shape
    pairs = keras.Input((None, None, height, width, 2 * channels), name="pair_features")
    prototype, query = PairSplit(name="halves")(pairs)
    return pairs, AxisMean((-3, -2), name="query_mean")(query), AxisMean((-3, -2), name="prototype_mean")(prototype)


def cross_entropy(labels: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of each episode, averaged over its queries and whatever axes lie between them and the classes.

    Args:
        labels: integers `(episodes, queries)`.
        scores: raw, `(episodes, queries, ..., classes)`.

    Returns:
        `(episodes,)`, >= 0, in the precision that Keras works in.
    """
    scores = tf.cast(scores, keras.backend.floatx())
    labels = tf.convert_to_tensor(labels)
    for _ in range(len(scores.shape) - 3):
        labels = labels[..., None]
    labels = tf.broadcast_to(labels, tf.shape(scores)[:-1])
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores)
    return tf.reduce_mean(losses, axis=list(range(1, len(losses.shape))))
