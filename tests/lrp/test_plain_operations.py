"""Relevance by plain operations is that of the rules that use TensorFlow's own derivatives."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.backbones.layers import LearnedTokens, PositionEmbedding
from egt_tf.heads.layers import MapMaxPooling2D, PairConcat, PrototypeMean
from egt_tf.keras_api import keras
from egt_tf.lrp import Composite, Entry, record, reverse
from egt_tf.lrp.plain_operations import PlainDerivative, PlainMask, with_plain_operations
from egt_tf.lrp.presets import COMPOSITES
from egt_tf.lrp.rules import RULES, Derivative, Mask, Share
from tests.helpers.quick import all_but_slow

# (window, steps, padding)
POOLS = [
    (2, 2, "valid"),
    (3, 2, "valid"),
    (3, 2, "same"),
    ((2, 3), (1, 2), "same"),
    (2, 3, "valid"),
    ((3, 1), 1, "valid"),
]
VALUES = {
    "apart": lambda rng, shape: rng.permutation(np.prod(shape)).reshape(shape) - 60.0,
    "with ties": lambda rng, shape: rng.integers(-1, 2, shape),
    "zero": lambda rng, shape: np.zeros(shape),
}


def both(layer, rule, xs, rng):
    """Relevance by `rule` and by plain operations, for relevance of its own for every output, and the plain graph."""
    inputs = [keras.Input(x.shape[1:]) for x in xs]
    model = keras.Model(inputs, layer(inputs if len(inputs) > 1 else inputs[0]))
    start = tf.constant(rng.normal(size=(len(xs[0]), *model.output_shape[1:])), tf.float32)

    def walk(rule):
        @tf.function(input_signature=[tf.TensorSpec([None, *x.shape[1:]]) for x in xs])
        def relevance(*xs):
            return reverse(record(model, xs), start, Composite([Entry(rule, layer_type="any")]))

        return [r.numpy() for r in relevance(*xs)], relevance.get_concrete_function().graph.as_graph_def()

    (expected, _), (actual, graph) = walk(rule), walk(PlainMask() if rule == Mask() else PlainDerivative(rule))
    return expected, actual, {node.op for node in graph.node}


@pytest.mark.parametrize("values", all_but_slow(VALUES, {"apart"}))
@pytest.mark.parametrize("rule", [Share(), Derivative()], ids=repr)
@pytest.mark.parametrize(("window", "steps", "padding"), all_but_slow(POOLS, POOLS[3:5]))
def test_max_pooling(window, steps, padding, rule, values):
    rng = np.random.default_rng(5)
    x = VALUES[values](rng, (2, 7, 6, 3)).astype(np.float32)
    (expected,), (actual,), operations = both(keras.layers.MaxPooling2D(window, steps, padding), rule, [x], rng)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)
    assert not [name for name in operations if "Grad" in name]
    assert expected.any() or (values == "zero" and rule == Share())


def test_max_pooling_behind_several_axes():
    rng = np.random.default_rng(6)
    x = rng.integers(0, 4, (2, 3, 5, 4, 2)).astype(np.float32)
    (expected,), (actual,), operations = both(MapMaxPooling2D(2), Share(), [x], rng)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)
    assert "MaxPoolGrad" not in operations
    assert expected.any()


def test_pairs():
    rng = np.random.default_rng(7)
    xs = [rng.normal(size=(2, sets, 3, 3, 4)).astype(np.float32) for sets in (5, 6)]
    expected, actual, operations = both(PairConcat(), Derivative(), xs, rng)
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    assert not operations & {"ConcatOffset", "BroadcastGradientArgs"}


@pytest.mark.parametrize("rule", [Share(), Share(0.01), Derivative()], ids=repr)
def test_prototypes(rule):
    rng = np.random.default_rng(8)
    labels = np.repeat(np.eye(3)[None, [0, 1, 1, 0, 2]], 2, axis=0).astype(np.float32)
    xs = [rng.normal(size=(2, 5, 3, 3, 4)).astype(np.float32), labels]
    expected, actual, operations = both(PrototypeMean(), rule, xs, rng)
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-5, atol=1e-5)
    assert "BroadcastGradientArgs" not in operations
    assert expected[0].any()


def test_sums():
    rng = np.random.default_rng(9)
    xs = [rng.normal(size=(2, 3, 3, 4)).astype(np.float32) for _ in range(3)]
    expected, actual, operations = both(keras.layers.Add(), Share(), xs, rng)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)
    assert "BroadcastGradientArgs" not in operations


@pytest.mark.parametrize(
    ("layer", "rule"),
    [
        (PositionEmbedding("random_normal"), Share()),
        (LearnedTokens(2, "random_normal"), Derivative()),
        (keras.layers.Cropping1D((2, 1)), Derivative()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_tokens(layer, rule):
    rng = np.random.default_rng(9)
    x = rng.normal(size=(2, 5, 4)).astype(np.float32)
    (expected,), (actual,), operations = both(layer, rule, [x], rng)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)
    assert not operations & {"BroadcastGradientArgs", "ConcatOffset", "StridedSliceGrad"}
    assert expected.any()


def test_activations():
    rng = np.random.default_rng(9)
    x = rng.integers(-2, 3, (2, 5, 4, 2)).astype(np.float32)
    (expected,), (actual,), operations = both(keras.layers.ReLU(), Mask(), [x], rng)
    np.testing.assert_array_equal(actual, expected)
    assert "ReluGrad" not in operations


def test_other_layers_keep_their_rule():
    rng = np.random.default_rng(10)
    x = rng.normal(size=(2, 5, 4, 2)).astype(np.float32)
    expected, actual, _ = both(keras.layers.GlobalMaxPooling2D(), Share(), [x], rng)
    np.testing.assert_array_equal(actual, expected)


def test_a_composite_keeps_all_other_rules():
    composite = COMPOSITES.get("epsilon_plus")
    plain, pool, dense = with_plain_operations(composite), keras.layers.MaxPooling2D(), keras.layers.Dense(2)
    assert plain.rule_for(pool) == PlainDerivative(composite.rule_for(pool))
    assert plain.rule_for(dense) == composite.rule_for(dense)
    assert plain.name == composite.name
    again = RULES.get(json.loads(json.dumps(PlainDerivative(Share(0.5)).to_json())))
    assert again == PlainDerivative(Share(0.5))
