"""Layers that people's networks have beside weighted sums, against matrices, loops and closed forms in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.errors import ExplainError
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, LRP, Composite, Entry, record, reverse
from egt_tf.lrp.linear_rules import Epsilon, ZPlus
from egt_tf.lrp.rules import Gate, Guided, SoftmaxShare

L = keras.layers


def _explain(model: keras.Model, arrays, r, composite="epsilon", nonnegative=False) -> list[np.ndarray]:
    """Relevance of the inputs of one example, for that of its output."""
    trace = record(model, [tf.constant(a[None], tf.float32) for a in arrays], nonnegative=nonnegative)
    of_inputs = reverse(trace, tf.constant(np.asarray(r)[None], tf.float32), COMPOSITES.get(composite))
    return [x.numpy()[0] for x in of_inputs]


def _model(layer, *shapes) -> keras.Model:
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, layer(inputs if len(inputs) > 1 else inputs[0]))


def _matrix(model: keras.Model) -> np.ndarray:
    """A linear model of one input as a matrix (inputs, outputs): what it makes of each unit vector."""
    size = int(np.prod(model.input_shape[1:]))
    units = np.eye(size, dtype=np.float32).reshape(size, *model.input_shape[1:])
    return model(units, training=False).numpy().reshape(size, -1)


# === Resizing ===

RESIZING = {
    "bilinear": L.UpSampling2D(2, interpolation="bilinear"),
    "bicubic": L.UpSampling2D(2, interpolation="bicubic"),
    "lanczos3": L.UpSampling2D((2, 3), interpolation="lanczos3"),
    "mitchellcubic": L.UpSampling2D(2, interpolation="mitchellcubic"),
    "gaussian": L.UpSampling2D(2, interpolation="gaussian"),
    "area": L.UpSampling2D((1, 2), interpolation="area"),
    "smaller, bilinear": L.Resizing(3, 2),
    "smaller, area": L.Resizing(3, 2, interpolation="area"),
    "larger, bicubic": L.Resizing(5, 7, interpolation="bicubic"),
    "cropped to its aspect": L.Resizing(3, 3, crop_to_aspect_ratio=True),
}


@pytest.mark.parametrize("name", RESIZING)
def test_resizing_redistributes_by_contribution(name):
    model = _model(RESIZING[name], (4, 5, 2))
    rng = np.random.default_rng(1)
    # Far from cancelling, where the smallest difference of a denominator would be seen.
    x, r = rng.uniform(1.0, 3.0, (4, 5, 2)), rng.normal(size=model.output_shape[1:])
    matrix = _matrix(model)
    expected = x.reshape(-1) * (matrix @ (r.reshape(-1) / (x.reshape(-1) @ matrix)))
    (got,) = _explain(model, [x], r, nonnegative=True)
    np.testing.assert_allclose(got.reshape(-1), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(got.sum(), r.sum(), rtol=1e-3)


@pytest.mark.parametrize("interpolation", ["bicubic", "lanczos3", "lanczos5", "mitchellcubic", "bilinear", "area"])
def test_z_plus_below_resizing_knows_its_signs(interpolation):
    """What weights of both signs make of a ReLU's output may be negative; z+ must then read both signs of it."""
    scores = L.Dense(3, use_bias=False)
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), L.ReLU(), L.UpSampling2D(2, interpolation=interpolation), L.Flatten(), scores]
    )
    x = np.random.default_rng(2).normal(size=(1, 4, 4, 1)).astype(np.float32)
    trace = record(model, [tf.constant(x)])
    r = tf.constant([[1.0, -2.0, 0.5]])
    (got,) = reverse(
        trace, r, COMPOSITES.get("epsilon").prepend(Entry(ZPlus(), layer_type="dense")), [trace.calls[-1].inputs[0]]
    )
    inputs, kernel = trace.calls[-1].inputs[0].numpy()[0], scores.kernel.numpy()
    if interpolation in ("bilinear", "area"):
        assert trace.calls[-1].state.nonnegative == (True,)
    else:
        assert inputs.min() < 0.0
    contributions = np.maximum(inputs[:, None] * kernel, 0.0)
    expected = (contributions / contributions.sum(axis=0) * r[0].numpy()).sum(axis=1)
    np.testing.assert_allclose(got[0], expected, rtol=1e-4, atol=1e-6)


def test_a_crop_by_areas_is_refused():
    model = _model(L.Resizing(2, 2, interpolation="area", crop_to_aspect_ratio=True, name="odd"), (4, 5, 1))
    with pytest.raises(ExplainError, match="'odd' with crop_to_aspect_ratio=True"):
        record(model, [tf.ones((1, 4, 5, 1))])


# === A layer's activation ===


class Odd(L.Layer):
    """Keeps a ReLU that its output does not go through."""

    def __init__(self):
        super().__init__()
        self.activation = keras.activations.relu

    def call(self, x):
        return x - self.activation(-2.0 * x)


class NegativeDense(L.Dense):
    """What Keras's layer does not do."""

    def call(self, x):
        return -super().call(x)


class NegativeReLU(L.ReLU):
    """The same."""

    def call(self, x):
        return -super().call(x)


@pytest.mark.parametrize("layer", [Odd(), NegativeReLU(), NegativeDense(4, "relu")], ids=lambda layer: layer.name)
def test_a_layer_of_ones_own_keeps_no_sign_that_is_not_known(layer):
    model = keras.Sequential([keras.Input((4,)), layer, L.Dense(2)])
    trace = record(model, [tf.constant([[1.0, -2.0, 3.0, -0.5]])])
    assert trace.calls[-1].inputs[0].numpy().min() < 0.0
    assert trace.calls[-1].state.nonnegative == (False,)


SPELLINGS = {
    "relu": lambda x: L.Dense(5, "relu", name="hidden")(x),
    "a function": lambda x: L.Dense(5, tf.nn.relu, name="hidden")(x),
    "a layer": lambda x: L.Dense(5, activation=L.ReLU(), name="hidden")(x),
    "behind it": lambda x: L.ReLU()(L.Dense(5, name="hidden")(x)),
    "behind it, a function": lambda x: L.Activation(tf.nn.relu)(L.Dense(5, name="hidden")(x)),
    "behind it, a layer": lambda x: L.Activation(L.ReLU())(L.Dense(5, name="hidden")(x)),
    "an operation": lambda x: tf.nn.relu(L.Dense(5, name="hidden")(x)),
    "relu6": lambda x: L.Dense(5, "relu6", name="hidden")(x),
    "relu6, a function": lambda x: L.Dense(5, tf.nn.relu6, name="hidden")(x),
    "relu6, an operation": lambda x: tf.nn.relu6(L.Dense(5, name="hidden")(x)),
    "relu6, a layer": lambda x: L.ReLU(6.0)(L.Dense(5, name="hidden")(x)),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings_of_the_relu_mean_the_same(spelling):
    inputs = keras.Input((4,))
    scores = L.Dense(3, name="scores")
    model = keras.Model(inputs, scores(SPELLINGS[spelling](inputs)))
    rng = np.random.default_rng(3)
    hidden = model.get_layer("hidden")
    w, b, v = rng.normal(size=(4, 5)), rng.normal(size=5), rng.normal(size=(5, 3))
    hidden.set_weights([w, b])
    scores.set_weights([v, np.zeros(3)])
    x, r = rng.normal(size=4), rng.normal(size=3)
    arriving = v @ r
    fires = (x @ w + b > 0) & (x @ w + b < 6)
    guided = w @ np.where(fires, np.maximum(arriving, 0.0), 0.0)
    trace = record(model, [tf.constant(x[None], tf.float32)])
    (got,) = reverse(trace, tf.constant(r[None], tf.float32), Composite([Entry(Guided(), layer_type="any")]))
    np.testing.assert_allclose(got[0], guided, rtol=1e-4, atol=1e-5)
    assert trace.calls[-1].state.nonnegative == (True,)
    assert not np.allclose(guided, w @ np.where(fires, arriving, 0.0))


# === Products ===


def _product(factor_a, factor_b):
    """a(x) b(x) of one input of four values, as a model of the two factors' inputs."""
    a, b = keras.Input((3,)), keras.Input((3,))
    return keras.Model([a, b], L.Multiply()([factor_a(a), factor_b(b)]))


SIGNAL, R = np.array([1.0, -2.0, 3.0]), np.array([5.0, 7.0, -1.0])
GATES = {
    "sigmoid": L.Activation("sigmoid"),
    "softmax": L.Softmax(),
    "hard_sigmoid": L.Activation("hard_sigmoid"),
    "a function": L.Activation(tf.math.sigmoid),
    "an operation": lambda x: tf.math.sigmoid(x),
    "six and a sixth": lambda x: L.ReLU(6.0)(x + 3.0) * (1.0 / 6.0),
    "the rest of one": lambda x: 1.0 - tf.math.sigmoid(x),
    "clipped": lambda x: tf.clip_by_value(x, 0.0, 1.0),
    "reshaped": lambda x: L.Reshape((3,))(L.Reshape((3, 1))(L.Activation("sigmoid")(x))),
    "a dense layer's own": lambda x: L.Dense(3, "sigmoid")(x),
}


@pytest.mark.parametrize("name", GATES)
def test_a_gate_gets_nothing_in_either_order(name):
    for swapped in (False, True):
        a, b = keras.Input((3,)), keras.Input((3,))
        factors = [GATES[name](b), a] if swapped else [a, GATES[name](b)]
        model = keras.Model([a, b], L.Multiply()(factors))
        of_signal, of_gate = _explain(model, [SIGNAL, SIGNAL], R)
        np.testing.assert_allclose(of_signal, R)
        assert not np.any(of_gate)


@pytest.mark.parametrize("operation", [L.Multiply(), lambda ab: ab[0] * ab[1]], ids=["layer", "operation"])
def test_two_signals_get_half_each_or_what_is_chosen(operation):
    a, b = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([a, b], operation([a, b]))
    for got in _explain(model, [SIGNAL, SIGNAL + 5.0], R):
        np.testing.assert_allclose(got, R / 2)
    second = COMPOSITES.get("epsilon").prepend(Entry(Gate(signal=1), layer_type="gate"))
    of_first, of_second = _explain(model, [SIGNAL, SIGNAL], R, second)
    assert not np.any(of_first)
    np.testing.assert_allclose(of_second, R)


def test_a_gated_linear_unit():
    inputs = keras.Input((3,))
    value, gate = L.Dense(2, name="value"), L.Dense(2, "sigmoid", name="gate")
    for order in ([value(inputs), gate(inputs)], [gate(inputs), value(inputs)]):
        model = keras.Model(inputs, L.Multiply()(order))
        (got,) = _explain(model, [SIGNAL], R[:2], {"name": "epsilon", "epsilon": 1e-9})
        contributions = SIGNAL[:, None] * value.kernel.numpy()
        expected = (contributions / (contributions.sum(axis=0) + value.bias.numpy()) * R[:2]).sum(axis=1)
        np.testing.assert_allclose(got, expected, rtol=1e-4)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("operation", [False, True])
def test_squeeze_and_excitation_leaves_all_to_the_map(swapped, operation):
    inputs = keras.Input((4, 5, 3))
    gate = L.Reshape((1, 1, 3))(L.Dense(3, "sigmoid")(L.GlobalAveragePooling2D()(inputs)))
    factors = [gate, inputs] if swapped else [inputs, gate]
    model = keras.Model(inputs, factors[0] * factors[1] if operation else L.Multiply()(factors))
    rng = np.random.default_rng(4)
    x, r = rng.normal(size=(2, 4, 5, 3))
    np.testing.assert_allclose(_explain(model, [x], r)[0], r, rtol=1e-6)


def test_a_signal_that_was_broadcast_gathers_what_it_went_to():
    a, b = keras.Input((4, 5, 3)), keras.Input((1, 1, 3))
    rng = np.random.default_rng(5)
    x, y, r = rng.normal(size=(4, 5, 3)), rng.normal(size=(1, 1, 3)), rng.normal(size=(4, 5, 3))
    for factors in ([a, b], [b, a]):
        of_map, of_vector = _explain(keras.Model([a, b], L.Multiply()(factors)), [x, y], r)
        np.testing.assert_allclose(of_map, r / 2, rtol=1e-6)
        np.testing.assert_allclose(of_vector, r.sum(axis=(0, 1), keepdims=True) / 2, rtol=1e-5)


def test_a_divisor_gets_nothing():
    a, b = keras.Input((3,)), keras.Input((3,))
    of_first, of_second = _explain(keras.Model([a, b], a / b), [SIGNAL, SIGNAL], R)
    np.testing.assert_allclose(of_first, R)
    assert not np.any(of_second)


# === Sums and differences ===


@pytest.mark.parametrize("composite", ["epsilon", "lrp.z", "fsc"])
@pytest.mark.parametrize("operation", [L.Add(), lambda ab: ab[0] + ab[1]], ids=["layer", "operation"])
def test_summands_that_are_broadcast(operation, composite):
    a, b = keras.Input((4, 5, 3)), keras.Input((1, 1, 3))
    rng = np.random.default_rng(6)
    x, y, r = rng.uniform(1, 2, (4, 5, 3)), rng.uniform(1, 2, (1, 1, 3)), rng.normal(size=(4, 5, 3))
    x[0], y[..., 0] = 0.0, 0.0
    total = np.where(x + y == 0, 1.0, x + y) + (0.01 if composite == "fsc" else 0.0)
    both_silent = (x == 0) & (y == 0)
    of_x = np.where(both_silent, r / 2, x / total * r)
    of_y = np.where(both_silent, r / 2, y / total * r)
    if composite == "lrp.z":
        # innvestigate's sum gives nothing where nothing was added.
        of_x, of_y = x / total * r, y / total * r
    for terms, expected in (([a, b], (of_x, of_y)), ([b, a], (of_x, of_y))):
        got_x, got_y = _explain(keras.Model([a, b], operation(terms)), [x, y], r, composite)
        np.testing.assert_allclose(got_x, expected[0], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(got_y, expected[1].sum(axis=(0, 1), keepdims=True), rtol=1e-4, atol=1e-5)


def test_a_vector_is_added_to_every_place_of_a_map():
    """Keras broadcasts (batch, channels) over the places of a map, where TensorFlow would align the last axes."""
    a, b = keras.Input((4, 3)), keras.Input((3,))
    rng = np.random.default_rng(7)
    x, y, r = rng.uniform(1, 2, (4, 3)), rng.uniform(1, 2, 3), rng.normal(size=(4, 3))
    got_x, got_y = _explain(keras.Model([a, b], L.Add()([a, b])), [x, y], r)
    np.testing.assert_allclose(got_x, x / (x + y) * r, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got_y, (y / (x + y) * r).sum(axis=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("operation", [L.Subtract(), lambda ab: ab[0] - ab[1]], ids=["layer", "operation"])
def test_a_difference_is_shared_by_contribution(operation):
    a, b = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([a, b], operation([a, b]))
    x, y = np.array([3.0, 1.0, 2.0]), np.array([1.0, 3.0, -2.0])
    of_x, of_y = _explain(model, [x, y], R, {"name": "lrp.epsilon"})
    np.testing.assert_allclose(of_x, x / (x - y) * R, rtol=1e-5)
    np.testing.assert_allclose(of_y, -y / (x - y) * R, rtol=1e-5)


@pytest.mark.parametrize(
    ("operation", "wins"),
    [
        (L.Maximum(), np.greater),
        (L.Minimum(), np.less),
        (lambda ab: tf.maximum(*ab), np.greater),
        (lambda ab: tf.minimum(*ab), np.less),
    ],
    ids=["Maximum", "Minimum", "tf.maximum", "tf.minimum"],
)
@pytest.mark.parametrize("composite", ["epsilon", "fsc"])
def test_the_chosen_input_takes_all(operation, wins, composite):
    a, b = keras.Input((3,)), keras.Input((3,))
    x, y = np.array([3.0, 1.0, -2.0]), np.array([1.0, 3.0, 2.0])
    of_x, of_y = _explain(keras.Model([a, b], operation([a, b])), [x, y], R, composite)
    np.testing.assert_allclose(of_x, np.where(wins(x, y), R, 0.0), rtol=1e-5)
    np.testing.assert_allclose(of_y, np.where(wins(x, y), 0.0, R), rtol=1e-5)


def test_the_average_layer():
    a, b = keras.Input((3,)), keras.Input((3,))
    x, y = np.array([3.0, 1.0, 2.0]), np.array([1.0, 3.0, 4.0])
    of_x, of_y = _explain(keras.Model([a, b], L.Average()([a, b])), [x, y], R)
    np.testing.assert_allclose(of_x, x / (x + y) * R, rtol=1e-5)
    np.testing.assert_allclose(of_y, y / (x + y) * R, rtol=1e-5)


# === The input in other units, and the same inside a network ===


@pytest.mark.parametrize(
    "rescale",
    [
        L.Rescaling(1 / 127.5, -1.0),
        L.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 5.0, 6.0]),
        lambda x: x / 127.5 - 1.0,
        lambda x: (x - np.array([1.0, 2.0, 3.0], np.float32)) * 0.5,
    ],
    ids=["Rescaling", "Normalization", "operations", "by channel"],
)
def test_pixels_in_other_units_keep_their_relevance(rescale):
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, L.Conv2D(2, 3, name="first")(rescale(inputs)))
    x, r = np.random.default_rng(8).uniform(0, 255, (4, 4, 3)), np.ones((2, 2, 2))
    trace = record(model, [tf.constant(x[None], tf.float32)])
    composite = COMPOSITES.get("epsilon_gamma_box").prepend(Entry(Epsilon(0.1), layer="first"))
    at_the_convolution = trace.calls[-1].inputs[0]
    seen, got = reverse(trace, tf.constant(r[None], tf.float32), composite, [at_the_convolution, trace.inputs[0]])
    np.testing.assert_array_equal(seen, got)
    assert trace.calls[-1].first
    # The bounds of the pixels, as the convolution sees them.
    for value in (0.0, 255.0):
        looks = trace.calls[-1].state.rescaled[0](tf.fill((1, 1, 1, 3), value))
        np.testing.assert_allclose(looks[0, 0, 0], model_of(rescale)(np.full((1, 1, 1, 3), value))[0, 0, 0], rtol=1e-5)


def model_of(rescale):
    inputs = keras.Input((None, None, 3))
    return keras.Model(inputs, rescale(inputs))


def test_a_shift_inside_a_network_takes_its_share():
    inputs = keras.Input((3,))
    hidden = L.Dense(2, use_bias=False, weights=[np.eye(3, 2)])(inputs)
    for shifted in (L.Rescaling(2.0, 5.0)(hidden), 2.0 * hidden + 5.0):
        (got,) = _explain(keras.Model(inputs, shifted), [SIGNAL], R[:2])
        np.testing.assert_allclose(got[:2], 2 * SIGNAL[:2] / (2 * SIGNAL[:2] + 5.0) * R[:2], rtol=1e-4)


# === Normalisation by an example's own statistics ===


def _normalise(x, groups, gamma, beta, epsilon):
    """By loops: the mean, the constant deviation and the shares of one group norm of (places, channels)."""
    y, shares = np.empty_like(x), []
    for members in groups:
        values = np.array([x[place] for place in members])
        deviation = np.sqrt(values.var() + epsilon)
        for place in members:
            y[place] = gamma[place[-1]] * (x[place] - values.mean()) / deviation + beta[place[-1]]
            for other in members:
                weight = gamma[place[-1]] / deviation * ((place == other) - 1.0 / len(members))
                shares.append((other, place, x[other] * weight))
    return y, shares


NORMALISATIONS = {
    "LayerNormalization": (L.LayerNormalization, lambda place: place[0]),
    "GroupNormalization": (lambda **options: L.GroupNormalization(2, **options), lambda place: place[-1] // 2),
    "instance": (lambda **options: L.GroupNormalization(-1, **options), lambda place: place[-1]),
}


@pytest.mark.parametrize("name", NORMALISATIONS)
@pytest.mark.parametrize("options", [{}, {"center": False}, {"scale": False, "epsilon": 0.1}], ids=str)
def test_normalisation_by_own_statistics(name, options):
    make, group_of = NORMALISATIONS[name]
    layer = make(**options)
    model = _model(layer, (3, 4))
    rng = np.random.default_rng(9)
    model.set_weights([rng.uniform(0.5, 2.0, w.shape) for w in model.weights])
    x, r = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    gamma = np.ones(4) if layer.gamma is None else layer.gamma.numpy()
    beta = np.zeros(4) if layer.beta is None else layer.beta.numpy()
    groups: dict = {}
    for place in np.ndindex(3, 4):
        groups.setdefault(group_of(place), []).append(place)
    y, shares = _normalise(x, groups.values(), gamma, beta, layer.epsilon)
    np.testing.assert_allclose(model(x[None])[0], y, rtol=1e-4, atol=1e-5)
    expected = np.zeros_like(x)
    for inside, outside, share in shares:
        expected[inside] += share / y[outside] * r[outside]
    (got,) = _explain(model, [x], r, {"name": "lrp.z"})
    np.testing.assert_allclose(got, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())
    if not np.any(beta):
        np.testing.assert_allclose(got.sum(), r.sum(), rtol=1e-3)


def test_the_identity_of_layer_normalisation():
    """With a zero shift, the sum of input times gradient, the deviation a constant, is the sum of the relevance."""
    model = _model(L.LayerNormalization(), (6,))
    x, r = np.random.default_rng(10).normal(size=(2, 6))
    (got,) = _explain(model, [x], r, {"name": "epsilon", "epsilon": 1e-9})
    np.testing.assert_allclose(got.sum(), r.sum(), rtol=1e-4)


# === Softmax inside ===


@pytest.mark.parametrize(
    "softmax",
    [L.Softmax(), L.Activation("softmax"), lambda x: tf.nn.softmax(x), L.Softmax(axis=1)],
    ids=["layer", "activation", "operation", "another axis"],
)
def test_softmax_is_input_times_gradient(softmax):
    shape = (3, 4)
    model = _model(softmax, shape)
    axis = 1 if getattr(softmax, "axis", -1) == 1 else 2
    x, r = np.random.default_rng(11).normal(size=(2, *shape))
    s = np.exp(x) / np.exp(x).sum(axis=axis - 1, keepdims=True)
    expected = x * (r - s * r.sum(axis=axis - 1, keepdims=True))
    np.testing.assert_allclose(_explain(model, [x], r)[0], expected, rtol=1e-4, atol=1e-6)
    # Input times the gradient of the outputs, each weighted by its relevance over its value.
    inputs = tf.constant(x[None], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        weighted = tf.reduce_sum(model(inputs) * tf.constant((r / s)[None], tf.float32))
    np.testing.assert_allclose(expected, (inputs * tape.gradient(weighted, inputs))[0], rtol=1e-3, atol=1e-5)


def test_a_masked_softmax_gives_the_masked_nothing():
    x, s = tf.constant([[1.0, -np.inf, 2.0]]), tf.nn.softmax(tf.constant([[1.0, -np.inf, 2.0]]))
    (got, *_) = SoftmaxShare().apply([x], [s], [tf.ones((1, 3))], _StateOf(L.Softmax()))
    assert got[0, 1] == 0.0
    assert np.isfinite(got).all()


class _StateOf:
    def __init__(self, layer):
        self.layer = layer


# === Time steps ===


@pytest.mark.parametrize("composite", ["epsilon_plus", "fsc", "lrp.z"])
@pytest.mark.parametrize("time", [3, None])
def test_every_time_step_is_explained_by_itself(composite, time):
    inside = keras.Sequential([keras.Input((6, 6, 1)), L.Conv2D(2, 3, activation="relu"), L.Flatten(), L.Dense(2)])
    for layer in (L.TimeDistributed(inside), L.TimeDistributed(L.Dense(2, "relu"))):
        shape = (6, 6, 1) if layer.layer is inside else (4,)
        model = _model(layer, (time, *shape))
        one_step = _model(layer.layer, shape)
        rng = np.random.default_rng(12)
        x, r = rng.normal(size=(3, *shape)), rng.normal(size=(3, 2))
        (got,) = _explain(model, [x], r, composite)
        for step in range(3):
            expected = _explain(one_step, [x[step]], r[step], composite)[0]
            np.testing.assert_allclose(got[step], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
        assert record(model, [tf.ones((1, 3, *shape))]).output_of(layer.name).shape == (1, 3, 2)


# === Operations on Keras tensors ===

COPYING = {
    "slice": lambda x: x[:, 1:, :2],
    "last": lambda x: x[..., -1],
    "reshape": lambda x: tf.reshape(x, (-1, 6)),
    "reshape to the batch's size": lambda x: tf.reshape(x, (tf.shape(x)[0], 3, 2)),
    "transpose": lambda x: tf.transpose(x, (0, 2, 1)),
    "concat": lambda x: tf.concat([x, x[:, :1]], axis=1),
    "split": lambda x: tf.split(x, 3, axis=2)[1],
    "stack": lambda x: tf.stack([x, x], axis=1),
    "pad": lambda x: tf.pad(x, [[0, 0], [1, 0], [0, 2]]),
    "expand and squeeze": lambda x: tf.squeeze(tf.expand_dims(x, 1), 1),
    "tile": lambda x: tf.tile(x, (1, 2, 1)),
}


@pytest.mark.parametrize("name", COPYING)
@pytest.mark.parametrize("composite", ["fsc", "epsilon", "lrp.z"])
def test_operations_that_copy(name, composite):
    inputs = keras.Input((2, 3))
    model = keras.Model(inputs, COPYING[name](inputs))
    # Each input value is its own address, counted from 1: padding is 0.
    x = np.arange(1.0, 7.0).reshape(2, 3)
    origin = model(x[None]).numpy().reshape(-1).astype(int)
    r = np.random.default_rng(14).normal(size=model(x[None]).shape[1:])
    expected = np.bincount(origin, r.reshape(-1), minlength=7)[1:]
    np.testing.assert_allclose(_explain(model, [x], r, composite)[0].reshape(-1), expected, rtol=1e-5)


def test_a_network_written_with_operations_is_that_written_with_layers():
    kernels = [np.random.default_rng(15).normal(size=shape) for shape in ((3, 3, 3, 4), (3, 3, 4, 4), (4, 5))]

    def network(activation, add, mean, flat, rescale):
        inputs = keras.Input((6, 6, 3))
        x = activation(L.Conv2D(4, 3, use_bias=False, weights=[kernels[0]])(rescale(inputs)))
        x = add([x, activation(L.Conv2D(4, 3, padding="same", use_bias=False, weights=[kernels[1]])(x))])
        return keras.Model(inputs, L.Dense(5, use_bias=False, weights=[kernels[2]])(flat(mean(x))))

    layers = network(lambda x: L.ReLU()(x), L.Add(), L.GlobalAveragePooling2D(), L.Flatten(), L.Rescaling(1 / 255.0))
    operations = network(
        tf.nn.relu,
        lambda ab: ab[0] + ab[1],
        lambda x: tf.reduce_mean(x, axis=[1, 2]),
        lambda x: tf.reshape(x, (-1, 4)),
        lambda x: x / 255.0,
    )
    x = np.random.default_rng(16).uniform(0, 255, (2, 6, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(operations(x), layers(x), rtol=1e-4, atol=1e-5)
    for composite in COMPOSITES.names():
        expected, got = (
            reverse(trace, trace.outputs[0], COMPOSITES.get(composite))[0].numpy()
            for trace in (record(model, [tf.constant(x)]) for model in (layers, operations))
        )
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_an_operation_in_half_precision():
    """Its constants are half precision; rules work in more."""
    inputs = keras.Input((3,), dtype="float16")
    model = keras.Model(inputs, tf.nn.relu(inputs * tf.constant(0.5, tf.float16) + tf.constant(0.25, tf.float16)))
    trace = record(model, [tf.constant([[1.0, -2.0, 3.0]], tf.float16)], raw=False)
    (got,) = reverse(trace, tf.ones((1, 3)), COMPOSITES.get("lrp.z"))
    assert got.dtype == tf.float32
    # Half of the input beside a quarter; relevance passes the ReLU unchanged.
    np.testing.assert_allclose(got[0], [0.5 / 0.75, -1.0 / -0.75, 1.5 / 1.75], rtol=1e-5)


def test_an_unknown_operation_is_named():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, tf.sin(inputs))
    with pytest.raises(ExplainError, match=r"'tf\.math\.sin'"):
        LRP(model, "epsilon").analyze(np.ones((1, 3), np.float32))


# === Sizes that are known when the model is called ===


@pytest.mark.parametrize(
    "layer",
    [
        L.Conv2DTranspose(2, 3, 2, "same"),
        L.Conv2DTranspose(2, 3, 2, "valid"),
        L.Conv2DTranspose(2, (4, 3), (3, 2), "same", output_padding=1),
        L.Conv2DTranspose(2, (4, 3), (3, 2), "valid", output_padding=1),
        L.UpSampling2D(2, interpolation="bilinear"),
        L.UpSampling2D(2, interpolation="area"),
    ],
    ids=lambda layer: layer.name,
)
def test_images_of_any_size(layer):
    inputs = keras.Input((None, None, 2))
    analyzer = LRP(keras.Model(inputs, L.GlobalAveragePooling2D()(layer(inputs))), "epsilon_plus")
    rng = np.random.default_rng(17)
    for size in ((4, 5), (7, 3), (4, 6)):
        x = rng.uniform(0.5, 1.5, (2, *size, 2)).astype(np.float32)
        fixed = keras.Input((*size, 2))
        expected = LRP(keras.Model(fixed, L.GlobalAveragePooling2D()(layer(fixed))), "epsilon_plus").analyze(x)
        np.testing.assert_allclose(analyzer.analyze(x), expected, rtol=1e-4, atol=1e-6)


# === Pass-through rules ===


@pytest.mark.parametrize(
    "layer",
    [
        L.RandomBrightness(0.5),
        L.RandomContrast(0.5),
        L.RandomFlip(),
        L.RandomHeight(0.5),
        L.RandomRotation(0.5),
        L.RandomTranslation(0.5, 0.5),
        L.RandomWidth(0.5),
        L.RandomZoom(0.5),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_augmentation_layers_hand_relevance_on(layer):
    model = keras.Sequential([keras.Input((4, 4, 3)), layer, L.Conv2D(2, 3, name="first")])
    x, r = np.random.default_rng(18).uniform(0, 255, (4, 4, 3)), np.ones((2, 2, 2))
    without = keras.Sequential([keras.Input((4, 4, 3)), model.get_layer("first")])
    np.testing.assert_allclose(_explain(model, [x], r)[0], _explain(without, [x], r)[0], rtol=1e-5)
    trace = record(model, [tf.constant(x[None], tf.float32)])
    assert trace.calls[-1].first


def test_a_random_crop_is_a_mean_of_pixels():
    model = _model(L.RandomCrop(3, 2), (6, 4, 1))
    rng = np.random.default_rng(19)
    x, r = rng.uniform(1.0, 2.0, (6, 4, 1)), rng.normal(size=(3, 2, 1))
    matrix = _matrix(model)
    expected = x.reshape(-1) * (matrix @ (r.reshape(-1) / (x.reshape(-1) @ matrix)))
    np.testing.assert_allclose(_explain(model, [x], r)[0].reshape(-1), expected, rtol=1e-4, atol=1e-5)
