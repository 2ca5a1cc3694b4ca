"""Queries of unseen classes that explanations are judged by."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from egt_tf.config import EpisodeConfig
from egt_tf.data.image_set import ImageSet
from egt_tf.data.preprocessing import resized_centre
from egt_tf.data.sampling import check_feasible, draw_episode
from egt_tf.data.support import SupportSet


@dataclasses.dataclass(frozen=True, eq=False)
class JudgedQuery:
    """A query of an episode, as the model sees it.

    Attributes:
        support: the classes of its episode.
        image: uint8 `(size, size, 3)`.
        mask: bool `(size, size)`, true on the object; None where the source has no masks.

    Example:
        >>> support = SupportSet(("ant", "bee"), np.zeros((2, 1, 4, 4, 3), np.uint8))
        >>> JudgedQuery(support, np.zeros((4, 4, 3), np.uint8), None).mask is None
        True
    """

    support: SupportSet
    image: np.ndarray
    mask: np.ndarray | None


def draw_queries(images: ImageSet, episode: EpisodeConfig, count: int, seed: int, size: int) -> Iterator[JudgedQuery]:
    """Queries of seeded episodes, one of each class of an episode in turn.

    Args:
        images: the classes and images to draw from.
        episode: ways and shots; one query a class is taken.
        count: how many queries, >= 1.
        seed: of the episodes.
        size: side that the model takes.

    Raises:
        DataError: too few classes or images, or an image that cannot be read.
    """
    episode = EpisodeConfig(episode.ways, episode.shots, 1)
    check_feasible(images, episode)

    def prepared(index: int) -> np.ndarray:
        return resized_centre(images.read(int(index)), size).numpy()

    for number in range(-(-count // episode.ways)):
        drawn, _ = draw_episode(images, episode, seed, number)
        names = tuple(images.class_names[c] for c in drawn.classes)
        support = SupportSet(names, np.stack([np.stack([prepared(i) for i in row]) for row in drawn.support]))
        for index in drawn.query[: count - number * episode.ways, 0]:
            mask = None if images.mask is None else _prepared_mask(images.mask(int(index)), size)
            yield JudgedQuery(support, prepared(index), mask)


def _prepared_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """Resized and cropped as the image is."""
    grey = np.repeat(255 * mask.astype(np.uint8)[..., None], 3, axis=-1)
    return resized_centre(grey, size).numpy()[..., 0] > 127
