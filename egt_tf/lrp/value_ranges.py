"""What the graph says of values before any is computed: which are never negative, which lie between 0 and 1.

Rules use it for short cuts (where no input is negative, half of the work of z+ is not done) and to tell gates from
signals. Nothing is taken for granted: of a layer that is not known, nothing is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from egt_tf.keras_api import keras
from egt_tf.lrp.layer_types import AUGMENTATIONS, is_layer_type, is_relu_function, like_of
from egt_tf.lrp.operations import (
    ADD,
    CLIP,
    COPIES,
    DIVIDE,
    REDUCE_SUM,
    SIGMOID,
    SOFTMAX,
    SUBTRACT,
    arguments,
    is_affine_operation,
    operation,
    plain,
)

L = keras.layers

# A sixth of 6 is 1 up to rounding.
_ROUNDING = 1e-5


class Interval(NamedTuple):
    """The smallest and the largest value that a tensor can have.

    Example:
        >>> Interval(0.0, 6.0).nonnegative, Interval(0.0, 6.0).is_gate, Interval(0.0, 1.0).is_gate
        (True, False, True)
    """

    low: float = -math.inf
    high: float = math.inf

    @property
    def nonnegative(self) -> bool:
        """Whether no value is negative."""
        return self.low >= 0.0

    @property
    def is_gate(self) -> bool:
        """Whether all values lie between 0 (shut) and 1 (open)."""
        return self.low >= -_ROUNDING and self.high <= 1.0 + _ROUNDING


ANYTHING = Interval()
NONNEGATIVE = Interval(low=0.0)

_RANGES: dict[Any, Interval] = {
    plain(function): interval
    for interval, functions in (
        (Interval(0.0, 1.0), (*SIGMOID, *SOFTMAX)),
        (Interval(-1.0, 1.0), (keras.activations.tanh, tf.math.tanh, tf.math.softsign)),
        (NONNEGATIVE, (keras.activations.softplus, tf.math.softplus, keras.activations.exponential, tf.math.exp)),
        (NONNEGATIVE, (tf.math.abs, tf.math.sqrt, tf.math.rsqrt, tf.math.square)),
        (Interval(0.0, 6.0), (tf.nn.relu6,)),
    )
    for function in functions
}

# The classes of `keras.layers` and their bases: whose `call` is known to do what the class says.
_KERAS_CLASSES = frozenset(
    base
    for member in vars(L).values()
    if isinstance(member, type) and issubclass(member, L.Layer)
    for base in member.__mro__
)


def has_known_call(layer: keras.layers.Layer) -> bool:
    """Whether the layer computes what its class in Keras does, or what a class does that it was registered to be like.

    Example:
        >>> class Odd(keras.layers.ReLU):
        ...     def call(self, x):
        ...         return -x
        >>> has_known_call(keras.layers.ReLU()), has_known_call(Odd())
        (True, False)
    """
    if like_of(layer) is not None or operation(layer) is not None:
        return True
    return next(base for base in type(layer).__mro__ if "call" in vars(base)) in _KERAS_CLASSES


def ends_in_relu(layer: keras.layers.Layer) -> bool:
    """Whether the layer is known to be a ReLU, or a weighted sum with one as its own activation.

    Example:
        >>> [ends_in_relu(keras.layers.Dense(1, activation=f)) for f in ("relu", tf.nn.relu, "tanh")]
        [True, True, False]
    """
    return has_known_call(layer) and (is_layer_type(layer, "relu") or is_relu_function(own_activation(layer)))


def is_known_relu(layer: keras.layers.Layer) -> bool:
    """Whether the layer is known to be `min(max(x, 0), bound)`, with or without a bound.

    Example:
        >>> [is_known_relu(each) for each in (keras.layers.ReLU(), keras.layers.ReLU(6.0), keras.layers.Dense(1))]
        [True, True, False]
    """
    return has_known_call(layer) and like_of(layer) is None and is_layer_type(layer, "relu")


def is_plain_relu(layer: keras.layers.Layer) -> bool:
    """Whether the layer is known to be `max(x, 0)`, without a bound above.

    Example:
        >>> [is_plain_relu(each) for each in (keras.layers.ReLU(), keras.layers.ReLU(6.0), keras.layers.Dense(1))]
        [True, False, False]
    """
    return is_known_relu(layer) and output_range(layer, [ANYTHING]).high == math.inf


def own_activation(layer: keras.layers.Layer) -> Any:
    """The activation that the layer is known to apply to its weighted sum: a function or a layer; None: none is known.

    Any layer can have an attribute of that name and use it for something else.
    """
    is_sum = any(is_layer_type(layer, each) for each in ("dense", "convolution"))
    return getattr(layer, "activation", None) if is_sum and has_known_call(layer) else None


def output_range(layer: keras.layers.Layer, inputs: Sequence[Interval]) -> Interval:
    """The range of the values that the layer makes of inputs of the given ranges.

    Example:
        >>> output_range(keras.layers.ReLU(6.0), [Interval()])
        Interval(low=0.0, high=6.0)
    """
    if not has_known_call(layer) or isinstance(layer, AUGMENTATIONS):
        return ANYTHING
    activation = own_activation(layer)
    if activation is not None:
        return _of_function(activation, ANYTHING)
    if is_affine_operation(layer):
        return _of_affine_operation(layer, inputs[0])
    if any(is_layer_type(layer, each) for each in ("relu", "softmax", "activation")):
        return _of_function(layer, inputs[0])
    return _of_several(layer, inputs)


def _of_several(layer: keras.layers.Layer, inputs: Sequence[Interval]) -> Interval:
    low, high = min(each.low for each in inputs), max(each.high for each in inputs)
    if any(is_layer_type(layer, each) for each in ("mean", "max_pool")) and operation(layer) not in REDUCE_SUM:
        return Interval(low, high)
    if is_layer_type(layer, "route"):
        if any(weight.trainable for weight in layer.weights):
            # Learned values, of any sign, stand beside the copies.
            return ANYTHING
        # Padding and dropout bring zeros in, operations their constants.
        brought = [Interval(0.0, 0.0), *_constants(layer)]
        return Interval(min(low, *(each.low for each in brought)), max(high, *(each.high for each in brought)))
    nonnegative = low >= 0.0
    if any(is_layer_type(layer, each) for each in ("add", "product")) or operation(layer) in REDUCE_SUM:
        return NONNEGATIVE if nonnegative else ANYTHING
    if is_layer_type(layer, "gate") and nonnegative:
        return Interval(0.0, math.prod(each.high for each in inputs) if operation(layer) not in DIVIDE else math.inf)
    return ANYTHING


def _constants(layer: keras.layers.Layer) -> list[Interval]:
    """The ranges of the values that an operation which copies is given beside the Keras tensors; sizes and axes too."""
    if operation(layer) not in COPIES:
        return []
    node = layer.inbound_nodes[0]
    tensors = {id(x) for x in tf.nest.flatten(node.keras_inputs)}
    given = [each for each in tf.nest.flatten((node.call_args, node.call_kwargs)) if id(each) not in tensors]
    return [_extremes(each) for each in given if _is_floating(each)] + [
        # Whole numbers among them are sizes and axes, but for those of this name.
        Interval(float(value), float(value))
        for name, value in node.call_kwargs.items()
        if name == "constant_values" and isinstance(value, int)
    ]


def _is_floating(constant: Any) -> bool:
    if isinstance(constant, (tf.Tensor, tf.Variable)):
        return constant.dtype.is_floating
    return isinstance(constant, float) or (isinstance(constant, np.ndarray) and constant.dtype.kind == "f")


def _of_function(function: Any, values: Interval) -> Interval:
    """The range of an activation, which may be a function or a layer."""
    if isinstance(function, L.Activation):
        return _of_function(function.activation, values)
    if isinstance(function, L.ReLU) and is_relu_function(function):
        limit = math.inf if function.max_value is None else float(function.max_value)
        return Interval(0.0, max(0.0, min(values.high, limit)))
    if isinstance(function, L.Softmax):
        return Interval(0.0, 1.0)
    if isinstance(function, L.Layer):
        function, layer = operation(function), function
        if function in CLIP:
            return _bounds(arguments(layer))
    if is_relu_function(function) and plain(function) not in _RANGES:
        return Interval(0.0, max(0.0, values.high))
    return _RANGES.get(plain(function), ANYTHING)


def _bounds(of_clip: dict[str, Any]) -> Interval:
    low, high = (_extremes(of_clip[name]) for name in ("clip_value_min", "clip_value_max"))
    return Interval(low.low, high.high)


def _of_affine_operation(layer: keras.layers.Layer, values: Interval) -> Interval:
    """Interval arithmetic with the constant that stands beside the one Keras tensor."""
    function, (tensor,) = operation(layer), tf.nest.flatten(layer.inbound_nodes[0].keras_inputs)
    left, right = (values if each is tensor else _extremes(each) for each in list(arguments(layer).values())[:2])
    if function in ADD:
        return _interval(left.low + right.low, left.high + right.high)
    if function in SUBTRACT:
        return _interval(left.low - right.high, left.high - right.low)
    if function in DIVIDE:
        if right.low <= 0.0 <= right.high:
            return ANYTHING
        right = _interval(1.0 / right.low, 1.0 / right.high)
    return _interval(*(a * b for a in left for b in right))


def _interval(*corners: float) -> Interval:
    """The range of the corners; of "infinity times zero" nothing is known."""
    return ANYTHING if any(math.isnan(corner) for corner in corners) else Interval(min(corners), max(corners))


def _extremes(constant: Any) -> Interval:
    if tf.is_tensor(constant) and not hasattr(constant, "numpy"):
        return ANYTHING
    values = np.asarray(constant, np.float64)
    return Interval(float(values.min()), float(values.max())) if values.size else ANYTHING


def outputs_nonnegative(model: keras.Model, inputs_nonnegative: Sequence[bool]) -> tuple[bool, ...]:
    """Which outputs of a Functional model are known to have no negative values.

    Args:
        model: the model.
        inputs_nonnegative: the same of each of its inputs.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.ReLU()])
        >>> outputs_nonnegative(model, [False])
        (True,)
    """
    ranges = output_ranges(model, [NONNEGATIVE if known else ANYTHING for known in inputs_nonnegative])
    return tuple(each.nonnegative for each in ranges)


def output_ranges(model: keras.Model, inputs: Sequence[Interval]) -> tuple[Interval, ...]:
    """The ranges of the outputs of a Functional model whose inputs have the given ranges.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="sigmoid")])
        >>> output_ranges(model, [Interval()])
        (Interval(low=0.0, high=1.0),)
    """
    known = {id(symbol): interval for symbol, interval in zip(model.inputs, inputs, strict=True)}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in (node for node in model._nodes_by_depth[depth] if not node.is_input):
            layer, intervals = node.outbound_layer, [known[id(x)] for x in tf.nest.flatten(node.keras_inputs)]
            symbols = tf.nest.flatten(node.outputs)
            nested = isinstance(layer, keras.Model)
            of_outputs = output_ranges(layer, intervals) if nested else [output_range(layer, intervals)] * len(symbols)
            known.update((id(symbol), interval) for symbol, interval in zip(symbols, of_outputs, strict=True))
    return tuple(known[id(symbol)] for symbol in model.outputs)
