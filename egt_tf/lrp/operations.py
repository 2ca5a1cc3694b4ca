"""TensorFlow's functions by what they do: as the activation of a layer, and as an operation on Keras tensors.

`a + b` and `tf.nn.relu(x)` on Keras tensors are layers of the graph, too: Keras wraps the function. One function has
many spellings (`"relu"`, `tf.nn.relu`, `keras.layers.ReLU()`), which mean the same to every rule.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from egt_tf.errors import ExplainError
from egt_tf.keras_api import keras

Function = Callable[..., Any]

A = keras.activations
V1 = tf.compat.v1


def plain(function: Any) -> Any:
    """A function without what TensorFlow wraps it in, by which one function has several objects.

    Example:
        >>> plain(tf.nn.relu) is plain(keras.layers.Activation(tf.nn.relu).activation)
        True
    """
    return inspect.unwrap(function) if callable(function) else function


def _plain(*functions: Function) -> tuple[Function, ...]:
    return tuple(map(plain, functions))


RELU = _plain(A.relu, tf.nn.relu, tf.nn.relu6)
SOFTMAX = _plain(A.softmax, tf.nn.softmax, V1.nn.softmax)
SIGMOID = _plain(A.sigmoid, tf.math.sigmoid, A.hard_sigmoid)
ADD = _plain(tf.math.add, tf.__operators__.add)
SUBTRACT = _plain(tf.math.subtract)
MULTIPLY = _plain(tf.math.multiply)
DIVIDE = _plain(tf.math.truediv, tf.math.divide, tf.realdiv, tf.math.divide_no_nan)
AFFINE = (*ADD, *SUBTRACT, *MULTIPLY, *DIVIDE)
EXTREMUM = _plain(tf.math.maximum, tf.math.minimum)
NEGATIVE = _plain(tf.math.negative)

CLIP = _plain(tf.clip_by_value)
REDUCE_SUM = _plain(tf.math.reduce_sum)
# A factor made by one of them divides by what it was made of: `x * rsqrt(mean(x^2))`.
RECIPROCAL = _plain(tf.math.rsqrt, tf.math.reciprocal)
RESIZE = _plain(tf.image.resize)

# One value in, one value out.
VALUE_BY_VALUE = _plain(
    *SIGMOID,
    A.linear,
    *(A.elu, A.exponential, A.gelu, A.mish, A.selu, A.softplus, A.softsign, A.swish, A.tanh),
    *(tf.nn.elu, tf.nn.gelu, tf.nn.leaky_relu, tf.nn.selu, tf.nn.silu),
    *(tf.math.softplus, tf.math.softsign, tf.math.tanh),
    *(tf.math.abs, tf.math.exp, tf.math.log, tf.math.log1p, tf.math.pow, tf.math.sqrt, tf.math.square),
    *RECIPROCAL,
    *CLIP,
    # The norm is a constant: what is left scales value by value.
    *(tf.math.l2_normalize, V1.math.l2_normalize),
)

# Each output value is a copy of one input value.
COPIES = _plain(
    tf.__operators__.getitem,
    *(tf.broadcast_to, tf.cast, tf.concat, tf.expand_dims, tf.gather, tf.identity, tf.pad, tf.repeat, tf.reshape),
    *(tf.reverse, tf.roll, tf.slice, tf.split, tf.squeeze, tf.stack, tf.stop_gradient, tf.strided_slice, tf.tile),
    *(tf.transpose, tf.unstack, tf.where),
    # The functions of the same names that those above call.
    *(V1.expand_dims, V1.gather, V1.pad, V1.reverse, V1.squeeze, V1.transpose, V1.strided_slice, V1.where),
    *(tf.nn.depth_to_space, tf.nn.space_to_depth, tf.image.extract_patches, tf.linalg.band_part),
)

# Sums of products of two tensors' values: attention that is written by hand.
PRODUCTS = _plain(tf.linalg.matmul, tf.linalg.matvec, tf.einsum, tf.tensordot)

# The type of layer that does the same to Keras tensors, and where it is another with one tensor and a constant.
_OF_TENSORS: dict[Function, str] = {
    function: layer_type
    for layer_type, functions in {
        "relu": RELU,
        "softmax": SOFTMAX,
        "activation": VALUE_BY_VALUE,
        "route": COPIES,
        "add": (*ADD, *_plain(tf.math.add_n)),
        "linear": (*SUBTRACT, *NEGATIVE),
        "gate": (*MULTIPLY, *DIVIDE),
        "product": PRODUCTS,
        "mean": (*_plain(tf.math.reduce_mean), *REDUCE_SUM),
        "max_pool": (*EXTREMUM, *_plain(tf.math.reduce_max, tf.math.reduce_min)),
    }.items()
    for function in functions
}
_WITH_A_CONSTANT: dict[Function, str] = {
    # A constant is no summand that could be given a part.
    **dict.fromkeys(ADD, "linear"),
    **dict.fromkeys(EXTREMUM, "activation"),
    **dict.fromkeys(PRODUCTS, "linear"),
}


def operation(layer: keras.layers.Layer) -> Function | None:
    """The function (see `plain`) that Keras made this layer of when it was called on Keras tensors; None: another layer.

    Example:
        >>> operation(tf.nn.relu(keras.Input((2,)))._keras_history.layer) in RELU, operation(keras.layers.ReLU())
        (True, None)
    """
    # The class of these layers is no public name.
    return plain(getattr(layer, "function", None)) if isinstance(getattr(layer, "symbol", None), str) else None


def operation_type(layer: keras.layers.Layer) -> str | None:
    """The layer type that does what an operation on Keras tensors does; None if it is not known, or no operation.

    Example:
        >>> x, y = keras.Input((2,)), keras.Input((2,))
        >>> [operation_type(z._keras_history.layer) for z in (x + y, x + 1.0, tf.reshape(x, (-1,)))]
        ['add', 'linear', 'route']
    """
    function = operation(layer)
    if function is None:
        return None
    of_one = _WITH_A_CONSTANT.get(function) if tensor_count(layer) == 1 else None
    return of_one or _OF_TENSORS.get(function)


def is_affine_operation(layer: keras.layers.Layer) -> bool:
    """Whether the layer adds, subtracts, multiplies or divides one Keras tensor and constants.

    Example:
        >>> is_affine_operation((keras.Input((2,)) / 255.0)._keras_history.layer)
        True
    """
    return operation(layer) in AFFINE and tensor_count(layer) == 1


def tensor_count(layer: keras.layers.Layer) -> int:
    """How many Keras tensors the layer of an operation is called with; constants do not count."""
    return len(tf.nest.flatten(layer.inbound_nodes[0].keras_inputs))


def arguments(layer: keras.layers.Layer) -> dict[str, Any]:
    """The arguments of an operation by their names: Keras tensors and constants, with its defaults.

    Example:
        >>> arguments(tf.clip_by_value(keras.Input((2,)), 0.0, 6.0)._keras_history.layer)["clip_value_max"]
        6.0
    """
    node, function = layer.inbound_nodes[0], operation(layer)
    if function is None:
        raise ExplainError(f"the layer must be an operation on Keras tensors. Received: {layer.name!r}")
    bound = inspect.signature(function).bind(*node.call_args, **node.call_kwargs)
    bound.apply_defaults()
    return bound.arguments
