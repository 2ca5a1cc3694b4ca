"""ResNet-10 and ResNet-18 of simple blocks (He et al., CVPR 2016; few-shot version of Chen et al., ICLR 2019).

ResNet-12 of blocks of three convolutions (cross attention network of Hou et al., NeurIPS 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from egt_tf.backbones.base import BACKBONES, InitialWeights
from egt_tf.backbones.feature_transformation import Transformations
from egt_tf.backbones.layers import batch_normalization
from egt_tf.errors import ConfigError, check_integer
from egt_tf.keras_api import keras

STEMS = ("imagenet", "small")
WIDTHS = (64, 128, 256, 512)


@BACKBONES.register("resnet10")
def resnet10(
    image_size: int = 224,
    stem: str = "imagenet",
    widths: Sequence[int] = WIDTHS,
    seed: int | None = None,
    feature_transformation: bool | Mapping[str, float] = False,
) -> keras.Model:
    """Stem and four stages of one simple block: 7x7x512 at 224 px, 3x3x512 at 84 px (6x6 with the small stem).

    Args:
        image_size: height and width of the images in pixels.
        stem: "imagenet" (7x7 convolution with stride 2 and 3x3 max-pooling with stride 2, as published) or
            "small" (3x3 convolution with stride 2, no pooling) for images of about 84 px.
        widths: channels of the four stages; the stem has as many as the first.
        seed: of the initial weights.
        feature_transformation: noise behind the last batch normalisation of every block and that of its shortcut, see
            `FeatureTransformation`.

    Returns:
        A Functional model from `(images, size, size, 3)` to `(images, h, h, widths[3])`, all values >= 0.

    Raises:
        ConfigError: an unknown stem, not four widths, or an argument that is no integer in its range.

    Example:
        >>> resnet10(image_size=32, stem="small", widths=(4, 4, 4, 4), seed=0).output_shape
        (None, 2, 2, 4)
    """
    return _resnet("resnet10", image_size, stem, (1, 1, 1, 1), widths, seed, feature_transformation)


@BACKBONES.register("resnet18")
def resnet18(
    image_size: int = 224,
    stem: str = "imagenet",
    widths: Sequence[int] = WIDTHS,
    seed: int | None = None,
    feature_transformation: bool | Mapping[str, float] = False,
) -> keras.Model:
    """As `resnet10`, with two simple blocks a stage.

    Example:
        >>> resnet18(image_size=32, stem="small", widths=(4, 4, 4, 4), seed=0).output_shape
        (None, 2, 2, 4)
    """
    return _resnet("resnet18", image_size, stem, (2, 2, 2, 2), widths, seed, feature_transformation)


@BACKBONES.register("resnet12")
def resnet12(
    image_size: int = 84,
    widths: Sequence[int] = WIDTHS,
    seed: int | None = None,
    feature_transformation: bool | Mapping[str, float] = False,
) -> keras.Model:
    """3x3 convolution and four stages of one block of three 3x3 convolutions: 6x6x512 at 84 px, 14x14 at 224 px.

    Every stage halves the map, rounding up, in the second of its convolutions; its shortcut is a 1x1 convolution.

    Args:
        image_size: height and width of the images in pixels.
        widths: channels of the four stages; the first convolution has as many as the first.
        seed: of the initial weights.
        feature_transformation: noise behind the last batch normalisation of every block and that of its shortcut, see
            `FeatureTransformation`.

    Returns:
        A Functional model from `(images, size, size, 3)` to `(images, h, h, widths[3])`, `h = ceil(size / 16)`, all
        values >= 0.

    Raises:
        ConfigError: not four widths, or an argument that is no integer in its range.

    Notes:
        As the cross attention network was published: others call networks with max-pooling, leaky ReLU or DropBlock
        by the same name.

    Example:
        >>> resnet12(image_size=32, widths=(4, 4, 4, 4), seed=0).output_shape
        (None, 2, 2, 4)
    """
    _check(image_size, widths, stages=4)
    weights, transformed = InitialWeights(seed), Transformations(feature_transformation, seed)
    images = keras.Input((image_size, image_size, 3), name="images")
    x = _convolution(images, widths[0], 3, 1, "stem_conv", weights)
    x = batch_normalization("stem_bn")(x)
    x = keras.layers.Activation("relu", name="stem_relu")(x)
    for stage, width in enumerate(widths, start=1):
        x = _triple_block(x, width, f"stage{stage}_block1", weights, transformed)
    return keras.Model(images, x, name="resnet12")


def _check(image_size: int, widths: Sequence[int], stages: int) -> None:
    if not isinstance(widths, Sequence) or isinstance(widths, str) or len(widths) != stages:
        raise ConfigError(f"`widths` must hold {stages} numbers. Received: widths={widths!r}")
    for index, width in enumerate(widths):
        check_integer(f"widths[{index}]", width, 1)
    check_integer("image_size", image_size, 1)


def _resnet(
    name: str,
    image_size: int,
    stem: str,
    blocks: Sequence[int],
    widths: Sequence[int],
    seed: int | None,
    transformation: bool | Mapping[str, float],
) -> keras.Model:
    if stem not in STEMS:
        raise ConfigError(f"`stem` must be one of {', '.join(STEMS)}. Received: stem={stem!r}")
    _check(image_size, widths, stages=len(blocks))
    weights, transformed = InitialWeights(seed), Transformations(transformation, seed)
    images = keras.Input((image_size, image_size, 3), name="images")
    x = _stem(images, stem, widths[0], weights)
    for stage, (count, width) in enumerate(zip(blocks, widths, strict=True), start=1):
        for block in range(1, count + 1):
            # Only the first block of a stage after the first one halves the map.
            stride = 2 if stage > 1 and block == 1 else 1
            x = _simple_block(x, width, stride, f"stage{stage}_block{block}", weights, transformed)
    return keras.Model(images, x, name=name)


def _stem(x: tf.Tensor, stem: str, width: int, weights: InitialWeights) -> tf.Tensor:
    size = 7 if stem == "imagenet" else 3
    x = _convolution(x, width, size, 2, "stem_conv", weights)
    x = batch_normalization("stem_bn")(x)
    x = keras.layers.Activation("relu", name="stem_relu")(x)
    if stem == "imagenet":
        # Zeros are as good as minus infinity here: the ReLU has left nothing below zero.
        x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
        x = keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    return x


def _simple_block(
    x: tf.Tensor, width: int, stride: int, name: str, weights: InitialWeights, transformed: Transformations
) -> tf.Tensor:
    shortcut = x
    if x.shape[-1] != width or stride != 1:
        shortcut = _convolution(x, width, 1, stride, f"{name}_shortcut_conv", weights)
        shortcut = transformed(batch_normalization(f"{name}_shortcut_bn")(shortcut), f"{name}_shortcut_transformation")
    x = _convolution(x, width, 3, stride, f"{name}_conv1", weights)
    x = batch_normalization(f"{name}_bn1")(x)
    x = keras.layers.Activation("relu", name=f"{name}_relu1")(x)
    x = _convolution(x, width, 3, 1, f"{name}_conv2", weights)
    x = batch_normalization(f"{name}_bn2")(x)
    x = transformed(x, f"{name}_transformation")
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.layers.Activation("relu", name=f"{name}_relu")(x)


def _triple_block(
    x: tf.Tensor, width: int, name: str, weights: InitialWeights, transformed: Transformations
) -> tf.Tensor:
    shortcut = _convolution(x, width, 1, 2, f"{name}_shortcut_conv", weights)
    shortcut = transformed(batch_normalization(f"{name}_shortcut_bn")(shortcut), f"{name}_shortcut_transformation")
    for index, stride in enumerate((1, 2, 1), start=1):
        x = _convolution(x, width, 3, stride, f"{name}_conv{index}", weights)
        x = batch_normalization(f"{name}_bn{index}")(x)
        if index < 3:
            x = keras.layers.Activation("relu", name=f"{name}_relu{index}")(x)
    x = transformed(x, f"{name}_transformation")
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.layers.Activation("relu", name=f"{name}_relu")(x)


def _convolution(x: tf.Tensor, width: int, size: int, stride: int, name: str, weights: InitialWeights) -> tf.Tensor:
    # TensorFlow's "same" pads unevenly when the stride is 2; the published networks pad size // 2 on every side.
    if stride > 1 and size > 1:
        x = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    padding = "valid" if stride > 1 else "same"
    return keras.layers.Conv2D(
        width, size, stride, padding=padding, use_bias=False, name=name, kernel_initializer=weights.convolution()
    )(x)
