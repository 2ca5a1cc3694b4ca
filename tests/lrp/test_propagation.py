"""Recording a forward pass and walking it back."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.backbones import conv4
from egt_tf.errors import ExplainError
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, Composite, Entry, record, reverse
from egt_tf.lrp.linear_rules import Epsilon, ZPlus
from egt_tf.lrp.presets import structural_entries
from egt_tf.lrp.rules import Derivative, LayerState, Mask, Pass
from tests.helpers.quick import all_but_slow

L = keras.layers
FSC = COMPOSITES.get("fsc")
DERIVATIVE = Composite([Entry(Derivative(), layer_type="any")])


def _residual_model():
    """Every structural trait at once: a nested model, a residual sum, batch normalisation, dropout, pooling."""
    maps = keras.Input((6, 6, 4))
    branch = keras.Model(
        maps, L.BatchNormalization(name="inner_bn")(L.Conv2D(4, 3, padding="same", name="inner")(maps))
    )
    images = keras.Input((6, 6, 3))
    x = L.Activation("relu", name="stem_relu")(L.Conv2D(4, 3, padding="same", name="stem")(images))
    x = L.Activation("relu", name="sum_relu")(L.Add(name="sum")([x, branch(x)]))
    x = L.Flatten(name="flat")(L.MaxPooling2D(2, name="pool")(L.Dropout(0.5, name="dropout")(x)))
    return keras.Model(images, L.Dense(3, name="scores")(x))


def _images(count=2, seed=0):
    return tf.random.stateless_normal((count, 6, 6, 3), (seed, 1))


def test_record_gives_the_models_outputs_and_unrolls_nested_models():
    model, images = _residual_model(), _images()
    trace = record(model, [images])
    np.testing.assert_allclose(trace.outputs[0], model(images), rtol=1e-6)
    names = [call.layer.name for call in trace.calls]
    assert names.index("inner") < names.index("inner_bn") < names.index("sum")
    assert trace.output_of("stem_relu").shape == (2, 6, 6, 4)
    with pytest.raises(ExplainError, match="'stm'"):
        trace.output_of("stm")


def test_record_hands_on_the_training_flag():
    model, images = _residual_model(), _images()
    trained = record(model, [images], training=True)
    assert np.any(trained.output_of("dropout").numpy() != trained.output_of("sum_relu").numpy())
    before = model.get_layer(index=3).get_weights()[-2].copy()
    record(model, [images], training=False)
    np.testing.assert_array_equal(model.get_layer(index=3).get_weights()[-2], before)


def test_record_knows_where_values_cannot_be_negative():
    trace = record(_residual_model(), [_images()])
    signs = {call.layer.name: call.state.nonnegative for call in trace.calls}
    assert signs["stem"] == (False,)
    assert signs["inner"] == (True,)
    assert signs["sum"] == (True, False)
    assert signs["pool"] == (True,)
    assert signs["scores"] == (True,)
    for call in trace.calls:
        for x, nonnegative in zip(call.inputs, call.state.nonnegative):
            assert not nonnegative or tf.reduce_min(x) >= 0


def test_sequential_models_are_recorded():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, activation="relu"), L.Dense(2)])
    x = tf.ones((1, 4))
    np.testing.assert_allclose(record(model, [x]).outputs[0], model(x), rtol=1e-6)


def test_subclassed_models_are_refused():
    class Opaque(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ExplainError, match="Functional and Sequential"):
        record(Opaque(), [tf.ones((1, 2))])


def test_the_number_of_inputs_is_checked():
    with pytest.raises(ExplainError, match=r"takes 1 inputs. Received: 2"):
        record(_residual_model(), [_images(), _images()])


def test_relevance_is_conserved_without_biases():
    model = _residual_model()
    rules = Composite(
        [
            Entry(Epsilon(1e-7, bias=False), layer_type="dense"),
            Entry(ZPlus(), layer_type="convolution"),
            Entry(Pass(), layer_type="batch_norm"),
            *FSC.entries,
        ]
    )
    trace = record(model, [_images()])
    start = tf.one_hot([1, 2], 3) * trace.outputs[0]
    flat, pool = reverse(trace, start, rules, [trace.output_of("flat"), trace.output_of("pool")])
    for r in (flat, pool):
        np.testing.assert_allclose(tf.reduce_sum(tf.reshape(r, (2, -1)), 1), tf.reduce_sum(start, 1), rtol=1e-3)


def test_a_tensor_used_twice_gathers_both_relevances():
    inputs = keras.Input((3,))
    x = L.Activation("linear", name="x")(inputs)
    model = keras.Model(inputs, L.Concatenate()([x, x]))
    trace = record(model, [tf.ones((1, 3))])
    composite = Composite([Entry(Pass(), layer_type="activation"), *structural_entries()])
    (r,) = reverse(trace, tf.constant([[1.0, 2.0, 3.0, 10.0, 20.0, 30.0]]), composite)
    np.testing.assert_allclose(r, [[11.0, 22.0, 33.0]])


def test_inputs_that_nothing_reaches_have_zero_relevance():
    a, b = keras.Input((2,)), keras.Input((2,))
    trace = record(keras.Model([a, b], L.Activation("relu")(a)), [tf.ones((1, 2)), tf.ones((1, 2))])
    assert not np.any(reverse(trace, tf.ones((1, 2)), FSC)[1])


def test_the_walk_ends_at_its_targets():
    a, b = keras.Input((3,)), keras.Input((3,))
    low = L.LayerNormalization(name="below")(a)
    mid = L.Activation("linear", name="mid")(low)
    top = L.Add(name="top")([L.Activation("linear", name="left")(mid), b])
    trace = record(keras.Model([a, b], L.Add()([mid, top])), [tf.ones((1, 3)), tf.ones((1, 3))])
    start = tf.constant([[4.0, 2.0, 1.0]])
    derivative = Composite([Entry(Derivative(), layer_type=each) for each in ("add", "activation")])
    # It goes below a target where another one lies there, and `mid` gathers both of its ways.
    top, mid, b = reverse(trace, start, derivative, [trace.output_of("top"), trace.output_of("mid"), trace.inputs[1]])
    np.testing.assert_array_equal(top, start)
    np.testing.assert_array_equal(mid, 2 * start)
    np.testing.assert_array_equal(b, start)
    with pytest.raises(ExplainError, match="'below'"):
        reverse(trace, start, derivative)


def test_what_a_graph_says_of_training_is_followed():
    x = keras.Input((400,))
    inner = keras.Sequential([keras.Input((400,)), L.Dropout(0.5)])
    calls = {
        "always": L.Dropout(0.5)(x, training=True),
        "never": L.Dropout(0.5)(x, training=False),
        "by position": L.Dropout(0.5)(x, True),
        "as told": L.Dropout(0.5)(x),
        "always, nested": inner(x, training=True),
        "never, nested": inner(x, training=False),
    }
    ones = tf.ones((1, 400))
    for training in (False, True):
        for case, y in calls.items():
            dropped = bool(tf.reduce_any(record(keras.Model(x, y), [ones], training).outputs[0] == 0.0))
            assert dropped == {"a": True, "n": False, "b": True}.get(case[0] * (case != "as told"), training), case


def test_output_relevance_has_the_shape_of_the_output():
    trace = record(_residual_model(), [_images()])
    start = np.random.default_rng(0).normal(size=(2, 3))
    from_array, from_tensor = (reverse(trace, r, FSC)[0] for r in (start, tf.constant(start, tf.float32)))
    np.testing.assert_array_equal(from_array, from_tensor)
    for shape in ((3,), (1, 3), (2, 4), ()):
        with pytest.raises(ExplainError, match=r"must be shaped as what it is of, \(2, 3\)"):
            reverse(trace, tf.ones(shape), FSC)


# === Precision ===

POLICIES = ("float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16")


def _every_layer(dtype, of_one=None):
    """A model whose layers all have one policy, or one of which (`of_one`) has it; else they are float32."""

    def policy(name):
        return {"name": name, "dtype": dtype if of_one in (None, name) else "float32"}

    images = keras.Input((6, 6, 3), dtype="float32" if of_one or "mixed" in dtype else dtype)
    x = L.Conv2D(4, 3, padding="same", **policy("stem"))(images)
    x = L.BatchNormalization(**policy("norm"))(x)
    x = L.Activation("relu", **policy("relu"))(x)
    x = L.Add(**policy("sum"))([x, L.DepthwiseConv2D(3, padding="same", **policy("depthwise"))(x)])
    x = L.PReLU(alpha_initializer=keras.initializers.Constant(0.3), **policy("prelu"))(x)
    x = L.Flatten(**policy("flat"))(L.MaxPooling2D(2, **policy("pool"))(x))
    return keras.Model(images, L.Dense(3, **policy("scores"))(x))


LAYERS = ("stem", "norm", "relu", "sum", "depthwise", "prelu", "pool", "flat", "scores")
CASES = [*((policy, None) for policy in POLICIES), *((d, name) for d in ("float16", "float64") for name in LAYERS)]


@pytest.mark.parametrize(
    ("dtype", "of_one"), all_but_slow(CASES, {*(("float64", name) for name in LAYERS), ("mixed_bfloat16", None)})
)
@pytest.mark.parametrize("composite", all_but_slow(["epsilon_plus", "fsc", "derivative"], {"fsc"}))
def test_models_of_every_precision_are_explained(dtype, of_one, composite):
    composite = DERIVATIVE if composite == "derivative" else COMPOSITES.get(composite)
    keras.utils.set_random_seed(8)
    plain, other = _every_layer("float32"), _every_layer(dtype, of_one)
    other.set_weights(plain.get_weights())
    # Rounded alike, so that the models differ by what they compute alone.
    plain.set_weights([np.asarray(w, np.float32) for w in other.get_weights()])
    x = tf.cast(tf.cast(_images(), tf.bfloat16), tf.float32)
    start = tf.constant([[1.0, 0.0, 0.0], [0.0, 0.5, -1.0]])
    (expected,) = reverse(record(plain, [x]), start, composite)
    (found,) = reverse(record(other, [tf.cast(x, other.inputs[0].dtype)]), start, composite)
    assert found.dtype == (tf.float64 if other.inputs[0].dtype == tf.float64 else tf.float32)
    error = np.abs(found.numpy() - expected.numpy()).sum() / np.abs(expected.numpy()).sum()
    # In half precision some units and maxima change over.
    assert error < (1e-5 if dtype == "float64" else 0.1)


def test_a_layer_without_a_rule_is_named():
    model = keras.Sequential([keras.Input((4,)), L.Lambda(tf.sin, name="strange")])
    trace = record(model, [tf.ones((1, 4))])
    with pytest.raises(ExplainError, match=r"'fsc'.*'strange'.*Lambda"):
        reverse(trace, tf.ones((1, 4)), FSC)


def test_graphs_and_eager_calls_agree_on_current_weights():
    model, images = _residual_model(), _images()

    def explain(x):
        trace = record(model, [x])
        return reverse(trace, trace.outputs[0], FSC)[0]

    in_graph = tf.function(explain)
    first = in_graph(images)
    np.testing.assert_allclose(first, explain(images), rtol=1e-4, atol=1e-6)
    model.set_weights([1.1 * w for w in model.get_weights()])
    np.testing.assert_allclose(in_graph(images), explain(images), rtol=1e-4, atol=1e-6)
    assert not np.allclose(first, in_graph(images))
    assert in_graph.experimental_get_tracing_count() == 1


def test_explaining_leaves_the_model_as_it_was():
    model = conv4(16, width=4, seed=0)
    images = tf.random.stateless_normal((2, 16, 16, 3), (0, 1))
    before, flags, output = model.get_weights(), [layer.trainable for layer in model.layers], model(images).numpy()
    trace = record(model, [images])
    reverse(trace, trace.outputs[0], FSC)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert flags == [layer.trainable for layer in model.layers]
    np.testing.assert_array_equal(output, model(images).numpy())


def test_a_weighted_sum_takes_relevance_through_its_own_activation_by_the_rule_for_it():
    layer = L.Dense(3, activation="relu")
    x, r = tf.constant([[1.0, -2.0]]), tf.constant([[1.0, 2.0, 3.0]])
    y = layer(x)
    layer.set_weights([np.array([[1.0, -1.0, 2.0], [1.0, 0.5, -1.0]], np.float32), np.zeros(3, np.float32)])
    y, state = layer(x), LayerState(layer, lambda xs: [layer(*xs)])
    np.testing.assert_array_equal(y > 0, [[False, False, True]])

    def relevance(r, state):
        return Epsilon(0.1).apply([x], [y], [r], state)[0]

    asked = []

    def rule_for(activation):
        asked.append(activation)
        return Mask()

    masked = relevance(r, dataclasses.replace(state, rule_for=rule_for))
    np.testing.assert_array_equal(masked, relevance(r * [[0.0, 0.0, 1.0]], state))
    assert np.any(masked != relevance(r, state))
    (activation,) = asked
    assert isinstance(activation, L.Activation)
    assert activation.activation is keras.activations.relu


def test_zero_images_give_finite_relevance():
    trace = record(_residual_model(), [tf.zeros((1, 6, 6, 3))])
    assert np.isfinite(reverse(trace, tf.ones((1, 3)), FSC)[0]).all()


def test_no_gradient_flows_through_a_detached_trace():
    model, images = _residual_model(), _images()
    with tf.GradientTape() as tape:
        tape.watch(images)
        trace = record(model, [images])
        (r,) = reverse(trace.detached(), tf.ones((2, 3)), FSC)
        total = tf.reduce_sum(trace.outputs[0])
    assert tape.gradient(r, images) is None
    with tf.GradientTape() as tape:
        tape.watch(images)
        total = tf.reduce_sum(record(model, [images]).outputs[0])
    assert np.any(tape.gradient(total, images))
