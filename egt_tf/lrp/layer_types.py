"""Types of layers: the names that composites speak of.

A room above brings its own layers in with `egt_tf.lrp.register_rule(layer_class, like=...)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf
from tensorflow import keras

from egt_tf.errors import ExplainError

L = keras.layers
Predicate = Callable[[keras.layers.Layer], bool]


def _instance_of(*classes: type) -> Predicate:
    return lambda layer: isinstance(layer, classes)


def _is_relu(layer: keras.layers.Layer) -> bool:
    plain = isinstance(layer, L.ReLU) and not layer.negative_slope and not layer.threshold
    return plain or (isinstance(layer, L.Activation) and layer.activation is keras.activations.relu)


LAYER_TYPES: dict[str, Predicate] = {
    "dense": _instance_of(L.Dense),
    "convolution": _instance_of(
        L.Conv1D,
        L.Conv2D,
        L.Conv3D,
        L.DepthwiseConv1D,
        L.DepthwiseConv2D,
        L.SeparableConv1D,
        L.SeparableConv2D,
        L.Conv1DTranspose,
        L.Conv2DTranspose,
        L.Conv3DTranspose,
    ),
    "batch_norm": _instance_of(L.BatchNormalization),
    "relu": _is_relu,
    "activation": _instance_of(L.Activation, L.ReLU, L.LeakyReLU, L.ELU, L.PReLU, L.Softmax),
    "max_pool": _instance_of(
        L.MaxPooling1D, L.MaxPooling2D, L.MaxPooling3D, L.GlobalMaxPooling1D, L.GlobalMaxPooling2D, L.GlobalMaxPooling3D
    ),
    "mean": _instance_of(
        L.AveragePooling1D,
        L.AveragePooling2D,
        L.AveragePooling3D,
        L.GlobalAveragePooling1D,
        L.GlobalAveragePooling2D,
        L.GlobalAveragePooling3D,
        L.Average,
    ),
    "add": _instance_of(L.Add),
    "gate": _instance_of(L.Multiply),
    # A concatenation whose second input skips a level of the network. Keras has no layer that says so.
    "skip": _instance_of(),
    "route": _instance_of(
        L.InputLayer,
        L.Flatten,
        L.Reshape,
        L.Permute,
        L.RepeatVector,
        L.Concatenate,
        L.Dropout,
        L.SpatialDropout1D,
        L.SpatialDropout2D,
        L.SpatialDropout3D,
        L.ZeroPadding1D,
        L.ZeroPadding2D,
        L.ZeroPadding3D,
        L.Cropping1D,
        L.Cropping2D,
        L.Cropping3D,
        L.UpSampling1D,
        L.UpSampling2D,
        L.UpSampling3D,
    ),
    # The input in other units, channel by channel: what lies behind still sees the model's input.
    "rescaling": _instance_of(L.Rescaling, L.Normalization),
    # The input's channels in another order. Keras has no layer that says so.
    "channel_order": _instance_of(),
    "padding": _instance_of(L.ZeroPadding1D, L.ZeroPadding2D, L.ZeroPadding3D),
    "any": lambda layer: True,
}

# Layers whose outputs are >= 0 when their inputs are.
_SIGN_KEEPING = ("max_pool", "mean", "add", "route")


# Layers of other rooms and of users: the class and the type that it is treated like.
_LIKE: dict[type, str] = {}


def check_layer_type(argument: str, layer_type: str) -> None:
    """Raises an ExplainError unless `layer_type`, the value of the argument called `argument`, is a layer type."""
    if layer_type not in LAYER_TYPES:
        raise ExplainError(f"`{argument}` must be one of {', '.join(LAYER_TYPES)}. Received: {argument}={layer_type!r}")


def treat_like(layer_class: type[keras.layers.Layer], layer_type: str) -> None:
    """Makes layers of a class, and of its subclasses, layers of a type; see `egt_tf.lrp.register_rule`."""
    check_layer_type("like", layer_type)
    _LIKE[layer_class] = layer_type


def declared_like(layer_class: type[keras.layers.Layer], layer_type: str) -> bool:
    """Whether layers of exactly this class were made layers of a type; a subclass may compute something else."""
    return _LIKE.get(layer_class) == layer_type


def is_layer_type(layer: keras.layers.Layer, layer_type: str) -> bool:
    """Whether `layer` is of the type named `layer_type` (a key of `LAYER_TYPES`).

    Example:
        >>> is_layer_type(keras.layers.Flatten(), "route"), is_layer_type(keras.layers.Flatten(), "mean")
        (True, False)
    """
    like = next((_LIKE[base] for base in type(layer).__mro__ if base in _LIKE), None)
    return like == layer_type or LAYER_TYPES[layer_type](layer)


def ends_in_relu(layer: keras.layers.Layer) -> bool:
    """Whether the layer is a ReLU or has one as its own activation."""
    return is_layer_type(layer, "relu") or getattr(layer, "activation", None) is keras.activations.relu


def output_nonnegative(layer: keras.layers.Layer, inputs_nonnegative: Sequence[bool]) -> bool:
    """Whether the layer's outputs are known to have no negative values."""
    if ends_in_relu(layer):
        return True
    return all(inputs_nonnegative) and any(is_layer_type(layer, layer_type) for layer_type in _SIGN_KEEPING)


def outputs_nonnegative(model: keras.Model, inputs_nonnegative: Sequence[bool]) -> tuple[bool, ...]:
    """Which outputs of a Functional model are known to have no negative values.

    Args:
        model: the model.
        inputs_nonnegative: the same of each of its inputs.
    """
    known = {id(symbol): sign for symbol, sign in zip(model.inputs, inputs_nonnegative, strict=True)}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in (node for node in model._nodes_by_depth[depth] if not node.is_input):
            layer, signs = node.outbound_layer, tuple(known[id(x)] for x in tf.nest.flatten(node.keras_inputs))
            symbols = tf.nest.flatten(node.outputs)
            nested = isinstance(layer, keras.Model)
            of_outputs = (
                outputs_nonnegative(layer, signs) if nested else [output_nonnegative(layer, signs)] * len(symbols)
            )
            known.update((id(symbol), sign) for symbol, sign in zip(symbols, of_outputs, strict=True))
    return tuple(known[id(symbol)] for symbol in model.outputs)
