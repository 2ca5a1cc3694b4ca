"""Layers of the graph head. All carry the episode as their first axis and the graph as their second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from egt_tf.errors import ConfigError
from egt_tf.keras_api import keras
from egt_tf.registry import serializable

# Taken from the weight of a node for itself, which the softmax then makes exactly 0.
SELF_PENALTY = 1e8


@serializable
class GraphNodes(keras.layers.Layer):
    """The graphs of an episode: every graph holds the whole support set and `per_graph` queries.

    Graph `i` has as nodes the support images in their order, then the queries `i`, `i + graphs`, `i + 2 graphs`, ...:
    with the queries of a class one after the other and `per_graph = ways`, the i-th query of every class. The label of
    a support node is its one-hot label, that of a query node is all zeros.

    Inputs: vectors `(episodes, support + queries, width)`, the support first, and one-hot labels
    `(episodes, support, ways)`.
    Outputs: nodes `(episodes, graphs, nodes, width)` and their labels `(episodes, graphs, nodes, ways)`;
    `graphs = queries / per_graph`, `nodes = support + per_graph`.

    Args:
        ways: classes of every episode.
        per_graph: queries in a graph.

    Raises:
        ConfigError: an episode of other ways, or a number of queries that is no multiple of `per_graph`. Where the
            shapes are known only when a graph runs, TensorFlow's InvalidArgumentError.
    """

    def __init__(self, ways: int, per_graph: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.ways = ways
        self.per_graph = per_graph

    def call(self, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        vectors, labels = inputs
        shapes = self.compute_output_shape([vectors.shape, labels.shape])
        sizes, label_sizes = tf.shape(vectors), tf.shape(labels)
        episodes, support = label_sizes[0], label_sizes[1]
        queries = sizes[1] - support
        # Else a reshape may fail before the check that says why.
        with tf.control_dependencies(self._checks(label_sizes[2], queries)):
            queries = tf.identity(queries)
        graphs = queries // self.per_graph

        def with_support(of_support: tf.Tensor, of_query: tf.Tensor) -> tf.Tensor:
            width = tf.shape(of_support)[-1]
            repeated = tf.broadcast_to(of_support[:, None], [episodes, graphs, support, width])
            return tf.concat([repeated, of_query], axis=2)

        query = tf.reshape(vectors[:, support:], [episodes, self.per_graph, graphs, sizes[2]])
        unlabelled = tf.zeros([episodes, graphs, self.per_graph, label_sizes[2]], vectors.dtype)
        outputs = (
            with_support(vectors[:, :support], tf.transpose(query, [0, 2, 1, 3])),
            with_support(tf.cast(labels, vectors.dtype), unlabelled),
        )
        return [tf.ensure_shape(y, shape) for y, shape in zip(outputs, shapes, strict=True)]

    def compute_output_shape(self, input_shape: Sequence[tf.TensorShape]) -> list[tf.TensorShape]:
        vectors, labels = map(tf.TensorShape, input_shape)
        support, graphs, nodes = labels[1], None, None
        if labels[2] not in (None, self.ways):
            raise ConfigError(self._wrong_ways() + f" Received: {labels[2]} ways")
        if support is not None:
            nodes = support + self.per_graph
        if support is not None and vectors[1] is not None:
            graphs, rest = divmod(vectors[1] - support, self.per_graph)
            if rest:
                raise ConfigError(self._wrong_queries() + f" Received: {vectors[1] - support} queries")
        return [tf.TensorShape([vectors[0], graphs, nodes, width]) for width in (vectors[2], self.ways)]

    def _checks(self, ways: tf.Tensor, queries: tf.Tensor) -> list[tf.Operation]:
        """Operations that check what only a running graph knows."""
        return [
            tf.debugging.assert_equal(ways, self.ways, self._wrong_ways()),
            tf.debugging.assert_equal(queries % self.per_graph, 0, self._wrong_queries()),
        ]

    def _wrong_ways(self) -> str:
        return f"the graph head was made for episodes of {self.ways} ways."

    def _wrong_queries(self) -> str:
        return (
            f"the graph head needs a multiple of {self.per_graph} queries in an episode, the same number of each "
            "class; queries_per_graph='one' takes any number."
        )

    def get_config(self) -> dict:
        return {**super().get_config(), "ways": self.ways, "per_graph": self.per_graph}


@serializable
class NeighbourSoftmax(keras.layers.Layer):
    """Weights of each node's neighbours: the softmax of a row over all nodes but the node itself, which gets 0.

    Input: `(..., nodes, nodes)`, at least two nodes. Output: the same shape; rows sum to 1.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        # float16 ends below the penalty.
        x = tf.cast(inputs, self.variable_dtype)
        penalty = tf.constant(SELF_PENALTY, x.dtype) * tf.eye(tf.shape(x)[-1], dtype=x.dtype)
        return tf.cast(tf.nn.softmax(x - penalty, axis=-1), inputs.dtype)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(input_shape)


@serializable
class Neighbourhood(keras.layers.Layer):
    """Each node beside the mean of its neighbours: `[x ; A x]`.

    Inputs: nodes x `(..., nodes, width)` and weights A `(..., nodes, nodes)`.
    Output: `(..., nodes, 2 width)`, the node first.
    """

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        nodes, weights = inputs
        return tf.concat([nodes, tf.matmul(weights, nodes)], axis=-1)

    def compute_output_shape(self, input_shape: Sequence[tf.TensorShape]) -> tf.TensorShape:
        nodes = tf.TensorShape(input_shape[0])
        return nodes[:-1].concatenate([2 * nodes[-1]])


@serializable
class SkipConcatenate(keras.layers.Concatenate):
    """Concatenation of a level's input, of features that skip a level, and of new features, in this order.

    A class of its own so that rules of relevance can treat the skipping features in a way of their own.
    """


@serializable
class QueryScores(keras.layers.Layer):
    """The scores of the query nodes, in the order that `GraphNodes` took the queries from.

    Input: scores of all nodes `(episodes, graphs, nodes, ways)`, of which the last `per_graph` nodes are queries.
    Output: `(episodes, per_graph * graphs, ways)`.

    Args:
        per_graph: queries in a graph.
    """

    def __init__(self, per_graph: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.per_graph = per_graph

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(inputs)
        scores = tf.transpose(inputs[:, :, -self.per_graph :], [0, 2, 1, 3])
        scores = tf.reshape(scores, [shape[0], self.per_graph * shape[1], shape[3]])
        return tf.ensure_shape(scores, self.compute_output_shape(inputs.shape))

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        episodes, graphs, _, ways = tf.TensorShape(input_shape)
        return tf.TensorShape([episodes, None if graphs is None else self.per_graph * graphs, ways])

    def get_config(self) -> dict:
        return {**super().get_config(), "per_graph": self.per_graph}
