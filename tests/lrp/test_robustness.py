"""Relevance stays finite, conserved and close in half precision; explaining costs no memory and leaves no trace."""

from __future__ import annotations

import functools
import gc

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from egt_tf.heads.attention import AttendedPrototypeMean, AttendedQuery
from egt_tf.heads.graph_layers import Neighbourhood, SkipConcatenate
from egt_tf.heads.lrp_rules import (
    AttendedFraction,
    AttentionGate,
    CombinationShare,
    Fraction,
    NeighbourhoodShare,
    ShareProduct,
)
from egt_tf.heads.ridge_layers import MapCombination
from egt_tf.heads.similarity import AxisMean, AxisSum, PairProduct
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, LRP, Composite, Entry, record, reverse
from egt_tf.lrp.attention import Attention, MatrixProduct
from egt_tf.lrp.linear_rules import (
    AlphaBeta,
    AlphaBetaX,
    Bounded,
    Epsilon,
    Flat,
    Gamma,
    InnvestigateBatchNorm,
    Magnitude,
    WSquare,
    Z,
    ZPlus,
)
from egt_tf.lrp.plain_operations import PlainDerivative, PlainMask
from egt_tf.lrp.rules import RULES, Derivative, Gate, Guided, Mask, Pass, RouteWithout, Share, ShareSum, SoftmaxShare
from tests.helpers.quick import all_but_slow

L = keras.layers
FEW = settings(max_examples=8, deadline=None, derandomize=True, database=None)

SUM_RULES = [
    Z(),
    Z(bias=False),
    Epsilon(0.01),
    Epsilon(1e-7, bias=False),
    AlphaBeta(),
    AlphaBeta(2.0, 1.0),
    AlphaBeta(2.0, 1.0, bias=False),
    AlphaBeta(1.5, 0.5, whole_bias=True),
    ZPlus(),
    ZPlus(True, 1e-6),
    Gamma(),
    Gamma(0.5, bias=False, stabilizer=1e-6),
    WSquare(),
    WSquare(bias=True),
    Flat(),
    Bounded(-2.0, 3.0),
    AlphaBetaX(),
    AlphaBetaX((0.5, 0.5), (0.5, 0.5)),
]
SUMS = {
    "dense": lambda: L.Dense(4),
    "convolution": lambda: L.Conv2D(3, 3, padding="same"),
    "depthwise": lambda: L.DepthwiseConv2D(3, strides=2),
    "separable": lambda: L.SeparableConv2D(3, 3),
    "transposed": lambda: L.Conv2DTranspose(2, 3, strides=2),
    "batch_norm": L.BatchNormalization,
}
# Layer -> the rules for it, and its number of inputs.
OTHERS = {
    "relu": (L.ReLU, [Mask(), PlainMask(), Pass(), Derivative(), Guided()], 1),
    "mean": (lambda: L.AveragePooling2D(2, padding="same"), [Share(), Share(1e-6)], 1),
    "mean of the map": (L.GlobalAveragePooling2D, [Share(), Share(1e-6)], 1),
    "max_pool": (lambda: L.MaxPooling2D(2), [Share(), Derivative(), PlainDerivative(Share())], 1),
    "max of the map": (L.GlobalMaxPooling2D, [Share(), Derivative()], 1),
    "add": (L.Add, [Share(), ShareSum(), ShareSum(0.01)], 2),
    "average": (L.Average, [Share(), Share(0.01)], 2),
    "gate": (L.Multiply, [Gate(), Gate(signal=1)], 2),
    "padding": (L.ZeroPadding2D, [Derivative()], 1),
    "softmax": (L.Softmax, [SoftmaxShare()], 1),
}
SHAPE = (5, 4, 2)
ATTENTION = [Attention(), Attention(1e-6, softmax=True), Attention(0.01, bias=False)]
# Layers with inputs of several shapes, those of few-shot heads among them -> the rules for them, and the shapes of their inputs in one episode.
OF_SHAPES = {
    "product": (lambda: L.Dot((2, 1)), [MatrixProduct(), MatrixProduct(1e-6, gates=False)], [(4, 3), (3, 2)]),
    "cosine": (lambda: L.Dot((2, 1), normalize=True), [MatrixProduct()], [(4, 3), (3, 2)]),
    "mean of an axis": (lambda: AxisMean(-2), [Fraction(), Fraction(0.0)], [SHAPE]),
    "sum of axes": (lambda: AxisSum((-3, -2)), [Fraction(), Fraction(1e-6)], [SHAPE]),
    "product of unit vectors": (
        lambda: PairProduct(normalize=True),
        [ShareProduct(), ShareProduct(1.0, 1.0)],
        2 * [SHAPE],
    ),
    "neighbourhood": (Neighbourhood, [NeighbourhoodShare(), NeighbourhoodShare(0.0, True)], [(4, 3), (4, 4)]),
    "skip": (SkipConcatenate, [RouteWithout((1,))], 3 * [SHAPE]),
    "attended query": (AttendedQuery, [AttentionGate()], [(3, 2, 2, 4), (3, 5, 2, 2, 1)]),
    "attended prototype": (
        AttendedPrototypeMean,
        [AttendedFraction(), AttendedFraction(0.0)],
        [(5, 2, 2, 4), (3, 5, 2, 2, 1)],
    ),
    "combined maps": (MapCombination, [CombinationShare(), CombinationShare(1e-6)], [(4, 2, 2, 3), (4, 3)]),
}
# The sizes that inputs, weights and relevance can have in float32 before a product of three of them leaves its range.
SIZES = st.sampled_from([0.0, 1e-12, 1e-6, 1.0, 1e6, 1e12])
CASES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 99),
        "inputs": SIZES,
        "relevance": st.sampled_from([0.0, 1e-9, 1.0, 1e6]),
        "weights": st.sampled_from([0.0, 1e-6, 1.0, 1e6]),
        "zeros": st.sampled_from([0.0, 0.5]),
        "positive": st.booleans(),
    }
)


@functools.cache
def _single(name: str, dtype: str = "float32", bias: bool = True) -> keras.Model:
    """One layer as a model."""
    options = {} if bias else {"use_bias": False}
    make, _, inputs = {**OTHERS, **OF_SHAPES}.get(name, (SUMS.get(name), None, 1))
    layer = type(make()).from_config({**make().get_config(), **options, "dtype": dtype})
    tensors = [keras.Input(shape, dtype=dtype) for shape in (inputs * [SHAPE] if isinstance(inputs, int) else inputs)]
    return keras.Model(tensors, layer(tensors if len(tensors) > 1 else tensors[0]))


def _relevance(model, rule, xs, r, nonnegative=False):
    trace = record(model, [tf.constant(x[None]) for x in xs], nonnegative=nonnegative)
    composite = Composite([Entry(rule, layer=model.layers[-1].name)])
    return [x.numpy() for x in reverse(trace, tf.constant(r[None]), composite)]


def _values(rng, size, case):
    values = case["inputs"] * rng.normal(size=size) * (rng.uniform(size=size) >= case["zeros"])
    return (np.abs(values) if case["positive"] else values).astype(np.float32)


def _check_finite(model, rule, case):
    rng = np.random.default_rng(case["seed"])
    model.set_weights(
        [
            rng.uniform(0.5, 2.0, v.shape) if "variance" in v.name else case["weights"] * rng.normal(size=v.shape)
            for v in model.weights
        ]
    )
    xs = [_values(rng, x.shape[1:], case) for x in model.inputs]
    r = (case["relevance"] * rng.normal(size=model.output_shape[1:])).astype(np.float32)
    for relevance in _relevance(model, rule, xs, r, nonnegative=case["positive"]):
        assert np.isfinite(relevance).all()
        # Nothing comes of nothing.
        assert case["relevance"] or not relevance.any()


@pytest.mark.parametrize("rule", SUM_RULES, ids=repr)
@FEW
@given(name=st.sampled_from(list(SUMS)), case=CASES)
def test_weighted_sums_stay_finite(rule, name, case):
    _check_finite(_single(name), rule, case)


@pytest.mark.parametrize(
    "rule", [Magnitude(), InnvestigateBatchNorm(Z()), InnvestigateBatchNorm(AlphaBetaX())], ids=repr
)
@FEW
@given(case=CASES)
def test_normalisation_stays_finite(rule, case):
    _check_finite(_single("batch_norm"), rule, case)


@pytest.mark.parametrize(
    ("name", "rule"),
    [(name, rule) for name, (_, rules, _) in {**OTHERS, **OF_SHAPES}.items() for rule in rules],
    ids=str,
)
@FEW
@given(case=CASES)
def test_other_layers_stay_finite(name, rule, case):
    _check_finite(_single(name), rule, case)


@pytest.mark.parametrize("rule", ATTENTION, ids=repr)
@FEW
@given(case=CASES)
def test_attention_stays_finite(rule, case):
    """Of smaller sizes: what the layer itself computes is a product of four of them."""
    x = keras.Input((4, 3))
    case = {**case, "inputs": min(case["inputs"], 1e6), "weights": min(case["weights"], 1.0)}
    _check_finite(keras.Model(x, L.MultiHeadAttention(2, 2)(x, x)), rule, case)


def test_every_rule_is_tried():
    tried = {
        type(rule)
        for rules in (SUM_RULES, ATTENTION, *(rules for _, rules, _ in (*OTHERS.values(), *OF_SHAPES.values())))
        for rule in rules
    }
    # By class: one of them has two names.
    assert tried | {Magnitude, InnvestigateBatchNorm} == {RULES.member(name) for name in RULES.names()}


# === Conservation ===

CONSERVING = [
    Z(bias=False),
    Epsilon(1e-12, bias=False),
    AlphaBeta(bias=False),
    AlphaBeta(2.0, 1.0, bias=False),
    ZPlus(),
    Gamma(0.25, bias=False),
    Gamma(2.0),
    WSquare(),
    Flat(),
    Bounded(-3.0, 3.0),
]


@pytest.mark.parametrize("rule", CONSERVING, ids=repr)
@FEW
@given(data=st.data(), seed=st.integers(0, 99))
def test_relevance_is_conserved_where_no_bias_takes_its_share(rule, data, seed):
    rng = np.random.default_rng(seed)
    layers = ["dense", "convolution"] + ([] if isinstance(rule, AlphaBeta) else ["depthwise", "separable"])
    model = _single(data.draw(st.sampled_from(layers)), "float64", bias=False)
    kernel, *more = [rng.normal(size=v.shape) for v in model.weights]
    x, r = rng.normal(size=SHAPE), rng.normal(size=model.output_shape[1:])
    if isinstance(rule, AlphaBeta):
        # A unit without contributions of a sign would lose that part: here each has some of both.
        kernel[..., 1, :], x[..., 1] = -0.7 * kernel[..., 0, :], 2.0 * x[..., 0]
    model.set_weights([kernel, *more])
    (got,) = _relevance(model, rule, [x], r)
    np.testing.assert_allclose(got.sum(), r.sum(), rtol=0, atol=1e-6 * np.abs(got).sum())


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (name, rule)
        for name, rules in (
            ("mean", [Share()]),
            ("mean of the map", [Share(1e-12)]),
            ("max_pool", [Share(), Derivative()]),
            ("max of the map", [Share()]),
            ("add", [Share(), ShareSum(1e-12)]),
            ("average", [Share()]),
            ("gate", [Gate()]),
        )
        for rule in rules
    ],
    ids=str,
)
@FEW
@given(seed=st.integers(0, 99))
def test_layers_without_weights_conserve_relevance(name, rule, seed):
    rng = np.random.default_rng(seed)
    model = _single(name, "float64")
    xs, r = [rng.normal(size=SHAPE) for _ in model.inputs], rng.normal(size=model.output_shape[1:])
    if name == "max_pool":
        # The last row of five is in no window of two; it gets nothing.
        assert not any(x[0, -1].any() for x in _relevance(model, rule, xs, r))
    got = _relevance(model, rule, xs, r)
    total = sum(np.abs(x).sum() for x in got)
    np.testing.assert_allclose(sum(x.sum() for x in got), r.sum(), rtol=0, atol=1e-6 * total)


# === Whole models ===

ALL = COMPOSITES.names()


def _network(seed=3):
    """Convolution, batch normalisation, a residual sum, pooling, dense; weights as after some training."""
    images = keras.Input((10, 10, 3))
    x = L.Activation("relu")(L.BatchNormalization()(L.Conv2D(8, 3, padding="same")(images)))
    y = L.BatchNormalization()(L.Conv2D(8, 3, padding="same")(x))
    x = L.MaxPooling2D(2)(L.Activation("relu")(L.Add()([x, y])))
    x = L.Dense(16, activation="relu")(L.Flatten()(x))
    model = keras.Model(images, L.Dense(4, dtype="float32")(x))
    rng = np.random.default_rng(seed)

    def draw(v):
        if "gamma" in v.name or "variance" in v.name:
            return rng.uniform(0.5, 1.5, v.shape)
        return rng.normal(size=v.shape) / np.sqrt(np.prod(v.shape[:-1]) if len(v.shape) > 1 else 100.0)

    model.set_weights([draw(v) for v in model.weights])
    return model


@pytest.fixture(scope="module")
def network():
    return _network()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(4).normal(size=(7, 10, 10, 3)).astype(np.float32)


def _explain(model, images, composite, start=None):
    trace = record(model, [tf.cast(images, model.compute_dtype)])
    return reverse(trace, trace.outputs[0] if start is None else start, COMPOSITES.get(composite))[0].numpy()


@pytest.mark.parametrize("composite", ALL)
def test_silent_networks_have_finite_relevance(composite, images):
    model = _network()
    images = images[:2]
    _check_silent(model, np.zeros_like(images), composite)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([gamma, beta - 100.0, mean, variance])
    dead = keras.Model(model.input, model.layers[-4].output)
    assert not np.any(dead(images))
    _check_silent(model, images, composite)


def _check_silent(model, images, composite):
    assert np.isfinite(_explain(model, images, composite)).all()
    assert not np.any(_explain(model, images, composite, start=tf.zeros((len(images), 4))))


# Relative distance (L2) from float32 that half of the images stay below: some 20 roundings to 11 and to 8 bits. An
# image on which a sum nearly cancels (a score, or a denominator without its bias) may be ten times as far off.
HALVES = {"mixed_float16": 0.01, "mixed_bfloat16": 0.08}
# Which contributions count depends on the sign of a sum, and near zero it is another one in half precision.
SENSITIVE = "fsc_gamma"


@pytest.fixture(params=HALVES)
def half(request):
    keras.mixed_precision.set_global_policy(request.param)
    yield request.param
    # None, not the policy from before: any policy would outlive a later change of Keras's floatx.
    keras.mixed_precision.set_global_policy(None)


@pytest.mark.parametrize("composite", all_but_slow(ALL, ALL[::2]))
def test_half_precision_is_close(composite, network, images, half):
    model = _network()
    model.set_weights(network.get_weights())
    assert model.layers[1].compute_dtype == half.removeprefix("mixed_")
    start = tf.one_hot(np.argmax(network(images), axis=1), 4)
    got, expected = (_explain(m, images, composite, start) for m in (model, network))
    assert got.dtype == np.float32
    assert np.isfinite(got).all()
    assert _typical_distance(got, expected) <= HALVES[half] * (3 if composite == SENSITIVE else 1)


def _typical_distance(got, expected) -> float:
    """Median over the images of |got - expected| / |expected|."""
    got, expected = got.reshape(len(got), -1), expected.reshape(len(got), -1)
    return float(np.median(np.linalg.norm(got - expected, axis=1) / np.linalg.norm(expected, axis=1)))


def test_the_analyzer_explains_models_in_half_precision(network, images, half):
    model = _network()
    model.set_weights(network.get_weights())
    got, expected = (LRP(m, "fsc", "index").analyze(images, 1) for m in (model, network))
    assert _typical_distance(got, expected) <= 2 * HALVES[half]


# The others are slow.
SOME = ("fsc", "fsc_can", "epsilon_gamma_box", "attn_lrp", "lrp.sequential_preset_b_flat")


@pytest.mark.parametrize(
    "composite", [pytest.param(name, marks=[pytest.mark.slow] * (name not in SOME)) for name in ALL]
)
def test_explaining_leaves_no_trace(composite, network, images):
    def state():
        return (
            network.to_json(),
            [layer.trainable for layer in network.layers],
            [v.name for v in network.variables],
            [len(layer.inbound_nodes) for layer in network.layers],
            network.losses,
        )

    weights, output, before = network.get_weights(), network(images).numpy(), state()
    LRP(network, composite).analyze(images)
    _explain(network, images, composite)
    assert state() == before
    for old, new in zip(weights, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(network(images).numpy(), output)


def _eager_tensors() -> int:
    gc.collect()
    return sum(type(thing).__name__ == "EagerTensor" for thing in gc.get_objects())


def test_many_analyses_keep_no_tensors_and_trace_once(network, images):
    analyzer = LRP(network, "fsc_can", neuron_selection_mode="index")
    analyzer.analyze(images, 0)
    kept = tf.constant(1.0)
    before = _eager_tensors()
    for i in range(200):
        analyzer.analyze(images + np.float32(i), [i % 4] * len(images))
    assert _eager_tensors() == before > 0
    assert analyzer._analyze.experimental_get_tracing_count() == 1
    del kept


def test_eager_explanations_keep_no_tensors(network, images):
    analyzer = LRP(network, "epsilon_plus")
    features, start = tf.constant(images), tf.ones((len(images), 4))
    analyzer.relevance(features, start)
    before = _eager_tensors()
    for _ in range(10):
        analyzer.relevance(features, start)
    assert _eager_tensors() == before > 0
