"""Layers of the ridge head: its coefficients, combinations of maps by them, centring, and unit vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from egt_tf.heads.similarity import inverse_length, unit
from egt_tf.keras_api import keras
from egt_tf.registry import serializable
from egt_tf.tensors import widen


@serializable
class RidgeCoefficients(keras.layers.Layer):
    """How much of each support image the vector of each class has, by ridge regression in closed form.

    Of the spatial means p_n, minus their mean over the support where `centre` is set, the unit vectors `f_n = p_n /
    ||p_n||` are regressed on the one-hot labels Y: `A = (F F^T + penalty I)^-1 Y`. The vector of class k is then
    `w_k = sum_n A[n, k] f_n = sum_n a[n, k] x_n`, for the means x_n of the maps as they are: the layer gives a.

    Args:
        penalty: of the squared length of the vectors, > 0.
        centre: whether the mean of all support images is subtracted from each.

    Inputs: support maps `(episodes, support, h, w, c)` and one-hot labels `(episodes, support, ways)`; classes may have
    different numbers of images.
    Output: `(episodes, support, ways)`.

    Notes:
        The system is as large as the support set, not as the channels (the dual form). It is solved in float64: the
        coefficients are what the regression leaves of the labels, divided by the penalty, and cancel in the vectors.
    """

    def __init__(self, penalty: float, centre: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.penalty = penalty
        self.centre = centre

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        maps, labels = inputs
        means = tf.cast(tf.reduce_mean(widen(maps), axis=[-3, -2]), tf.float64)
        if self.centre:
            means -= tf.reduce_mean(means, axis=1, keepdims=True)
        features = unit(means)
        alike = tf.matmul(features, features, transpose_b=True)
        # A system with NaN cannot be solved; `inverse_length` hands it on to the coefficients of its image.
        alike = tf.where(tf.math.is_finite(alike), alike, tf.zeros_like(alike))
        penalty = tf.constant(self.penalty, alike.dtype) * tf.eye(tf.shape(alike)[-1], dtype=alike.dtype)
        coefficients = tf.linalg.solve(alike + penalty, tf.cast(labels, alike.dtype)) * inverse_length(means)
        if self.centre:
            # Those of the images from which the mean has not been subtracted.
            coefficients -= tf.reduce_mean(coefficients, axis=1, keepdims=True)
        return tf.cast(coefficients, maps.dtype)

    def compute_output_shape(self, input_shape: Sequence[tf.TensorShape]) -> tf.TensorShape:
        maps, labels = map(tf.TensorShape, input_shape)
        return maps[:2].concatenate(labels[2:])

    def get_config(self) -> dict:
        return {**super().get_config(), "penalty": self.penalty, "centre": self.centre}


@serializable
class MapCombination(keras.layers.Layer):
    """Weighted sums of the support maps, one a class: `p[e, k] = sum_n a[e, n, k] x[e, n]`.

    Inputs: maps `(episodes, support, ...)` and coefficients `(episodes, support, ways)` of any sign.
    Output: `(episodes, ways, ...)`.
    """

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        maps, coefficients = map(widen, inputs)
        shape = tf.shape(maps)
        flat = tf.reshape(maps, tf.concat([shape[:2], [-1]], axis=0))
        sums = tf.matmul(coefficients, flat, transpose_a=True)
        sums = tf.reshape(sums, tf.concat([shape[:1], tf.shape(coefficients)[2:], shape[2:]], axis=0))
        sums = tf.ensure_shape(sums, self.compute_output_shape([x.shape for x in inputs]))
        return tf.cast(sums, inputs[0].dtype)

    def compute_output_shape(self, input_shape: Sequence[tf.TensorShape]) -> tf.TensorShape:
        maps, coefficients = map(tf.TensorShape, input_shape)
        return maps[:1].concatenate(coefficients[2:]).concatenate(maps[2:])


@serializable
class CentredMaps(keras.layers.Layer):
    """Query maps minus the mean of the support maps over images and positions, channel by channel.

    Inputs: query maps `(episodes, queries, h, w, c)` and support maps `(episodes, support, h, w, c)`.
    Output: of the shape of the former.
    """

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        query, support = map(widen, inputs)
        return tf.cast(query - tf.reduce_mean(support, axis=[1, 2, 3], keepdims=True), inputs[0].dtype)

    def compute_output_shape(self, input_shape: Sequence[tf.TensorShape]) -> tf.TensorShape:
        return tf.TensorShape(input_shape[0])


@serializable
class UnitVector(keras.layers.Layer):
    """`y = x / ||x||` over the last axis; vectors shorter than 1e-12 become zero."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.cast(unit(widen(inputs)), inputs.dtype)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(input_shape)
