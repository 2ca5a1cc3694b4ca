"""Few-shot accuracy with its 95 % interval over episodes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from egt_tf.data.episode import EpisodeSpec
from egt_tf.data.pipeline import data_errors, image_batches
from egt_tf.data.sampling import EpisodeIndices, check_feasible, episode_generator, sample_episode
from egt_tf.data.sources import ImageSet
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError

IMAGES_PER_BATCH = 64
# Scored together; a head's statistics are those of one episode, so this changes nothing but the speed.
EPISODES_PER_BATCH = 4

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True, eq=False)
class Accuracy:
    """Accuracy over test episodes.

    Attributes:
        episodes: accuracy of each episode in [0, 1], `(episodes,)`.
    """

    episodes: np.ndarray

    @property
    def mean(self) -> float:
        """Mean over the episodes, in [0, 1]."""
        return float(self.episodes.mean())

    @property
    def interval(self) -> float:
        """Half the width of the 95 % interval: `1.96 std / sqrt(episodes)` with the population's std, as published."""
        return float(1.96 * self.episodes.std() / np.sqrt(len(self.episodes)))

    def __str__(self) -> str:
        return f"{100 * self.mean:.2f} % +- {100 * self.interval:.2f}"


def evaluate(model: EpisodicModel, images: ImageSet, spec: EpisodeSpec, episodes: int, seed: int,
             cache_mb: int = 0, progress: Progress | None = None) -> Accuracy:
    """Accuracy on episodes drawn from `images`.

    Every image passes the backbone once; the episodes are then scored on stored features. The episodes depend on
    `seed` and the images alone, so two models are compared on the same ones.

    Args:
        model: the classifier; it runs in inference mode.
        images: the classes and images to draw from.
        spec: ways, shots and queries a class.
        episodes: how many, >= 1.
        seed: of the episodes.
        cache_mb: see `image_batches`.
        progress: called with (episodes done, episodes) after each batch.

    Raises:
        ConfigError: `episodes` is below 1.
        DataError: too few classes or images, or an image that cannot be read.
    """
    if episodes < 1:
        raise ConfigError(f"`episodes` must be >= 1. Received: episodes={episodes}")
    check_feasible(images, spec)
    drawn = [sample_episode(images.members, spec, episode_generator(seed, index)) for index in range(episodes)]
    used = np.unique(np.concatenate([np.concatenate([e.support.ravel(), e.query.ravel()]) for e in drawn]))
    features = embed(model, images, used, cache_mb)
    # Image indices become rows of `features`.
    drawn = [EpisodeIndices(e.classes, *(np.searchsorted(used, part) for part in (e.support, e.query))) for e in drawn]
    return Accuracy(_score(model, features, drawn, spec, progress))


def embed(model: EpisodicModel, images: ImageSet, indices: np.ndarray, cache_mb: int = 0) -> tf.Tensor:
    """Feature maps of images, `(len(indices), h, w, c)`, in inference mode.

    Raises:
        DataError: an image cannot be read.
    """
    batches = image_batches(images, indices, image_size=model.image_size, batch_size=IMAGES_PER_BATCH,
                            cache_mb=cache_mb)
    backbone = tf.function(lambda batch: model.backbone(batch, training=False), reduce_retracing=True)
    with data_errors():
        return tf.concat([backbone(batch) for batch in batches], axis=0)


def _score(model: EpisodicModel, features: tf.Tensor, drawn: Sequence[EpisodeIndices], spec: EpisodeSpec,
           progress: Progress | None) -> np.ndarray:
    support_labels = np.repeat(np.eye(spec.ways, dtype=np.float32), spec.shots, axis=0)
    query_labels = np.repeat(np.arange(spec.ways), spec.queries)

    @tf.function(reduce_retracing=True)
    def accuracies(support, query):
        labels = tf.repeat(support_labels[None], tf.shape(support)[0], axis=0)
        related = model.head.relate(tf.gather(features, support), labels, tf.gather(features, query))
        predicted = tf.argmax(model.head.score(related, training=False), axis=-1)
        return tf.reduce_mean(tf.cast(predicted == query_labels, tf.float32), axis=1)

    results = []
    for begin in range(0, len(drawn), EPISODES_PER_BATCH):
        batch = drawn[begin:begin + EPISODES_PER_BATCH]
        support, query = (np.stack([getattr(e, part).ravel() for e in batch]) for part in ("support", "query"))
        results.append(accuracies(tf.constant(support), tf.constant(query)).numpy())
        if progress is not None:
            progress(min(begin + EPISODES_PER_BATCH, len(drawn)), len(drawn))
    return np.concatenate(results)
