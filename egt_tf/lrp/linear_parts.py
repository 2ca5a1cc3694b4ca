"""The linear part of a layer: what the rules for weighted sums need to know of it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from egt_tf.errors import ExplainError
from egt_tf.keras_api import keras
from egt_tf.tensors import widen

L = keras.layers
Forward = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

# Named, though they are the defaults: without them, second derivatives fail in eager mode.
_DATA_FORMATS = {1: "NWC", 2: "NHWC", 3: "NDHWC"}


@dataclasses.dataclass(frozen=True)
class LinearPart:
    """`z = forward(x, kernel) + bias`: a layer without its activation, on the weights it has now.

    Attributes:
        kernel: current weights, float32 or wider.
        bias: current bias, or None.
        forward: `(x, kernel) -> z`, linear in each of the two.
        input_axis: the kernel's axis of input channels if every output sums over all of them, else None. Two inputs
            with two kernels can then be one input with their channels side by side.
        transposed: `(x, kernel, s) -> kernel transposed, applied to s`, where there is a faster way than the derivative
            of `forward`.

    Example:
        >>> part = LinearPart(tf.constant([[1.0], [-3.0]]), tf.constant([1.0]), tf.matmul)
        >>> part.of(tf.constant([[2.0, 1.0]])).numpy()
        array([[0.]], dtype=float32)
    """

    kernel: tf.Tensor
    bias: tf.Tensor | None
    forward: Forward
    input_axis: int | None = None
    transposed: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor] | None = None

    def of(self, x: tf.Tensor) -> tf.Tensor:
        """The weighted sum `z`."""
        z = self.forward(x, self.kernel)
        return z if self.bias is None else z + self.bias

    def backward(self, x: tf.Tensor, kernel: tf.Tensor, s: tf.Tensor) -> tf.Tensor:
        """`kernel` transposed, applied to `s`; `x` gives the shape only."""
        if self.transposed is not None:
            return self.transposed(x, kernel, s)
        # A linear map's derivative does not depend on where it is taken, so in a graph the forward pass is pruned.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            z = self.forward(x, kernel)
        return tape.gradient(z, x, output_gradients=s)


@functools.singledispatch
def linear_parts(layer: keras.layers.Layer, *inputs: tf.Tensor) -> tuple[LinearPart, ...]:
    """Returns the weighted sums that `layer` computes one after the other; for most layers there is one.

    Extend it for a layer of your own with `@linear_parts.register`.

    Args:
        layer: the Keras layer.
        inputs: what it is called with; the first is what its weights are multiplied with. Some layers' weights depend
            on it (statistics of the batch).

    Raises:
        ExplainError: the layer is not known to be a weighted sum.

    Example:
        >>> dense = keras.layers.Dense(1)
        >>> x = tf.ones((1, 2))
        >>> y = dense(x)
        >>> (part,) = linear_parts(dense, x)
        >>> np.allclose(part.of(x), y)
        True
    """
    raise ExplainError(
        f"rules for weighted sums need the linear part of a layer. Received: layer {layer.name!r} of "
        f"class {type(layer).__name__}; teach it with egt_tf.lrp.linear_parts.register"
    )


@linear_parts.register(L.Dense)
def _(layer: keras.layers.Layer, x: tf.Tensor) -> tuple[LinearPart, ...]:
    return (LinearPart(*_weights(layer), lambda x, kernel: tf.tensordot(x, kernel, 1), input_axis=-2),)


@linear_parts.register(L.EinsumDense)
def _(layer: keras.layers.Layer, x: tf.Tensor) -> tuple[LinearPart, ...]:
    return (LinearPart(_tensor(layer.kernel), _bias(layer), functools.partial(tf.einsum, layer.equation)),)


@linear_parts.register(L.Conv1D)
@linear_parts.register(L.Conv2D)
@linear_parts.register(L.Conv3D)
def _(layer: keras.layers.Layer, x: tf.Tensor) -> tuple[LinearPart, ...]:
    _check_convolution(layer)
    transposed = functools.partial(_by_phases, layer.strides[0], layer.padding) if _has_phases(layer, x) else None
    # With groups, an output does not sum over all input channels.
    input_axis = -2 if layer.groups == 1 else None
    return (LinearPart(*_weights(layer), _convolution(layer), input_axis, transposed),)


@linear_parts.register(L.DepthwiseConv1D)
@linear_parts.register(L.DepthwiseConv2D)
def _(layer: keras.layers.Layer, x: tf.Tensor) -> tuple[LinearPart, ...]:
    _check_convolution(layer)
    return (LinearPart(_tensor(layer.depthwise_kernel), _bias(layer), _depthwise_convolution(layer)),)


@linear_parts.register(L.SeparableConv1D)
@linear_parts.register(L.SeparableConv2D)
def _(layer: keras.layers.Layer, x: tf.Tensor) -> tuple[LinearPart, ...]:
    _check_convolution(layer)
    depthwise = LinearPart(_tensor(layer.depthwise_kernel), None, _depthwise_convolution(layer))
    pointwise = LinearPart(
        _tensor(layer.pointwise_kernel),
        _bias(layer),
        lambda x, kernel: tf.nn.convolution(x, kernel, 1, "VALID", _DATA_FORMATS[layer.rank]),
    )
    return depthwise, pointwise


@linear_parts.register(L.Conv1DTranspose)
@linear_parts.register(L.Conv2DTranspose)
@linear_parts.register(L.Conv3DTranspose)
def _(layer: keras.layers.Layer, x: tf.Tensor) -> tuple[LinearPart, ...]:
    _check_convolution(layer)
    if set(layer.dilation_rate) != {1}:
        raise ExplainError(
            f"a transposed convolution is explained without dilation. Received: layer {layer.name!r} "
            f"with dilation_rate={layer.dilation_rate}"
        )

    def forward(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        shape = [tf.shape(x)[0], *_transposed_sides(layer, x), layer.filters]
        return tf.nn.conv_transpose(x, kernel, shape, layer.strides, layer.padding.upper(), _DATA_FORMATS[layer.rank])

    return (LinearPart(*_weights(layer), forward),)


def _transposed_sides(layer: keras.layers.Layer, x: tf.Tensor) -> list[int | tf.Tensor]:
    """The sides of a transposed convolution's output; one that is known only when the model is called is a tensor."""
    static = layer.compute_output_shape(x.shape)[1:-1]
    before = tf.shape(x)
    sides = []
    for axis, side in enumerate(static):
        stride, kernel = layer.strides[axis], layer.kernel_size[axis]
        extra = None if layer.output_padding is None else layer.output_padding[axis]
        if side is not None:
            sides.append(side)
        elif extra is None:
            sides.append(before[axis + 1] * stride + (max(kernel - stride, 0) if layer.padding == "valid" else 0))
        else:
            cut = 2 * (kernel // 2) if layer.padding == "same" else 0
            sides.append((before[axis + 1] - 1) * stride + kernel - cut + extra)
    return sides


@linear_parts.register(L.LayerNormalization)
def _(layer: keras.layers.Layer, x: tf.Tensor) -> tuple[LinearPart, ...]:
    axes = [axis % len(x.shape) for axis in tf.nest.flatten(layer.axis)]
    shape = [x.shape[axis] if axis in axes else 1 for axis in range(len(x.shape))]
    return (_centred_part(layer, x, shape, lambda v: tf.reduce_mean(v, axis=axes, keepdims=True)),)


@linear_parts.register(L.GroupNormalization)
def _(layer: keras.layers.Layer, x: tf.Tensor) -> tuple[LinearPart, ...]:
    if layer.axis % len(x.shape) != len(x.shape) - 1:
        raise ExplainError(
            "group normalisation is explained along the last axis. "
            f"Received: layer {layer.name!r} with axis={layer.axis}"
        )
    channels = x.shape[-1]

    def mean(v: tf.Tensor) -> tf.Tensor:
        grouped = tf.reshape(v, [tf.shape(v)[0], -1, layer.groups, channels // layer.groups])
        of_groups = tf.reduce_mean(grouped, axis=[1, 3])
        spread = tf.repeat(of_groups, channels // layer.groups, axis=-1)
        return tf.reshape(spread, [-1, *[1] * (len(x.shape) - 2), channels])

    return (_centred_part(layer, x, [*[1] * (len(x.shape) - 1), channels], mean),)


def _centred_part(
    layer: keras.layers.Layer, x: tf.Tensor, shape: Sequence[int], mean: Callable[[tf.Tensor], tf.Tensor]
) -> LinearPart:
    """A normalisation by statistics of the example itself: linear in `x - mean(x)`, the deviation a constant.

    Source: Ali et al., 2022.
    """
    scale = tf.math.rsqrt(mean(tf.square(x - mean(x))) + tf.constant(layer.epsilon, x.dtype))
    scale = scale if layer.gamma is None else scale * tf.reshape(_tensor(layer.gamma), shape)
    shift = None if layer.beta is None else tf.reshape(_tensor(layer.beta), shape)

    def transposed(v: tf.Tensor, kernel: tf.Tensor, s: tf.Tensor) -> tf.Tensor:
        # Taking the mean away is its own transpose.
        return s * kernel - mean(s * kernel)

    return LinearPart(scale, shift, lambda v, kernel: (v - mean(v)) * kernel, transposed=transposed)


@linear_parts.register(L.BatchNormalization)
def _(layer: keras.layers.Layer, x: tf.Tensor) -> tuple[LinearPart, ...]:
    # Keras keeps the axes as a list once the layer is built.
    if [axis % len(x.shape) for axis in layer.axis] != [len(x.shape) - 1]:
        raise ExplainError(
            "batch normalisation is explained along the last axis. "
            f"Received: layer {layer.name!r} with axis={list(layer.axis)}"
        )
    return (normalization_part(layer, _tensor(layer.moving_mean), _tensor(layer.moving_variance)),)


def normalization_part(layer: keras.layers.Layer, mean: tf.Tensor, variance: tf.Tensor) -> LinearPart:
    """A normalisation as `y = k x + b`, value by value, with its statistics as constants.

    Args:
        layer: has `epsilon`, `gamma` and `beta`, each of the latter None if the layer has none.
        mean: broadcasts to the layer's input.
        variance: likewise.
    """
    scale = tf.math.rsqrt(variance + layer.epsilon)
    scale = scale if layer.gamma is None else scale * _tensor(layer.gamma)
    shift = -mean * scale if layer.beta is None else _tensor(layer.beta) - mean * scale
    return LinearPart(scale, shift, lambda x, kernel: x * kernel, transposed=lambda x, kernel, s: s * kernel)


def _convolution(layer: keras.layers.Layer) -> Forward:
    padding = "VALID" if layer.padding == "causal" else layer.padding.upper()

    def of_one_group(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.nn.convolution(x, kernel, layer.strides, padding, _DATA_FORMATS[layer.rank], layer.dilation_rate)

    def forward(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        if layer.padding == "causal":
            x = tf.pad(x, [[0, 0], [layer.dilation_rate[0] * (layer.kernel_size[0] - 1), 0], [0, 0]])
        if layer.groups == 1:
            return of_one_group(x, kernel)
        if _is_depthwise(layer, kernel):
            # The filters of a channel lie side by side in both.
            apart = tf.reshape(kernel, [*kernel.shape[:2], layer.groups, -1])
            return tf.nn.depthwise_conv2d(x, apart, [1, *layer.strides, 1], padding, "NHWC", layer.dilation_rate)
        # TensorFlow derives a convolution with groups on no processor.
        groups = zip(tf.split(x, layer.groups, axis=-1), tf.split(kernel, layer.groups, axis=-1), strict=True)
        return tf.concat([of_one_group(*group) for group in groups], axis=-1)

    return forward


def _is_depthwise(layer: keras.layers.Layer, kernel: tf.Tensor) -> bool:
    """Whether each group is one channel of an image, as in ConvNeXt, and TensorFlow has one operation for all of them."""
    strides, dilation = set(layer.strides), set(layer.dilation_rate)
    return layer.rank == 2 and kernel.shape[-2] == 1 and len(strides) == 1 and (dilation == {1} or strides == {1})


# The transposed convolution to the pixels of an image wastes most of a processor's vector units on three channels.
_FEW_CHANNELS = 4


def _has_phases(layer: keras.layers.Layer, x: tf.Tensor) -> bool:
    """Whether `_by_phases` is right for the layer, and faster than the derivative of the convolution."""
    stride = layer.strides[0]
    return (
        layer.rank == 2
        and layer.groups == 1
        and len(x.shape) == 4
        and stride > 1
        and layer.strides == (stride, stride)
        and layer.dilation_rate == (1, 1)
        and None not in x.shape[1:]
        and x.shape[-1] <= _FEW_CHANNELS
    )


def _by_phases(stride: int, padding: str, x: tf.Tensor, kernel: tf.Tensor, s: tf.Tensor) -> tf.Tensor:
    """A transposed convolution with a stride, as one without and with stride^2 times the channels.

    Output pixel `stride * a + i` gets `sum_p s[a - p] kernel[stride * p + i]`: a convolution of s for each of the
    `stride^2` phases i, whose outputs are then interleaved.
    """
    height, width, channels, units = kernel.shape
    taps = [-(-side // stride) for side in (height, width)]
    kernel = tf.pad(
        kernel, [[0, t * stride - side] for t, side in zip(taps, (height, width), strict=True)] + [[0, 0]] * 2
    )
    kernel = tf.reshape(kernel, [taps[0], stride, taps[1], stride, channels, units])
    # One axis at a time, as every inference engine can.
    kernel = tf.reverse(tf.reverse(tf.transpose(kernel, [0, 2, 5, 1, 3, 4]), axis=[0]), axis=[1])
    kernel = tf.reshape(kernel, [*taps, units, stride * stride * channels])
    phases = tf.nn.conv2d(s, kernel, 1, [[0, 0], *([t - 1] * 2 for t in taps), [0, 0]])
    return _cut(tf.nn.depth_to_space(phases, stride), x.shape[1:3], (height, width), s.shape[1:3], stride, padding)


def _cut(
    full: tf.Tensor,
    sides: Sequence[int],
    kernel_sides: Sequence[int],
    output_sides: Sequence[int],
    stride: int,
    padding: str,
) -> tf.Tensor:
    """The part of a transposed convolution's full result that is no padding; nothing reaches the last pixels."""
    begins, ends = [], []
    for side, kernel, outputs, rows in zip(sides, kernel_sides, output_sides, full.shape[1:3], strict=True):
        begin = max((outputs - 1) * stride + kernel - side, 0) // 2 if padding == "same" else 0
        begins.append(begin)
        ends.append(max(begin + side - rows, 0))
    if any(ends):
        full = tf.pad(full, [[0, 0], *([0, end] for end in ends), [0, 0]])
    return full[:, begins[0] : begins[0] + sides[0], begins[1] : begins[1] + sides[1]]


def _depthwise_convolution(layer: keras.layers.Layer) -> Forward:
    padding = layer.padding.upper()
    if layer.rank == 2:
        return lambda x, kernel: tf.nn.depthwise_conv2d(
            x, kernel, [1, *layer.strides, 1], padding, "NHWC", layer.dilation_rate
        )

    def of_one_row(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        # TensorFlow has it for images only, and wants the same stride on both axes.
        y = tf.nn.depthwise_conv2d(
            x[:, None], kernel[None], [1, *2 * layer.strides, 1], padding, "NHWC", (1, *layer.dilation_rate)
        )
        return y[:, 0]

    return of_one_row


def _check_convolution(layer: keras.layers.Layer) -> None:
    if layer.data_format != "channels_last":
        raise ExplainError(
            "convolutions are explained with channels last. "
            f"Received: layer {layer.name!r} with data_format={layer.data_format!r}"
        )


def _weights(layer: keras.layers.Layer) -> tuple[tf.Tensor, tf.Tensor | None]:
    return _tensor(layer.kernel), _bias(layer)


def _bias(layer: keras.layers.Layer) -> tf.Tensor | None:
    return None if layer.bias is None else _tensor(layer.bias)


def _tensor(variable: tf.Variable) -> tf.Tensor:
    return widen(tf.convert_to_tensor(variable))
