"""What answering queries one by one costs in accuracy, against scoring whole episodes."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from egt_tf.config import EpisodeConfig
from egt_tf.data.image_set import ImageSet, OnProgress
from egt_tf.data.sampling import check_feasible, episode_generator, sample_episode
from egt_tf.evaluation.accuracy import Accuracy, embed
from egt_tf.export.one_by_one import OneByOne
from egt_tf.keras_api import compiled


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """Two accuracies on the same episodes.

    Attributes:
        source: where the images are from.
        split: which classes.
        episode: ways, shots and queries a class.
        one_by_one: every query as if it were alone, as a server answers.
        together: all queries of an episode scored together, as `egt-tf evaluate` does.

    Example:
        >>> alone, together = Accuracy(np.array([0.5, 0.75])), Accuracy(np.array([0.75, 0.75]))
        >>> Calibration("synthetic:sketch", "novel", EpisodeConfig(5, 1, 5), alone, together).difference
        -0.125
    """

    source: str
    split: str
    episode: EpisodeConfig
    one_by_one: Accuracy
    together: Accuracy

    @property
    def difference(self) -> float:
        """Mean over the episodes of one_by_one - together, in [-1, 1]."""
        return self._differences.mean

    @property
    def difference_interval(self) -> float | None:
        """Half the width of the 95 % interval of the difference, episode by episode; None for a single episode."""
        return self._differences.interval

    @property
    def _differences(self) -> Accuracy:
        return Accuracy(self.one_by_one.episodes - self.together.episodes)


def calibrate(
    model: OneByOne,
    images: ImageSet,
    episode: EpisodeConfig,
    episodes: int,
    seed: int,
    source: str,
    split: str,
    progress: OnProgress | None = None,
) -> Calibration:
    """Measures both on episodes drawn from `images`.

    Args:
        model: the model as it is served.
        images: the classes and images to draw from.
        episode: ways, shots and queries a class.
        episodes: how many, >= 1.
        seed: of the episodes.
        source: for the report.
        split: for the report.
        progress: called with (episodes done, episodes).

    Raises:
        DataError: too few classes or images, or an image that cannot be read.

    Example:
        >>> from egt_tf.data.sources import open_source
        >>> from egt_tf.episodic_model import EpisodicModel
        >>> from egt_tf.lrp import COMPOSITES
        >>> model = EpisodicModel.build_from("conv4", "cosine", image_size=16, seed=1)
        >>> images, shape = open_source("synthetic:shapes").split("novel"), EpisodeConfig(2, 1, 1)
        >>> answers = OneByOne(model, COMPOSITES.get("fsc"))
        >>> calibrate(answers, images, shape, episodes=1, seed=0, source="shapes", split="novel").difference
        0.0
    """
    check_feasible(images, episode)
    drawn = [sample_episode(images.members, episode, episode_generator(seed, index)) for index in range(episodes)]
    used = np.unique(np.concatenate([np.concatenate([e.support.ravel(), e.query.ravel()]) for e in drawn]))
    features = embed(model.model, images, used)
    labels = np.repeat(np.eye(episode.ways, dtype=np.float32), episode.shots, axis=0)
    truth = np.repeat(np.arange(episode.ways), episode.queries)
    score = compiled(
        lambda support, query: (model.scores(support, labels, query), model.scores_together(support, labels, query)),
    )
    right = []
    for index, one in enumerate(drawn):
        support, query = (tf.gather(features, np.searchsorted(used, part.ravel())) for part in (one.support, one.query))
        right.append([np.mean(np.argmax(scores, -1) == truth) for scores in score(support, query)])
        if progress is not None:
            progress(index + 1, episodes)
    one_by_one, together = np.array(right).T
    return Calibration(source, split, episode, Accuracy(one_by_one), Accuracy(together))
