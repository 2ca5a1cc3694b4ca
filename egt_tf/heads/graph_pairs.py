"""Layers of the graph head that look at pairs of nodes.

What is the same for a pair and for its reverse is computed for one of the two, and what is the same in every graph of an
episode once for all of them. So pairs come in two blocks, which every layer takes and gives as a list:

- pairs of two support nodes, `(episodes, graphs or 1, 1 + support (support - 1) / 2, ...)`, with 1 where all graphs have
  the same support nodes. The first of them is node 0 with itself, which stands for every node with itself;
- pairs with a query node, `(episodes, graphs, nodes (nodes - 1) / 2 - support (support - 1) / 2, ...)`.

In both, pair (i, j) with i < j lies before (k, l) if j < l, or if j = l and i < k.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from egt_tf.heads.layers import EpisodeBatchNormalization, axis_sizes
from egt_tf.keras_api import keras
from egt_tf.registry import serializable

Blocks = Sequence[tf.Tensor]
Shapes = Sequence[tf.TensorShape]


@serializable
class PairDifferences(keras.layers.Layer):
    """`|x_i - x_j|` for every pair of nodes.

    Input: nodes `(episodes, graphs, nodes, width)`, the queries last. Output: the two blocks, `(..., pairs, width)`.

    Args:
        per_graph: queries in a graph.
        same_support: the support nodes are the same in every graph; those of the first are looked at.
    """

    def __init__(self, per_graph: int = 1, same_support: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.per_graph = per_graph
        self.same_support = same_support

    def call(self, inputs: tf.Tensor) -> list[tf.Tensor]:
        nodes = axis_sizes(inputs)[-2]
        support = nodes - self.per_graph
        pairs = _pairs(nodes)
        of_support = _pair_count(support)
        supporting = inputs[:, :1, :support] if self.same_support else inputs[:, :, :support]
        itself = tf.zeros([1, 2], pairs.dtype)
        blocks = (
            _differences(supporting, tf.concat([itself, pairs[:of_support]], axis=0)),
            _differences(inputs, pairs[of_support:]),
        )
        return _with_shapes(blocks, self.compute_output_shape(inputs.shape))

    def compute_output_shape(self, input_shape: tf.TensorShape) -> list[tf.TensorShape]:
        episodes, graphs, nodes, width = tf.TensorShape(input_shape)
        among, beside = None, None
        if nodes is not None:
            among = 1 + _pair_count(nodes - self.per_graph)
            beside = 1 + _pair_count(nodes) - among
        return [
            tf.TensorShape([episodes, 1 if self.same_support else graphs, among, width]),
            tf.TensorShape([episodes, graphs, beside, width]),
        ]

    def get_config(self) -> dict:
        return {**super().get_config(), "per_graph": self.per_graph, "same_support": self.same_support}


@serializable
class PairDense(keras.layers.Dense):
    """A dense layer of pairs, `y = W x + b`.

    Inputs: two blocks `(..., width)`; or four, of which the first two hold the first channels of x, where there may be
    one support block for all graphs, and the last two the others: `W x` is then the sum of two products.
    Output: the two blocks, `(..., units)`.

    Args:
        units: see `keras.layers.Dense`.
        centred: the mean of each unit is taken away behind the layer. The bias, which has no effect then and the gradient
            0, is not added.
        **kwargs: see `keras.layers.Dense`.
    """

    def __init__(self, units: int, centred: bool = False, **kwargs: Any):
        super().__init__(units, **kwargs)
        self.centred = centred
        # Keras would hold several inputs against what it expects of one.
        self.input_spec = None

    def build(self, input_shape: Shapes) -> None:
        super().build(tf.TensorShape([None, sum(shape[-1] for shape in input_shape[::2])]))
        self.input_spec = None

    def call(self, inputs: Blocks) -> list[tf.Tensor]:
        kernels = tf.split(self.kernel, [x.shape[-1] for x in inputs[::2]], axis=0)
        ys = [self._of_block(parts, kernels) for parts in (inputs[::2], inputs[1::2])]
        return _with_shapes(ys, self.compute_output_shape([x.shape for x in inputs]))

    def _of_block(self, parts: Blocks, kernels: Blocks) -> tf.Tensor:
        *first, last = (
            tf.matmul(tf.reshape(x, [-1, x.shape[-1]]), kernel) for x, kernel in zip(parts, kernels, strict=True)
        )
        y = _beside(last, self.bias) if self.centred else tf.nn.bias_add(last, self.bias)
        if first and parts[0].shape[1] != 1:
            # As matrices, so that TensorFlow can make one operation of product and sum.
            y += first.pop()
        y = _with_leading_axes(y, parts[-1])
        return y if not first else y + _with_leading_axes(first[0], parts[0])

    def compute_output_shape(self, input_shape: Shapes) -> list[tf.TensorShape]:
        return [tf.TensorShape(shape)[:-1].concatenate(self.units) for shape in input_shape[-2:]]

    def get_config(self) -> dict:
        return {**super().get_config(), "centred": self.centred}


class _Shares(NamedTuple):
    """The part that a row has in the statistics.

    Attributes:
        itself: of node 0 with itself, the first pair of the first block.
        among: of the other pairs of support nodes.
        beside: of the pairs with a query node.
    """

    itself: tf.Tensor
    among: tf.Tensor
    beside: tf.Tensor

    def of_rows(self, x: Blocks) -> tuple[tf.Tensor, tf.Tensor]:
        """For each block what its rows are multiplied by."""
        first = tf.range(axis_sizes(x[0])[2]) == 0
        return tf.where(first, self.itself, self.among)[:, None], self.beside


@serializable
class PairBatchNormalization(EpisodeBatchNormalization):
    """`EpisodeBatchNormalization` with the statistics of all `graphs * nodes * nodes` pairs, and leaky ReLU.

    A pair counts twice, once for each direction, and a support pair that all graphs share once for each of them.

    Input and output: two blocks `(..., channels)`.

    Args:
        per_graph: queries in a graph.
        slope: of the activation where its input is negative; 1: there is no activation.
        **kwargs: see `EpisodeBatchNormalization`.
    """

    def __init__(self, per_graph: int = 1, slope: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.per_graph = per_graph
        self.slope = slope

    def build(self, input_shape: Shapes) -> None:
        super().build(tf.TensorShape(input_shape[0]))

    def call(self, inputs: Blocks, training: bool | None = None) -> list[tf.Tensor]:
        xs = [tf.cast(x, self.variable_dtype) for x in inputs]
        if self.batch_statistics or training:
            ys, mean, variance = self._by_statistics(xs)
            if not self.batch_statistics:
                self._update_averages(self.rows(xs), mean, variance)
        else:
            scale = tf.convert_to_tensor(self.gamma) * tf.math.rsqrt(self.moving_variance + self.epsilon)
            shift = self.beta - self.moving_mean * scale
            ys = [self._activated(x * scale + shift) for x in xs]
        ys = [tf.cast(y, x.dtype) for y, x in zip(ys, inputs, strict=True)]
        return _with_shapes(ys, self.compute_output_shape([x.shape for x in inputs]))

    def moments(self, x: Blocks) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and biased variance of each episode and channel, `(episodes, 1, 1, channels)`."""
        return self._moments(x, self._shares(x))

    def _moments(self, x: Blocks, shares: _Shares) -> tuple[tf.Tensor, tf.Tensor]:
        mean = _weighted_sum(x, shares)
        return mean, _weighted_sum([tf.math.squared_difference(block, mean) for block in x], shares)

    def rows(self, x: Blocks) -> tf.Tensor:
        """How many values of a channel the moments of an episode are of."""
        return tf.cast(axis_sizes(x[1])[1] * self._nodes(x) ** 2, x[1].dtype)

    def _nodes(self, x: Blocks) -> int | tf.Tensor:
        """How many nodes a graph has."""
        return _node_count(axis_sizes(x[1])[2], self.per_graph)

    def _shares(self, x: Blocks) -> _Shares:
        # A support pair that all graphs share counts once for each of them, a pair of two nodes in both directions.
        rows, graphs = self.rows(x), [axis_sizes(block)[1] for block in x]
        among = tf.cast(graphs[1] / graphs[0], rows.dtype) / rows
        return _Shares(tf.cast(self._nodes(x), rows.dtype) * among, 2.0 * among, 2.0 / rows)

    def _activated(self, x: tf.Tensor) -> tf.Tensor:
        return x if self.slope == 1.0 else tf.nn.leaky_relu(x, self.slope)

    def _by_statistics(self, xs: Blocks) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        """The outputs, and the statistics.

        The derivative is written out, which takes half the passes over the pairs. It is made of the same tensors, so
        that it can be differentiated again.
        """
        shares = self._shares(xs)
        mean, variance = self._moments(xs, shares)
        of_rows = shares.of_rows(xs)
        inverse = tf.math.rsqrt(variance + self.epsilon)

        @tf.custom_gradient
        def outputs(gamma: tf.Tensor, beta: tf.Tensor, *xs: tf.Tensor) -> Any:
            scale = gamma * inverse
            shift = beta - mean * scale
            ys = [self._activated(x * scale + shift) for x in xs]

            def derivative(*upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
                slopes = [self._slope(u, y) for u, y in zip(upstream, ys, strict=True)]
                of_shift = tf.add_n([_sum_of_rows(u) for u in slopes])
                # Of the normalised values, times the standard deviation.
                centred = tf.add_n([_sum_of_rows(u * x) for u, x in zip(slopes, xs, strict=True)]) - mean * of_shift
                by_value = -scale * tf.square(inverse) * centred
                constant = -scale * of_shift - by_value * mean
                of_xs = [
                    u * scale + (x * (share * by_value) + share * constant)
                    for u, x, share in zip(slopes, xs, of_rows, strict=True)
                ]
                of_gamma, of_beta = (tf.reduce_sum(t, [0, 1, 2]) for t in (centred * inverse, of_shift))
                return of_gamma, of_beta, *of_xs

            return ys, derivative

        ys = outputs(tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta), *xs)
        return ys, mean, variance

    def _slope(self, upstream: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """The derivative before the activation; its output has the sign of its input."""
        if self.slope == 1.0:
            return upstream
        return tf.raw_ops.LeakyReluGrad(gradients=upstream, features=y, alpha=self.slope)

    def compute_output_shape(self, input_shape: Shapes) -> list[tf.TensorShape]:
        return [tf.TensorShape(shape) for shape in input_shape]

    def get_config(self) -> dict:
        return {**super().get_config(), "per_graph": self.per_graph, "slope": self.slope}


@serializable
class PairMatrix(keras.layers.Layer):
    """The symmetric matrix of values of pairs.

    Input: two blocks `(..., pairs, 1)`. Output: `(episodes, graphs, nodes, nodes)`.

    Args:
        per_graph: queries in a graph.
    """

    def __init__(self, per_graph: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.per_graph = per_graph

    def call(self, inputs: Blocks) -> tf.Tensor:
        among, beside = (tf.squeeze(x, axis=-1) for x in inputs)
        episodes, graphs, pairs = axis_sizes(beside)
        nodes = _node_count(pairs, self.per_graph)
        among = tf.broadcast_to(among, [episodes, graphs, axis_sizes(among)[2]])
        i = tf.range(nodes)
        later, earlier = tf.maximum(i[:, None], i), tf.minimum(i[:, None], i)
        place = tf.where(later == earlier, 0, 1 + _pair_count(later) + earlier)
        matrix = tf.gather(tf.concat([among, beside], axis=-1), place, axis=-1)
        return tf.ensure_shape(matrix, self.compute_output_shape([x.shape for x in inputs]))

    def compute_output_shape(self, input_shape: Shapes) -> tf.TensorShape:
        episodes, graphs, pairs, _ = tf.TensorShape(input_shape[1])
        nodes = None if pairs is None else _node_count(pairs, self.per_graph)
        return tf.TensorShape([episodes, graphs, nodes, nodes])

    def get_config(self) -> dict:
        return {**super().get_config(), "per_graph": self.per_graph}


def _pair_count(nodes: Any) -> Any:
    return nodes * (nodes - 1) // 2


def _node_count(pairs: Any, per_graph: int) -> Any:
    """Nodes of a graph with so many pairs with a query: each query with each support node, and two queries."""
    return (pairs - _pair_count(per_graph)) // per_graph + per_graph


def _pairs(nodes: int | tf.Tensor) -> tf.Tensor:
    """All (i, j) with i < j in the order of this file, `(pairs, 2)`."""
    i = tf.range(nodes)
    return tf.reverse(tf.where(i[:, None] > i), axis=[-1])


def _differences(x: tf.Tensor, pairs: tf.Tensor) -> tf.Tensor:
    """`|x_i - x_j|` of each of `pairs`, `(..., pairs, width)`."""
    later, earlier = tf.unstack(pairs, axis=1)
    nodes = axis_sizes(x)[-2]
    signs = tf.one_hot(later, nodes, dtype=x.dtype) - tf.one_hot(earlier, nodes, dtype=x.dtype)

    @tf.custom_gradient
    def difference(x: tf.Tensor) -> Any:
        y = tf.gather(x, later, axis=-2) - tf.gather(x, earlier, axis=-2)
        # Else rows are added one by one. Forward, a product may round before it subtracts.
        return y, lambda upstream: tf.matmul(signs, upstream, transpose_a=True)

    return tf.abs(difference(x))


def _beside(y: tf.Tensor, without_effect: tf.Tensor) -> tf.Tensor:
    """`y`; a weight without effect has the gradient 0, where Keras would miss one."""

    @tf.custom_gradient
    def first(y: tf.Tensor, weight: tf.Tensor) -> Any:
        return tf.identity(y), lambda upstream: (upstream, tf.zeros_like(weight))

    return first(y, tf.convert_to_tensor(without_effect))


def _with_leading_axes(matrix: tf.Tensor, of: tf.Tensor) -> tf.Tensor:
    """The rows of a matrix along all axes but the last of another tensor."""
    return tf.reshape(matrix, [*axis_sizes(of)[:-1], matrix.shape[-1]])


def _sum_of_rows(x: tf.Tensor) -> tf.Tensor:
    """Sum over the graphs and pairs of each episode, `(episodes, 1, 1, channels)`."""
    episodes, graphs, pairs, channels = axis_sizes(x)
    # Twice as fast as over two axes.
    rows = tf.reshape(x, [episodes, graphs * pairs, channels])
    return tf.reduce_sum(rows, axis=1, keepdims=True)[:, None]


def _weighted_sum(blocks: Blocks, shares: _Shares) -> tf.Tensor:
    """The sum of all rows times their shares: no product of each row is made."""
    among, beside = map(_sum_of_rows, blocks)
    itself = tf.reduce_sum(blocks[0][:, :, :1], [1], keepdims=True)
    return tf.add_n([shares.among * among, (shares.itself - shares.among) * itself, shares.beside * beside])


def _with_shapes(tensors: Blocks, shapes: Shapes) -> list[tf.Tensor]:
    return [tf.ensure_shape(x, shape) for x, shape in zip(tensors, shapes, strict=True)]
