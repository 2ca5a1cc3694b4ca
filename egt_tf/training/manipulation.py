"""Manipulations of what is relevant in a map: which part of it, how strongly, and what takes its place.

Pure functions of relevance, of the map and of an explicit seed, for feature maps `(..., h, w, channels)`, for features
without positions `(..., channels)` and for images `(images, h, w, 3)` alike.

Our reading of Tomani and Cremers, "Challenger: Training with Attribution Maps", 2022 (arXiv 2205.15094), whose abstract
says that particularly relevant patterns are manipulated in training, but not how.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import cast

import tensorflow as tf

from egt_tf.errors import ConfigError, as_number, check_boolean, did_you_mean
from egt_tf.heads.weighting import Replacement, Weighting
from egt_tf.registry import Registry
from egt_tf.tensors import widen

MANIPULATIONS = Registry("manipulation")

# How many of the last axes make one map: height, width and channels, or channels alone.
WITH_POSITIONS, WITHOUT_POSITIONS = 3, 1
# A blurred position is the mean of a window of about this part of a side, at least of three positions.
_BLURRED_SIDE = 0.25


# === What is relevant ===


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


def top_share(relevance: tf.Tensor, share: float, map_axes: int = WITH_POSITIONS) -> tf.Tensor:
    """1 for the largest of the positive values of each map, 0 for all others.

    Of n positive values these are the `ceil(share n)` largest, and all that are equal to the smallest of them.

    Args:
        relevance: any shape whose last `map_axes` axes are one map.
        share: above 0 and at most 1.
        map_axes: see above.

    Returns:
        0 or 1, of the shape and type of the relevance.

    Example:
        >>> top_share(tf.constant([[4.0, -9.0, 1.0, 3.0, 2.0]]), share=0.5, map_axes=1).numpy().tolist()
        [[1.0, 0.0, 0.0, 1.0, 0.0]]
    """
    shape = tf.shape(relevance)
    flat = tf.nn.relu(tf.reshape(relevance, tf.concat([shape[:-map_axes], [-1]], axis=0)))
    # One value is at least looked at; what is below 0 counts for nothing.
    most = _share_of(tf.shape(flat)[-1], share)
    largest = tf.math.top_k(flat, most).values
    wanted = _share_of(tf.math.count_nonzero(flat, axis=-1, dtype=tf.int32), share)
    smallest = tf.gather(largest, wanted - 1, batch_dims=len(flat.shape) - 1)
    chosen = (flat > 0) & (flat >= smallest[..., None])
    return tf.reshape(tf.cast(chosen, relevance.dtype), shape)


def _share_of(count: tf.Tensor, share: float) -> tf.Tensor:
    """`ceil(share count)`, at least 1; a product that is whole but for rounding is that number."""
    product = tf.cast(count, tf.float64) * share
    return tf.maximum(tf.cast(tf.math.ceil(product * (1 - 1e-12)), tf.int32), 1)


def permuted(x: tf.Tensor, seed: tf.Tensor, together: bool = False) -> tf.Tensor:
    """Values at random places along the last axis: `y[p, c] = x[p, order[(c + shift_p) mod n]]`.

    With one random order for all positions p and a random shift for each, each place of a position is equally likely to
    get each value, but not every permutation is possible; to sort random numbers for each would cost more than an
    explanation.

    Args:
        x: `(..., n)`.
        seed: two integers `(2,)`.
        together: no shifts, one permutation for all.

    Example:
        >>> sorted(permuted(tf.constant([[3.0, 1.0, 2.0]]), tf.constant([1, 2])).numpy()[0].tolist())
        [1.0, 2.0, 3.0]
    """
    count = tf.shape(x)[-1]
    of_order, of_shifts = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    order = tf.argsort(tf.random.stateless_uniform([count], of_order))
    if together:
        return tf.gather(x, order, axis=-1)
    shape = tf.concat([tf.shape(x)[:-1], [1]], axis=0)
    shifts = tf.random.stateless_uniform(shape, of_shifts, maxval=count, dtype=tf.int32)
    # Twice the order, one behind the other, in the place of a remainder.
    taken = tf.gather(tf.tile(order, [2]), shifts + tf.range(count))
    return tf.gather(x, taken, axis=-1, batch_dims=len(x.shape) - 1)


@dataclasses.dataclass(frozen=True)
class Unit:
    """What is relevant or not as a whole.

    Attributes:
        relevance_of: relevance of the units of a map, of relevance `(..., channels)`.
        needs_positions: whether it means nothing where a map has no positions.
    """

    relevance_of: Callable[[tf.Tensor], tf.Tensor]
    needs_positions: bool = False


UNITS: Mapping[str, Unit] = {
    "channel": Unit(tf.identity),
    "position": Unit(functools.partial(tf.reduce_sum, axis=-1, keepdims=True), needs_positions=True),
}


# === What takes its place ===


def noise_like(x: tf.Tensor, seed: tf.Tensor, map_axes: int = WITH_POSITIONS) -> tf.Tensor:
    """Normal noise with the mean and the deviation of each channel of each map; without positions, of all channels.

    Args:
        x: maps, `(..., h, w, channels)` or `(..., channels)`.
        seed: two integers `(2,)`.
        map_axes: how many of the last axes make a map.

    Example:
        >>> noise = noise_like(tf.fill((1, 2, 2, 3), 5.0), tf.constant([1, 2]))
        >>> float(tf.reduce_max(tf.abs(noise - 5.0)))
        0.0
    """
    wide = widen(x)
    axes = [-3, -2] if map_axes == WITH_POSITIONS else [-1]
    mean, variance = tf.nn.moments(wide, axes, keepdims=True)
    normal = tf.random.stateless_normal(tf.shape(wide), seed, dtype=wide.dtype)
    return tf.cast(mean + tf.sqrt(variance) * normal, x.dtype)


def blurred(x: tf.Tensor) -> tf.Tensor:
    """Each position the mean of a window around it, of those positions of it that lie within the map.

    The window has an odd number of positions a side, three or more and about a quarter of the map's.

    Args:
        x: maps, `(..., h, w, channels)`; h and w must be known when a graph is made.

    Example:
        >>> blurred(tf.reshape([0.0, 0.0, 9.0], (1, 1, 3, 1))).numpy().ravel().tolist()
        [0.0, 3.0, 4.5]
    """
    height, width = cast(int, x.shape[-3]), cast(int, x.shape[-2])
    maps = tf.reshape(x, tf.concat([[-1], tf.shape(x)[-3:]], axis=0))
    windows = [_odd_window(side) for side in (height, width)]
    return tf.reshape(tf.nn.avg_pool2d(maps, windows, strides=1, padding="SAME"), tf.shape(x))


def _odd_window(side: int) -> int:
    return max(3, 2 * int(_BLURRED_SIDE * side / 2) + 1)


def rival_examples(scores: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """For each example of a batch another one, of the class that is its strongest rival.

    The rival is the class with the largest score among those that are not the example's own and that an example of the
    batch has. Of several examples of it one is drawn at random. If all examples are of one class, each gets itself.

    Args:
        scores: raw, `(..., examples, classes)`.
        labels: the true classes, integers `(..., examples)`.
        seed: two integers `(2,)`.

    Returns:
        Positions in the batch, int32 `(..., examples)`, without a gradient.

    Example:
        >>> scores = tf.constant([[0.0, 5.0, 9.0], [2.0, 0.0, 9.0]])
        >>> rival_examples(scores, tf.constant([0, 1]), tf.constant([1, 2])).numpy().tolist()
        [1, 0]
    """
    scores, labels = tf.stop_gradient(widen(scores)), tf.cast(labels, tf.int32)
    own = tf.one_hot(labels, tf.shape(scores)[-1], on_value=True, off_value=False)
    possible = tf.reduce_any(own, axis=-2, keepdims=True) & ~own
    rival = tf.argmax(tf.where(possible, scores, scores.dtype.min), axis=-1, output_type=tf.int32)
    candidates = labels[..., None, :] == rival[..., :, None]
    drawn = tf.random.stateless_uniform(tf.shape(candidates), seed)
    example = tf.argmax(tf.where(candidates, drawn, -1.0), axis=-1, output_type=tf.int32)
    itself = tf.broadcast_to(tf.range(tf.shape(labels)[-1]), tf.shape(labels))
    return tf.where(tf.reduce_any(possible, axis=-1), example, itself)


def of_examples(x: tf.Tensor, examples: tf.Tensor) -> tf.Tensor:
    """What belongs to other examples of a batch: `y[..., i, ...] = x[..., examples[..., i], ...]`.

    Args:
        x: `(..., examples, ...)`.
        examples: positions in the batch, integers `(..., examples)`.

    Example:
        >>> of_examples(tf.constant([[[5.0], [6.0]]]), tf.constant([[1, 0]])).numpy().tolist()
        [[[6.0], [5.0]]]
    """
    axis = len(examples.shape) - 1
    return tf.gather(x, examples, axis=axis, batch_dims=axis)


class Manipulation:
    """Base: what takes the place of what is relevant.

    Attributes:
        is_graded: whether the more relevant a value is, the more of it is taken away; else all that is chosen, alike.
        needs_positions: whether it means nothing where a map has no positions.
        needs_rivals: whether it takes from other examples of the batch.
    """

    is_graded = False
    needs_positions = False
    needs_rivals = False

    def replacement(self, seed: tf.Tensor, examples: tf.Tensor | None, map_axes: int) -> Replacement | None:
        """A function from a map to what takes the place of its parts; None: 0 does.

        Args:
            seed: of its random numbers, two integers `(2,)`.
            examples: of `rival_examples`, for a manipulation that needs them.
            map_axes: how many of the last axes make a map.
        """
        raise NotImplementedError


@MANIPULATIONS.register("attenuate")
class Attenuate(Manipulation):
    """Towards 0, by `R+ / max |R|`: the more relevant, the more."""

    is_graded = True

    def replacement(self, seed: tf.Tensor, examples: tf.Tensor | None, map_axes: int) -> Replacement | None:
        return None


@MANIPULATIONS.register("noise")
class ByNoise(Manipulation):
    """Replaced by noise of the map's own mean and deviation, see `noise_like`."""

    def replacement(self, seed: tf.Tensor, examples: tf.Tensor | None, map_axes: int) -> Replacement | None:
        return functools.partial(noise_like, seed=seed, map_axes=map_axes)


@MANIPULATIONS.register("blur")
class ByBlur(Manipulation):
    """Replaced by the mean of what is around it, see `blurred`."""

    needs_positions = True

    def replacement(self, seed: tf.Tensor, examples: tf.Tensor | None, map_axes: int) -> Replacement | None:
        return blurred


@MANIPULATIONS.register("exchange")
class ByExchange(Manipulation):
    """Replaced by the same positions of an example of the strongest rival, see `rival_examples`."""

    needs_rivals = True

    def replacement(self, seed: tf.Tensor, examples: tf.Tensor | None, map_axes: int) -> Replacement | None:
        if examples is None:
            raise ConfigError("`manipulation` exchange must have the examples of a batch. Received: none")
        return functools.partial(of_examples, examples=examples)


# === All together ===


@dataclasses.dataclass(frozen=True)
class Challenge:
    """What is done to the relevant parts of a map: `x' = x + s m (r - x)`.

    m is 1 for what is among the top share of the positive relevance, and 0 for all else; of the manipulation
    "attenuate" it is `R+ / max |R|` there, with the largest relevance of the position, and r = 0.

    Args:
        manipulation: what r is, a name of `MANIPULATIONS`.
        share: see `top_share`, above 0 and at most 1.
        unit: "channel", each value by itself, or "position", by the sum of relevance over the channels.
        strength: s, above 0 and at most 1.
        shuffled: m is permuted over its map. A control: as much is manipulated, at places that say nothing.

    Raises:
        ConfigError: one of them is not as it must be.

    Example:
        >>> challenge = Challenge("attenuate", share=0.5)
        >>> challenge.weights(tf.constant([4.0, -1.0, 2.0]), tf.constant([1, 2]), map_axes=1).numpy().tolist()
        [0.0, 1.0, 1.0]
    """

    manipulation: str = "attenuate"
    share: float = 1.0
    unit: str = "channel"
    strength: float = 1.0
    shuffled: bool = False

    def __post_init__(self) -> None:
        MANIPULATIONS.member(self.manipulation)
        if self.unit not in UNITS:
            hint = did_you_mean(self.unit, UNITS)
            raise ConfigError(f"`unit` must be one of {', '.join(UNITS)}. Received: unit={self.unit!r}{hint}")
        for name in ("share", "strength"):
            number = as_number(getattr(self, name))
            if number is None or not 0 < number <= 1:
                raise ConfigError(f"`{name}` must be above 0 and at most 1. Received: {name}={getattr(self, name)!r}")
            object.__setattr__(self, name, number)
        check_boolean("shuffled", self.shuffled)

    @property
    def kind(self) -> Manipulation:
        """The manipulation."""
        return MANIPULATIONS.get(self.manipulation)

    @property
    def needs_positions(self) -> bool:
        """Whether it means nothing where a map has no positions."""
        return self.kind.needs_positions or UNITS[self.unit].needs_positions

    def weights(self, relevance: tf.Tensor, seed: tf.Tensor, map_axes: int = WITH_POSITIONS) -> tf.Tensor:
        """What is left of x, `1 - s m`, in [0, 1] and shaped as the relevance."""
        units = UNITS[self.unit].relevance_of(relevance)
        taken = tf.nn.relu(shares_of_largest(units)) if self.kind.is_graded else tf.cast(units > 0, units.dtype)
        if self.share < 1:
            taken *= top_share(units, self.share, map_axes)
        if self.shuffled:
            shape = tf.shape(taken)
            flat = tf.reshape(taken, tf.concat([shape[:-map_axes], [-1]], axis=0))
            taken = tf.reshape(permuted(flat, seed), shape)
        return tf.broadcast_to(1.0 - self.strength * taken, tf.shape(relevance))

    def weighting(
        self,
        relevance: tf.Tensor,
        seed: tf.Tensor,
        examples: tf.Tensor | None = None,
        map_axes: int = WITH_POSITIONS,
        halves: bool = False,
    ) -> Weighting:
        """What is done to maps of this relevance.

        Args:
            relevance: of what is manipulated, of its shape.
            seed: of the random numbers, two integers `(2,)`.
            examples: of `rival_examples`, for a manipulation that needs them.
            map_axes: how many of the last axes make a map. What has no positions stays as it is where there must be
                some.
            halves: whether each half of the channels is a map of its own.
        """
        if self.needs_positions and map_axes == WITHOUT_POSITIONS:
            return Weighting(tf.ones_like(relevance))
        parts = tf.split(relevance, 2, axis=-1) if halves else [relevance]
        of_weights, of_values = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
        weights = [self.weights(part, of_weights, map_axes) for part in parts]
        joined = tf.concat(weights, axis=-1) if halves else weights[0]
        return Weighting(joined, self.kind.replacement(of_values, examples, map_axes))
