"""Seeds of any size for what takes a number of so many bits."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from egt_tf.keras_api import keras


def seed_of_bits(seed: int, bits: int) -> int:
    """The seed itself if it has no more than so many bits, else a number that follows from it.

    Args:
        seed: an integer >= 0.
        bits: 1 to 64.

    Example:
        >>> seed_of_bits(7, 32), seed_of_bits(2**32, 32) < 2**32
        (7, True)
    """
    if seed < 2**bits:
        return seed
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]) % 2**bits


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and TensorFlow.

    Args:
        seed: an integer >= 0 of any size.
    """
    keras.utils.set_random_seed(seed_of_bits(seed, 32))


def step_seed(seed: int, step: tf.Tensor) -> tf.Tensor:
    """The seed of the random numbers of a step and, under a strategy, of a replica; two integers `(2,)`.

    Args:
        seed: of the training, an integer >= 0 of any size.
        step: how many steps came before, an integer scalar.

    Example:
        >>> step_seed(1, tf.constant(7)).shape
        TensorShape([2])
    """
    context = tf.distribute.get_replica_context()
    replica = 0 if context is None else context.replica_id_in_sync_group
    return tf.random.experimental.stateless_fold_in(
        tf.stack([tf.constant(seed_of_bits(seed, 63), tf.int64), tf.cast(step, tf.int64)]), replica
    )
