"""What backbones share: the table of their names, and initial weights that follow from a seed."""

from __future__ import annotations

import numpy as np
from tensorflow import keras

from egt_tf.errors import check_integer
from egt_tf.registry import Registry

BACKBONES = Registry("backbone")


def seed_beside(seed: int | None) -> int | None:
    """The seed of what a model has beside its backbone: with the backbone's own, both would draw the same numbers.

    Args:
        seed: the backbone's, or None for different weights at every call.
    """
    return None if seed is None else seed + 1_000_003


class InitialWeights:
    """Initializers as the published models have them.

    The n-th one handed out depends on `seed` and n alone, so that a model is a function of its seed.

    Args:
        seed: an integer >= 0, or None for different weights at every call.

    Raises:
        ConfigError: the seed is neither.
    """

    def __init__(self, seed: int | None):
        if seed is not None:
            check_integer("seed", seed, 0)
        self._generator = None if seed is None else np.random.default_rng(seed)

    def convolution(self) -> keras.initializers.Initializer:
        """Normal with standard deviation `sqrt(2 / (kernel height * kernel width * output channels))`."""
        return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal", seed=self._next_seed())

    def uniform(self, fan_in: int) -> keras.initializers.Initializer:
        """Uniform on `+-1 / sqrt(fan_in)`: PyTorch's default for the weights and the biases of a linear layer."""
        limit = fan_in**-0.5
        return keras.initializers.RandomUniform(-limit, limit, seed=self._next_seed())

    def dense(self, fan_in: int, units: int, name: str) -> keras.layers.Dense:
        """A dense layer with PyTorch's default weights and biases, see `uniform`.

        Args:
            fan_in: size of the last axis of its inputs.
            units: of its outputs.
            name: of the layer.
        """
        return keras.layers.Dense(
            units, name=name, kernel_initializer=self.uniform(fan_in), bias_initializer=self.uniform(fan_in)
        )

    def _next_seed(self) -> int | None:
        return None if self._generator is None else int(self._generator.integers(2**31 - 1))
