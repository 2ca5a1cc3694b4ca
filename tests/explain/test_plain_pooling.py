"""Relevance through max-pooling by plain operations is that of TensorFlow's own derivative."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from egt_tf.explain import Composite, Entry, record, reverse
from egt_tf.explain.plain_pooling import PlainMaxPool, without_pooling_gradient
from egt_tf.explain.presets import COMPOSITES
from egt_tf.explain.rules import RULES, Derivative, Route, Share
from egt_tf.heads.layers import MapMaxPooling2D

# (window, steps, padding)
POOLS = [(2, 2, "valid"), (3, 2, "valid"), (3, 2, "same"), ((2, 3), (1, 2), "same"), (2, 3, "valid"), ((3, 1), 1, "valid")]
VALUES = {"apart": lambda rng, shape: rng.permutation(np.prod(shape)).reshape(shape) - 60.0,
          "with ties": lambda rng, shape: rng.integers(-1, 2, shape), "zero": lambda rng, shape: np.zeros(shape)}


def both(layer, rule, x, rng):
    """Relevance by `rule` and by plain operations, for relevance of its own for every output, and the plain graph."""
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, layer(inputs))
    start = tf.constant(rng.normal(size=(len(x), *model.output_shape[1:])), tf.float32)

    def walk(rule):
        @tf.function(input_signature=[tf.TensorSpec([None, *x.shape[1:]])])
        def relevance(x):
            return reverse(record(model, [x]), start, Composite([Entry(rule, kind="max_pool")]))[0]

        return relevance(x).numpy(), relevance.get_concrete_function().graph.as_graph_def()

    (expected, _), (actual, graph) = walk(rule), walk(PlainMaxPool(rule))
    return expected, actual, {node.op for node in graph.node}


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("rule", [Share(), Route(), Derivative()], ids=repr)
@pytest.mark.parametrize("window, steps, padding", POOLS)
def test_relevance_is_that_of_the_rule(window, steps, padding, rule, values):
    rng = np.random.default_rng(5)
    x = VALUES[values](rng, (2, 7, 6, 3)).astype(np.float32)
    layer = keras.layers.MaxPooling2D(window, steps, padding)
    expected, actual, operations = both(layer, rule, x, rng)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)
    assert not [name for name in operations if "Grad" in name]
    assert expected.any() or (values == "zero" and rule == Share())


def test_maps_behind_several_axes():
    rng = np.random.default_rng(6)
    x = rng.integers(0, 4, (2, 3, 5, 4, 2)).astype(np.float32)
    expected, actual, operations = both(MapMaxPooling2D(2), Share(), x, rng)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)
    assert "MaxPoolGrad" not in operations and expected.any()


def test_other_layers_keep_their_rule():
    rng = np.random.default_rng(7)
    x = rng.normal(size=(2, 5, 4, 2)).astype(np.float32)
    expected, actual, _ = both(keras.layers.GlobalMaxPooling2D(), Share(), x, rng)
    np.testing.assert_array_equal(actual, expected)


def test_a_composite_keeps_all_other_rules():
    composite = COMPOSITES.get("epsilon_plus")
    plain = without_pooling_gradient(composite)
    assert plain.rule_for(keras.layers.MaxPooling2D()) == PlainMaxPool(composite.rule_for(keras.layers.MaxPooling2D()))
    assert plain.rule_for(keras.layers.Dense(2)) == composite.rule_for(keras.layers.Dense(2))
    assert plain.name == composite.name
    again = RULES.get(json.loads(json.dumps(PlainMaxPool(Share(0.5)).to_json())))
    assert again == PlainMaxPool(Share(0.5))
