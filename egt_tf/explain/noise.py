"""Means over noisy copies of a model's input."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf

from egt_tf.errors import ConfigError, ExplainError, check_boolean, check_integer, check_positive
from egt_tf.explain.versions import merged, sum_of_parts

Term = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
Slopes = Callable[[list[tf.Tensor]], list[tf.Tensor]]


@dataclasses.dataclass(frozen=True)
class Noise:
    """Copies `z = x + sigma e` of an input, `e` normal with deviation 1.

    Attributes:
        sigma: > 0, in units of the input: of images as a network takes them, normalised.
        samples: copies, >= 1.
        percent: whether `sigma` is a share of the range of each example, `max(x) - min(x)`.
        seed: of the noise; a copy depends on it, on its number and on the input alone.

    Raises:
        ExplainError: a value out of range.

    Example:
        >>> Noise(sigma=0.1, samples=8).percent
        False
    """

    sigma: float = 0.5
    samples: int = 150
    percent: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        try:
            check_positive("sigma", self.sigma)
            check_integer("samples", self.samples, 1)
            check_integer("seed", self.seed, 0)
            check_boolean("percent", self.percent)
        except ConfigError as error:
            raise ExplainError(str(error)) from None


@dataclasses.dataclass(frozen=True)
class NoisyInput:
    """An input of a model, and the noise that its copies get.

    Attributes:
        x: `(batch, ...)`.
        where: broadcast to x, 1 where there is noise and 0 where there is none; None: the input stays as it is, like
            labels.
        examples: how many axes of x count examples, each with a range of its own: 1 for a batch.

    Example:
        >>> float(NoisyInput(tf.zeros((2, 3))).where)
        1.0
    """

    x: tf.Tensor
    where: tf.Tensor | None = dataclasses.field(default_factory=lambda: tf.ones(()))
    examples: int = 1

    def copies(self, noise: Noise, number: int, first: tf.Tensor, count: int) -> tf.Tensor:
        """Copies `first` to `first + count - 1`, `(count, batch, ...)`.

        Args:
            noise: of the copies.
            number: of the input among those of its model.
            first: a scalar.
            count: how many.
        """
        still = tf.repeat(self.x[None], count, axis=0)
        if self.where is None:
            return still
        seeds = [tf.stack([noise.seed + number, first + copy]) for copy in range(count)]
        drawn = tf.stack([tf.random.stateless_normal(tf.shape(self.x), each, dtype=self.x.dtype) for each in seeds])
        return still + self._deviation(noise) * tf.cast(self.where, self.x.dtype) * drawn

    def _deviation(self, noise: Noise) -> tf.Tensor:
        sigma = tf.cast(noise.sigma, self.x.dtype)
        if not noise.percent:
            return sigma
        axes = list(range(self.examples, len(self.x.shape)))
        return sigma * (tf.reduce_max(self.x, axes, keepdims=True) - tf.reduce_min(self.x, axes, keepdims=True))


def mean_over_copies(
    inputs: Sequence[NoisyInput], noise: Noise, slopes: Slopes, term: Term, together: int
) -> list[tf.Tensor]:
    """The mean of something over noisy copies, several of which are passed through a model at once.

    Works eagerly and inside a `tf.function`.

    Args:
        inputs: of the model.
        noise: of the copies.
        slopes: from inputs `(together * batch, ...)`, copy by copy, to the derivatives of what is explained with respect
            to them.
        term: what is averaged: from x, the copies z and the derivatives at z, `(together, batch, ...)`.
        together: copies that are passed at once, a divisor of their number; it changes results by rounding only.

    Returns:
        One tensor for each input, of its shape.

    Example:
        >>> inputs = [NoisyInput(tf.constant([[1.0, 2.0]]))]
        >>> mean_over_copies(inputs, Noise(samples=4), lambda zs: [3.0 * zs[0] ** 0], lambda x, z, slope: slope, 2)
        [<tf.Tensor: shape=(1, 2), dtype=float32, numpy=array([[3., 3.]], dtype=float32)>]
    """

    def of_part(first: tf.Tensor) -> list[tf.Tensor]:
        points = [one.copies(noise, number, first, together) for number, one in enumerate(inputs)]
        found = slopes([merged(z) for z in points])
        terms = [
            term(one.x[None], z, tf.reshape(slope, tf.shape(z)))
            for one, z, slope in zip(inputs, points, found, strict=True)
        ]
        return [tf.reduce_sum(each, axis=0) for each in terms]

    sums = sum_of_parts(of_part, [one.x for one in inputs], noise.samples, together)
    return [total / tf.cast(noise.samples, total.dtype) for total in sums]
