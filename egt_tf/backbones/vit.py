"""Vision transformers (Dosovitskiy et al., ICLR 2021), of the sizes "tiny" and "small" (Touvron et al., ICML 2021)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tensorflow as tf

from egt_tf.backbones.base import BACKBONES, InitialWeights
from egt_tf.backbones.keras_file import SCALES
from egt_tf.backbones.layers import LearnedTokens, PositionEmbedding, from_normalized
from egt_tf.backbones.vit_weights import assign_file
from egt_tf.errors import ConfigError, check_boolean, check_integer
from egt_tf.keras_api import keras
from egt_tf.registry import family_layer

L = keras.layers
LayerScale = family_layer(keras.applications.ConvNeXtTiny, "LayerScale")

# Of the published networks.
_EPSILON, _EXPANSION, _DEVIATION, _LAYER_SCALE = 1e-6, 4, 0.02, 1e-5


@dataclasses.dataclass(frozen=True)
class _Shape:
    """What a network is made of; see `vit_tiny`."""

    patch: int
    width: int
    depth: int
    heads: int
    registers: int
    layer_scale: bool

    def __post_init__(self) -> None:
        for name in ("patch", "width", "depth", "heads"):
            check_integer(name, getattr(self, name), 1)
        check_integer("registers", self.registers, 0)
        check_boolean("layer_scale", self.layer_scale)
        if self.width % self.heads:
            raise ConfigError(
                f"`width` must be a multiple of `heads`. Received: width={self.width}, heads={self.heads}"
            )


@BACKBONES.register("vit_tiny")
def vit_tiny(
    image_size: int = 224,
    patch: int = 16,
    width: int = 192,
    depth: int = 12,
    heads: int = 3,
    registers: int = 0,
    layer_scale: bool = False,
    weights: str = "none",
    scale: str = "imagenet",
    seed: int | None = None,
) -> keras.Model:
    """A vision transformer of 12 blocks with 3 heads: 5.5 million weights.

    Args:
        image_size: height and width of the images in pixels, a multiple of `patch`.
        patch: height and width of the patches: 16, 14 or 8 in published networks.
        width: numbers for each patch, a multiple of `heads`.
        depth: blocks.
        heads: of the attention in each block.
        registers: learned tokens beside the class token (4 in the DINOv2 networks that have some).
        layer_scale: whether what a block adds is scaled channel by channel, as in DINOv2.
        weights: "none" for initial ones, or a file of them, .pth or .safetensors, by the names of timm, DINO and DINOv2.
        scale: how the weights want their images: "imagenet" (normalised as everywhere in this package: DINO, DINOv2,
            DeiT), or grey levels brought to "0..1", "-1..1" (timm's "augreg") or "0..255".
        seed: of the initial weights.

    Returns:
        A Functional model from normalised images `(images, size, size, 3)` to maps of the patches behind the last
        normalisation, `(images, size // patch, size // patch, width)`. The class token and the registers are left out.

    Raises:
        ConfigError: an image that is no multiple of the patch, a width that is none of the heads, an unknown `scale`,
            or an argument that is no integer in its range.
        RunError: the weight file cannot be read, or its names or shapes are not those of the network.

    Notes:
        In a file, the place of the class token among the positions is added to the token. Positions are interpolated to
        other image sizes bicubically, see `egt_tf.backbones.vit_weights`.

    Example:
        >>> vit_tiny(image_size=32, patch=8, width=12, depth=1, seed=0).output_shape
        (None, 4, 4, 12)
    """
    shape = _Shape(patch, width, depth, heads, registers, layer_scale)
    return _vision_transformer("vit_tiny", image_size, shape, weights, scale, seed)


@BACKBONES.register("vit_small")
def vit_small(
    image_size: int = 224,
    patch: int = 16,
    width: int = 384,
    depth: int = 12,
    heads: int = 6,
    registers: int = 0,
    layer_scale: bool = False,
    weights: str = "none",
    scale: str = "imagenet",
    seed: int | None = None,
) -> keras.Model:
    """A vision transformer of 12 blocks with 6 heads: 21.7 million weights; see `vit_tiny`.

    Example:
        >>> vit_small(image_size=32, width=12, depth=1, seed=0).output_shape
        (None, 2, 2, 12)
    """
    shape = _Shape(patch, width, depth, heads, registers, layer_scale)
    return _vision_transformer("vit_small", image_size, shape, weights, scale, seed)


def _vision_transformer(
    name: str, image_size: int, shape: _Shape, weights: str, scale: str, seed: int | None
) -> keras.Model:
    check_integer("image_size", image_size, 1)
    if image_size % shape.patch:
        raise ConfigError(
            f"`image_size` must be a multiple of `patch`. Received: image_size={image_size}, patch={shape.patch}"
        )
    if scale not in SCALES:
        raise ConfigError(f"`scale` must be one of {', '.join(SCALES)}. Received: {scale!r}")
    if not isinstance(weights, str):
        raise ConfigError(f"`weights` must be none or a file .pth or .safetensors. Received: {weights!r}")
    model = _network(name, image_size, shape, scale, InitialWeights(seed))
    if weights != "none":
        assign_file(model, Path(weights))
    return model


def _network(name: str, image_size: int, shape: _Shape, scale: str, initial: InitialWeights) -> keras.Model:
    images = keras.Input((image_size, image_size, 3), name="images")
    units, side = SCALES[scale], image_size // shape.patch
    x = images if units is None else from_normalized([units[0]] * 3, [units[1]] * 3, name="scaled")(images)
    normal = initial.truncated_normal
    embedding = L.Conv2D(
        shape.width, shape.patch, shape.patch, kernel_initializer=normal(_DEVIATION), name="patch_embedding"
    )
    x = L.Reshape((side * side, shape.width), name="patches")(embedding(x))
    x = PositionEmbedding(normal(_DEVIATION), name="position_embedding")(x)
    x = LearnedTokens(1 + shape.registers, normal(_DEVIATION), name="learned_tokens")(x)
    for number in range(1, shape.depth + 1):
        block = _Block(f"block{number:02d}", shape, initial)
        x = block.perceptron(block.attention(x))
    x = L.LayerNormalization(epsilon=_EPSILON, name="norm")(x)
    x = L.Cropping1D((1 + shape.registers, 0), name="patch_tokens")(x)
    return keras.Model(images, L.Reshape((side, side, shape.width), name="map")(x), name=name)


@dataclasses.dataclass(frozen=True)
class _Block:
    """Attention and a perceptron, each behind a normalisation and with a shortcut past it."""

    name: str
    shape: _Shape
    initial: InitialWeights

    def attention(self, x: tf.Tensor) -> tf.Tensor:
        """Adds what each token gathers from the others."""
        y = self._normalized(x, 1)
        layer = L.MultiHeadAttention(
            self.shape.heads, self.shape.width // self.shape.heads, name=f"{self.name}_attention"
        )
        y = layer(y, y)
        # Keras would draw all of its kernels from one seed, and queries would be keys.
        for kernel in (weight for weight in layer.weights if weight.shape.rank == 3):
            kernel.assign(self.initial.truncated_normal(_DEVIATION)(kernel.shape, kernel.dtype))
        return self._added(x, y, 1)

    def perceptron(self, x: tf.Tensor) -> tf.Tensor:
        """Adds what two dense layers make of each token."""
        y = self._dense(_EXPANSION * self.shape.width, 1)(self._normalized(x, 2))
        y = L.Activation("gelu", name=f"{self.name}_gelu")(y)
        return self._added(x, self._dense(self.shape.width, 2)(y), 2)

    def _normalized(self, x: tf.Tensor, number: int) -> tf.Tensor:
        return L.LayerNormalization(epsilon=_EPSILON, name=f"{self.name}_norm{number}")(x)

    def _dense(self, units: int, number: int) -> keras.layers.Layer:
        initializer = self.initial.truncated_normal(_DEVIATION)
        return L.Dense(units, kernel_initializer=initializer, name=f"{self.name}_fc{number}")

    def _added(self, x: tf.Tensor, y: tf.Tensor, number: int) -> tf.Tensor:
        if self.shape.layer_scale:
            y = LayerScale(_LAYER_SCALE, self.shape.width, name=f"{self.name}_scale{number}")(y)
        return L.Add(name=f"{self.name}_add{number}")([x, y])
