"""Conv4 and its variant for relation networks.

Vinyals et al. 2016; Chen et al., ICLR 2019, "A Closer Look at Few-shot Classification".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from egt_tf.backbones.base import BACKBONES, InitialWeights
from egt_tf.backbones.feature_transformation import Transformations
from egt_tf.backbones.layers import batch_normalization
from egt_tf.errors import check_integer
from egt_tf.keras_api import keras


@BACKBONES.register("conv4")
def conv4(
    image_size: int = 84,
    width: int = 64,
    seed: int | None = None,
    feature_transformation: bool | Mapping[str, float] = False,
) -> keras.Model:
    """Four blocks of convolution, batch normalisation, ReLU and 2x2 max-pooling.

    Args:
        image_size: height and width of the images in pixels, at least 16.
        width: channels of every block.
        seed: of the initial weights.
        feature_transformation: noise behind the batch normalisation of every block, see `FeatureTransformation`.

    Returns:
        A Functional model from `(images, size, size, 3)` to `(images, size // 16, size // 16, width)`: 5x5 at 84 px.

    Raises:
        ConfigError: the image is too small for four poolings, or an argument is no integer in its range.

    Example:
        >>> conv4(image_size=32, width=4, seed=0).output_shape
        (None, 2, 2, 4)
    """
    check_integer("image_size", image_size, 16)
    return _conv_backbone(
        "conv4", image_size, width, seed, feature_transformation, padded=(True,) * 4, pooled=(True,) * 4
    )


@BACKBONES.register("conv4np")
def conv4np(
    image_size: int = 84,
    width: int = 64,
    seed: int | None = None,
    feature_transformation: bool | Mapping[str, float] = False,
) -> keras.Model:
    """Conv4 without the last two poolings, as relation networks were published with: a 19x19 map at 84 px.

    The first two blocks convolve without padding and pool; the last two keep the size.

    Args:
        image_size: height and width of the images in pixels, at least 12.
        width: channels of every block.
        seed: of the initial weights.
        feature_transformation: noise behind the batch normalisation of every block, see `FeatureTransformation`.

    Returns:
        A Functional model from `(images, size, size, 3)` to `(images, h, h, width)`, `h = ((size - 2) // 2 - 2) // 2`.

    Raises:
        ConfigError: the image is too small, or an argument is no integer in its range.

    Example:
        >>> conv4np(image_size=20, width=4, seed=0).output_shape
        (None, 3, 3, 4)
    """
    check_integer("image_size", image_size, 12)
    return _conv_backbone(
        "conv4np",
        image_size,
        width,
        seed,
        feature_transformation,
        padded=(False, False, True, True),
        pooled=(True, True, False, False),
    )


def _conv_backbone(
    name: str,
    image_size: int,
    width: int,
    seed: int | None,
    transformation: bool | Mapping[str, float],
    padded: Sequence[bool],
    pooled: Sequence[bool],
) -> keras.Model:
    check_integer("width", width, 1)
    weights, transformed = InitialWeights(seed), Transformations(transformation, seed)
    images = keras.Input((image_size, image_size, 3), name="images")
    x = images
    for index, (pad, pool) in enumerate(zip(padded, pooled, strict=True), start=1):
        block = f"block{index}"
        x = keras.layers.Conv2D(
            width,
            3,
            padding="same" if pad else "valid",
            name=f"{block}_conv",
            kernel_initializer=weights.convolution(),
            bias_initializer=weights.uniform(9 * x.shape[-1]),
        )(x)
        x = transformed(batch_normalization(f"{block}_bn")(x), f"{block}_transformation")
        x = keras.layers.Activation("relu", name=f"{block}_relu")(x)
        if pool:
            x = keras.layers.MaxPooling2D(2, name=f"{block}_pool")(x)
    return keras.Model(images, x, name=name)
