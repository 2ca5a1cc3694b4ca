"""Attention, products of activations, and normalisations by a root: against loops, identities and hand-made numbers."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.backbones import BACKBONES
from egt_tf.backbones.layers import LearnedTokens, RMSNormalization
from egt_tf.errors import ExplainError
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, LRP, Composite, Entry, record, reverse
from egt_tf.lrp.attention import Attention, MatrixProduct
from egt_tf.lrp.gradient_form import reverse_gradient
from egt_tf.lrp.linear_rules import Epsilon, Gamma, ZPlus
from egt_tf.lrp.rules import Gate, LayerState, RouteWithout, SoftmaxShare

L = keras.layers
EPSILON = 1e-12

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def _relevance(model, composite, arrays, r):
    trace = record(model, [tf.constant(x) for x in arrays], raw=False)
    return [x.numpy() for x in reverse(trace, tf.constant(r), composite)]


def _filled(model, rng):
    model.set_weights([rng.normal(size=v.shape) for v in model.weights])
    return model


# === Rules alone ===


def test_the_softmax_rule_is_input_times_gradient(rng):
    x, r = tf.constant(rng.normal(size=(2, 3, 4))), tf.constant(rng.normal(size=(2, 3, 4)))
    layer = L.Softmax()
    with tf.GradientTape() as tape:
        tape.watch(x)
        s = layer(x)
    expected = x * tape.gradient(s, x, output_gradients=r / s)
    state = LayerState(layer, lambda xs: [layer(*xs)])
    np.testing.assert_allclose(SoftmaxShare().apply([x], [s], [r], state)[0], expected, rtol=0, atol=1e-12)


def test_the_product_rule_halves_the_gradients_and_conserves(rng):
    a, v = (tf.constant(rng.normal(size=shape)) for shape in ((2, 3, 4), (2, 4, 5)))
    r = tf.constant(rng.normal(size=(2, 3, 5)))
    inputs = [keras.Input(x.shape[1:]) for x in (a, v)]
    model = keras.Model(inputs, tf.matmul(*inputs))
    of_a, of_v = _relevance(model, Composite([Entry(MatrixProduct(), layer_type="product")]), [a, v], r)
    with tf.GradientTape() as tape:
        tape.watch([a, v])
        y = tf.matmul(a, v)
        halved = 0.5 * y + tf.stop_gradient(0.5 * y)
    for got, x, gradient in zip((of_a, of_v), (a, v), tape.gradient(halved, [a, v], output_gradients=r / y)):
        np.testing.assert_allclose(got, x * gradient, rtol=0, atol=1e-12 * np.abs(got).max())
    np.testing.assert_allclose(of_a.sum() + of_v.sum(), tf.reduce_sum(r), rtol=1e-12)


@pytest.mark.parametrize("make", [L.LayerNormalization, RMSNormalization])
def test_normalisations_conserve_without_a_shift(make, rng):
    layer, x = make(epsilon=1e-6), tf.constant(rng.normal(size=(2, 3, 6)))
    y = layer(x)
    layer.gamma.assign(rng.normal(size=6))
    r = tf.constant(rng.normal(size=(2, 3, 6)))
    state = LayerState(layer, lambda xs: [layer(*xs)])
    (got,) = Epsilon(EPSILON).apply([x], [y], [r], state)
    np.testing.assert_allclose(tf.reduce_sum(got, -1), tf.reduce_sum(r, -1), rtol=1e-9)
    if make is RMSNormalization:
        np.testing.assert_allclose(got, r, rtol=1e-9)


def _constant(values):
    return tf.constant(values, tf.float64)


def test_products_by_hand():
    """q = (1, 2) and k = (3, 1) have the product 5; attention (1/4, 3/4) of values 4 and 8 is 7."""
    layer, r = L.Dot(1), _constant([[10.0]])
    xs = [_constant([[1.0, 2.0]]), _constant([[3.0, 1.0]])]
    state = LayerState(layer, lambda xs: [layer(xs)], gates=(False, False))
    for got in MatrixProduct().apply(xs, state.call(xs), [r], state):
        np.testing.assert_allclose(got, [[3.0, 2.0]])
    xs = [_constant([[0.25, 0.75]]), _constant([[4.0, 8.0]])]
    state = LayerState(layer, lambda xs: [layer(xs)], gates=(True, False))
    attention, values = MatrixProduct().apply(xs, state.call(xs), [_constant([[7.0]])], state)
    assert attention is None
    np.testing.assert_allclose(values, [[1.0, 6.0]])
    for got in MatrixProduct(gates=False).apply(xs, state.call(xs), [_constant([[7.0]])], state):
        np.testing.assert_allclose(got, [[0.5, 3.0]])


def test_a_cosine_is_the_product_of_unit_vectors(rng):
    xs = [tf.constant(rng.normal(size=(2, 4))) for _ in range(2)]
    layer = L.Dot(1, normalize=True)
    y = layer(xs)
    state = LayerState(layer, lambda xs: [layer(xs)], gates=(False, False))
    r = tf.constant(rng.normal(size=(2, 1)))
    units = [x / tf.norm(x, axis=1, keepdims=True) for x in xs]
    for got in MatrixProduct().apply(xs, [y], [r], state):
        np.testing.assert_allclose(got, 0.5 * units[0] * units[1] * r / y, rtol=1e-9)


def _spelled(spelling):
    a, b = keras.Input((3, 4)), keras.Input((4, 5))
    return keras.Model([a, b], spelling(a, b))


@pytest.mark.parametrize(
    "spelling",
    [
        lambda a, b: a @ b,
        lambda a, b: tf.linalg.matmul(a, b),
        lambda a, b: tf.einsum("nij,njk->nik", a, b),
        lambda a, b: L.Dot((2, 1))([a, b]),
        lambda a, b: tf.transpose(tf.matmul(b, a, transpose_a=True, transpose_b=True), (0, 2, 1)),
        lambda a, b: tf.reduce_sum(a[..., None] * b[:, None], axis=2),
    ],
    ids=["@", "matmul", "einsum", "Dot", "transposed", "products and sums"],
)
def test_every_spelling_of_a_product_is_the_same(spelling, rng):
    arrays, r = [rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 4, 5))], rng.normal(size=(2, 3, 5))
    a, b = arrays
    share = 0.5 * r / (a @ b)
    got = _relevance(_spelled(spelling), COMPOSITES.get("lrp.z"), arrays, r)
    np.testing.assert_allclose(got[0], a * (share @ b.transpose(0, 2, 1)), rtol=1e-8)
    np.testing.assert_allclose(got[1], b * (a.transpose(0, 2, 1) @ share), rtol=1e-8)


def test_a_product_with_a_constant_is_a_weighted_sum(rng):
    matrix = rng.normal(size=(4, 5))
    x = keras.Input((3, 4))
    dense = L.Dense(5, use_bias=False)
    written, layer = keras.Model(x, tf.matmul(x, tf.constant(matrix))), keras.Model(x, dense(x))
    dense.set_weights([matrix])
    array, r = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 5))
    got, expected = (_relevance(model, COMPOSITES.get("lrp.z"), [array], r) for model in (written, layer))
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_a_root_in_the_denominator_gets_nothing_however_it_is_written(rng):
    x = keras.Input((3, 6))
    power = tf.reduce_mean(tf.square(x), axis=-1, keepdims=True) + 1e-6
    ways = [x * tf.math.rsqrt(power), x / tf.sqrt(power), x * tf.math.reciprocal(tf.sqrt(power)), RMSNormalization()(x)]
    r, array = rng.normal(size=(2, 3, 6)), rng.normal(size=(2, 3, 6))
    for y in ways:
        model = keras.Model(x, y)
        np.testing.assert_allclose(model(array), RMSNormalization()(array), rtol=1e-9)
        np.testing.assert_allclose(_relevance(model, COMPOSITES.get("cp_lrp"), [array], r)[0], r, rtol=1e-4)


@pytest.mark.parametrize(
    ("copy", "nonnegative"),
    [
        (lambda x: tf.where(x > 1.0, x, -1e9), False),
        (lambda x: tf.concat([x, tf.constant([[[-1.0, 2.0]]], x.dtype)], axis=1), False),
        (lambda x: tf.pad(x, [[0, 0], [1, 0], [0, 0]], constant_values=-1.0), False),
        (lambda x: tf.pad(x, [[0, 0], [1, 0], [0, 0]]), True),
        (LearnedTokens(1, "ones"), False),
    ],
    ids=["where", "concat", "pad", "pad zeros", "tokens"],
)
def test_values_that_stand_in_count_for_the_sign(copy, nonnegative):
    x = keras.Input((3, 2))
    copy = copy if not isinstance(copy, L.Layer) else type(copy).from_config({**copy.get_config(), "dtype": "float64"})
    trace = record(keras.Model(x, L.Dense(1)(copy(tf.nn.relu(x)))), [_constant(np.ones((1, 3, 2)))])
    assert trace.calls[-1].state.nonnegative == (nonnegative,)


# === Multi-head attention ===


def _plain(layer, query, value, key, mask=None):
    """The attention of a layer, spelled out in layers of its weights."""
    projections = [
        L.EinsumDense("btd,dnh->btnh", (None, layer._num_heads, size), bias_axes="nh" if layer._use_bias else None)
        for size in (layer._key_dim, layer._key_dim, layer._value_dim)
    ]
    q, k, v = (projection(x) for projection, x in zip(projections, (query, key, value)))
    logits = tf.einsum("btnh,bsnh->bnts", q * (1.0 / np.sqrt(layer._key_dim)), k)
    weights = L.Softmax()(logits if mask is None else tf.where(mask[:, None], logits, -1e9))
    attended = tf.einsum("bnts,bsnh->btnh", weights, v)
    out = L.EinsumDense("btnh,nhd->btd", (None, query.shape[-1]), bias_axes="d" if layer._use_bias else None)
    y = out(attended)
    return y, [*projections, out]


CASES = {
    "one head": dict(heads=1),
    "heads": dict(heads=3),
    "biases": dict(heads=2, use_bias=True),
    "another key": dict(heads=2, use_bias=True, other_key=True),
    "mask": dict(heads=2, use_bias=True, mask=True),
    "other size of values": dict(heads=2, value_dim=5),
}


def _pair(rng, heads, use_bias=False, other_key=False, mask=False, value_dim=None):
    """A model of one layer, the same in plain layers, and arrays for both."""
    layer = L.MultiHeadAttention(heads, 4, value_dim, use_bias=use_bias)
    query, value, key = keras.Input((3, 6)), keras.Input((5, 6)), keras.Input((5, 6))
    allowed = keras.Input((3, 5), dtype=tf.bool)
    inputs = [query, value, *([key] if other_key else []), *([allowed] if mask else [])]
    y = layer(query, value, key if other_key else None, attention_mask=allowed if mask else None)
    plain, parts = _plain(layer, query, value, key if other_key else value, allowed if mask else None)
    whole = _filled(keras.Model(inputs, y), rng)
    weights = iter(layer.get_weights())
    for part in parts:
        part.set_weights([next(weights) for _ in part.weights])
    arrays = [rng.normal(size=(2, *x.shape[1:])) for x in inputs]
    if mask:
        arrays[-1] = rng.uniform(size=(2, 3, 5)) < 0.6
        arrays[-1][..., 0] = True
    return whole, keras.Model(inputs, plain), arrays


def _composite(name, bias=True):
    return COMPOSITES.get({"name": name, "epsilon": EPSILON, "bias": bias})


@pytest.mark.parametrize("bias", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["cp_lrp", "attn_lrp"])
@pytest.mark.parametrize("case", CASES)
def test_one_layer_is_the_same_attention_in_plain_layers(case, name, bias, rng):
    whole, plain, arrays = _pair(rng, **CASES[case])
    y = whole(arrays)
    np.testing.assert_allclose(plain(arrays), y, rtol=1e-9)
    got, expected = (_relevance(model, _composite(name, bias), arrays, y) for model in (whole, plain))
    for position in range(len(arrays) - ("mask" in CASES[case])):
        scale = np.abs(expected[position]).max()
        np.testing.assert_allclose(got[position], expected[position], rtol=0, atol=1e-5 * max(scale, 1e-9))
    assert np.any(got[1])
    assert np.any(got[0]) == (name == "attn_lrp")


@pytest.mark.parametrize("case", CASES)
def test_the_surrogate_has_the_values_of_the_layer(case, rng):
    whole, _, arrays = _pair(rng, **CASES[case])
    (call,) = record(whole, [tf.constant(x) for x in arrays]).calls
    for rule in (Attention(), Attention(softmax=True, bias=False)):
        (y,) = call.state.calling(functools.partial(rule._surrogate, call.layer))(call.inputs)
        np.testing.assert_allclose(y, call.outputs[0], rtol=0, atol=1e-6)


def test_a_causal_mask_and_attention_scores_as_outputs(rng):
    x = keras.Input((4, 6))
    layer = L.MultiHeadAttention(2, 3)
    y, scores = layer(x, x, use_causal_mask=True, return_attention_scores=True)
    model = _filled(keras.Model(x, [y, scores]), rng)
    trace = record(model, [tf.constant(rng.normal(size=(1, 4, 6)))])
    start = np.zeros((1, 4, 6))
    start[:, 1] = 1.0
    (got,) = reverse(trace, tf.constant(start), COMPOSITES.get("attn_lrp"))
    assert np.any(got[:, 1])
    assert not np.any(got[:, 2:])
    (through,) = reverse(trace, tf.ones_like(trace.outputs[1]), COMPOSITES.get("attn_lrp"), source=trace.outputs[1])
    assert np.any(through)
    (through,) = reverse(trace, tf.ones_like(trace.outputs[1]), COMPOSITES.get("cp_lrp"), source=trace.outputs[1])
    assert not np.any(through)


def _loops(x, kernels, r):
    """One head without biases by AttnLRP, step by step: relevance of the tokens x `(tokens, width)`."""
    wq, wk, wv, wo = kernels
    tokens, size = len(x), wq.shape[1]

    def of_sum(inputs, kernel, relevance):
        out = np.zeros_like(inputs)
        for t in range(inputs.shape[0]):
            for j in range(kernel.shape[1]):
                z = sum(inputs[t, i] * kernel[i, j] for i in range(kernel.shape[0]))
                for i in range(kernel.shape[0]):
                    out[t, i] += inputs[t, i] * kernel[i, j] * relevance[t, j] / z
        return out

    q, k, v = x @ wq, x @ wk, x @ wv
    logits = q @ k.T / np.sqrt(size)
    s = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    o = s @ v
    of_o = of_sum(o, wo, r)
    of_s, of_v, of_q, of_k = (np.zeros_like(each) for each in (s, v, q, k))
    for t in range(tokens):
        for h in range(size):
            for u in range(tokens):
                part = s[t, u] * v[u, h] * of_o[t, h] / (2 * o[t, h])
                of_s[t, u] += part
                of_v[u, h] += part
    for t in range(tokens):
        for u in range(tokens):
            of_logit = logits[t, u] * (of_s[t, u] - s[t, u] * of_s[t].sum())
            for h in range(size):
                part = q[t, h] * k[u, h] / np.sqrt(size) * of_logit / (2 * logits[t, u])
                of_q[t, h] += part
                of_k[u, h] += part
    return of_sum(x, wq, of_q) + of_sum(x, wk, of_k) + of_sum(x, wv, of_v)


def test_one_head_is_what_loops_make_of_it(rng):
    x = keras.Input((3, 4))
    layer = L.MultiHeadAttention(1, 2, use_bias=False)
    model = _filled(keras.Model(x, layer(x, x)), rng)
    wq, wk, wv, wo = layer.get_weights()
    array, r = rng.normal(size=(1, 3, 4)), rng.normal(size=(1, 3, 4))
    expected = _loops(array[0], (wq[:, 0], wk[:, 0], wv[:, 0], wo[0]), r[0])
    (got,) = _relevance(model, _composite("attn_lrp"), [array], r)
    np.testing.assert_allclose(got[0], expected, rtol=0, atol=1e-8 * np.abs(expected).max())


def test_attention_of_a_way_of_its_own_is_refused():
    class Odd(L.MultiHeadAttention):
        def _compute_attention(self, *arguments, **more):
            return super()._compute_attention(*arguments, **more)

    x = keras.Input((3, 4))
    with pytest.raises(ExplainError, match=r"'odd'.*register a rule"):
        LRP(keras.Model(x, Odd(1, 2, name="odd")(x, x)), "epsilon").analyze(np.ones((1, 3, 4)))


def test_all_neurons_at_once_in_a_graph(rng):
    x = keras.Input((3, 4))
    scores = L.Dense(3)(L.GlobalAveragePooling1D()(L.MultiHeadAttention(2, 2)(x, x)))
    model = _filled(keras.Model(x, scores), rng)
    analyzer = LRP(model, "attn_lrp", "index")
    array = rng.normal(size=(2, 3, 4))
    got = analyzer.analyze_each(array, [0, 2])
    for row, neuron in zip(got, (0, 2)):
        np.testing.assert_allclose(row, analyzer.analyze(array, neuron), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", COMPOSITES.names())
def test_every_composite_explains_attention(name, rng):
    x = keras.Input((3, 4))
    y = L.LayerNormalization()(L.MultiHeadAttention(2, 2)(x, x))
    model = _filled(keras.Model(x, L.Dense(3)(tf.matmul(tf.nn.softmax(y @ tf.transpose(y, (0, 2, 1))), y))), rng)
    (got,) = _relevance(model, COMPOSITES.get(name), [rng.normal(size=(2, 3, 4))], np.ones((2, 3, 3)))
    assert np.isfinite(got).all()
    assert np.any(got)


def test_half_precision_is_close(rng):
    def model():
        x = keras.Input((3, 8))
        return keras.Model(x, L.MultiHeadAttention(2, 4)(x, x))

    keras.backend.set_floatx("float32")
    whole = _filled(model(), rng)
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        half = model()
    finally:
        keras.mixed_precision.set_global_policy(None)
    half.set_weights(whole.get_weights())
    array, r = (rng.normal(size=(1, 3, 8)).astype(np.float32) for _ in range(2))
    got, expected = (
        _relevance(each, Composite([Entry(Attention(0.1), layer_type="attention")]), [array], r)[0]
        for each in (half, whole)
    )
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=0, atol=0.05 * np.abs(expected).max())


# === What people come with ===


def _both_engines(model, composite, array):
    """Relevance for the second output, by the walker and as a gradient."""
    trace = record(model, [tf.constant(array)])
    weights = tf.one_hot(len(array) * [1], model.output_shape[-1], dtype=trace.outputs[0].dtype)
    (walked,) = reverse(trace, weights * trace.outputs[0], composite)
    (of_gradient,) = reverse_gradient(trace, weights, composite)
    return walked.numpy(), of_gradient.numpy()


@pytest.mark.parametrize("name", ["attn_lrp", "cp_lrp"])
@pytest.mark.parametrize("how", ["where", "sum"])
def test_a_mask_of_minus_infinity_leaves_numbers(name, how, rng):
    x = keras.Input((4, 6))
    logits = tf.matmul(L.Dense(6)(x), L.Dense(6)(x), transpose_b=True)
    later = np.triu(np.ones((4, 4)), 1)
    masked = (
        tf.where(later == 1, tf.constant(-np.inf, logits.dtype), logits)
        if how == "where"
        else logits + np.where(later, -np.inf, 0.0)
    )
    y = tf.matmul(tf.nn.softmax(masked), L.Dense(6)(x))
    model = _filled(keras.Model(x, L.Dense(3)(y[:, 1])), rng)
    walked, of_gradient = _both_engines(model, COMPOSITES.get(name), rng.normal(size=(2, 4, 6)))
    assert np.isfinite(walked).all()
    # The second token sees the first and itself.
    assert np.any(walked[:, 0])
    assert not np.any(walked[:, 2:])
    np.testing.assert_allclose(of_gradient, walked, rtol=0, atol=1e-9 * np.abs(walked).max())


def test_a_layer_of_attention_used_twice_is_two_that_share_weights(rng):
    def model(second):
        x = keras.Input((4, 6))
        y = first(x, x)
        return keras.Model(x, L.Dense(3, kernel_initializer="ones")(L.Flatten()(second(y, y) + x)))

    first, other = L.MultiHeadAttention(2, 3), L.MultiHeadAttention(2, 3)
    once, twice = model(other), model(first)
    _filled(twice, rng)
    other.set_weights(first.get_weights())
    once.layers[-1].set_weights(twice.layers[-1].get_weights())
    array = rng.normal(size=(2, 4, 6))
    walked, of_gradient = _both_engines(twice, COMPOSITES.get("attn_lrp"), array)
    np.testing.assert_allclose(walked, _both_engines(once, COMPOSITES.get("attn_lrp"), array)[0], rtol=1e-12)
    np.testing.assert_allclose(of_gradient, walked, rtol=0, atol=1e-9 * np.abs(walked).max())


def test_dropout_of_attention_is_off(rng):
    def model(rate):
        x = keras.Input((4, 6))
        return keras.Model(x, L.Dense(3)(L.Flatten()(L.MultiHeadAttention(2, 3, dropout=rate)(x, x))))

    without, with_dropout = _filled(model(0.0), rng), model(0.9)
    with_dropout.set_weights(without.get_weights())
    array = rng.normal(size=(2, 4, 6))
    expected, got = (LRP(each, "attn_lrp", "index").analyze(array, 1) for each in (without, with_dropout))
    np.testing.assert_allclose(got, expected, rtol=1e-12)


class Fused(L.Layer):
    """Hides its softmax."""

    def call(self, x):
        return tf.matmul(tf.nn.softmax(tf.matmul(x, x, transpose_b=True)), x)


@pytest.mark.parametrize(
    "layer", [L.Attention(name="hidden"), L.AdditiveAttention(name="hidden"), Fused(name="hidden")], ids=[0, 1, 2]
)
@pytest.mark.parametrize("engine", ["walker", "gradient", "auto"])
def test_a_layer_that_hides_its_softmax_is_named_with_what_to_do(layer, engine):
    x = keras.Input((3, 4))
    y = layer(x) if isinstance(layer, Fused) else layer([x, x])
    with pytest.raises(ExplainError, match=r"(?s)'hidden'.*(register|Entry)") as raised:
        LRP(keras.Model(x, L.Flatten()(y)), "attn_lrp", engine=engine).analyze(np.ones((1, 3, 4)))
    assert "\n" not in str(raised.value)


# === Composites ===


def test_which_rules_the_composites_have():
    attention, dense, convolution = L.MultiHeadAttention(1, 2), L.Dense(1), L.Conv2D(1, 1)
    cp, attn = COMPOSITES.get("cp_lrp"), COMPOSITES.get("attn_lrp")
    gamma = COMPOSITES.get({"name": "vit_gamma", "conv_gamma": 100.0, "dense_gamma": 0})
    assert (cp.rule_for(attention).softmax, attn.rule_for(attention).softmax) == (False, True)
    assert (cp.rule_for(L.Softmax()), attn.rule_for(L.Softmax())) == (RouteWithout((0,)), SoftmaxShare())
    assert (cp.rule_for(L.Dot(1)).gates, attn.rule_for(L.Dot(1)).gates) == (True, False)
    assert cp.rule_for(L.Multiply()) == attn.rule_for(L.Multiply()) == Gate()
    assert gamma.rule_for(convolution).gamma == 100.0
    assert gamma.rule_for(dense) == Epsilon(1e-6)
    assert COMPOSITES.get("vit_gamma").rule_for(dense).gamma == 0.05
    assert COMPOSITES.get("vit_gamma").rule_for(attention) == cp.rule_for(attention)


@pytest.mark.parametrize("argument", ["conv_gamma", "dense_gamma"])
def test_gammas_are_not_negative(argument):
    with pytest.raises(ExplainError, match=f"`{argument}` must be a finite number >= 0. Received: {argument}=-1"):
        COMPOSITES.get({"name": "vit_gamma", argument: -1})


def test_gamma_is_epsilon_at_nothing_and_z_plus_at_infinity(rng):
    layer = L.Dense(4, use_bias=False)
    x, r = tf.constant(rng.uniform(size=(2, 5))), tf.constant(rng.normal(size=(2, 4)))
    y = layer(x)
    layer.set_weights([rng.normal(size=(5, 4))])
    state = LayerState(layer, lambda xs: [layer(*xs)])
    y = layer(x)

    def relevance(rule):
        return rule.apply([x], [y], [r], state)[0].numpy()

    scale = np.abs(relevance(Epsilon(EPSILON))).max()
    np.testing.assert_allclose(relevance(Gamma(1e-9)), relevance(Epsilon(EPSILON)), atol=1e-6 * scale)
    firing = np.where(y > 0, r, 0.0)
    r = tf.constant(firing)
    np.testing.assert_allclose(relevance(Gamma(1e6)), relevance(ZPlus()), rtol=0, atol=1e-5)


def _vit(**more):
    return BACKBONES.get(
        {"name": "vit_tiny", "patch": 8, "width": 12, "depth": 2, "heads": 3, **more}, image_size=16, seed=1
    )


@pytest.mark.parametrize("name", ["cp_lrp", "vit_gamma"])
def test_a_vision_transformer_without_biases_conserves_the_score_at_every_step(name, rng):
    backbone = _vit(layer_scale=True)
    model = keras.Sequential([backbone, L.Flatten(), L.Dense(3, name="scores")])
    for weight in model.weights:
        empty = any(part in weight.name for part in ("bias", "beta", "embedding/embedding", "tokens"))
        weight.assign(np.zeros(weight.shape) if empty else rng.normal(size=weight.shape) / np.sqrt(weight.shape[0]))
    trace = record(model, [tf.constant(rng.normal(size=(1, 16, 16, 3)))])
    start = trace.outputs[0] * tf.one_hot([1], 3, dtype=tf.float64)
    arguments = {"epsilon": 1e-9} if name == "cp_lrp" else {}
    adds = [f"block0{block}_add{number}" for block in (1, 2) for number in (1, 2)]
    wanted = [
        trace.inputs[0],
        *(trace.output_of(layer) for layer in ("patch_embedding", "learned_tokens", *adds, "norm")),
    ]
    relevance = reverse(trace, start, COMPOSITES.get({"name": name, **arguments}), wanted)
    tolerance = 1e-5 if name == "cp_lrp" else 1e-2
    np.testing.assert_allclose([tf.reduce_sum(r) for r in relevance], tf.reduce_sum(start), rtol=tolerance)
