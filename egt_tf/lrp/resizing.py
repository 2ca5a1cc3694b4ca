"""Layers that resize maps: what each way of interpolating does to signs, and a derivative where TensorFlow has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from egt_tf.errors import ExplainError
from egt_tf.keras_api import keras
from egt_tf.lrp.operations import RESIZE, arguments, operation

L = keras.layers

# Each output is a mean of inputs with weights >= 0. The other ways have weights of both signs.
_MEANS = ("bilinear", "area", "gaussian")


def resize_method(layer: keras.layers.Layer) -> str | None:
    """How the layer interpolates between the values of a map; None if it does not resize one.

    Example:
        >>> resize_method(keras.layers.UpSampling2D(interpolation="bicubic")), resize_method(keras.layers.Flatten())
        ('bicubic', None)
    """
    if operation(layer) in RESIZE:
        return arguments(layer)["method"]
    return layer.interpolation if isinstance(layer, (L.UpSampling2D, L.Resizing)) else None


def resize_type(layer: keras.layers.Layer) -> str | None:
    """The layer type that does what a layer does that resizes maps; None if it does not resize one.

    The nearest value is a copy ("route"), a mean a "mean", and what has weights of both signs is "linear".

    Example:
        >>> [resize_type(keras.layers.Resizing(8, 8, interpolation=each)) for each in ("nearest", "area", "bicubic")]
        ['route', 'mean', 'linear']
    """
    method = resize_method(layer)
    if method is None:
        return None
    return "route" if method == "nearest" else "mean" if method in _MEANS else "linear"


def differentiable(layer: keras.layers.Layer, call: Callable[..., Any]) -> Callable[..., Any]:
    """`call` of the layer, or another function of the same values that TensorFlow can derive.

    It has no derivative for the interpolation by areas, which is a product with one matrix for each axis.

    Raises:
        ExplainError: the layer crops too.
    """
    if resize_method(layer) != "area":
        return call
    if getattr(layer, "crop_to_aspect_ratio", False):
        raise ExplainError(
            "a layer that resizes by areas is explained without cropping. "
            f"Received: layer {layer.name!r} with crop_to_aspect_ratio=True"
        )
    return lambda x, *args, **kwargs: _resize_by_areas(x, _sides(layer, x))


def _sides(layer: keras.layers.Layer, x: tf.Tensor) -> Sequence[int | tf.Tensor]:
    if isinstance(layer, L.Resizing):
        return layer.height, layer.width
    if isinstance(layer, L.UpSampling2D):
        sides = tf.shape(x)[1:3] * tf.constant(layer.size)
        return sides[0], sides[1]
    return arguments(layer)["size"]


def _resize_by_areas(x: tf.Tensor, sides: Sequence[int | tf.Tensor]) -> tf.Tensor:
    rows, columns = (_area_matrix(tf.shape(x)[axis], side, x.dtype) for axis, side in ((1, sides[0]), (2, sides[1])))
    return tf.einsum("yh,bhwc,xw->byxc", rows, x, columns)


def _area_matrix(before: tf.Tensor, after: int | tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """`(after, before)`: what each of `after` places takes of each of `before` places of an axis."""
    one_hot = tf.eye(before)[None, :, None, :]
    return tf.cast(tf.image.resize(one_hot, [after, 1], method="area")[0, :, 0, :], dtype)
