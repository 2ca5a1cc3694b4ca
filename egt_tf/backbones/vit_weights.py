"""Weight files of vision transformers that others trained, by the names of timm, DINO and DINOv2."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from egt_tf.backbones.layers import LearnedTokens, PositionEmbedding
from egt_tf.errors import RunError
from egt_tf.keras_api import keras
from egt_tf.weight_files import read_weights

L = keras.layers
Arrays = Mapping[str, np.ndarray]

# Every such file has it; what stands before it stands before all names.
_FIRST = "patch_embed.proj.weight"
_PARTS = {
    "norm1": "norm1",
    "attention": "attn",
    "scale1": "ls1",
    "norm2": "norm2",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
    "scale2": "ls2",
}
# Of the classifier, and of a way of training that hides patches.
_NOT_NEEDED = ("head.", "mask_token")
_REGISTERS = ("register_tokens", "reg_token")
_LISTED = 3
# PyTorch's, on which these networks were made for other sizes; TensorFlow's is -0.5.
_SHARPNESS = -0.75


@dataclasses.dataclass(frozen=True)
class _Source:
    """Where the weights of a layer come from.

    Attributes:
        shapes: of the arrays, by their names.
        read: makes the weights, in the order of the layer's, of these arrays.
    """

    shapes: dict[str, tuple[int, ...]]
    read: Callable[..., Sequence[np.ndarray]]


def assign_file(model: keras.Model, path: Path) -> None:
    """Sets every weight of a vision transformer to that of a file, or none.

    Positions are interpolated to the model's size by `interpolated`. Arrays of a classifier are left aside.

    Args:
        model: as `egt_tf.backbones.vit` makes it.
        path: of a file that `egt_tf.weight_files.read_weights` reads.

    Raises:
        RunError: the file cannot be read, or its names or shapes are not those of the model.

    Example:
        >>> assign_file(keras.Sequential(), Path("gone.pth"))
        Traceback (most recent call last):
        egt_tf.errors.RunError: the weight file gone.pth must be a file. Received: no such file
    """
    arrays = _tokens_apart(_without_prefix(read_weights(path), path))
    sources = {layer.name: _source(layer, arrays) for layer in model.layers if layer.weights}
    problems = _problems(sources.values(), arrays)
    if problems:
        more = f" and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise RunError(
            f"the weights in {path} must fit the patch, width, depth, registers and layer_scale of {model.name}. "
            f"Received: {'; '.join(problems[:_LISTED])}{more}"
        )
    for name, source in sources.items():
        model.get_layer(name).set_weights(source.read(*(arrays[each] for each in source.shapes)))


def interpolated(positions: np.ndarray, side: int) -> np.ndarray:
    """Position embeddings of another image size: bicubic, as PyTorch's `interpolate(mode="bicubic")`.

    Args:
        positions: of the patches of a square image row by row, `(n * n, width)`.
        side: of the new square, in patches.

    Returns:
        `(side * side, width)`.

    Notes:
        Means of neighbours are not taken before an image is made smaller, as in DINO's code. That code moves the places
        by a tenth of a patch, against rounding that does not happen here.

    Example:
        >>> interpolated(np.array([[0.0], [1.0], [0.0], [1.0]]), 2).ravel()
        array([0., 1., 0., 1.])
    """
    before = math.isqrt(len(positions))
    grid = positions.reshape(before, before, -1)
    matrix = bicubic_matrix(before, side)
    return np.einsum("yh,hwc,xw->yxc", matrix, grid, matrix).reshape(side * side, -1)


def bicubic_matrix(before: int, after: int) -> np.ndarray:
    """What each of `after` places on a line takes of each of `before`: `(after, before)`, its rows add up to 1.

    Places are the middles of equal parts of the line; beyond its ends, the last value goes on.

    Example:
        >>> bicubic_matrix(2, 1)
        array([[0.5, 0.5]])
    """
    place = (np.arange(after) + 0.5) * before / after - 0.5
    matrix = np.zeros((after, before))
    for step in (-1, 0, 1, 2):
        near = np.floor(place) + step
        np.add.at(matrix, (np.arange(after), np.clip(near, 0, before - 1).astype(int)), _cubic(np.abs(place - near)))
    return matrix


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys's kernel (1981) of distances 0..2."""
    a = _SHARPNESS
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    return np.where(x <= 1, near, a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a)


# === The file ===


def _without_prefix(arrays: Arrays, path: Path) -> dict[str, np.ndarray]:
    """The arrays of the network without what stands before all of its names ("module.backbone.")."""
    prefixes = [name.removesuffix(_FIRST) for name in arrays if name.endswith(_FIRST)]
    if len(prefixes) != 1:
        raise RunError(
            f"the weights in {path} must be those of one vision transformer, with an array {_FIRST}. "
            f"Received: {len(prefixes)} of that name, among {', '.join(list(arrays)[:_LISTED])}"
        )
    named = {name.removeprefix(prefixes[0]): array for name, array in arrays.items() if name.startswith(prefixes[0])}
    return {name: array for name, array in named.items() if not name.startswith(_NOT_NEEDED)}


def _tokens_apart(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """With the position of the class token added to it, and registers under one name; wrong shapes stay as they are."""
    arrays = {("register_tokens" if name in _REGISTERS else name): array for name, array in arrays.items()}
    positions, token = arrays.get("pos_embed"), arrays.get("cls_token")
    if positions is None or token is None or positions.ndim != 3 or token.shape != (1, 1, positions.shape[2]):
        return arrays
    # Some networks have none for it.
    patches = max(positions.shape[1] - 1, 0)
    if math.isqrt(patches) ** 2 == patches:
        arrays.update(cls_token=token + positions[:, :1], pos_embed=positions[:, 1:])
    return arrays


def _problems(sources: Sequence[_Source], arrays: Arrays) -> list[str]:
    shapes = {name: shape for source in sources for name, shape in source.shapes.items()}
    problems = [f"missing {name}" for name in shapes if name not in arrays]
    problems += [f"unknown {name}" for name in arrays if name not in shapes]
    for name, shape in shapes.items():
        array = arrays.get(name)
        if array is None:
            continue
        if array.shape != shape:
            problems.append(f"{name} is {array.shape}, not {shape}")
        elif array.dtype.kind != "f" or not np.isfinite(array).all():
            problems.append(f"{name} holds values that are not finite numbers")
    return problems


# === The layers ===


@functools.singledispatch
def _source(layer: keras.layers.Layer, arrays: Arrays) -> _Source:
    """A normalisation, or a factor for each channel."""
    name, (width,) = _published(layer), layer.weights[0].shape
    parts = ("gamma",) if len(layer.weights) == 1 else ("weight", "bias")
    return _Source({f"{name}.{part}": (width,) for part in parts}, lambda *values: values)


@_source.register(L.Dense)
def _(layer: keras.layers.Layer, arrays: Arrays) -> _Source:
    inputs, outputs = layer.kernel.shape
    name = _published(layer)
    return _Source(
        {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}, lambda kernel, bias: [kernel.T, bias]
    )


@_source.register(L.Conv2D)
def _(layer: keras.layers.Layer, arrays: Arrays) -> _Source:
    height, width, inputs, outputs = layer.kernel.shape
    name = _published(layer)
    return _Source(
        {f"{name}.weight": (outputs, inputs, height, width), f"{name}.bias": (outputs,)},
        lambda kernel, bias: [kernel.transpose(2, 3, 1, 0), bias],
    )


@_source.register(L.MultiHeadAttention)
def _(layer: keras.layers.Layer, arrays: Arrays) -> _Source:
    name, (width, heads, size) = _published(layer), layer.weights[0].shape

    def read(qkv: np.ndarray, qkv_bias: np.ndarray, out: np.ndarray, out_bias: np.ndarray) -> list[np.ndarray]:
        kernels = qkv.reshape(3, heads, size, width).transpose(0, 3, 1, 2)
        biases = qkv_bias.reshape(3, heads, size)
        inner = [weight for pair in zip(kernels, biases, strict=True) for weight in pair]
        return [*inner, out.T.reshape(heads, size, width), out_bias]

    shapes = {
        "qkv.weight": (3 * width, width),
        "qkv.bias": (3 * width,),
        "proj.weight": 2 * (width,),
        "proj.bias": (width,),
    }
    return _Source({f"{name}.{part}": shape for part, shape in shapes.items()}, read)


@_source.register(PositionEmbedding)
def _(layer: PositionEmbedding, arrays: Arrays) -> _Source:
    patches, width = layer.embedding.shape
    found = arrays["pos_embed"].shape if "pos_embed" in arrays else ()
    is_square = len(found) == 3 and math.isqrt(found[1]) ** 2 == found[1] > 0
    side = math.isqrt(patches)
    return _Source(
        {"pos_embed": (1, found[1] if is_square else patches, width)}, lambda values: [interpolated(values[0], side)]
    )


@_source.register(LearnedTokens)
def _(layer: LearnedTokens, arrays: Arrays) -> _Source:
    count, width = layer.tokens.shape
    shapes = {"cls_token": (1, 1, width)}
    if count > 1:
        shapes["register_tokens"] = (1, count - 1, width)
    return _Source(shapes, lambda *values: [np.concatenate([each[0] for each in values])])


def _published(layer: keras.layers.Layer) -> str:
    """ "block01_fc1" as "blocks.0.mlp.fc1"; files count from 0 on."""
    block, _, part = layer.name.partition("_")
    if part in _PARTS:
        return f"blocks.{int(block.removeprefix('block')) - 1}.{_PARTS[part]}"
    return {"patch_embedding": "patch_embed.proj", "norm": "norm"}[layer.name]
