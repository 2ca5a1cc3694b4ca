"""Each rule against its slow matrix form in float64, and against innvestigate where both have it."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.errors import ExplainError
from egt_tf.keras_api import keras
from egt_tf.lrp import LRP, Composite, Entry, linear_parts, record, reverse
from egt_tf.lrp.linear_rules import AlphaBeta, Bounded, Epsilon, Flat, Gamma, WSquare, Z, ZPlus
from egt_tf.lrp.presets import structural_entries
from egt_tf.lrp.rules import Derivative, Mask, Pass, Share, ShareSum
from tests.lrp import reference_rules as ref
from tests.lrp.innvestigate_oracle import Analyzer, Job, Network, build_network, named, random_weights, run_oracle

INPUTS = {
    "positive": lambda rng, shape: rng.uniform(0.1, 1.0, shape),
    "signed": lambda rng, shape: rng.normal(size=shape),
    "sparse": lambda rng, shape: np.maximum(rng.normal(size=shape), 0.0),
    "zero": lambda rng, shape: np.zeros(shape),
}

# Rule -> its reference as f(x, matrix, bias or None, relevance).
RULES = {
    Z(): ref.z,
    Z(bias=False): lambda x, m, b, r: ref.z(x, m, None, r),
    Epsilon(0.01): lambda x, m, b, r: ref.epsilon(x, m, b, r, 0.01),
    Epsilon(0.25, bias=False): lambda x, m, b, r: ref.epsilon(x, m, None, r, 0.25),
    AlphaBeta(1.0, 0.0): lambda x, m, b, r: ref.alpha_beta(x, m, b, r, 1.0, 0.0),
    AlphaBeta(2.0, 1.0): lambda x, m, b, r: ref.alpha_beta(x, m, b, r, 2.0, 1.0),
    AlphaBeta(1.5, 0.5, bias=False): lambda x, m, b, r: ref.alpha_beta(x, m, None, r, 1.5, 0.5),
    AlphaBeta(2.0, 1.0, whole_bias=True): lambda x, m, b, r: ref.alpha_beta_whole_bias(x, m, b, r, 2.0, 1.0),
    ZPlus(): lambda x, m, b, r: ref.zplus(x, m, None, r),
    ZPlus(bias=True, stabilizer=1e-6): lambda x, m, b, r: ref.zplus(x, m, b, r, ref.signed(1e-6)),
    Gamma(0.25): lambda x, m, b, r: ref.gamma(x, m, b, r, 0.25),
    Gamma(1.0, bias=False): lambda x, m, b, r: ref.gamma(
        x, m, None, r, 1.0, pre_activation=x @ m + (0 if b is None else b)
    ),
    WSquare(): lambda x, m, b, r: ref.wsquare(x, m, None, r),
    WSquare(bias=True): ref.wsquare,
    Flat(): lambda x, m, b, r: ref.flat(x, m, None, r),
    Bounded(-2.0, 3.0): lambda x, m, b, r: ref.bounded(x, m, None, r, -2.0, 3.0),
}

# (strides, padding, dilation)
CONVOLUTIONS = [(1, "same", 1), (2, "same", 1), (1, "valid", 1), (2, "valid", 1), (1, "same", 2)]


pytestmark = pytest.mark.usefixtures("float64")


def _filled(layer, shape, rng):
    """The layer as a model whose weights are random, biases too."""
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    return model


def _relevance(model, rule, x, r, nonnegative=False):
    trace = record(model, [tf.constant(x[None])], nonnegative=nonnegative)
    composite = Composite([Entry(rule, layer=model.layers[-1].name)])
    return reverse(trace, tf.constant(r[None]), composite)[0].numpy()[0]


def _check(rule, model, matrix, bias, kind, rng):
    x = INPUTS[kind](rng, model.input_shape[1:])
    r = rng.normal(size=model.output_shape[1:])
    expected = RULES[rule](x.reshape(-1), matrix, bias, r.reshape(-1))
    for nonnegative in {False, kind != "signed"}:
        got = _relevance(model, rule, x, r, nonnegative)
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got.reshape(-1), expected, rtol=1e-9, atol=1e-9 * max(1.0, np.abs(expected).max()))


@functools.cache
def _dense(use_bias):
    """A dense layer as a model, its matrix and its bias."""
    model = _filled(keras.layers.Dense(5, use_bias=use_bias), (7,), np.random.default_rng(3))
    kernel, *bias = model.get_weights()
    return model, ref.dense_matrix(kernel), bias[0] if use_bias else None


@functools.cache
def _convolution(strides, padding, dilation):
    """A convolution as a model, its matrix and its bias at every position."""
    layer = keras.layers.Conv2D(3, 3, strides=strides, padding=padding, dilation_rate=dilation)
    model = _filled(layer, (6, 5, 2), np.random.default_rng(4))
    kernel, bias = model.get_weights()
    matrix = ref.conv2d_matrix(kernel, (6, 5, 2), strides, padding, dilation)
    return model, matrix, ref.tile_bias(bias, model.output_shape[1:])


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_dense(rule, use_bias):
    for kind in INPUTS:
        _check(rule, *_dense(use_bias), kind, np.random.default_rng(8))


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_convolution(rule, options):
    for kind in ("signed", "sparse"):
        _check(rule, *_convolution(*options), kind, np.random.default_rng(9))


def test_bounds_may_differ_between_channels():
    rng = np.random.default_rng(5)
    model = _filled(keras.layers.Conv2D(2, 1, use_bias=False), (3, 3, 2), rng)
    x, r = rng.uniform(-1, 1, (3, 3, 2)), rng.normal(size=(3, 3, 2))
    together = _relevance(model, Bounded((-1.0, -2.0), (1.0, 2.0)), x, r)
    # A channel of twice the range is one of the single range with doubled weights.
    doubled = _filled(keras.layers.Conv2D(2, 1, use_bias=False), (3, 3, 2), rng)
    doubled.set_weights([model.get_weights()[0] * np.array([1.0, 2.0])[None, None, :, None]])
    np.testing.assert_allclose(together, _relevance(doubled, Bounded(-1.0, 1.0), x / [1.0, 2.0], r), rtol=1e-9)


@pytest.mark.parametrize("arguments", [{"alpha": 2.0, "beta": 0.5}, {"alpha": 0.0, "beta": -1.0}])
def test_alpha_beta_must_conserve(arguments):
    with pytest.raises(ExplainError, match="alpha - beta"):
        AlphaBeta(**arguments)


@pytest.mark.parametrize("make", [lambda: Epsilon(0.0), lambda: Gamma(-1.0)])
def test_parameters_are_checked(make):
    with pytest.raises(ExplainError, match="must be > 0"):
        make()


def test_rules_are_values():
    assert Epsilon(0.01) == Epsilon(0.01) != Epsilon(0.02)
    assert len({Gamma(0.25), Gamma(0.25), Gamma(0.5)}) == 2
    assert Epsilon(**Epsilon(0.5, bias=False).get_config()) == Epsilon(0.5, bias=False)
    assert repr(Bounded(-1.0, 2.0)) == "Bounded(low=-1.0, high=2.0, stabilizer=0.0)"


def _layer_relevance(layer, rule, arrays, r):
    inputs = [keras.Input(a.shape) for a in arrays]
    model = keras.Model(inputs, layer(inputs if len(inputs) > 1 else inputs[0]))
    trace = record(model, [tf.constant(a[None]) for a in arrays])
    result = reverse(trace, tf.constant(r[None]), Composite([Entry(rule, layer=layer.name)]))
    return [x.numpy()[0] for x in result]


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_pooling(padding):
    rng = np.random.default_rng(16)
    x = np.maximum(rng.normal(size=(5, 5, 2)), 0.0)
    out = 2 if padding == "valid" else 3
    r = rng.normal(size=(out, out, 2))
    (got,) = _layer_relevance(keras.layers.MaxPooling2D(2, padding=padding), Share(), [x], r)
    np.testing.assert_allclose(
        got.ravel(), ref.max_pool_published(x.ravel(), x.shape, r.ravel(), 2, None, padding).ravel(), rtol=1e-9
    )
    (got,) = _layer_relevance(keras.layers.AveragePooling2D(2, padding=padding), Share(), [x], r)
    np.testing.assert_allclose(
        got.ravel(), ref.average_pool(x.ravel(), x.shape, r.ravel(), 2, None, padding).ravel(), rtol=1e-9
    )


def test_sum_shares_by_contribution_and_splits_zeros_evenly():
    a, b, r = np.array([1.0, 0.0, 3.0, 0.0]), np.array([3.0, 0.0, -1.0, 2.0]), np.array([4.0, 6.0, 2.0, 1.0])
    got = _layer_relevance(keras.layers.Add(), ShareSum(1e-12), [a, b], r)
    np.testing.assert_allclose(got, [[1.0, 3.0, 3.0, 0.0], [3.0, 3.0, -1.0, 1.0]], rtol=1e-9)
    published = [ref.add_published(a[i : i + 1], b[i : i + 1], r[i : i + 1], 0.01) for i in range(4)]
    np.testing.assert_allclose(np.array(got).T, np.array(published).reshape(4, 2), rtol=0.02)


def test_route_gathers_copies_and_drops_padding():
    x, r = np.arange(4.0).reshape(2, 2, 1), np.arange(16.0).reshape(4, 4, 1)
    (up,) = _layer_relevance(keras.layers.UpSampling2D(2), Derivative(), [x], r)
    np.testing.assert_allclose(up, r.reshape(2, 2, 2, 2, 1).sum((1, 3)))
    (padded,) = _layer_relevance(keras.layers.ZeroPadding2D(1), Derivative(), [x], r)
    np.testing.assert_allclose(padded, r[1:3, 1:3])


def test_mask_and_pass():
    x, r = np.array([-1.0, 0.0, 2.0]), np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(_layer_relevance(keras.layers.Activation("relu"), Mask(), [x], r), [[0.0, 0.0, 3.0]])
    np.testing.assert_allclose(_layer_relevance(keras.layers.Activation("relu"), Pass(), [x], r), [r])


# === innvestigate ===

NETWORKS = [
    Network("conv", (8, 8, 2), units=(6,), dtype="float64"),
    Network("conv", (9, 9, 2), strides=2, padding="valid", pooling="average", use_bias=False, dtype="float64"),
    Network("dense", (6,), units=(5, 4), dtype="float64"),
]

# innvestigate's analyzer -> our rule for every layer with weights.
SAME_RULES = {
    "lrp.z": Z(),
    "lrp.epsilon": Epsilon(1e-7),
    "lrp.w_square": WSquare(),
    "lrp.flat": Flat(),
    "lrp.z_plus": ZPlus(),
    "lrp.alpha_2_beta_1": AlphaBeta(2.0, 1.0, whole_bias=True),
    "lrp.alpha_1_beta_0": AlphaBeta(1.0, 0.0, whole_bias=True),
    "lrp.alpha_2_beta_1_IB": AlphaBeta(2.0, 1.0, bias=False),
}


@pytest.fixture(scope="module")
def oracle_answers():
    rng = np.random.default_rng(7)
    analyzers = named(*SAME_RULES) | {
        "bounded": Analyzer("lrp", {"rule": "Z", "input_layer_rule": {"tuple": [-3.0, 3.0]}})
    }
    jobs = [
        Job(network, random_weights(network, seed=1), rng.uniform(-1, 1, (2, *network.input_shape)), analyzers, [0, 2])
        for network in NETWORKS
    ]
    return list(zip(jobs, run_oracle(jobs)))


def _innvestigate_composite(rule):
    # innvestigate moves relevance through pooling by the gradient; activations pass it on unmasked.
    return Composite(
        [
            Entry(rule, layer_type="dense"),
            Entry(rule, layer_type="convolution"),
            Entry(Pass(), layer_type="activation"),
            Entry(Derivative(), layer_type="max_pool"),
            *structural_entries(),
        ]
    )


def _ours(job, composite):
    model = build_network(job.network)
    model.set_weights(job.weights)
    return LRP(model, composite, neuron_selection_mode="index").analyze(job.inputs, job.neurons())


@pytest.mark.slow
@pytest.mark.parametrize("name", SAME_RULES)
def test_innvestigate_gives_the_same(oracle_answers, name):
    for job, answer in oracle_answers:
        expected = answer.relevance[name]
        got = _ours(job, _innvestigate_composite(SAME_RULES[name]))
        np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())


@pytest.mark.slow
def test_innvestigate_gives_the_same_bounded_first_layer(oracle_answers):
    for job, answer in oracle_answers:
        expected = answer.relevance["bounded"]
        model = build_network(job.network)
        model.set_weights(job.weights)
        first = next(layer.name for layer in model.layers if layer.weights)
        composite = _innvestigate_composite(Z()).prepend(Entry(Bounded(-3.0, 3.0), layer=first))
        got = LRP(model, composite, neuron_selection_mode="index").analyze(job.inputs, job.neurons())
        np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())


# === Padding layers ===


@pytest.mark.parametrize("rule", [Flat(), WSquare(), Bounded(-2.0, 3.0)], ids=repr)
@pytest.mark.parametrize("strides", [1, 2])
def test_a_padding_layer_gets_no_share(rule, strides):
    rng = np.random.default_rng(4)
    inputs = keras.Input((7, 6, 3))
    x = keras.layers.ZeroPadding2D(((1, 2), (0, 1)), name="more")(keras.layers.ZeroPadding2D(1, name="pad")(inputs))
    model = keras.Model(inputs, keras.layers.Conv2D(4, 3, strides, name="convolution")(x))
    model.set_weights([rng.normal(size=w.shape) for w in model.weights])
    image = rng.uniform(-1, 1, size=(2, 7, 6, 3))
    trace = record(model, [tf.constant(image)])
    start = tf.constant(rng.normal(size=trace.outputs[0].shape))
    composite = Composite([Entry(rule, layer="convolution"), *structural_entries()])
    (relevance,) = reverse(trace, start, composite)
    # By hand: the shares of a unit that sees some padding are those of what is left of it.
    present = np.pad(np.ones((1, 7, 6, 3)), [(0, 0), (2, 3), (1, 2), (0, 0)])
    kernel = model.get_layer("convolution").kernel.numpy()
    matrix = ref.conv2d_matrix(kernel, present.shape[1:], strides, "valid")
    for example in range(2):
        padded = np.pad(image[example], [(2, 3), (1, 2), (0, 0)]).reshape(-1)
        there = present.reshape(-1) == 1
        expected = RULES[rule](padded[there], matrix[there], None, start[example].numpy().reshape(-1))
        # A unit that sees padding alone has nothing to give relevance to.
        np.testing.assert_allclose(relevance[example].numpy().reshape(-1), expected, rtol=1e-8, atol=1e-10)


# === Transposed convolutions to few channels ===


@pytest.mark.parametrize(
    ("size", "kernel", "strides", "padding"),
    [
        ((9, 9), 7, 2, "valid"),
        ((10, 11), 7, 2, "valid"),
        ((8, 9), 3, 2, "same"),
        ((11, 7), 5, 3, "same"),
        ((12, 9), 2, 3, "valid"),
        ((13, 13), 4, 4, "same"),
        ((7, 7), 1, 2, "same"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_transposed_convolution_by_phases_is_the_derivative(size, kernel, strides, padding, channels):
    rng = np.random.default_rng(5)
    layer = keras.layers.Conv2D(5, kernel, strides, padding)
    x = tf.constant(rng.normal(size=(2, *size, channels)))
    layer(x)
    (part,) = linear_parts(layer, x)
    assert part.transposed is not None
    wide = tf.concat([part.kernel, 2 * part.kernel], axis=2)
    for weights, inputs in ((part.kernel, x), (wide, tf.concat([x, x], -1))):
        s = tf.constant(rng.normal(size=part.forward(inputs, weights).shape))
        expected = dataclasses.replace(part, transposed=None).backward(inputs, weights, s)
        np.testing.assert_allclose(part.backward(inputs, weights, s), expected, rtol=1e-10, atol=1e-12)


# === Gamma without biases ===


def test_gamma_without_biases_can_take_the_sign_of_the_contributions():
    rng = np.random.default_rng(16)
    x, matrix, bias = np.abs(rng.normal(size=6)), rng.normal(size=(6, 5)), 6 * rng.normal(size=5)
    r = rng.normal(size=5)
    layer = keras.layers.Dense(5)
    model = keras.Sequential([keras.Input((6,)), layer])
    layer.set_weights([matrix, bias])
    assert (np.sign(x @ matrix) != np.sign(x @ matrix + bias)).any()
    trace = record(model, [tf.constant(x[None])])
    rule = Gamma(0.5, bias=False, bias_in_sign=False)
    relevance = reverse(trace, tf.constant(r[None]), Composite([Entry(rule, layer_type="dense")]))[0].numpy()[0]
    np.testing.assert_allclose(relevance, ref.gamma(x, matrix, None, r, 0.5, pre_activation=x @ matrix), rtol=1e-9)
    np.testing.assert_allclose(relevance.sum(), r.sum(), rtol=1e-9)
