"""Which images make up an episode: pure functions of an explicit random generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from egt_tf.data.episode import EpisodeSpec
from egt_tf.data.sources import ImageSet
from egt_tf.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class EpisodeIndices:
    """The images of one episode.

    Attributes:
        classes: positions of the episode's classes in the image set, int64 `(ways,)`.
        support: image indices, int64 `(ways, shots)`; row k belongs to `classes[k]`.
        query: image indices, int64 `(ways, queries)`; no index occurs in `support` too.
    """

    classes: np.ndarray
    support: np.ndarray
    query: np.ndarray


def episode_generator(seed: int, index: int) -> np.random.Generator:
    """Returns the random generator of episode number `index` in the stream `seed`.

    It depends on the two numbers only, so a run can continue at any episode. Streams of different seeds, and
    episodes of one stream, are independent.

    Raises:
        ConfigError: `seed` or `index` is negative.
    """
    if seed < 0 or index < 0:
        raise ConfigError(f"`seed` and `index` must be >= 0. Received: seed={seed}, index={index}")
    # A spawn key, not entropy=[seed, index]: lists of numbers that differ by a zero word give equal streams.
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(int(seed), spawn_key=(int(index),))))


def sample_episode(
    members: Sequence[np.ndarray], spec: EpisodeSpec, rng: np.random.Generator
) -> EpisodeIndices:
    """Draws an episode: classes uniformly, then images of each class uniformly, all without replacement.

    Args:
        members: the image indices of every class; `check_feasible` says whether there are enough.
        spec: ways, shots and queries.
        rng: the source of randomness; the episode is a function of its state.

    Raises:
        ValueError: fewer classes than ways, or a class with fewer than shots + queries images.
    """
    classes = rng.choice(len(members), spec.ways, replace=False)
    drawn = np.stack([rng.choice(members[c], spec.shots + spec.queries, replace=False) for c in classes])
    return EpisodeIndices(classes, drawn[:, : spec.shots], drawn[:, spec.shots :])


def check_feasible(images: ImageSet, spec: EpisodeSpec) -> None:
    """Checks that every class could be drawn for an episode.

    Raises:
        DataError: fewer classes than ways, or a class with fewer than shots + queries images. The message
            names the class and both numbers.
    """
    if len(images.members) < spec.ways:
        raise DataError(
            f"a {spec.ways}-way episode needs {spec.ways} classes. Received: {images.name} has "
            f"{len(images.members)}; take fewer ways"
        )
    needed = spec.shots + spec.queries
    for class_name, members in zip(images.class_names, images.members):
        if len(members) < needed:
            raise DataError(
                f"{_count(spec.shots, 'shot', 'shots')} + {_count(spec.queries, 'query', 'queries')} "
                f"need {needed} images a class. Received: class '{class_name}' of {images.name} has "
                f"{len(members)}; take fewer shots or queries"
            )


def _count(number: int, singular: str, plural: str) -> str:
    return f"{number} {singular if number == 1 else plural}"
