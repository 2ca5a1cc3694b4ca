"""Every kind of Keras layer that composites know, against matrices in float64 or against what it copies where."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.errors import ExplainError
from egt_tf.heads.layers import EpisodeBatchNormalization
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, Composite, Entry, record, reverse
from egt_tf.lrp.linear_rules import AlphaBeta, AlphaBetaX, Epsilon, Flat, Magnitude, WSquare, Z, ZPlus
from egt_tf.lrp.rules import Derivative, Gate, LayerState, Mask, Pass, Rule, Share, ShareSum
from tests.helpers.quick import all_but_slow
from tests.lrp import reference_rules as ref
from tests.lrp.test_rules import INPUTS, RULES

L = keras.layers


pytestmark = pytest.mark.usefixtures("float64")


def _filled(model: keras.Model, rng) -> keras.Model:
    """The model with random weights, none at a neutral value; variances are positive."""
    model.set_weights(
        [
            rng.normal(size=v.shape) if "variance" not in v.name else rng.uniform(0.5, 2.0, v.shape)
            for v in model.weights
        ]
    )
    return model


def _model(layer: L.Layer, *shapes: Sequence[int], seed: int = 2) -> keras.Model:
    inputs = [keras.Input(shape) for shape in shapes]
    return _filled(keras.Model(inputs, layer(inputs if len(inputs) > 1 else inputs[0])), np.random.default_rng(seed))


def _double(layer: L.Layer) -> L.Layer:
    """The layer in float64: those of tables were made before the precision was set."""
    return type(layer).from_config({**layer.get_config(), "dtype": "float64"})


def _relevance(model: keras.Model, rule: Rule, arrays, r, nonnegative=False) -> list[np.ndarray]:
    """Relevance of one example's inputs for that of its output, flat."""
    trace = record(model, [tf.constant(a[None]) for a in arrays], nonnegative=nonnegative)
    composite = Composite([Entry(rule, layer=model.layers[-1].name)])
    return [x.numpy().reshape(-1) for x in reverse(trace, tf.constant(r[None]), composite)]


def _close(actual, expected):
    assert np.isfinite(actual).all()
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9 * max(1.0, np.abs(expected).max()))


# === Weighted sums ===


@dataclasses.dataclass(frozen=True)
class Sum:
    """A layer that is one weighted sum: how it is made, the shape of its input, its matrix from its kernel."""

    make: Callable[[], L.Layer]
    shape: tuple[int, ...]
    matrix: Callable[[np.ndarray], np.ndarray]


def _convolution_1d(strides, padding, dilation):
    return Sum(
        lambda: L.Conv1D(3, 3, strides, padding, dilation_rate=dilation),
        (7, 2),
        lambda kernel: ref.conv1d_matrix(kernel, (7, 2), strides, padding, dilation),
    )


def _depthwise(strides, padding, dilation, multiplier):
    return Sum(
        lambda: L.DepthwiseConv2D(3, strides, padding, multiplier, dilation_rate=dilation),
        (6, 7, 2),
        lambda kernel: ref.depthwise_conv2d_matrix(kernel, (6, 7, 2), strides, padding, dilation),
    )


def _transposed(size, strides, padding):
    return Sum(
        lambda: L.Conv2DTranspose(3, size, strides, padding),
        (3, 4, 2),
        lambda kernel: ref.conv2d_transpose_matrix(kernel, (3, 4, 2), strides, padding),
    )


def _groups(groups, strides, filters=6):
    """Each group of input channels is a convolution of its own to its part of the output channels."""
    shape = (5, 4, 4)

    def matrix(kernel):
        inside, outputs = shape[-1] // groups, filters // groups
        parts = [ref.conv2d_matrix(each, (5, 4, inside), strides, "same") for each in np.split(kernel, groups, axis=-1)]
        places = parts[0].shape[1] // outputs
        whole = np.zeros((20, groups, inside, places, groups, outputs))
        for group, part in enumerate(parts):
            whole[:, group, :, :, group] = part.reshape(20, inside, places, outputs)
        return whole.reshape(20 * shape[-1], places * filters)

    return Sum(lambda: L.Conv2D(filters, 3, strides, "same", groups=groups), shape, matrix)


def _causal(dilation):
    """A convolution behind padding at the front alone."""
    before = 2 * dilation
    return Sum(
        lambda: L.Conv1D(3, 3, padding="causal", dilation_rate=dilation),
        (6, 2),
        lambda kernel: ref.conv1d_matrix(kernel, (6 + before, 2), 1, "valid", dilation)[2 * before :],
    )


def _one_row(matrix_2d):
    """A matrix for images, used for sequences: one row of pixels, a kernel of one row."""
    return lambda kernel: matrix_2d(kernel[None])


SUMS = {
    "Conv1D": _convolution_1d(1, "same", 1),
    "Conv1D strides": _convolution_1d(2, "same", 1),
    "Conv1D dilation": _convolution_1d(1, "valid", 2),
    "Conv3D": Sum(
        lambda: L.Conv3D(2, 2, 2, "same"), (3, 2, 3, 2), lambda kernel: ref.conv_matrix(kernel, (3, 2, 3, 2), 2, "same")
    ),
    "DepthwiseConv2D": _depthwise(1, "same", 1, 1),
    "DepthwiseConv2D strides": _depthwise(2, "same", 1, 2),
    "DepthwiseConv2D dilation": _depthwise(1, "same", 2, 2),
    "DepthwiseConv2D valid": _depthwise(2, "valid", 1, 3),
    "DepthwiseConv1D": Sum(
        lambda: L.DepthwiseConv1D(3, 2, "same", 2),
        (7, 2),
        _one_row(lambda kernel: ref.depthwise_conv2d_matrix(kernel, (1, 7, 2), (1, 2), "same")),
    ),
    "DepthwiseConv1D dilation": Sum(
        lambda: L.DepthwiseConv1D(3, 1, "same", dilation_rate=2),
        (7, 2),
        _one_row(lambda kernel: ref.depthwise_conv2d_matrix(kernel, (1, 7, 2), 1, "same", (1, 2))),
    ),
    "Conv2DTranspose": _transposed(3, 1, "same"),
    "Conv2DTranspose strides": _transposed(3, 2, "same"),
    "Conv2DTranspose valid": _transposed((3, 2), 2, "valid"),
    "Conv2DTranspose strides beyond the kernel": _transposed(2, 3, "valid"),
    "Conv1DTranspose": Sum(
        lambda: L.Conv1DTranspose(2, 3, 2, "same"),
        (4, 2),
        _one_row(lambda kernel: ref.conv2d_transpose_matrix(kernel, (1, 4, 2), (1, 2), "same")),
    ),
    "Conv2D groups": _groups(2, 1),
    "Conv2D groups strides": _groups(2, 2),
    "Conv2D a group a channel": _groups(4, 1, 4),
    "Conv2D groups of two filters": _groups(4, 2, 8),
    "Conv1D causal": _causal(1),
    "Conv1D causal dilation": _causal(2),
    "EinsumDense": Sum(
        lambda: L.EinsumDense("abc,cd->abd", (None, 2), bias_axes="d"),
        (3, 4),
        lambda kernel: np.kron(np.eye(3), kernel),
    ),
    "Dense on maps": Sum(lambda: L.Dense(2), (3, 2, 4), lambda kernel: np.kron(np.eye(6), kernel)),
}
# One rule of each family; all of them meet Dense and Conv2D in test_rules.
FEW_RULES = [
    Z(),
    Epsilon(0.25, bias=False),
    AlphaBeta(2.0, 1.0),
    AlphaBeta(2.0, 1.0, whole_bias=True),
    ZPlus(),
    WSquare(bias=True),
    Flat(),
    *(rule for rule in RULES if type(rule).__name__ in ("Gamma", "Bounded")),
]


@pytest.mark.parametrize("name", SUMS)
def test_weighted_sums(name):
    case = SUMS[name]
    model = _model(case.make(), case.shape)
    kernel, bias = model.get_weights()
    matrix, bias = case.matrix(kernel), ref.tile_bias(bias, model.output_shape[1:])
    rng = np.random.default_rng(3)
    for kind in ("signed", "sparse"):
        x, r = INPUTS[kind](rng, case.shape), rng.normal(size=model.output_shape[1:])
        _close(model(x[None]).numpy().reshape(-1), x.reshape(-1) @ matrix + bias)
        for rule in FEW_RULES:
            (got,) = _relevance(model, rule, [x], r, nonnegative=kind == "sparse")
            _close(got, RULES[rule](x.reshape(-1), matrix, bias, r.reshape(-1)))


def test_output_padding_and_three_dimensions_of_transposed_convolutions():
    """The matrix is read off the layer itself, one input at a time."""
    for layer, shape in (
        (L.Conv2DTranspose(2, 3, 2, "same", output_padding=0), (3, 3, 2)),
        (L.Conv3DTranspose(2, 2, 2), (2, 1, 2, 2)),
    ):
        model = _model(layer, shape)
        size = int(np.prod(shape))
        offset = model(np.zeros((1, *shape))).numpy().reshape(-1)
        matrix = model(np.eye(size).reshape(size, *shape)).numpy().reshape(size, -1) - offset
        rng = np.random.default_rng(4)
        x, r = rng.normal(size=shape), rng.normal(size=model.output_shape[1:])
        for rule in (Epsilon(0.25, bias=False), AlphaBeta(2.0, 1.0)):
            _close(_relevance(model, rule, [x], r)[0], RULES[rule](x.reshape(-1), matrix, offset, r.reshape(-1)))


@pytest.mark.parametrize("rule", FEW_RULES, ids=repr)
def test_separable_convolution_is_two_steps(rule):
    shape = (5, 6, 2)
    model = _model(L.SeparableConv2D(3, 3, 2, "same", depth_multiplier=2), shape)
    depthwise, pointwise, bias = model.get_weights()
    middle_shape = (3, 3, 4)
    first = ref.depthwise_conv2d_matrix(depthwise, shape, 2, "same")
    second = ref.conv2d_matrix(pointwise, middle_shape)
    rng = np.random.default_rng(5)
    x, r = rng.normal(size=shape), rng.normal(size=(3, 3, 3))
    middle, bias = x.reshape(-1) @ first, ref.tile_bias(bias, (3, 3, 3))
    _close(model(x[None]).numpy().reshape(-1), middle @ second + bias)
    between = RULES[rule](middle, second, bias, r.reshape(-1))
    _close(_relevance(model, rule, [x], r)[0], RULES[rule](x.reshape(-1), first, None, between))


def test_separable_convolution_of_sequences_is_that_of_images_of_one_row():
    sequences = _model(L.SeparableConv1D(3, 3, padding="same"), (6, 2))
    images = _model(L.SeparableConv2D(3, (1, 3), padding="same"), (1, 6, 2))
    images.set_weights([w[None] if w.ndim > 1 else w for w in sequences.get_weights()])
    rng = np.random.default_rng(6)
    x, r = rng.normal(size=(6, 2)), rng.normal(size=(6, 3))
    expected = _relevance(images, Epsilon(0.1), [x[None]], r[None])
    _close(_relevance(sequences, Epsilon(0.1), [x], r), expected)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (L.Conv2D(2, 3, data_format="channels_first", name="odd"), (2, 5, 5)),
        (L.Conv2DTranspose(2, 3, dilation_rate=2, name="odd"), (5, 5, 2)),
        (L.DepthwiseConv2D(3, data_format="channels_first", name="odd"), (2, 5, 5)),
        (L.SeparableConv2D(2, 3, data_format="channels_first", name="odd"), (2, 5, 5)),
        (L.BatchNormalization(axis=1, name="odd"), (2, 5, 5)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_explained_is_named(layer, shape):
    layer = _double(layer)
    layer.build((None, *shape))
    x = tf.ones((1, *shape), tf.float64)
    state = LayerState(layer, layer.call)
    with pytest.raises(ExplainError, match="'odd'"):
        Epsilon(0.1).apply([x], [x], [x], state)


# === Normalisation ===


def _batch_norm(shape, **options):
    """A batch normalisation as a model, its scale and its shift by channel."""
    model = _model(L.BatchNormalization(**options), shape)
    layer = model.layers[-1]
    width = shape[-1]
    gamma = np.ones(width) if layer.gamma is None else layer.gamma.numpy()
    beta = np.zeros(width) if layer.beta is None else layer.beta.numpy()
    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    return model, *ref.batch_norm_affine(gamma, beta, mean, variance, layer.epsilon)


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False, "epsilon": 0.1}], ids=str)
def test_batch_normalisation_with_rules_of_its_own(options):
    shape = (3, 2, 4)
    model, k, b = _batch_norm(shape, **options)
    matrix, bias = ref.scale_matrix(k, shape), ref.tile_bias(b, shape)
    rng = np.random.default_rng(7)
    x, r = rng.normal(size=shape), rng.normal(size=shape)
    x[0, 0] = 0.0
    flat_x, flat_r = x.reshape(-1), r.reshape(-1)
    _close(model(x[None]).numpy().reshape(-1), flat_x @ matrix + bias)
    for rule in FEW_RULES:
        _close(_relevance(model, rule, [x], r)[0], RULES[rule](flat_x, matrix, bias, flat_r))
    _close(_relevance(model, Magnitude(), [x], r)[0], ref.batch_norm_alphabetax(flat_x, np.diag(matrix), bias, flat_r))
    _close(
        _relevance(model, AlphaBetaX(), [x], r)[0],
        ref.alpha_beta_x(flat_x, matrix, bias, flat_r, (2.0, 0.0), (1.0, 0.0)),
    )


def test_each_pair_of_signs_has_its_own_denominator():
    model, k, b = _batch_norm((6, 3))
    rng = np.random.default_rng(8)
    x, r = rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
    alpha, beta = (1.5, 0.25), (0.5, 0.125)
    expected = np.zeros((6, 3))
    for weight, x_sign, k_sign in ((alpha[0], 1, 1), (alpha[1], -1, -1), (-beta[0], 1, -1), (-beta[1], -1, 1)):
        product = np.where((np.sign(x) == x_sign) & (np.sign(k) == k_sign), x * k, 0.0)
        denominator = product + np.where(np.sign(b) == x_sign * k_sign, b, 0.0)
        expected += weight * product * r / ref.guard_zero(denominator)
    _close(_relevance(model, AlphaBetaX(alpha, beta), [x], r)[0], expected.reshape(-1))


@pytest.mark.parametrize("batch_statistics", [True, False])
def test_batch_normalisation_of_an_episode(batch_statistics):
    shape = (5, 2, 3)
    model = _model(EpisodeBatchNormalization(batch_statistics=batch_statistics), shape)
    layer = model.layers[-1]
    rng = np.random.default_rng(9)
    x, r = rng.normal(size=shape), rng.normal(size=shape)
    if batch_statistics:
        mean, variance = x.mean((0, 1)), x.var((0, 1))
    else:
        mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    k, b = ref.batch_norm_affine(layer.gamma.numpy(), layer.beta.numpy(), mean, variance, layer.epsilon)
    matrix, bias = ref.scale_matrix(k, shape), ref.tile_bias(b, shape)
    flat_x, flat_r = x.reshape(-1), r.reshape(-1)
    _close(model(x[None]).numpy().reshape(-1), flat_x @ matrix + bias)
    _close(_relevance(model, Z(), [x], r)[0], ref.z(flat_x, matrix, bias, flat_r))
    _close(_relevance(model, Magnitude(), [x], r)[0], ref.batch_norm_alphabetax(flat_x, np.diag(matrix), bias, flat_r))
    _close(_relevance(model, Pass(), [x], r)[0], flat_r)


# === Pooling and sums ===

MEANS = {
    "AveragePooling1D": (L.AveragePooling1D(2, 1, "same"), (5, 2), (2, 1, "same")),
    "AveragePooling2D": (L.AveragePooling2D((2, 3), 2, "same"), (5, 4, 2), ((2, 3), 2, "same")),
    "AveragePooling2D overlapping": (L.AveragePooling2D(3, 1), (5, 4, 2), (3, 1, "valid")),
    "GlobalAveragePooling1D": (L.GlobalAveragePooling1D(), (5, 2), (5, 1, "valid")),
    "GlobalAveragePooling2D": (L.GlobalAveragePooling2D(keepdims=True), (3, 4, 2), ((3, 4), 1, "valid")),
    "GlobalAveragePooling3D": (L.GlobalAveragePooling3D(), (2, 1, 3, 2), ((2, 1, 3), 1, "valid")),
}


@pytest.mark.parametrize("name", MEANS)
def test_means(name):
    layer, shape, (pool, strides, padding) = MEANS[name]
    model = _model(_double(layer), shape)
    rng = np.random.default_rng(10)
    for kind in ("signed", "zero"):
        x, r = INPUTS[kind](rng, shape), rng.normal(size=model.output_shape[1:])
        matrix = ref.average_pool_matrix(shape, pool, strides, padding)
        _close(model(x[None]).numpy().reshape(-1), x.reshape(-1) @ matrix)
        _close(_relevance(model, Share(), [x], r)[0], ref.z(x.reshape(-1), matrix, None, r.reshape(-1)))
        _close(
            _relevance(model, Share(1e-3), [x], r)[0],
            ref.z(x.reshape(-1), matrix, None, r.reshape(-1), ref.signed(1e-3)),
        )


@pytest.mark.parametrize(
    ("layer", "shape", "pool"),
    [
        (L.MaxPooling1D(2, padding="same"), (5, 2), 2),
        (L.MaxPooling2D((2, 1)), (4, 3, 2), (2, 1)),
        (L.GlobalMaxPooling2D(), (3, 2, 2), (3, 2)),
        (L.GlobalMaxPooling3D(), (2, 1, 3, 2), (2, 1, 3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_winner_takes_all(layer, shape, pool):
    model = _model(_double(layer), shape)
    rng = np.random.default_rng(11)
    x, r = rng.normal(size=shape), rng.normal(size=model.output_shape[1:])
    arguments = x.reshape(-1), shape, r.reshape(-1), pool, None, getattr(layer, "padding", "valid")
    _close(_relevance(model, Share(), [x], r)[0], ref.max_pool_published(*arguments))
    _close(_relevance(model, Derivative(), [x], r)[0], ref.max_pool_route(*arguments))


def test_pooling_in_three_dimensions():
    """TensorFlow has it in single precision only."""
    keras.backend.set_floatx("float32")
    shape, rng = (2, 4, 2, 2), np.random.default_rng(11)
    x, r = (rng.normal(size=size).astype(np.float32) for size in (shape, (1, 2, 1, 2)))
    for layer, expected in ((L.AveragePooling3D(2), ref.average_pool), (L.MaxPooling3D(2), ref.max_pool_published)):
        (got,) = _relevance(_model(layer, shape), Share(), [x], r)
        np.testing.assert_allclose(got, expected(x.reshape(-1), shape, r.reshape(-1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", [Share(), Derivative()], ids=repr)
def test_ties_lose_no_relevance(rule):
    tied = np.array([3.0, 1.0, 3.0, 2.0, 2.0, 2.0])[:, None]
    r = np.array([6.0, -4.0])
    (local,) = _relevance(_model(L.MaxPooling1D(3), (6, 1)), rule, [tied], r[:, None])
    _close(local[:3].sum(), 6.0)
    _close(local[3:].sum(), -4.0)
    assert local[1] == 0.0
    # The global layers share a tie evenly, the local ones give it to one of the winners.
    (shared,) = _relevance(_model(L.GlobalMaxPooling1D(), (6, 1)), rule, [tied], r[:1])
    _close(shared, [3.0, 0.0, 3.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("summands", [2, 3])
def test_sums(summands):
    rng = np.random.default_rng(12)
    xs, r = [rng.normal(size=(4, 2)) for _ in range(summands)], rng.normal(size=(4, 2))
    for x in xs:
        x[0] = 0.0
    model = _model(L.Add(), *[(4, 2)] * summands)
    for rule, stabilise in ((Share(), ref.guard_zero), (Share(0.1), ref.signed(0.1))):
        _close(_relevance(model, rule, xs, r), [p.reshape(-1) for p in ref.add(xs, r, stabilise)])
    got = np.reshape(_relevance(model, ShareSum(0.1), xs, r), (summands, 4, 2))
    _close(got[:, 1:], np.array(ref.add(xs, r, ref.signed(0.1)))[:, 1:])
    _close(got[:, 0], np.broadcast_to(r[0] / summands, (summands, 2)))


def test_the_mean_of_several_inputs_is_shared_by_contribution():
    a, b, c = np.array([1.0, 2.0]), np.array([3.0, -1.0]), np.array([0.0, 3.0])
    got = _relevance(_model(L.Average(), (2,), (2,), (2,)), Share(), [a, b, c], np.array([8.0, 2.0]))
    _close(got, [[2.0, 1.0], [6.0, -0.5], [0.0, 1.5]])


# `signal` names the input that takes all, in whatever place.
def test_a_gated_signal_keeps_its_relevance():
    rng = np.random.default_rng(13)
    signal, gate, r = rng.normal(size=(3, 2)), rng.uniform(size=(1, 2)), rng.normal(size=(3, 2))
    model = _model(L.Multiply(), (3, 2), (1, 2))
    _close(_relevance(model, Gate(signal=0), [signal, gate], r)[0], r.reshape(-1))
    assert not np.any(_relevance(model, Gate(signal=0), [signal, gate], r)[1])
    swapped = _model(L.Multiply(), (1, 2), (3, 2))
    _close(_relevance(swapped, Gate(signal=1), [gate, signal], r)[1], r.reshape(-1))
    _close(_relevance(swapped, Gate(signal=0), [gate, signal], r)[0], r.sum(axis=0))
    with pytest.raises(ExplainError, match=r"`signal` must be in 0..1. Received: signal=2"):
        _relevance(model, Gate(signal=2), [signal, gate], r)


# === Copies ===

COPIES = {
    "Flatten": (L.Flatten(), (2, 3, 2)),
    "Reshape": (L.Reshape((3, -1)), (2, 3, 2)),
    "Permute": (L.Permute((3, 1, 2)), (2, 3, 2)),
    "RepeatVector": (L.RepeatVector(3), (4,)),
    "ZeroPadding1D": (L.ZeroPadding1D((1, 2)), (3, 2)),
    "ZeroPadding2D": (L.ZeroPadding2D(((1, 0), (0, 2))), (3, 2, 2)),
    "ZeroPadding3D": (L.ZeroPadding3D(1), (1, 2, 1, 2)),
    "Cropping1D": (L.Cropping1D((1, 1)), (4, 2)),
    "Cropping2D": (L.Cropping2D(((1, 0), (0, 1))), (3, 3, 2)),
    "Cropping3D": (L.Cropping3D(1), (3, 3, 3, 1)),
    "UpSampling1D": (L.UpSampling1D(2), (3, 2)),
    "UpSampling2D": (L.UpSampling2D((2, 3)), (2, 2, 2)),
    "UpSampling3D": (L.UpSampling3D(2), (1, 2, 1, 2)),
    "UpSampling2D nearest": (L.UpSampling2D(2, interpolation="nearest"), (2, 2, 2)),
    "Identity": (L.Identity(), (3, 2)),
    "ActivityRegularization": (L.ActivityRegularization(0.1), (3, 2)),
    "Masking": (L.Masking(-1.0), (3, 2)),
    "GaussianNoise": (L.GaussianNoise(0.5), (6,)),
    "GaussianDropout": (L.GaussianDropout(0.5), (6,)),
    "AlphaDropout": (L.AlphaDropout(0.5), (6,)),
    "CenterCrop": (L.CenterCrop(2, 1), (4, 3, 2)),
    "Dropout": (L.Dropout(0.5), (6,)),
    "SpatialDropout1D": (L.SpatialDropout1D(0.5), (3, 2)),
    "SpatialDropout2D": (L.SpatialDropout2D(0.5), (2, 2, 2)),
    "Concatenate": (L.Concatenate(axis=1), (2, 3), (4, 3)),
}


@pytest.mark.parametrize("composite", ["fsc", "epsilon", "lrp.z"])
@pytest.mark.parametrize("name", COPIES)
def test_copies_bring_their_relevance_home(name, composite):
    layer, *shapes = COPIES[name]
    model = _model(_double(layer), *shapes)
    sizes = [int(np.prod(shape)) for shape in shapes]
    # Each input value is its own address, counted from 1: padding is 0.
    addresses = np.split(np.arange(1.0, 1.0 + sum(sizes)), np.cumsum(sizes)[:-1])
    arrays = [a.reshape(shape) for a, shape in zip(addresses, shapes)]
    origin = model([a[None] for a in arrays] if len(arrays) > 1 else arrays[0][None]).numpy().reshape(-1).astype(int)
    r = np.random.default_rng(14).normal(size=model.output_shape[1:])
    expected = np.bincount(origin, r.reshape(-1), minlength=1 + sum(sizes))[1:]
    trace = record(model, [tf.constant(a[None]) for a in arrays])
    got = reverse(trace, tf.constant(r[None]), COMPOSITES.get(composite))
    _close(np.concatenate([x.numpy().reshape(-1) for x in got]), expected)


# === Activations ===


@pytest.mark.parametrize(
    ("layer", "masks"),
    [
        (L.ReLU(), True),
        (L.ReLU(max_value=6.0), True),
        (L.Activation("relu"), True),
        (L.LeakyReLU(), False),
        (L.ELU(), False),
        (L.ReLU(negative_slope=0.1), False),
        (L.PReLU(), False),
        (L.Activation("tanh"), False),
        (L.ThresholdedReLU(1.0), False),
        (L.Activation(tf.nn.relu), True),
        (L.Activation("relu6"), True),
        *((L.Activation(name), False) for name in ("gelu", "silu", "swish", "elu", "selu", "softplus", "hard_sigmoid")),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_activations_of_their_own(layer, masks):
    x, r = np.array([-2.0, 0.0, 0.5, 7.0]), np.array([1.0, 2.0, 3.0, 4.0])
    trace = record(_model(_double(layer), (4,)), [tf.constant(x[None])])
    for name, composite in (("fsc", COMPOSITES.get("fsc")), ("epsilon", COMPOSITES.get("epsilon"))):
        (got,) = reverse(trace, tf.constant(r[None]), composite)
        _close(got.numpy()[0], np.where(x > 0, r, 0.0) if masks and name == "fsc" else r)


def _two_models(activation):
    """The same network with activations inside and behind its layers; relevance of zeros reaches all of them."""

    def build(inside):
        def weighted(layer_class, *arguments):
            if inside:
                return layer_class(*arguments, activation=activation)
            return lambda x: L.Activation(activation)(layer_class(*arguments)(x))

        x = inputs = keras.Input((6, 6, 2))
        x = L.BatchNormalization()(weighted(L.Conv2D, 8, 3)(x))
        x = L.BatchNormalization()(weighted(L.DepthwiseConv2D, 3)(x))
        x = weighted(L.Dense, 8)(L.Flatten()(x))
        return keras.Model(inputs, L.Dense(3)(L.BatchNormalization()(x)))

    inside, behind = _filled(build(True), np.random.default_rng(15)), build(False)
    behind.set_weights(inside.get_weights())
    return inside, behind


@pytest.mark.parametrize("activation", all_but_slow(["relu", "tanh"], {"relu"}))
@pytest.mark.parametrize("name", all_but_slow(COMPOSITES.names(), COMPOSITES.names()[::2]))
def test_an_activation_inside_a_layer_is_one_behind_it(name, activation):
    x = tf.constant(np.random.default_rng(16).normal(size=(2, 6, 6, 2)))
    results = []
    for model in _two_models(activation):
        trace = record(model, [x])
        results.append(reverse(trace, trace.outputs[0], _for_few_channels(name))[0].numpy())
    assert np.any(results[0])
    _close(results[0], results[1])


def _for_few_channels(name):
    """The composite, with one bound for all channels where it has bounds."""
    return COMPOSITES.get({"name": name, "low": -3.0, "high": 3.0} if name == "epsilon_gamma_box" else name)


def test_masks_inside_layers_matter():
    """Batch normalisation that hands relevance on unchanged gives some to units that did not fire."""
    model, _ = _two_models("relu")
    trace = record(model, [tf.constant(np.random.default_rng(16).normal(size=(2, 6, 6, 2)))])
    masked, passed = (
        reverse(trace, trace.outputs[0], composite)[0].numpy()
        for composite in (COMPOSITES.get("fsc"), COMPOSITES.get("fsc").prepend(Entry(Pass(), layer_type="relu")))
    )
    assert np.abs(masked - passed).max() > 1e-3 * np.abs(passed).max()


def test_an_activation_that_is_a_layer_gets_that_layers_rule():
    layer = L.Dense(4, activation=L.LeakyReLU())
    model = _model(layer, (3,))
    x, r = np.random.default_rng(17).normal(size=(1, 3)), np.ones((1, 4))
    trace = record(model, [tf.constant(x)])
    masking = Composite([Entry(Z(), layer_type="dense"), Entry(Mask(), layer_type="activation")])
    passing = Composite([Entry(Z(), layer_type="dense"), Entry(Pass(), layer_type="activation")])
    kernel, bias = model.get_weights()
    for composite, start in ((passing, r), (masking, np.where(x @ kernel + bias > 0, r, 0.0))):
        _close(reverse(trace, tf.constant(r), composite)[0].numpy()[0], ref.z(x[0], kernel, bias, start[0]))


def test_a_convolution_of_maps_behind_several_leading_axes():
    """With a stride and few channels, an image alone goes back by another way than maps behind more axes."""
    layer = L.Conv2D(2, 3, strides=2)
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 7, 3))
    inputs = keras.Input(x.shape[1:])
    (apart,) = _relevance_of_output(keras.Model(inputs, layer(inputs)), x)
    one = keras.Input(x.shape[2:])
    (together,) = _relevance_of_output(keras.Model(one, layer(one)), x.reshape(6, 7, 7, 3))
    np.testing.assert_allclose(apart.numpy().reshape(together.shape), together, rtol=1e-9, atol=1e-12)


def _relevance_of_output(model, x):
    trace = record(model, [tf.constant(x)])
    return reverse(trace, trace.outputs[0], Composite([Entry(ZPlus(), layer_type="convolution")]))
