"""What the features are weighted with: by relevance, or by what a study compares relevance with.

Pure functions of relevance and of an explicit seed. All weights are in [0, 2] and of the shape of the relevance.
"""

from __future__ import annotations

from typing import cast

import tensorflow as tf

from egt_tf.errors import ConfigError, as_number
from egt_tf.registry import Registry

GUIDANCE_WEIGHTS = Registry("kind of guidance weights")


def shares_of_largest(relevance: tf.Tensor, axis: int = -1) -> tf.Tensor:
    """`R / max |R|` along `axis`, in [-1, 1]; 0 where all relevance is zero.

    Args:
        relevance: any shape.
        axis: the channels that share a maximum; every other position has its own.

    Example:
        >>> shares_of_largest(tf.constant([[2.0, -1.0, 0.0], [0.0, 0.0, 0.0]])).numpy().tolist()
        [[1.0, -0.5, 0.0], [0.0, 0.0, 0.0]]
    """
    # Two reductions; the absolute values of all relevance would be one more large tensor.
    largest = tf.maximum(
        tf.reduce_max(relevance, axis=axis, keepdims=True), -tf.reduce_min(relevance, axis=axis, keepdims=True)
    )
    return relevance / tf.where(largest == 0, tf.ones_like(largest), largest)


def relevance_weights(relevance: tf.Tensor, axis: int = -1) -> tf.Tensor:
    """`w = 1 + R / max |R|` along `axis`; 1 where all relevance is zero.

    Args:
        relevance: any shape.
        axis: see `shares_of_largest`.

    Returns:
        Weights in [0, 2], shaped as `relevance`.

    Example:
        >>> relevance_weights(tf.constant([[2.0, -1.0, 0.0], [0.0, 0.0, 0.0]])).numpy().tolist()
        [[2.0, 0.5, 1.0], [1.0, 1.0, 1.0]]
    """
    return 1.0 + shares_of_largest(relevance, axis)


class GuidanceWeights:
    """Base: makes weights of relevance whose last axis holds the channels that share a maximum."""

    def __call__(self, relevance: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The weights.

        Args:
            relevance: `(..., channels)`.
            seed: two integers `(2,)`; equal ones give equal weights.

        Returns:
            Weights in [0, 2], shaped as `relevance`.
        """
        raise NotImplementedError


@GUIDANCE_WEIGHTS.register("relevance")
class ByRelevance(GuidanceWeights):
    """`w = 1 + R / max |R|`: what spoke for the prediction counts up to twice, what spoke against it less.

    Source: Sun et al., ICPR 2020 (arXiv 2007.08790).

    Example:
        >>> ByRelevance()(tf.constant([2.0, -1.0, 0.0]), tf.constant([0, 0])).numpy().tolist()
        [2.0, 0.5, 1.0]
    """

    def __call__(self, relevance: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return relevance_weights(relevance)


@GUIDANCE_WEIGHTS.register("shuffled")
class Shuffled(GuidanceWeights):
    """The weights of `ByRelevance`, permuted at random over the channels.

    A control: every position keeps the histogram of its weights, and which channel has which says nothing any more. A
    gradient that flows through the explanation flows through the permuted weights.

    Args:
        together: one permutation for all positions, queries and classes of a step. Otherwise each position has its own,
            and in heads that average the map the random weights of a channel nearly average out: hardly any noise is
            left to compare with. Relevance is much alike at the positions of a map; permuted together, it still is.

    Raises:
        ConfigError: `together` is neither true nor false.

    Notes:
        By itself, channel c of position p gets the weight of channel `order[(c + shift_p) mod channels]`, with one random
        order for all and a random shift for each position. Each channel of a position is equally likely to get each
        weight, but not every permutation is possible; to sort random numbers for each would cost more than the
        explanation itself.

    Example:
        >>> weights = Shuffled()(tf.constant([[2.0, -1.0, 0.0]]), tf.constant([1, 2]))
        >>> sorted(weights.numpy()[0].tolist())
        [0.5, 1.0, 2.0]
    """

    def __init__(self, together: bool = False):
        if not isinstance(together, bool):
            raise ConfigError(f"`together` must be true or false. Received: together={together!r}")
        self.together = together

    def __call__(self, relevance: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        weights = relevance_weights(relevance)
        channels = tf.shape(weights)[-1]
        of_order, of_shifts = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
        order = tf.argsort(tf.random.stateless_uniform([channels], of_order))
        if self.together:
            return tf.gather(weights, order, axis=-1)
        shape = tf.concat([tf.shape(weights)[:-1], [1]], axis=0)
        shifts = tf.random.stateless_uniform(shape, of_shifts, maxval=channels, dtype=tf.int32)
        # Twice the order, one behind the other, in the place of a remainder.
        taken = tf.gather(tf.tile(order, [2]), shifts + tf.range(channels))
        return tf.gather(weights, taken, axis=-1, batch_dims=len(weights.shape) - 1)


@GUIDANCE_WEIGHTS.register("noise")
class Noise(GuidanceWeights):
    """`w` uniform in [0, 2): a control that knows nothing of the relevance, and through which no gradient flows.

    Example:
        >>> weights = Noise()(tf.zeros((4, 3)), tf.constant([1, 2]))
        >>> weights.shape, bool(tf.reduce_all((weights >= 0) & (weights < 2)))
        (TensorShape([4, 3]), True)
    """

    def __call__(self, relevance: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform(tf.shape(relevance), seed, maxval=2.0, dtype=relevance.dtype)


@GUIDANCE_WEIGHTS.register("challenger")
class Challenger(GuidanceWeights):
    """`w = 1 - s R+ / max |R|`, R+ the positive part: what spoke for the prediction is taken away.

    Our reading of Tomani and Cremers, "Challenger: Training with Attribution Maps", 2022 (arXiv 2205.15094), whose
    abstract says that relevant patterns are manipulated in training, but not how; here they are attenuated, at the
    features.

    Args:
        strength: s, above 0 and at most 1; at 1 the most relevant channel of a position vanishes.

    Raises:
        ConfigError: another `strength`.

    Example:
        >>> Challenger(strength=0.5)(tf.constant([2.0, -1.0, 0.0]), tf.constant([0, 0])).numpy().tolist()
        [0.5, 1.0, 1.0]
    """

    def __init__(self, strength: float = 1.0):
        number = as_number(strength)
        if number is None or not 0 < number <= 1:
            raise ConfigError(f"`strength` must be above 0 and at most 1. Received: strength={strength!r}")
        self.strength = number

    def __call__(self, relevance: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return 1.0 - self.strength * tf.nn.relu(shares_of_largest(relevance))


def weights_of(relevance: tf.Tensor, kind: GuidanceWeights, seed: tf.Tensor, halves: bool = False) -> tf.Tensor:
    """Weights of features that hold one image's channels, or those of two images side by side.

    Args:
        relevance: `(..., channels)`.
        kind: makes the weights.
        seed: of their random numbers, two integers `(2,)`.
        halves: whether each half of the channels has a maximum of its own (the prototype's and the query's); else all
            have one.

    Returns:
        Weights in [0, 2], shaped as `relevance`.

    Example:
        >>> relevance = tf.constant([[4.0, 2.0, 1.0, -0.5]])
        >>> weights_of(relevance, ByRelevance(), tf.constant([0, 0])).numpy().tolist()
        [[2.0, 1.5, 1.25, 0.875]]
        >>> weights_of(relevance, ByRelevance(), tf.constant([0, 0]), halves=True).numpy().tolist()
        [[2.0, 1.5, 2.0, 0.5]]
    """
    if not halves:
        return kind(relevance, seed)
    channels = cast(int, relevance.shape[-1])
    split = tf.reshape(relevance, tf.concat([tf.shape(relevance)[:-1], [2, channels // 2]], axis=0))
    split = tf.ensure_shape(split, [*relevance.shape[:-1], 2, channels // 2])
    return tf.ensure_shape(tf.reshape(kind(split, seed), tf.shape(relevance)), relevance.shape)
