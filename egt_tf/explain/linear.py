"""The linear part of a layer: what the rules for weighted sums need to know of it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import tensorflow as tf
from tensorflow import keras

from egt_tf.errors import ExplainError


@dataclasses.dataclass(frozen=True)
class LinearPart:
    """`z = forward(x, kernel) + bias`: a layer without its activation, on the weights it has now.

    Attributes:
        kernel: current weights, float32 or wider.
        bias: current bias, or None.
        forward: `(x, kernel) -> z`, linear in each of the two.
    """

    kernel: tf.Tensor
    bias: tf.Tensor | None
    forward: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

    def backward(self, x: tf.Tensor, kernel: tf.Tensor, s: tf.Tensor) -> tf.Tensor:
        """`kernel` transposed, applied to `s`; `x` gives the shape only."""
        # A linear map's derivative does not depend on where it is taken, so in a graph the forward pass is pruned.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            z = self.forward(x, kernel)
        return tape.gradient(z, x, output_gradients=s)


@functools.singledispatch
def linear_part(layer: keras.layers.Layer) -> LinearPart:
    """Returns the linear part of `layer`. Extend it for a layer of your own with `@linear_part.register`.

    Raises:
        ExplainError: the layer is not known to be a weighted sum.
    """
    raise ExplainError(f"rules for weighted sums need the linear part of a layer. Received: layer {layer.name!r} of "
                       f"class {type(layer).__name__}; teach it with egt_tf.explain.linear_part.register")


@linear_part.register(keras.layers.Dense)
def _(layer):
    return LinearPart(*_weights(layer), lambda x, kernel: tf.tensordot(x, kernel, 1))


@linear_part.register(keras.layers.Conv1D)
@linear_part.register(keras.layers.Conv2D)
@linear_part.register(keras.layers.Conv3D)
def _(layer):
    if layer.data_format != "channels_last" or layer.padding not in ("same", "valid") or layer.groups != 1:
        raise ExplainError("convolutions are explained with channels last, padding 'same' or 'valid' and one group. "
                           f"Received: layer {layer.name!r} with data_format={layer.data_format!r}, "
                           f"padding={layer.padding!r}, groups={layer.groups}")

    # Named, though it is the default: without it, second derivatives fail in eager mode.
    data_format = {1: "NWC", 2: "NHWC", 3: "NDHWC"}[layer.rank]

    def forward(x, kernel):
        return tf.nn.convolution(x, kernel, layer.strides, layer.padding.upper(), data_format, layer.dilation_rate)

    return LinearPart(*_weights(layer), forward)


def _weights(layer):
    kernel = tf.convert_to_tensor(layer.kernel)
    return kernel, tf.convert_to_tensor(layer.bias) if layer.use_bias else None
