"""The precision of tensors, and the constants of ImageNet by which pixels become a network's input."""

from __future__ import annotations

import tensorflow as tf

# Of ImageNet's training images, pixels in [0, 1], red, green and blue: a network's input is `(pixel - mean) / std`.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def widen(x: tf.Tensor) -> tf.Tensor:
    """`x` in float32 at least: half precision overflows in sums over a map and loses small differences.

    Example:
        >>> widen(tf.constant(1.0, tf.float16)).dtype
        tf.float32
    """
    return tf.cast(x, tf.float32) if is_half(x.dtype) else x


def is_half(dtype: tf.DType) -> bool:
    """Whether numbers of a type have less precision than float32.

    Example:
        >>> is_half(tf.bfloat16), is_half(tf.float64)
        (True, False)
    """
    return dtype in (tf.float16, tf.bfloat16)
