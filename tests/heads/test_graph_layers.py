from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.errors import ConfigError, original_error
from egt_tf.heads.graph_layers import (
    GraphNodes,
    Neighbourhood,
    NeighbourSoftmax,
    QueryScores,
    SkipConcatenate,
)
from egt_tf.keras_api import keras
from tests.layer_harness import check_layer

RNG = np.random.default_rng(3)
LABELS = np.tile(np.eye(3, dtype=np.float32)[[0, 1, 2, 2]], (2, 1, 1))


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


CASES = {
    "graphs of a query of each class": (lambda: GraphNodes(3, 3), [normal(2, 10, 5), LABELS], [[1], [1, 2]], (0,)),
    "graphs of one query": (lambda: GraphNodes(3, name="g"), [normal(2, 9, 5), LABELS], [[1], [1, 2]], (0,)),
    "softmax": (lambda: NeighbourSoftmax(), [normal(2, 3, 4, 4)], [[1, 2, 3]], (0,)),
    "neighbourhood": (lambda: Neighbourhood(), [normal(2, 3, 4, 5), normal(2, 3, 4, 4)], [[1, 2], [1, 2, 3]], (0, 1)),
    "skip": (
        lambda: SkipConcatenate(),
        [normal(2, 3, 4, 5), normal(2, 3, 4, 1), normal(2, 3, 4, 2)],
        [[1, 2], [1, 2], [1, 2]],
        (0, 1, 2),
    ),
    "scores": (lambda: QueryScores(3), [normal(2, 4, 7, 3)], [[1, 2]], (0,)),
}


@pytest.mark.parametrize("case", CASES)
def test_layer(case, tmp_path):
    make, inputs, free_axes, differentiable = CASES[case]
    check_layer(make, inputs, free_axes, tmp_path, differentiable=differentiable)


def test_a_graph_holds_the_support_set_and_a_query_of_every_class():
    vectors = np.arange(10.0, dtype=np.float32).reshape(1, 10, 1)
    nodes, labels = GraphNodes(3, 3)([vectors, LABELS[:1]])
    np.testing.assert_array_equal(nodes[0, :, :, 0], [[0, 1, 2, 3, 4, 6, 8], [0, 1, 2, 3, 5, 7, 9]])
    np.testing.assert_array_equal(labels[0], np.tile(np.pad(LABELS[0], ((0, 3), (0, 0))), (2, 1, 1)))


def test_scores_come_back_in_the_order_of_the_queries():
    queries = np.arange(6.0, dtype=np.float32).reshape(1, 6, 1)
    vectors = np.concatenate([np.full((1, 4, 1), -1.0, np.float32), queries], axis=1)
    for per_graph in (3, 1):
        nodes, _ = GraphNodes(3, per_graph)([vectors, LABELS[:1]])
        np.testing.assert_array_equal(QueryScores(per_graph)(nodes), queries)


def test_a_node_is_not_its_own_neighbour():
    weights = NeighbourSoftmax()(100 * normal(2, 3, 4, 4)).numpy()
    assert np.all(np.diagonal(weights, axis1=-2, axis2=-1) == 0)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)


WRONG = [((1, 10, 5), (1, 4, 2), "episodes of 3 ways"), ((1, 9, 5), (1, 4, 3), "a multiple of 3 queries")]


@pytest.mark.parametrize(("vectors", "labels", "message"), WRONG)
def test_wrong_sizes_are_refused(vectors, labels, message):
    with pytest.raises(ConfigError, match=f"{message}.*Received: ") as raised, original_error():
        GraphNodes(3, 3)([tf.zeros(vectors), tf.zeros(labels)])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("vectors", "labels", "message"), WRONG)
def test_wrong_sizes_that_only_a_running_graph_knows_are_refused(vectors, labels, message):
    symbols = [keras.Input((None, 5)), keras.Input((None, None))]
    model = keras.Model(symbols, GraphNodes(3, 3)(symbols))
    graph = tf.function(model, input_signature=[[tf.TensorSpec((None, None, 5)), tf.TensorSpec((None, None, None))]])
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        graph([tf.zeros(vectors), tf.zeros(labels)])
