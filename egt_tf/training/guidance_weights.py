"""What the features are weighted with: by relevance, or by what a study compares relevance with.

Pure functions of relevance and of an explicit seed. All weights are in [0, 2] and of the shape of the relevance. What
the challenger takes away, noise or another part may replace (`egt_tf.training.manipulation`).
"""

from __future__ import annotations

from typing import cast

import tensorflow as tf

from egt_tf.errors import ConfigError
from egt_tf.heads.base import has_positions
from egt_tf.heads.weighting import Weighting
from egt_tf.registry import Registry
from egt_tf.training.manipulation import WITH_POSITIONS, WITHOUT_POSITIONS, Challenge, permuted, shares_of_largest

GUIDANCE_WEIGHTS = Registry("kind of guidance weights")


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
    """Base: makes weights of relevance whose last axis holds the channels that share a maximum.

    Attributes:
        needs_positions: whether it is only for heads that weight maps.
        needs_rivals: whether it is only for heads that compare queries with classes, of which it takes other queries.
    """

    needs_positions = False
    needs_rivals = False

    def __call__(self, relevance: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The weights.

        Args:
            relevance: `(..., channels)`.
            seed: two integers `(2,)`; equal ones give equal weights.

        Returns:
            Weights in [0, 2], shaped as `relevance`.
        """
        raise NotImplementedError

    def weighting(
        self, relevance: tf.Tensor, seed: tf.Tensor, halves: bool = False, queries: tf.Tensor | None = None
    ) -> Weighting:
        """What is done to the features of this relevance.

        Args:
            relevance: `(episodes, queries, ways, h, w, channels)`, or another shape that ends with channels.
            seed: see `__call__`.
            halves: see `weights_of`.
            queries: for what `needs_rivals`, another query for each, integers `(episodes, queries)`.
        """
        return Weighting(weights_of(relevance, self, seed, halves))


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
        Not every permutation is possible by itself, see `egt_tf.training.manipulation.permuted`.

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
        return permuted(relevance_weights(relevance), seed, self.together)


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
    """`w = 1 - s m`: what spoke for the prediction is taken away, and something else may take its place.

    By itself `m = R+ / max |R|`, R+ the positive part, and nothing takes the place. `x' = w x + (1 - w) r(x)` for the
    other manipulations.

    Our reading of Tomani and Cremers, "Challenger: Training with Attribution Maps", 2022 (arXiv 2205.15094), whose
    abstract says that relevant patterns are manipulated in training, but not how; here it is done at the features.

    Args:
        strength, manipulation, share, unit, shuffled: see `egt_tf.training.manipulation.Challenge`.

    Raises:
        ConfigError: one of them is not as it must be.

    Notes:
        "exchange" gives the pair of a query and a class the features that another query, of the strongest rival among
        the other classes, has with that class. Features without positions stay as they are where the manipulation or
        the unit needs some.

    Example:
        >>> Challenger(strength=0.5)(tf.constant([2.0, -1.0, 0.0]), tf.constant([0, 0])).numpy().tolist()
        [0.5, 1.0, 1.0]
    """

    def __init__(
        self,
        strength: float = 1.0,
        manipulation: str = "attenuate",
        share: float = 1.0,
        unit: str = "channel",
        shuffled: bool = False,
    ):
        self.challenge = Challenge(manipulation, share, unit, strength, shuffled)
        self.needs_positions = self.challenge.needs_positions
        self.needs_rivals = self.challenge.kind.needs_rivals

    def __call__(self, relevance: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return self.challenge.weights(relevance, seed, _map_axes(relevance))

    def weighting(
        self, relevance: tf.Tensor, seed: tf.Tensor, halves: bool = False, queries: tf.Tensor | None = None
    ) -> Weighting:
        return self.challenge.weighting(relevance, seed, queries, _map_axes(relevance), halves)


def _map_axes(relevance: tf.Tensor) -> int:
    return WITH_POSITIONS if has_positions(relevance.shape) else WITHOUT_POSITIONS


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
