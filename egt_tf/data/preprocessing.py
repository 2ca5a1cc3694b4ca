"""Images of any size to normalised squares, with or without augmentation.

Reference: the preprocessing of the published cross-domain code (Tseng et al., ICLR 2020; Sun et al.,
"Explanation-guided training for cross-domain few-shot classification", ICPR 2020), which works on 8-bit
Pillow images. Values are therefore brought to whole grey levels after every step here as well.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from egt_tf.config import find_augmentation
from egt_tf.tensors import IMAGENET_MEAN, IMAGENET_STD

_AREA = (0.08, 1.0)
_ASPECT = (3 / 4, 4 / 3)
_ATTEMPTS = 10
_JITTER = 0.4
_ERASED_AREA = (0.02, 0.4)
_ERASED_ASPECT = (0.3, 1 / 0.3)
# A mean colour in [0, 1] that the published code fills in after the normalisation, where it is a light grey.
_ERASED_VALUE = (0.4914, 0.4822, 0.4465)
# Fixed, so that a seed means the same image on every device.
_GENERATOR = "philox"
_SEED_BOUND = 2**31


def evaluation_image(image: tf.Tensor, size: int) -> tf.Tensor:
    """Resizes to a square of side int(1.15 * size), crops the centre, normalises.

    The aspect ratio is not kept, as published. Bilinear with antialiasing, as Pillow resizes.

    Args:
        image: uint8 `(height, width, 3)`.
        size: side of the result.

    Returns:
        float32 `(size, size, 3)`, see `normalize`.

    Example:
        >>> evaluation_image(np.zeros((30, 40, 3), np.uint8), 16).shape
        TensorShape([16, 16, 3])
    """
    return normalize(_centre(tf.convert_to_tensor(image), size))


def resized_centre(image: tf.Tensor, size: int) -> tf.Tensor:
    """What `evaluation_image` normalises: the grey levels, uint8 `(size, size, 3)`."""
    return tf.cast(_centre(tf.convert_to_tensor(image), size), tf.uint8)


def resized_side(size: int) -> int:
    """The side of the square that an image is resized to before the centre of `size` pixels a side is taken.

    Example:
        >>> resized_side(224)
        257
    """
    return int(size * 1.15)


def draw_augmentation(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws the random numbers of `training_image` for many images.

    Returns:
        The seeds, int32 `(count, 2)`, and which images are mirrored, bool `(count,)`, each with probability 1/2. The
        mirroring has no part in the seeds, so that images may be mirrored in NumPy as well as in a graph.
    """
    seeds = rng.integers(_SEED_BOUND, size=(count, 2), dtype=np.int64).astype(np.int32)
    return seeds, rng.random(count) < 0.5


def training_image(
    image: tf.Tensor, size: int, augmentation: str, seed: tf.Tensor, mirrored: tf.Tensor | bool
) -> tf.Tensor:
    """Returns a normalised image, augmented by a pure function of `seed` and `mirrored`.

    - "none": `evaluation_image`;
    - "flip": the same, mirrored where `mirrored` says so;
    - "full": a random part of the image (area U(0.08, 1), aspect ratio log-uniform in (3/4, 4/3)), random
      brightness, contrast and colour (factors U(0.6, 1.4), in this order), mirrored where `mirrored` says so;
    - "full_erasing": the same, and with probability 1/2 a random rectangle erased (see `erase`).

    Args:
        image: uint8 `(height, width, 3)`.
        size: side of the result.
        augmentation: one of `egt_tf.config.AUGMENTATIONS`.
        seed: two integers, `(2,)`, see `draw_augmentation`.
        mirrored: a boolean scalar; "none" takes no heed of it.

    Returns:
        float32 `(size, size, 3)`, see `normalize`.

    Raises:
        ConfigError: an unknown augmentation.

    Example:
        >>> image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
        >>> plain, turned = (training_image(image, 8, "flip", [3, 4], mirrored) for mirrored in (False, True))
        >>> bool(tf.reduce_all(plain == turned[:, ::-1]))
        True
    """
    parts, image = find_augmentation(augmentation), tf.convert_to_tensor(image)
    image = _cropped_and_jittered(image, size, seed) if parts.crops else _centre(image, size)
    if parts.flips:
        # The older operation takes the axes as booleans, which need not be known when the graph is made.
        image = tf.raw_ops.Reverse(tensor=image, dims=[False, mirrored, False])
    image = normalize(image)
    if parts.erases:
        # Another stream than the crop's, so that "full" and "full_erasing" differ in the rectangle alone.
        image = erase(image, tf.random.stateless_uniform([2 * _ATTEMPTS + 3], seed + [0, 1], alg=_GENERATOR))
    return image


def normalize(image: tf.Tensor) -> tf.Tensor:
    """Maps grey levels 0..255 to (x / 255 - mean) / std of ImageNet, float32, any leading axes.

    Example:
        >>> normalize(np.full((1, 1, 3), 255, np.uint8)).numpy().round(2)
        array([[[2.25, 2.43, 2.64]]], dtype=float32)
    """
    image = tf.convert_to_tensor(image)
    width = tf.shape(image)[-2]
    # Over whole rows, since TensorFlow is several times slower when it repeats three numbers.
    mean, std = (tf.tile(255.0 * tf.constant(values), [width]) for values in (IMAGENET_MEAN, IMAGENET_STD))
    rows = tf.reshape(tf.cast(image, tf.float32), [-1, 3 * width])
    return tf.ensure_shape(tf.reshape((rows - mean) / std, tf.shape(image)), image.shape)


def denormalize(image: tf.Tensor) -> tf.Tensor:
    """Maps a normalised image back to uint8 grey levels, rounded and clipped to 0..255; any leading axes.

    Example:
        >>> denormalize(normalize(np.full((1, 1, 3), 200, np.uint8))).numpy().tolist()
        [[[200, 200, 200]]]
    """
    mean, std = 255.0 * tf.constant(IMAGENET_MEAN), 255.0 * tf.constant(IMAGENET_STD)
    return tf.cast(_whole_levels(tf.cast(image, tf.float32) * std + mean), tf.uint8)


def jitter(image: tf.Tensor, brightness: tf.Tensor, contrast: tf.Tensor, colour: tf.Tensor) -> tf.Tensor:
    """Changes brightness, then contrast, then colour, as `PIL.ImageEnhance` does.

    Each step blends the image with a degenerate one, `degenerate + factor * (image - degenerate)`: black, the
    mean grey level, the grey image; then cuts to 0..255 and drops the fraction.

    Args:
        image: float32 `(height, width, 3)` of whole grey levels.
        brightness, contrast, colour: factors >= 0; 1 changes nothing.
    """
    image = _blend(tf.zeros_like(image), image, brightness)
    mean = tf.floor(tf.reduce_mean(_grey(image)) + 0.5)
    image = _blend(tf.fill(tf.shape(image), mean), image, contrast)
    return _blend(_grey(image), image, colour)


def random_crop_box(height: tf.Tensor, width: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
    """Chooses the part of an image that random resized cropping keeps.

    Ten (area, aspect ratio) pairs are tried; the first that fits is placed uniformly. If none fits, the
    largest centred part with the nearest allowed aspect ratio is taken.

    Notes: the rules are torchvision's, the random numbers are not.

    Args:
        height, width: int32 scalars.
        uniforms: float32 `(22,)` in [0, 1): ten areas, ten ratios, top, left.

    Returns:
        int32 `(4,)`: top, left, height, width.
    """
    areas = tf.cast(height * width, tf.float32) * _between(uniforms[:_ATTEMPTS], *_AREA)
    log_aspect = (math.log(_ASPECT[0]), math.log(_ASPECT[1]))
    aspects = tf.exp(_between(uniforms[_ATTEMPTS : 2 * _ATTEMPTS], *log_aspect))
    widths = tf.cast(tf.round(tf.sqrt(areas * aspects)), tf.int32)
    heights = tf.cast(tf.round(tf.sqrt(areas / aspects)), tf.int32)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    chosen = tf.argmax(tf.cast(fits, tf.int32))
    top = _below(uniforms[2 * _ATTEMPTS], height - heights[chosen] + 1)
    left = _below(uniforms[2 * _ATTEMPTS + 1], width - widths[chosen] + 1)
    box = tf.stack([top, left, heights[chosen], widths[chosen]])
    return tf.where(tf.reduce_any(fits), box, _fallback_box(height, width))


def erase(image: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
    """Fills a rectangle of a normalised image with one colour, with probability 1/2 (Zhong et al., AAAI 2020).

    Ten (area, aspect ratio) pairs are tried, areas U(0.02, 0.4) of the image and ratios U(0.3, 1 / 0.3); the first that
    is smaller than the image is placed uniformly. If none is, nothing is erased.

    Args:
        image: float32 `(height, width, 3)`.
        uniforms: float32 `(23,)` in [0, 1): ten areas, ten ratios, top, left, whether.
    """
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    areas = tf.cast(height * width, tf.float32) * _between(uniforms[:_ATTEMPTS], *_ERASED_AREA)
    aspects = _between(uniforms[_ATTEMPTS : 2 * _ATTEMPTS], *_ERASED_ASPECT)
    heights = tf.cast(tf.round(tf.sqrt(areas * aspects)), tf.int32)
    widths = tf.cast(tf.round(tf.sqrt(areas / aspects)), tf.int32)
    fits = (heights < height) & (widths < width)
    chosen = tf.argmax(tf.cast(fits, tf.int32))
    erased_height, erased_width = tf.minimum(heights[chosen], height), tf.minimum(widths[chosen], width)
    top = _below(uniforms[2 * _ATTEMPTS], height - erased_height + 1)
    left = _below(uniforms[2 * _ATTEMPTS + 1], width - erased_width + 1)
    rows, columns = tf.range(height)[:, None, None], tf.range(width)[None, :, None]
    inside = (rows >= top) & (rows < top + erased_height) & (columns >= left) & (columns < left + erased_width)
    happens = tf.reduce_any(fits) & (uniforms[2 * _ATTEMPTS + 2] < 0.5)
    return tf.where(inside & happens, tf.constant(_ERASED_VALUE, image.dtype), image)


# === The augmentations ===


def _centre(image: tf.Tensor, size: int) -> tf.Tensor:
    side = resized_side(size)
    offset = round((side - size) / 2)
    return _resize(image, side)[offset : offset + size, offset : offset + size]


def _cropped_and_jittered(image: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
    uniforms = tf.random.stateless_uniform([2 * _ATTEMPTS + 5], seed, alg=_GENERATOR)
    crop, factors = tf.split(uniforms, [2 * _ATTEMPTS + 2, 3])
    top, left, height, width = tf.unstack(random_crop_box(tf.shape(image)[0], tf.shape(image)[1], crop))
    image = _resize(image[top : top + height, left : left + width], size)
    return jitter(image, *tf.unstack(_between(factors, 1 - _JITTER, 1 + _JITTER)))


# === Parts ===


def _resize(image: tf.Tensor, side: int) -> tf.Tensor:
    return _whole_levels(tf.image.resize(image, [side, side], method="bilinear", antialias=True))


def _whole_levels(image: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(tf.round(image), 0.0, 255.0)


def _blend(degenerate: tf.Tensor, image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return tf.floor(tf.clip_by_value(degenerate + factor * (image - degenerate), 0.0, 255.0))


def _grey(image: tf.Tensor) -> tf.Tensor:
    """ITU-R 601 luma in Pillow's 16-bit fixed point, repeated over three channels."""
    weights = tf.repeat([[19595.0], [38470.0], [7471.0]], 3, axis=1)
    # All sums are whole and below 2**24, so that float32 is exact; the product of a GPU may not be.
    with tf.device("/CPU:0"):
        weighted = tf.reshape(tf.matmul(tf.reshape(image, [-1, 3]), weights), tf.shape(image))
    return tf.floor((weighted + 32768.0) / 65536.0)


def _between(uniform: tf.Tensor, low: float, high: float) -> tf.Tensor:
    return low + (high - low) * uniform


def _below(uniform: tf.Tensor, bound: tf.Tensor) -> tf.Tensor:
    """A whole number in [0, bound); the minimum guards against rounding up in float32."""
    return tf.minimum(tf.cast(uniform * tf.cast(bound, tf.float32), tf.int32), bound - 1)


def _fallback_box(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    tallest = tf.cast(tf.round(tf.cast(width, tf.float32) / _ASPECT[0]), tf.int32)
    widest = tf.cast(tf.round(tf.cast(height, tf.float32) * _ASPECT[1]), tf.int32)
    kept_height, kept_width = tf.minimum(height, tallest), tf.minimum(width, widest)
    return tf.stack([(height - kept_height) // 2, (width - kept_width) // 2, kept_height, kept_width])
