"""Layers of cross attention between the maps of a prototype and of a query.

A pair of maps is `(episodes, queries, ways, ...)`; attention is a map for each pair, `(..., height, width, 1)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from egt_tf.heads.similarity import unit
from egt_tf.keras_api import keras
from egt_tf.registry import serializable
from egt_tf.tensors import widen


@serializable
class PositionCosines(keras.layers.Layer):
    """Cosine between every position of a prototype's map and every position of a query's map.

    Inputs: prototypes `(episodes, ways, h, w, c)` and queries `(episodes, queries, h, w, c)`.
    Output: `(episodes, queries, ways, h w, h w)` in [-1, 1]; positions of the prototype, then of the query, row by
    row.
    """

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        prototypes, queries = (_positions(unit(widen(x))) for x in inputs)
        cosines = tf.einsum("ekac,eqbc->eqkab", prototypes, queries)
        return tf.cast(cosines, inputs[0].dtype)

    def compute_output_shape(self, input_shape: Sequence[tf.TensorShape]) -> tf.TensorShape:
        prototypes, queries = map(tf.TensorShape, input_shape)
        return queries[:2].concatenate([prototypes[1], *(shape[2:4].num_elements() for shape in (prototypes, queries))])


@serializable
class FusedAttention(keras.layers.Layer):
    """`attention_p = 1 + softmax_p(mean_b cosines[p, b] kernel[b] / temperature)`.

    Args:
        map_shape: (h, w) of the map that is attended to.
        temperature: of the softmax; the smaller, the sharper.

    Inputs: cosines `(episodes, queries, ways, h w, n)` and kernels `(episodes, queries, ways, n)`.
    Output: `(episodes, queries, ways, h, w, 1)`, in [1, 2], summing to h w + 1.
    """

    def __init__(self, map_shape: Sequence[int], temperature: float = 0.025, **kwargs: Any):
        super().__init__(**kwargs)
        self.map_shape = tuple(map_shape)
        self.temperature = temperature

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        cosines, kernel = map(widen, inputs)
        fused = tf.linalg.matvec(cosines, kernel) / tf.cast(tf.shape(kernel)[-1], kernel.dtype)
        attention = 1.0 + tf.nn.softmax(fused / tf.constant(self.temperature, fused.dtype))
        shape = tf.concat([tf.shape(fused)[:-1], [*self.map_shape, 1]], axis=0)
        attention = tf.cast(tf.reshape(attention, shape), inputs[0].dtype)
        return tf.ensure_shape(attention, self.compute_output_shape([x.shape for x in inputs]))

    def compute_output_shape(self, input_shape: Sequence[tf.TensorShape]) -> tf.TensorShape:
        return tf.TensorShape(input_shape[0])[:-2].concatenate([*self.map_shape, 1])

    def get_config(self) -> dict:
        return {**super().get_config(), "map_shape": self.map_shape, "temperature": self.temperature}


@serializable
class AttendedQuery(keras.layers.Layer):
    """The query's map weighted by each of its attention maps: `y[e, j, k] = attention[e, j, k] x[e, j]`.

    Inputs: query maps `(episodes, queries, h, w, c)` and attention `(episodes, queries, ways, h, w, 1)`.
    Output: `(episodes, queries, ways, h, w, c)`.
    """

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        queries, attention = inputs
        return tf.expand_dims(queries, 2) * attention

    def compute_output_shape(self, input_shape: Sequence[tf.TensorShape]) -> tf.TensorShape:
        queries, attention = map(tf.TensorShape, input_shape)
        return attention[:-1].concatenate(queries[-1])


@serializable
class AttendedPrototypeMean(keras.layers.Layer):
    """Spatial mean of a prototype's map weighted by attention: `y[e, j, k] = mean_p attention[e, j, k, p] x[e, k, p]`.

    Inputs: prototypes `(episodes, ways, h, w, c)` and attention `(episodes, queries, ways, h, w, 1)`.
    Output: `(episodes, queries, ways, c)`.

    Notes:
        The weighted maps, `queries` times as many as the prototypes, are never made.
    """

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        prototypes, attention = (_positions(widen(x)) for x in inputs)
        sums = tf.einsum("ekpc,eqkp->eqkc", prototypes, tf.squeeze(attention, -1))
        return tf.cast(sums / tf.cast(tf.shape(prototypes)[2], sums.dtype), inputs[0].dtype)

    def compute_output_shape(self, input_shape: Sequence[tf.TensorShape]) -> tf.TensorShape:
        prototypes, attention = map(tf.TensorShape, input_shape)
        return attention[:3].concatenate(prototypes[-1])


def _positions(maps: tf.Tensor) -> tf.Tensor:
    """`(..., h, w, c)` to `(..., h w, c)`."""
    shape = tf.shape(maps)
    flat = tf.reshape(maps, tf.concat([shape[:-3], [shape[-3] * shape[-2], shape[-1]]], axis=0))
    static = maps.shape
    return tf.ensure_shape(flat, static[:-3].concatenate([static[-3:-1].num_elements(), static[-1]]))
