"""Checks of a request inside the graph. A server answers a broken one with INVALID_ARGUMENT and its message."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def checked(value: tf.Tensor, *rules: tuple[tf.Tensor, Sequence]) -> tf.Tensor:
    """Hands `value` on if every rule holds.

    Args:
        value: any tensor. Whatever is computed from the result waits for the checks.
        *rules: pairs of a boolean tensor, which must be all true, and the parts of the message if it is not, strings
            and tensors.

    Returns:
        `value`.

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs and a rule does not hold.
    """
    assertions = [tf.debugging.Assert(tf.reduce_all(holds), message, summarize=8) for holds, message in rules]
    # TensorFlow orders assertions among each other, but not before the operations that would fail without them.
    with tf.control_dependencies(assertions):
        return tf.identity(value)
