"""How PyTorch lays out the arrays of a layer, and how ours come from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

# The last part of our weights' names -> that of the published ones.
PARTS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


@dataclasses.dataclass(frozen=True)
class PublishedArray:
    """The published array that one of our weights comes from.

    Attributes:
        name: of the array.
        shapes: the shapes that it may have.
        read: turns the array into our weight.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]
    read: Callable[[np.ndarray], np.ndarray]


def published_arrays(
    shapes: Mapping[str, Sequence[int]], layers: Mapping[str, str], maps: Mapping[str, Sequence[int]] | None = None
) -> dict[str, PublishedArray]:
    """Where each weight of a model comes from.

    Args:
        shapes: the shape of each weight by its name, "layer/kernel".
        layers: our layer -> published module, as in `egt_tf.published.names`.
        maps: (height, width, channels) for each dense layer that reads a flattened map, which PyTorch flattens channel
            by channel.

    Returns:
        A published array for each of `shapes`.
    """
    maps = maps or {}
    found = {}
    for name, shape in shapes.items():
        layer, _, part = name.rpartition("/")
        found[name] = PublishedArray(f"{layers[layer]}.{PARTS[part]}", *_layout(tuple(shape), part, maps.get(layer)))
    return found


def _layout(
    shape: tuple[int, ...], part: str, map_shape: Sequence[int] | None
) -> tuple[tuple[tuple[int, ...], ...], Callable[[np.ndarray], np.ndarray]]:
    """The published shapes of a weight of ours, and the function that turns one into it."""
    if part != "kernel":
        return (shape,), lambda array: array
    if len(shape) == 4:
        height, width, inputs, outputs = shape
        return ((outputs, inputs, height, width),), lambda array: array.transpose(2, 3, 1, 0)
    inputs, outputs = shape
    if map_shape is None:
        # A dense layer over channels may have been published as a 1x1 convolution.
        return ((outputs, inputs), (outputs, inputs, 1, 1)), lambda array: array.reshape(outputs, inputs).T
    height, width, channels = map_shape
    return (
        (outputs, inputs),
    ), lambda array: array.reshape(outputs, channels, height, width).transpose(2, 3, 1, 0).reshape(inputs, outputs)
