"""The references themselves: against TensorFlow, zennit, innvestigate, the published code, and by hand."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from tests.lrp import reference_rules as ref
from tests.lrp.innvestigate_oracle import (
    Analyzer,
    Job,
    Network,
    OracleError,
    ask_innvestigate,
    build_network,
    named,
    random_weights,
    run_oracle,
)

# === By hand: x = (1, 2), z = x W = (5, 1), relevance (6, 3) ===

X = np.array([1.0, 2.0])
W = np.array([[1.0, -1.0], [2.0, 1.0]])
R = np.array([6.0, 3.0])
BIAS = np.array([1.0, -2.0])
SMALL_BIAS = np.array([1.0, -1.0])

BY_HAND = {
    "z": (ref.z, {}, None, (-1.8, 10.8)),
    "z with bias": (ref.z, {}, BIAS, (4.0, -2.0)),
    "epsilon": (ref.epsilon, {"epsilon": 1.0}, None, (-0.5, 7.0)),
    "alpha-beta": (ref.alpha_beta, {"alpha": 2.0, "beta": 1.0}, None, (-0.6, 15.6)),
    "alpha-beta with bias": (ref.alpha_beta, {"alpha": 2.0, "beta": 1.0}, BIAS, (1.0, 14.0)),
    "whole bias": (ref.alpha_beta_whole_bias, {"alpha": 2.0, "beta": 1.0}, SMALL_BIAS, (0.5, 20.0)),
    "alpha-beta-x": (ref.alpha_beta_x, {"alpha": (2, 0), "beta": (1, 0)}, BIAS, (1.0, 14.0)),
    "zplus": (ref.zplus, {}, None, (1.2, 7.8)),
    "gamma": (ref.gamma, {"gamma": 1.0}, None, (0.2, 8.8)),
    "gamma with bias": (ref.gamma, {"gamma": 1.0}, BIAS, (2.5, 2.5)),
    "gamma, x >= 0": (ref.gamma_nonnegative, {"gamma": 1.0}, BIAS, (-2.0, 16.0)),
    "wsquare": (ref.wsquare, {}, None, (2.7, 6.3)),
    "flat": (ref.flat, {}, None, (4.5, 4.5)),
    "bounded": (ref.bounded, {"low": -1.0, "high": 4.0}, BIAS, (3.0, 6.0)),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_rule_by_hand(name):
    rule, parameters, bias, expected = BY_HAND[name]
    np.testing.assert_allclose(rule(X, W, bias, R, **parameters), expected, rtol=1e-12)


def test_alpha_beta_pairs_negative_inputs_with_negative_weights():
    x, w = np.array([-1.0, 2.0, 3.0]), np.array([[-2.0], [3.0], [-1.0]])
    relevance = ref.alpha_beta(x, w, None, np.array([8.0]), alpha=2.0, beta=1.0)
    np.testing.assert_allclose(relevance, [4.0, 12.0, -8.0])


def test_epsilon_counts_a_zero_output_as_positive():
    x, w = np.array([1.0, 1.0]), np.array([[1.0], [-1.0]])
    np.testing.assert_allclose(ref.epsilon(x, w, None, np.array([2.0]), epsilon=0.5), [4.0, -4.0])


def test_generalised_gamma_drops_the_relevance_of_a_zero_output():
    x, w = np.array([1.0, 1.0]), np.array([[1.0], [-1.0]])
    np.testing.assert_array_equal(ref.gamma(x, w, None, np.array([2.0]), gamma=1.0), [0.0, 0.0])


def test_both_gamma_rules_agree_on_nonnegative_inputs_with_positive_outputs():
    rng = np.random.default_rng(0)
    x, w = np.abs(rng.normal(size=6)), rng.normal(size=(6, 4))
    bias = positive_outputs = np.abs(x @ w) + 1.0
    general = ref.gamma(x, w, bias, positive_outputs, gamma=0.3)
    np.testing.assert_allclose(general, ref.gamma_nonnegative(x, w, bias, positive_outputs, gamma=0.3))


def test_pooling_by_hand():
    x, shape = np.array([1.0, 3.0, 0.0, 0.0, 2.0, 2.0, -1.0, 0.0]), (2, 4, 1)
    relevance = np.array([8.0, 5.0])  # windows: (1, 3, 2, 2) and (0, 0, -1, 0)
    np.testing.assert_allclose(ref.average_pool(x, shape, relevance), [1, 3, 0, 0, 2, 2, 5, 0])
    np.testing.assert_allclose(ref.max_pool_published(x, shape, relevance), [0, 8, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(ref.max_pool_route(x, shape, relevance), [0, 8, 5, 0, 0, 0, 0, 0])


def test_addition_by_hand():
    a, b = np.array([1.0, 0.0, 4.0]), np.array([3.0, 0.0, -2.0])
    share_a, share_b = ref.add_published(a, b, np.array([8.0, 8.0, 6.0]), epsilon=1e-12)
    np.testing.assert_allclose(share_a, [2.0, 4.0, 12.0])
    np.testing.assert_allclose(share_b, [6.0, 4.0, -6.0])


def test_batch_norm_by_hand():
    k, b = ref.batch_norm_affine(3.0, 1.0, 2.0, 3.0, 1.0)
    assert (k, b) == (1.5, -2.0)
    assert ref.batch_norm_affine_innvestigate(3.0, 1.0, 2.0, 3.0, 0.0) == (1.0, 1.0 - 2.0 / 3.0)
    assert ref.batch_norm_linear(4.0, k, b, 2.0) == 3.0
    assert ref.batch_norm_alphabetax(4.0, k, b, 2.0) == 1.5
    assert ref.batch_norm_alphabetax(0.0, k, 0.0, 2.0) == 0.0


def test_start_relevance_and_weights_by_hand():
    np.testing.assert_allclose(ref.start_relevance(np.array([0.2, 1.0])), np.log([0.84 / 0.81, 404.0]))
    weights = ref.relevance_weights(np.array([[1.0, -4.0], [0.0, 0.0]]), axes=1)
    np.testing.assert_allclose(weights, [[1.25, 0.0], [1.0, 1.0]])


# === Matrices against TensorFlow ===


def _check_matrix(matrix, layer_output, x, rtol=1e-10):
    expected = np.stack([np.ravel(y) for y in layer_output.numpy()])
    np.testing.assert_allclose(x.reshape(len(x), -1) @ matrix, expected, rtol=rtol, atol=1e-12)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("strides", "dilation"), [(1, 1), (2, 1), ((1, 3), 1), (1, 2), (3, 1)])
@pytest.mark.parametrize("kernel_size", [(3, 3), (2, 3), (1, 1)])
def test_conv2d_matrix_is_tensorflows(padding, strides, dilation, kernel_size):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 7, 8, 2)), rng.normal(size=(*kernel_size, 2, 3))
    expected = tf.nn.conv2d(x, kernel, strides=strides, padding=padding.upper(), dilations=dilation)
    _check_matrix(ref.conv2d_matrix(kernel, x.shape[1:], strides, padding, dilation), expected, x)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [1, 2])
def test_depthwise_matrix_is_tensorflows(padding, strides):
    import tensorflow as tf

    rng = np.random.default_rng(1)
    x, kernel = rng.normal(size=(2, 6, 7, 2)), rng.normal(size=(3, 3, 2, 2))
    expected = tf.nn.depthwise_conv2d(x, kernel, [1, strides, strides, 1], padding.upper())
    _check_matrix(ref.depthwise_conv2d_matrix(kernel, x.shape[1:], strides, padding), expected, x)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("strides", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_conv1d_matrix_is_keras(padding, strides, dilation):
    import tensorflow as tf

    rng = np.random.default_rng(2)
    x, kernel = rng.normal(size=(2, 9, 2)), rng.normal(size=(4, 2, 3))
    expected = tf.nn.convolution(x, kernel, strides=strides, padding=padding.upper(), dilations=dilation)
    _check_matrix(ref.conv1d_matrix(kernel, x.shape[1:], strides, padding, dilation), expected, x)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("strides", "kernel_size"), [(1, 3), (2, 3), (3, 2), (2, 2)])
def test_conv2d_transpose_matrix_is_keras(padding, strides, kernel_size):
    from egt_tf.keras_api import keras

    rng = np.random.default_rng(3)
    x, kernel = rng.normal(size=(2, 4, 3, 2)), rng.normal(size=(kernel_size, kernel_size, 3, 2))
    layer = keras.layers.Conv2DTranspose(
        3, kernel_size, strides=strides, padding=padding, use_bias=False, dtype="float64"
    )
    layer.build(x.shape)
    layer.set_weights([kernel])
    _check_matrix(ref.conv2d_transpose_matrix(kernel, x.shape[1:], strides, padding), layer(x), x)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("pool", "strides"), [(2, None), (3, 2), ((2, 3), (1, 2))])
def test_pooling_matrices_are_tensorflows(padding, pool, strides):
    import tensorflow as tf

    x = np.random.default_rng(4).normal(size=(2, 7, 5, 2))
    tensor = tf.constant(x)
    step = pool if strides is None else strides
    average = tf.nn.avg_pool2d(tensor, pool, step, padding.upper())
    _check_matrix(ref.average_pool_matrix(x.shape[1:], pool, strides, padding), average, x)
    largest = tf.nn.max_pool2d(tensor, pool, step, padding.upper()).numpy()
    for example, expected in zip(x, largest):
        selection = ref.max_pool_matrix(example.reshape(-1), example.shape, pool, strides, padding)
        np.testing.assert_array_equal(example.reshape(-1) @ selection, expected.reshape(-1))


# === Conservation ===

CONSERVING = {
    "z": (ref.z, {}),
    "epsilon": (ref.epsilon, {"epsilon": 1e-12}),
    "zplus": (ref.zplus, {}),
    "alpha-beta": (ref.alpha_beta, {"alpha": 1.5, "beta": 0.5}),
    "gamma": (ref.gamma, {"gamma": 0.25}),
    "wsquare": (ref.wsquare, {}),
    "flat": (ref.flat, {}),
    "bounded": (ref.bounded, {"low": -3.0, "high": 3.0}),
}


@pytest.mark.parametrize("name", CONSERVING)
def test_rules_without_bias_conserve_relevance(name):
    rule, parameters = CONSERVING[name]
    rng = np.random.default_rng(5)
    shape = (5, 4, 2)
    m = ref.conv2d_matrix(rng.normal(size=(3, 3, 2, 3)), shape, 2, "same")
    x, relevance = rng.normal(size=np.prod(shape)).clip(-3, 3), rng.normal(size=m.shape[1])
    np.testing.assert_allclose(rule(x, m, None, relevance, **parameters).sum(), relevance.sum(), rtol=1e-8)


def test_a_bias_takes_its_share():
    assert ref.z(X, W, np.array([5.0, 1.0]), R).sum() == pytest.approx(R.sum() / 2)


# === zennit's numbers ===

STABILISER = ref.signed(1e-6)


def _epsilon(value, use_bias=True):
    return lambda x, m, bias, r: ref.z(x, m, bias if use_bias else None, r, ref.signed(value))


def _stabilised(rule, use_bias=True, **parameters):
    return lambda x, m, bias, r: rule(x, m, bias if use_bias else None, r, **parameters, stabilise=STABILISER)


EPS6 = _epsilon(1e-6)
ZPLUS = _stabilised(ref.zplus)
FLAT = _stabilised(ref.flat, use_bias=False)
ALPHA2_BETA1 = _stabilised(ref.alpha_beta, alpha=2.0, beta=1.0)
WSQUARE = _stabilised(ref.wsquare)
BOX = _stabilised(ref.bounded, low=-3.0, high=3.0)


def _gamma(value):
    return _stabilised(ref.gamma, gamma=value)


def _gamma_nobias(value):
    def rule(x, m, bias, r):
        return ref.gamma(x, m, None, r, value, STABILISER, pre_activation=x @ m + bias)

    return rule


ZENNIT_CASES = {  # the rules of the first convolution, the second and the dense layer
    "epsilon_1e-6": (EPS6, EPS6, EPS6),
    "epsilon_1e-6_nobias": (_epsilon(1e-6, False),) * 3,
    "epsilon_0.25": (_epsilon(0.25),) * 3,
    "gamma_0.25_conv_epsilon_dense": (_gamma(0.25), _gamma(0.25), EPS6),
    "gamma_1_conv_epsilon_dense": (_gamma(1.0), _gamma(1.0), EPS6),
    "gamma_0.25_all_nobias": (_gamma_nobias(0.25),) * 3,
    "zplus_conv_epsilon_dense": (ZPLUS, ZPLUS, EPS6),
    "alpha2_beta1_conv_epsilon_dense": (ALPHA2_BETA1, ALPHA2_BETA1, EPS6),
    "alpha1_beta0_conv_epsilon_dense_nobias": (
        *(_stabilised(ref.alpha_beta, use_bias=False, alpha=1.0, beta=0.0),) * 2,
        _epsilon(1e-6, False),
    ),
    "wsquare_conv_epsilon_dense": (WSQUARE, WSQUARE, EPS6),
    "flat_conv_epsilon_dense": (FLAT, FLAT, EPS6),
    "composite_epsilon_plus": (ZPLUS, ZPLUS, EPS6),
    "composite_epsilon_gamma_box_low-3_high3": (BOX, _gamma(0.25), EPS6),
    "composite_epsilon_alpha2_beta1_flat": (FLAT, ALPHA2_BETA1, EPS6),
}


@functools.cache
def _zennit_network(path):
    """(arrays, steps (matrix, bias)) of a golden file, images as (height, width, channel)."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    torch_padding = ((1, 1), (1, 1))
    shape = np.moveaxis(arrays["input"], 1, -1).shape[1:]
    steps = []
    for index, strides in ((0, 1), (2, 2)):
        kernel = arrays[f"w/{index}.weight"].transpose(2, 3, 1, 0)
        matrix = ref.conv2d_matrix(kernel, shape, strides, torch_padding)
        side = (shape[0] - 1) // strides + 1
        shape = (side, side, kernel.shape[-1])
        steps.append((matrix, ref.tile_bias(arrays[f"w/{index}.bias"], shape)))
    steps.append((ref.average_pool_matrix(shape), None))
    pooled = (shape[0] // 2, shape[1] // 2, shape[2])
    dense = arrays["w/6.weight"].T.reshape(pooled[2], pooled[0], pooled[1], -1).transpose(1, 2, 0, 3)
    steps.append((dense.reshape(np.prod(pooled), -1), arrays["w/6.bias"]))
    return arrays, steps


def _forward(steps, x):
    """The input of each step, and the output: ReLU after the two convolutions."""
    values = [x]
    for index, (matrix, bias) in enumerate(steps):
        y = values[-1] @ matrix + (0.0 if bias is None else bias)
        values.append(ref.positive(y) if index < 2 else y)
    return values


@pytest.mark.parametrize("file", ["zennit_nonneg_8.npz", "zennit_signed_12.npz"])
@pytest.mark.parametrize("case", ZENNIT_CASES)
def test_references_reproduce_zennit(golden_dir, file, case):
    arrays, steps = _zennit_network(golden_dir / file)
    pool_rule = _stabilised(ref.z)
    first, second, dense = ZENNIT_CASES[case]
    for n, image in enumerate(np.moveaxis(arrays["input"], 1, -1)):
        *inputs, output = _forward(steps, image.reshape(-1))
        np.testing.assert_allclose(output, arrays["output"][n], rtol=1e-9)
        relevance = output * (np.arange(len(output)) == arrays["target"][n])
        for rule, (matrix, bias), x in zip((dense, pool_rule, second, first), steps[::-1], inputs[::-1]):
            relevance = rule(x, matrix, bias, relevance)
        expected = np.moveaxis(arrays[f"relevance/{case}"][n], 0, -1).reshape(-1)
        np.testing.assert_allclose(relevance, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


# === innvestigate's numbers ===


def _without_bias(rule, **parameters):
    return lambda x, m, bias, r: rule(x, m, None, r, **parameters)


def _with_bias(rule, **parameters):
    return functools.partial(rule, **parameters)


def _everywhere(rule):
    """The kinds of layers that take a rule, all with the same one."""
    return {"Conv2D": rule, "Dense": rule, "BatchNormalization": rule}


def _preset(conv_rule):
    norm = _with_bias(ref.alpha_beta_x, alpha=(2, 0), beta=(1, 0))
    dense = _with_bias(ref.epsilon, epsilon=0.1)
    return {"Conv2D": conv_rule, "Dense": dense, "BatchNormalization": norm}


def _zplus_fast(x, m, bias, r):
    return ref.z(x, ref.positive(m), None, r)


IV_FLAT = _without_bias(ref.flat)
IV_ALPHA1 = _with_bias(ref.alpha_beta_whole_bias, alpha=1.0, beta=0.0)
IV_ALPHA2 = _with_bias(ref.alpha_beta_whole_bias, alpha=2.0, beta=1.0)
IV_RULES = {
    "lrp.z": _everywhere(ref.z),
    "lrp.epsilon": _everywhere(_with_bias(ref.epsilon, epsilon=0.1)),
    "lrp.w_square": _everywhere(_without_bias(ref.wsquare)),
    "lrp.flat": _everywhere(IV_FLAT),
    "lrp.alpha_beta": _everywhere(_with_bias(ref.alpha_beta_whole_bias, alpha=1.5, beta=0.5)),
    "lrp.alpha_2_beta_1_IB": _everywhere(_without_bias(ref.alpha_beta, alpha=2.0, beta=1.0)),
    "lrp.alpha_1_beta_0": _everywhere(IV_ALPHA1),
    "lrp.z_plus": _everywhere(_without_bias(ref.zplus)),
    "lrp.z_plus_fast": _everywhere(_zplus_fast),
    "lrp.sequential_preset_a": _preset(IV_ALPHA1),
    "lrp.sequential_preset_b": _preset(IV_ALPHA2),
    "lrp.sequential_preset_a_flat": {**_preset(IV_ALPHA1), "first": IV_FLAT},
    "bounded": {**_everywhere(ref.z), "first": _with_bias(ref.bounded, low=-4.0, high=5.0)},
}
IV_ANALYZERS = {
    **named(*(label for label in IV_RULES if label.startswith("lrp."))),
    "lrp.epsilon": Analyzer("lrp.epsilon", {"epsilon": 0.1}),
    "lrp.alpha_beta": Analyzer("lrp.alpha_beta", {"alpha": 1.5, "beta": 0.5}),
    "bounded": Analyzer("lrp", {"rule": "Z", "input_layer_rule": {"tuple": [-4.0, 5.0]}}),
}
IV_NETWORKS = {
    "dense": Network("dense", (5,), units=(4,), inline_activation=True, dtype="float64"),
    "conv": Network("conv", (7, 6, 2), 3, strides=2, pool_padding="same", units=(4,), dtype="float64"),
    "residual": Network("residual", (5, 6, 2), 3, pooling="average", use_bias=False, dtype="float64"),
}
IV_CASES = [(network, label) for network in ("dense", "conv") for label in IV_RULES]
IV_CASES += [("residual", "lrp.epsilon"), ("residual", "lrp.z_plus"), ("residual", "lrp.sequential_preset_b")]
IV_NEURON = 1


def _iv_job(name):
    network = IV_NETWORKS[name]
    inputs = np.random.default_rng(6).normal(size=(2, *network.input_shape))
    labels = [label for case, label in IV_CASES if case == name]
    analyzers = {label: IV_ANALYZERS[label] for label in labels}
    return Job(network, random_weights(network, seed=7), inputs, analyzers, IV_NEURON)


@pytest.fixture(scope="module")
def oracle():
    """Jobs and innvestigate's answers by network, all from one subprocess."""
    jobs = {name: _iv_job(name) for name in IV_NETWORKS}
    return {name: (job, answer) for (name, job), answer in zip(jobs.items(), run_oracle(list(jobs.values())))}


class _ReferenceWalk:
    """Walks a Keras model of the menu backwards with the references, for one example.

    `rules` maps the class names of layers with weights, and "first" for the layer at the input, to rules.
    """

    def __init__(self, model, rules, example):
        from egt_tf.keras_api import keras

        self.rules = rules
        self.model = model
        tensors = {t.name: t for layer in model.layers for t in [layer.output]}
        values = keras.Model(model.inputs, list(tensors.values()))(example[None])
        self.shapes = {name: tuple(v.shape[1:]) for name, v in zip(tensors, values)}
        self.values = {name: v.numpy().reshape(-1) for name, v in zip(tensors, values)}
        self.relevance = {}

    def run(self, neuron):
        output = self.values[self.model.output.name]
        self.relevance[self.model.output.name] = output * (np.arange(len(output)) == neuron)
        for layer in reversed(self.model.layers[1:]):
            names = [t.name for t in (layer.input if isinstance(layer.input, list) else [layer.input])]
            parts = self.parts(layer, names, self.relevance[layer.output.name])
            for name, part in zip(names, parts):
                self.relevance[name] = self.relevance.get(name, 0.0) + part
        name = self.model.input.name
        return self.relevance[name].reshape(self.shapes[name])

    def parts(self, layer, names, relevance):
        """Relevance of a layer's inputs, one array for each."""
        kind = type(layer).__name__
        shape, x = self.shapes[names[0]], self.values[names[0]]
        if kind in ("Activation", "Flatten"):
            return [relevance]
        if kind == "Add":
            return ref.add([self.values[name] for name in names], relevance)
        if kind == "MaxPooling2D":
            return [ref.max_pool_route(x, shape, relevance, 2, None, layer.padding)]
        if kind == "AveragePooling2D":
            return [ref.average_pool(x, shape, relevance, 2, None, layer.padding)]
        matrix, bias = self.linear(layer, kind, shape)
        bias = None if bias is None else ref.tile_bias(bias, self.shapes[layer.output.name])
        rule = self.rules.get("first") if layer is self.model.layers[1] else None
        return [(rule or self.rules[kind])(x, matrix, bias, relevance)]

    def linear(self, layer, kind, shape):
        """(matrix, bias by channel or None) of a layer with weights."""
        if kind == "BatchNormalization":
            k, b = ref.batch_norm_affine_innvestigate(*layer.get_weights(), layer.epsilon)
            return ref.scale_matrix(k, shape), b
        bias = layer.bias.numpy() if layer.use_bias else None
        kernel = layer.kernel.numpy()
        if kind == "Dense":
            return ref.dense_matrix(kernel), bias
        return ref.conv2d_matrix(kernel, shape, layer.strides, layer.padding, layer.dilation_rate), bias


@pytest.mark.parametrize(("network", "label"), IV_CASES)
def test_references_reproduce_innvestigate(oracle, network, label):
    job, answer = oracle[network]
    assert not answer.errors
    model = build_network(job.network)
    model.set_weights(job.weights)
    for example, expected in zip(job.inputs, answer.relevance[label]):
        relevance = _ReferenceWalk(model, IV_RULES[label], example).run(IV_NEURON)
        np.testing.assert_allclose(relevance, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_an_analyzer_that_fails_is_reported_by_its_label():
    network = Network("dense", (3,))
    weights, inputs = random_weights(network, seed=0), np.ones((1, 3), np.float32)
    with pytest.raises(OracleError, match=r"broken.*Need LRP rule"):
        ask_innvestigate(network, weights, inputs, {"broken": Analyzer("lrp")})


# === The published RelationNet head's numbers ===

PUBLISHED = "rn_3w1s_c32_7x7_signed.npz"
PUBLISHED_EPSILON = 0.01


def _pairs(arrays):
    """(queries * ways, 7 * 7 * 2C): the prototype's channels before the query's, ways running fastest."""
    prototypes = np.moveaxis(arrays["prototype"], 1, -1)
    queries = np.moveaxis(arrays["query"], 2, -1).reshape(-1, *prototypes.shape[1:])
    rows = [np.concatenate([p, q], axis=-1) for q in queries for p in prototypes]
    return np.stack(rows).reshape(len(rows), -1)


def _rows(function, *arrays):
    """The function applied row by row."""
    return np.stack([function(*row) for row in zip(*arrays)])


def _block(arrays, name, x, shape):
    """(matrix, values before pooling) of conv - batch norm with the call's own statistics - ReLU."""
    kernel = arrays[f"w/{name}.C.weight"].transpose(2, 3, 1, 0)
    matrix = ref.conv2d_matrix(kernel, shape, 1, "same")
    y = (x @ matrix).reshape(-1, kernel.shape[-1]) + arrays[f"w/{name}.C.bias"]
    scale, offset = ref.batch_norm_affine(
        arrays[f"w/{name}.BN.weight"], arrays[f"w/{name}.BN.bias"], y.mean(axis=0), y.var(axis=0), 1e-5
    )
    return matrix, ref.positive(y * scale + offset).reshape(len(x), -1)


def _published_head(arrays):
    """(raw relations (queries, ways), steps); a step is (golden key, input rows, rule (x, relevance), mask).

    Steps run from the output to the input. The mask is that of the ReLU the step's input comes from, if any.
    """

    def linear(kernel):
        return lambda x, r: ref.epsilon(x, kernel, None, r, PUBLISHED_EPSILON)

    def conv(matrix):
        return lambda x, r: ref.alpha_beta(x, matrix, None, r, alpha=1.0, beta=0.0)

    def pool(shape):
        return lambda x, r: ref.max_pool_published(x, shape, r)

    wide, narrow = (7, 7, 32), (3, 3, 32)
    fc1, fc2 = arrays["w/fc1.weight"].T, arrays["w/fc2.weight"].T
    pairs = _pairs(arrays)
    conv1, active1 = _block(arrays, "layer1", pairs, (7, 7, 64))
    pooled1 = _rows(lambda x: x @ ref.max_pool_matrix(x, wide), active1)
    conv2, active2 = _block(arrays, "layer2", pooled1, narrow)
    pooled2 = _rows(lambda x: x @ ref.max_pool_matrix(x, narrow), active2)
    hidden = ref.positive(pooled2 @ fc1 + arrays["w/fc1.bias"])
    raw = (hidden @ fc2 + arrays["w/fc2.bias"]).reshape(-1, 3)
    return raw, [
        ("trace_relevance/fc2_in", hidden, linear(fc2), hidden > 0),
        ("trace_relevance/fc1_in", pooled2, linear(fc1), 1.0),
        ("trace_relevance/layer2.pool_in", active2, pool(narrow), active2 > 0),
        ("trace_relevance/layer2.conv_in", pooled1, conv(conv2), 1.0),
        ("trace_relevance/layer1.pool_in", active1, pool(wide), active1 > 0),
        ("relevance", pairs, conv(conv1), 1.0),
    ]


def _close(actual, expected, tolerance, name):
    """Compares rows with a golden array, whose images are (channel, height, width)."""
    expected = np.moveaxis(expected, 1, -1) if expected.ndim == 4 else expected
    expected = expected.reshape(actual.shape)
    atol = tolerance * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol, err_msg=name)


def test_references_reproduce_the_published_head(golden_dir):
    with np.load(golden_dir / PUBLISHED, allow_pickle=False) as file:
        arrays = {key: file[key].astype(np.float64) for key in file.files if file[key].dtype == np.float32}
    raw, steps = _published_head(arrays)
    _close(raw, arrays["raw_relations"], 2e-5, "raw_relations")
    probabilities = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    start = ref.start_relevance(probabilities)
    _close(start, arrays["start_relevance"], 2e-5, "start_relevance")
    relevance = start.reshape(-1, 1)
    for key, x, rule, mask in steps:
        relevance = _rows(rule, x, relevance)
        _close(relevance, arrays[key], 2e-4, key)
        relevance = relevance * mask
    weights = ref.relevance_weights(relevance.reshape(-1, 7, 7, 64), axes=-1)
    _close(weights, arrays["lrp_weight"], 2e-4, "lrp_weight")
