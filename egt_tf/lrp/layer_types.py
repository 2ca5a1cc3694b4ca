"""Types of layers: the names that composites speak of.

A room above brings its own layers in with `egt_tf.lrp.register_rule(layer_class, like=...)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from egt_tf.errors import ExplainError
from egt_tf.keras_api import keras
from egt_tf.lrp.operations import RELU, SOFTMAX, is_affine_operation, operation_type, plain
from egt_tf.lrp.resizing import resize_type
from egt_tf.registry import family_layer

L = keras.layers
Predicate = Callable[[keras.layers.Layer], bool]


# Of one family of networks each: no names of `keras.layers`.
LAYER_SCALE, STOCHASTIC_DEPTH = (
    family_layer(keras.applications.ConvNeXtTiny, name) for name in ("LayerScale", "StochasticDepth")
)
SCALED_SUM = family_layer(keras.applications.InceptionResNetV2, "CustomScaleLayer")

# They add noise when a model is trained, and move, turn, crop or colour images; else they hand their input on.
AUGMENTATIONS = (
    L.GaussianNoise,
    L.AlphaDropout,
    L.RandomBrightness,
    L.RandomContrast,
    L.RandomFlip,
    L.RandomHeight,
    L.RandomRotation,
    L.RandomTranslation,
    L.RandomWidth,
    L.RandomZoom,
)
PADDING = (L.ZeroPadding1D, L.ZeroPadding2D, L.ZeroPadding3D)


def _instance_of(*classes: type) -> Predicate:
    return lambda layer: isinstance(layer, classes)


def is_relu_function(function: Any) -> bool:
    """Whether an activation is the ReLU, or ReLU6, however it is spelled: a function or a layer.

    Example:
        >>> [is_relu_function(f) for f in (tf.nn.relu, keras.layers.ReLU(6.0), keras.activations.get("relu"), tf.nn.elu)]
        [True, True, True, False]
    """
    return _is_relu(function) if isinstance(function, L.Layer) else plain(function) in RELU


def _is_relu(layer: keras.layers.Layer) -> bool:
    if isinstance(layer, L.ReLU):
        return not layer.negative_slope and not layer.threshold
    return isinstance(layer, L.Activation) and is_relu_function(layer.activation)


def _is_softmax(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, L.Softmax) or (isinstance(layer, L.Activation) and plain(layer.activation) in SOFTMAX)


def _is_rescaling(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, (L.Rescaling, L.Normalization)) or is_affine_operation(layer)


LAYER_TYPES: dict[str, Predicate] = {
    "dense": _instance_of(L.Dense, L.EinsumDense),
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
    # By statistics of the example itself, which count as constants but for the mean.
    "normalization": _instance_of(L.LayerNormalization, L.GroupNormalization),
    "relu": _is_relu,
    "softmax": _is_softmax,
    # One value in, one value out, with zero for zero or nearly so.
    "activation": _instance_of(
        L.Activation,
        L.ReLU,
        L.LeakyReLU,
        L.ThresholdedReLU,
        L.ELU,
        L.PReLU,
        L.UnitNormalization,
        LAYER_SCALE,
        STOCHASTIC_DEPTH,
    ),
    "max_pool": _instance_of(
        L.MaxPooling1D,
        L.MaxPooling2D,
        L.MaxPooling3D,
        L.GlobalMaxPooling1D,
        L.GlobalMaxPooling2D,
        L.GlobalMaxPooling3D,
        L.Maximum,
        L.Minimum,
    ),
    # Sums with weights >= 0 that are no variables.
    "mean": _instance_of(
        L.AveragePooling1D,
        L.AveragePooling2D,
        L.AveragePooling3D,
        L.GlobalAveragePooling1D,
        L.GlobalAveragePooling2D,
        L.GlobalAveragePooling3D,
        L.Average,
        L.RandomCrop,
    ),
    "add": _instance_of(L.Add),
    # Sums with weights of both signs that are no variables, or with a constant.
    "linear": _instance_of(L.Subtract, SCALED_SUM),
    "gate": _instance_of(L.Multiply),
    # Sums of products of two activations.
    "product": _instance_of(L.Dot),
    "attention": _instance_of(L.MultiHeadAttention),
    # A concatenation whose second input skips a level of the network. Keras has no layer that says so.
    "skip": _instance_of(),
    "route": _instance_of(
        L.InputLayer,
        L.Flatten,
        L.Reshape,
        L.Permute,
        L.RepeatVector,
        L.Concatenate,
        L.Identity,
        L.ActivityRegularization,
        L.Masking,
        L.Dropout,
        L.GaussianDropout,
        L.SpatialDropout1D,
        L.SpatialDropout2D,
        L.SpatialDropout3D,
        *AUGMENTATIONS,
        *PADDING,
        L.Cropping1D,
        L.Cropping2D,
        L.Cropping3D,
        L.CenterCrop,
        L.UpSampling1D,
        L.UpSampling3D,
    ),
    # The input in other units, channel by channel: what lies behind still sees the model's input.
    "rescaling": _is_rescaling,
    # The input's channels in another order. Keras has no layer that says so.
    "channel_order": _instance_of(),
    "padding": _instance_of(*PADDING),
    "any": lambda layer: True,
}


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
    if layer_type in (like_of(layer), operation_type(layer), resize_type(layer)):
        return True
    return LAYER_TYPES[layer_type](layer)


def like_of(layer: keras.layers.Layer) -> str | None:
    """The type that the layer's class, or the nearest of its bases, was registered to be like; None for all others.

    Example:
        >>> like_of(keras.layers.Flatten()) is None
        True
    """
    return next((_LIKE[base] for base in type(layer).__mro__ if base in _LIKE), None)
