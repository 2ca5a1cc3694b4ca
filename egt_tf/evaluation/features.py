"""Feature maps of images, each computed once and kept within a limit of memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from egt_tf.data.sampling import EpisodeIndices
from egt_tf.errors import check_positive
from egt_tf.keras_api import keras

LIMIT_MB = 2048


@dataclasses.dataclass(frozen=True, eq=False)
class ScoringStep:
    """Episodes that are scored together on the maps that are in memory then.

    Attributes:
        episodes: at least one.
        kept: images whose maps stay in memory, sorted, int64.
        new: images whose maps are computed before the episodes are scored, sorted, int64; none of `kept`.
    """

    episodes: tuple[EpisodeIndices, ...]
    kept: np.ndarray
    new: np.ndarray


def plan_steps(episodes: Sequence[EpisodeIndices], held: np.ndarray, most: int) -> list[ScoringStep]:
    """Divides episodes so that no more than `most` maps are in memory at a time; their order stays.

    Args:
        episodes: to be scored.
        held: images whose maps are in memory already.
        most: maps in memory, >= 1; an episode that has more images is a step of its own.

    Returns:
        One step if everything fits. Maps that are not needed are dropped only to make room.
    """
    steps = []
    for group in _groups(episodes, most):
        needed = np.unique(np.concatenate([episode.images for episode in group]))
        kept = held if len(np.union1d(held, needed)) <= most else np.intersect1d(held, needed)
        steps.append(ScoringStep(tuple(group), kept, np.setdiff1d(needed, kept)))
        held = np.union1d(kept, needed)
    return steps


def _groups(episodes: Sequence[EpisodeIndices], most: int) -> list[list[EpisodeIndices]]:
    groups: list[list[EpisodeIndices]] = []
    images: set[int] = set()
    for episode in episodes:
        grown = images | set(episode.images.tolist())
        if groups and len(grown) <= most:
            groups[-1].append(episode)
            images = grown
        else:
            groups.append([episode])
            images = set(episode.images.tolist())
    return groups


class FeatureTable:
    """The maps that are in memory, by image index.

    It knows neither the model nor the images: who hands it on from one measurement to the next must have left the
    weights and the image set as they were.

    Args:
        limit_mb: mebibytes of maps to keep, > 0. The maps of one episode are always kept, and while maps are added
            there are for a moment twice as many.

    Raises:
        ConfigError: `limit_mb` is not positive.
    """

    def __init__(self, limit_mb: float = LIMIT_MB):
        check_positive("limit_mb", limit_mb)
        self.limit_mb = limit_mb
        self.indices = np.zeros(0, np.int64)
        self.maps: tf.Tensor | None = None

    def most(self, backbone: keras.Model) -> int:
        """How many maps of a backbone the limit allows, at least 1."""
        output = backbone.outputs[0]
        size = int(np.prod(output.shape[1:])) * output.dtype.size
        return max(1, int(self.limit_mb * 2**20 / size))

    def take(self, step: ScoringStep, embed: Callable[[np.ndarray], tf.Tensor]) -> None:
        """Drops what a step does not keep and adds what it needs.

        Args:
            step: planned for the images that are held.
            embed: image indices `(n,)` to maps `(n, height, width, channels)`.
        """
        if not len(step.new) and len(step.kept) == len(self.indices):
            return
        parts = [tf.gather(self.maps, self.rows(step.kept))] if len(step.kept) else []
        parts += [embed(step.new)] if len(step.new) else []
        indices = np.concatenate([step.kept, step.new])
        order = np.argsort(indices)
        self.indices, self.maps = indices[order], tf.gather(tf.concat(parts, axis=0), order)

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Rows of `maps` that belong to images that are held, shaped as `indices`."""
        return np.searchsorted(self.indices, indices)
