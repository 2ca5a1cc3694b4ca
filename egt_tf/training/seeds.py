"""Seeds of any size for what takes a number of so many bits."""

from __future__ import annotations

import numpy as np

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
