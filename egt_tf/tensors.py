"""Precision of tensors."""

from __future__ import annotations

import tensorflow as tf


def widen(x: tf.Tensor) -> tf.Tensor:
    """`x` in float32 at least: half precision overflows in sums over a map and loses small differences.

    Example:
        >>> widen(tf.constant(1.0, tf.float16)).dtype
        tf.float32
    """
    return tf.cast(x, tf.float32) if x.dtype in (tf.float16, tf.bfloat16) else x
