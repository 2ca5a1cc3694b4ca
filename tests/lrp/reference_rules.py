"""Slow reference implementations of the relevance rules, in float64 and explicit matrix form.

A layer that is linear in its input is written as a matrix `M` (n_in, n_out), built tap by tap, so that
`z = x @ M + bias`. Each rule then is a formula on one example:

    rule(x (n_in,), M (n_in, n_out), bias (n_out,) or None, relevance (n_out,)) -> relevance (n_in,)

`bias=None` leaves the bias out of the denominators. Images are flattened in row-major (height, width,
channel) order. Nothing here is fast, and nothing uses TensorFlow: this is what the package is tested against.
"""

from __future__ import annotations

import itertools

import numpy as np

# === Denominators ===


def sign(z):
    """Sign with sign(0) = +1."""
    return np.where(np.asarray(z) >= 0, 1.0, -1.0)


def guard_zero(z):
    """Replaces exact zeros by 1e-7, leaves all else alone (published code, innvestigate's safe_divide)."""
    return z + 1e-7 * (z == 0)


def signed(epsilon):
    """Stabiliser z -> z + epsilon * sign(z), with sign(0) = +1."""
    return lambda z: z + epsilon * sign(z)


def positive(a):
    return np.maximum(a, 0.0)


def negative(a):
    return np.minimum(a, 0.0)


def _bias(bias, n_out):
    return np.zeros(n_out) if bias is None else np.asarray(bias, np.float64)


# === Layers as matrices ===


def axis_taps(size, kernel, stride=1, dilation=1, padding="valid"):
    """Input positions read by each output along one axis: a list (outputs) of lists (kernel) of int or None.

    `padding` is "valid" or "same" with TensorFlow's meaning (the odd padding element goes to the end), or an
    explicit pair (before, after). None marks a tap that falls on the padding.
    """
    extent = (kernel - 1) * dilation + 1
    if padding == "same":
        outputs = -(-size // stride)
        before = max((outputs - 1) * stride + extent - size, 0) // 2
    else:
        before, after = (0, 0) if padding == "valid" else padding
        outputs = (size + before + after - extent) // stride + 1
    positions = [[o * stride + k * dilation - before for k in range(kernel)] for o in range(outputs)]
    return [[p if 0 <= p < size else None for p in taps] for taps in positions]


def _per_axis(value, n_axes):
    return (value,) * n_axes if np.isscalar(value) else tuple(value)


def window_taps(spatial, kernel, strides=1, dilation=1, padding="valid"):
    """Windows over any axes: (output shape, list of (output, kernel, input) positions)."""
    n = len(spatial)
    paddings = (padding,) * n if isinstance(padding, str) else tuple(padding)
    axes = [
        axis_taps(*arguments)
        for arguments in zip(spatial, kernel, _per_axis(strides, n), _per_axis(dilation, n), paddings)
    ]
    out_shape = tuple(len(axis) for axis in axes)
    taps = []
    for out in np.ndindex(*out_shape):
        for k in np.ndindex(*kernel):
            position = tuple(axis[o][i] for axis, o, i in zip(axes, out, k))
            if None not in position:
                taps.append((out, k, position))
    return out_shape, taps


def dense_matrix(kernel):
    """Dense kernel (n_in, n_out) as M: it is one already."""
    return np.asarray(kernel, np.float64)


def conv_matrix(kernel, input_shape, strides=1, padding="valid", dilation=1):
    """Convolution with kernel (k..., in, out) on input (size..., in), any number of axes, as M."""
    kernel = np.asarray(kernel, np.float64)
    *spatial, c_in = input_shape
    out_shape, taps = window_taps(spatial, kernel.shape[:-2], strides, dilation, padding)
    m = np.zeros((*spatial, c_in, *out_shape, kernel.shape[-1]))
    every = slice(None)
    for out, k, position in taps:
        m[(*position, every, *out, every)] += kernel[k]
    return m.reshape(np.prod(input_shape), -1)


def conv1d_matrix(kernel, input_shape, strides=1, padding="valid", dilation=1):
    """Keras Conv1D: kernel (k, in, out), input (length, in)."""
    return conv_matrix(kernel, input_shape, strides, padding, dilation)


def conv2d_matrix(kernel, input_shape, strides=1, padding="valid", dilation=1):
    """Keras Conv2D: kernel (kh, kw, in, out), input (H, W, in)."""
    return conv_matrix(kernel, input_shape, strides, padding, dilation)


def depthwise_conv2d_matrix(kernel, input_shape, strides=1, padding="valid", dilation=1):
    """Keras DepthwiseConv2D, kernel (kh, kw, in, multiplier): output c * multiplier + m sees channel c."""
    kernel = np.asarray(kernel, np.float64)
    kh, kw, c_in, multiplier = kernel.shape
    full = np.zeros((kh, kw, c_in, c_in * multiplier))
    for c, m in itertools.product(range(c_in), range(multiplier)):
        full[:, :, c, c * multiplier + m] = kernel[:, :, c, m]
    return conv_matrix(full, input_shape, strides, padding, dilation)


def conv2d_transpose_matrix(kernel, input_shape, strides=1, padding="valid"):
    """Keras Conv2DTranspose, kernel (kh, kw, out, in): a convolution from output to input, transposed."""
    kernel = np.asarray(kernel, np.float64)
    strides = _per_axis(strides, 2)
    sizes = [n * s for n, s in zip(input_shape, strides)]
    if padding == "valid":
        sizes = [n + max(k - s, 0) for n, k, s in zip(sizes, kernel.shape, strides)]
    return conv_matrix(kernel, (*sizes, kernel.shape[2]), strides, padding).T


def average_pool_matrix(input_shape, pool=2, strides=None, padding="valid"):
    """Average pooling of (size..., C) as M; as in TensorFlow, padding is not counted in the mean."""
    *spatial, channels = input_shape
    pool = _per_axis(pool, len(spatial))
    out_shape, taps = window_taps(spatial, pool, pool if strides is None else strides, 1, padding)
    m = np.zeros((*spatial, channels, *out_shape, channels))
    for out, _, position in taps:
        for c in range(channels):
            m[(*position, c, *out, c)] = 1.0
    m = m.reshape(np.prod(input_shape), -1)
    return m / m.sum(axis=0)


def max_pool_matrix(x, input_shape, pool=2, strides=None, padding="valid"):
    """Selects (0 or 1) the first maximum of each window of `x` (n_in,): `x @ M` is max pooling."""
    members = average_pool_matrix(input_shape, pool, strides, padding) > 0
    winners = np.where(members, np.asarray(x)[:, None], -np.inf).argmax(axis=0)
    return np.eye(members.shape[0])[:, winners]


def scale_matrix(scale, input_shape):
    """Channel-wise scaling of an input (..., C) as a diagonal M."""
    return np.diag(np.broadcast_to(scale, input_shape).reshape(-1))


def tile_bias(bias, output_shape):
    """Bias (C,) of a layer with output (..., C), one value for each flattened output."""
    return np.broadcast_to(np.asarray(bias, np.float64), output_shape).reshape(-1)


# === Rules ===


def z(x, m, bias, relevance, stabilise=guard_zero):
    """R_i = x_i sum_j w_ij R_j / z_j."""
    denominators = stabilise(x @ m + _bias(bias, m.shape[1]))
    return x * (m @ (relevance / denominators))


def epsilon(x, m, bias, relevance, epsilon=1e-7):
    """The z rule with denominators z + epsilon * sign(z), sign(0) = +1."""
    return z(x, m, bias, relevance, signed(epsilon))


def _shares(contributions, bias, relevance, stabilise):
    """Distributes relevance (n_out,) in proportion to contributions (n_in, n_out) and bias (n_out,)."""
    return contributions @ (relevance / stabilise(contributions.sum(axis=0) + bias))


def _signed_contributions(x, m):
    """(positive, negative) contributions x_i w_ij, each (n_in, n_out)."""
    contributions = x[:, None] * m
    return positive(contributions), negative(contributions)


def alpha_beta(x, m, bias, relevance, alpha, beta, stabilise=guard_zero):
    """alpha * shares of the positive - beta * shares of the negative contributions; bias split by sign."""
    b = _bias(bias, m.shape[1])
    up, down = _signed_contributions(x, m)
    activator = _shares(up, positive(b), relevance, stabilise)
    return alpha * activator - beta * _shares(down, negative(b), relevance, stabilise)


def alpha_beta_whole_bias(x, m, bias, relevance, alpha, beta, stabilise=guard_zero):
    """innvestigate's alpha-beta: the whole bias (both signs) is part of both denominators."""
    b = _bias(bias, m.shape[1])
    up, down = _signed_contributions(x, m)
    return alpha * _shares(up, b, relevance, stabilise) - beta * _shares(down, b, relevance, stabilise)


def alpha_beta_x(x, m, bias, relevance, alpha, beta):
    """innvestigate's AlphaBetaX: four kinds of contributions, each with a denominator of its own.

    `alpha` and `beta` are pairs. Its slip is kept: beta[1], not alpha[1], weighs the (-, -) contributions.
    """
    b = _bias(bias, m.shape[1])

    def part(x_part, m_part, b_part):
        return z(x_part, m_part, b_part, relevance)

    plus_plus = part(positive(x), positive(m), positive(b))
    minus_minus = part(negative(x), negative(m), negative(b))
    plus_minus = part(positive(x), negative(m), negative(b))
    minus_plus = part(negative(x), positive(m), positive(b))
    return alpha[0] * plus_plus + beta[1] * minus_minus - beta[0] * plus_minus - beta[1] * minus_plus


def zplus(x, m, bias, relevance, stabilise=guard_zero):
    """Shares of the positive contributions x+ w+ + x- w-, positive bias in the denominators."""
    return alpha_beta(x, m, bias, relevance, 1.0, 0.0, stabilise)


def gamma(x, m, bias, relevance, gamma, stabilise=guard_zero, pre_activation=None):
    """Generalised gamma rule, for inputs and outputs of any sign.

    Where z > 0 the contributions x w > 0 count (1 + gamma) times, where z < 0 the contributions x w < 0 do;
    the bias likewise. Where z is exactly 0 the relevance is dropped. `pre_activation` (n_out,) is the z whose
    sign decides; it is x M + bias by default. zennit takes the layer's own, with its bias, even where the
    bias is left out of the denominators.
    """
    b = _bias(bias, m.shape[1])
    contributions = x[:, None] * m
    if pre_activation is None:
        pre_activation = x @ m + b
    up = _shares(
        contributions + gamma * positive(contributions),
        b + gamma * positive(b),
        relevance * (pre_activation > 0),
        stabilise,
    )
    down = _shares(
        contributions + gamma * negative(contributions),
        b + gamma * negative(b),
        relevance * (pre_activation < 0),
        stabilise,
    )
    return up + down


def gamma_nonnegative(x, m, bias, relevance, gamma, stabilise=guard_zero):
    """The gamma rule as first published, for x >= 0: weights w + gamma w+, bias b + gamma b+."""
    b = _bias(bias, m.shape[1])
    return z(x, m + gamma * positive(m), b + gamma * positive(b), relevance, stabilise)


def wsquare(x, m, bias, relevance, stabilise=guard_zero):
    """Shares of w^2 (b^2 in the denominators); the input's values play no part."""
    return _shares(m**2, _bias(bias, m.shape[1]) ** 2, relevance, stabilise)


def flat(x, m, bias, relevance, stabilise=guard_zero):
    """Equal shares over the inputs an output reads, one share for the bias where one is given.

    The inputs read are where `m` is not 0: build it from a kernel of ones where a weight may be exactly 0.
    """
    ones = None if bias is None else np.ones(m.shape[1])
    return wsquare(x, (m != 0).astype(np.float64), ones, relevance, stabilise)


def bounded(x, m, bias, relevance, low, high, stabilise=guard_zero):
    """z^B rule for inputs in [low, high]: shares of x w - low w+ - high w- (the bias cancels)."""
    low, high = (np.broadcast_to(np.asarray(v, np.float64), x.shape)[:, None] for v in (low, high))
    contributions = x[:, None] * m - low * positive(m) - high * negative(m)
    return _shares(contributions, 0.0, relevance, stabilise)


# === Pooling, addition, normalisation ===


def max_pool_published(x, input_shape, relevance, pool=2, strides=None, padding="valid"):
    """Z = pool(x), S = R / (Z + 1e-7 [Z == 0]), R_in = x * winner-takes-all(S).

    A window whose maximum is exactly 0 loses its relevance.
    """
    return z(x, max_pool_matrix(x, input_shape, pool, strides, padding), None, relevance)


def max_pool_route(x, input_shape, relevance, pool=2, strides=None, padding="valid"):
    """The winner of each window takes its relevance, whatever its value (innvestigate, zennit)."""
    return max_pool_matrix(x, input_shape, pool, strides, padding) @ relevance


def average_pool(x, input_shape, relevance, pool=2, strides=None, padding="valid", stabilise=guard_zero):
    """Relevance in proportion to the inputs of the window."""
    return z(x, average_pool_matrix(input_shape, pool, strides, padding), None, relevance, stabilise)


def add(xs, relevance, stabilise=guard_zero):
    """R_k = R x_k / sum_k x_k for each summand."""
    share = relevance / stabilise(sum(xs))
    return [x * share for x in xs]


def add_published(a, b, relevance, epsilon):
    """The epsilon rule on a + b; where both are exactly 0 each gets one half."""
    both_zero = (a == 0) & (b == 0)
    share_a, share_b = add([a, b], relevance, signed(epsilon))
    return np.where(both_zero, relevance / 2, share_a), np.where(both_zero, relevance / 2, share_b)


def batch_norm_affine(gamma, beta, mean, variance, epsilon):
    """The layer at inference as scale and offset: k = gamma / sqrt(variance + epsilon), b = beta - mean k."""
    k = gamma / np.sqrt(variance + epsilon)
    return k, beta - mean * k


def batch_norm_affine_innvestigate(gamma, beta, mean, variance, epsilon):
    """innvestigate's fused layer, slips kept: the variance is squared, the mean is not scaled by gamma."""
    s = np.sqrt(variance**2 + epsilon)
    return gamma / s, beta - mean / s


def batch_norm_identity(relevance):
    """Relevance passes unchanged."""
    return np.array(relevance)


def batch_norm_linear(x, k, b, relevance, stabilise=guard_zero):
    """The z rule on y = k x + b, element by element."""
    return relevance * x * k / stabilise(x * k + b)


def batch_norm_alphabetax(x, k, b, relevance):
    """R |x k| / (|x k| + |b|), element by element (0 / 0 is 0)."""
    return relevance * np.abs(x * k) / guard_zero(np.abs(x * k) + np.abs(b))


# === Start relevance and weights ===


def start_relevance(probabilities, beta=4.0, epsilon=0.01):
    """log(beta (p + epsilon) / (1 + epsilon - p))."""
    return np.log(beta * (probabilities + epsilon) / (1.0 + epsilon - probabilities))


def relevance_weights(relevance, axes):
    """1 + R / max|R|, the maximum over `axes`; a maximum of 0 counts as 1."""
    largest = np.abs(relevance).max(axis=axes, keepdims=True)
    return 1.0 + relevance / np.where(largest == 0, 1.0, largest)
