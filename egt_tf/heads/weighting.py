"""What guidance does to the tensors that a head lets it weight."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow as tf

Replacement = Callable[[tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Weighting:
    """`y = w x`, or `y = w x + (1 - w) r(x)` where something takes the place of what is taken away.

    Attributes:
        weights: w, of the shape of x.
        replacement: r, from x to a tensor of its shape; None: nothing, which is 0.

    Example:
        >>> Weighting(tf.constant([1.0, 0.25]))(tf.constant([4.0, 8.0])).numpy().tolist()
        [4.0, 2.0]
        >>> Weighting(tf.constant([1.0, 0.25]), replacement=tf.ones_like)(tf.constant([4.0, 8.0])).numpy().tolist()
        [4.0, 2.75]
    """

    weights: tf.Tensor
    replacement: Replacement | None = None

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        weights = tf.cast(self.weights, x.dtype)
        # Features are large: where nothing is added, no tensor of zeros is.
        return x * weights if self.replacement is None else x * weights + (1.0 - weights) * self.replacement(x)

    def detached(self) -> Weighting:
        """The same with constants: a gradient flows through `w x` to x alone."""
        replacement = self.replacement
        constant = None if replacement is None else lambda x: tf.stop_gradient(replacement(x))
        return Weighting(tf.stop_gradient(self.weights), constant)
