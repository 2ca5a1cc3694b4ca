"""Streams of episodes as `tf.data.Dataset`s."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from egt_tf.config import EpisodeConfig, ImagePreparation
from egt_tf.data.image_set import ImageSet
from egt_tf.data.loading import PREFETCHED_STEPS, Loader, image_loader
from egt_tf.data.mixture import counterpart
from egt_tf.data.preprocessing import draw_augmentation
from egt_tf.data.sampling import check_feasible, draw_episode
from egt_tf.errors import ConfigError

# Added to the seed of a stream for the stream of its counterparts.
COUNTERPART_STREAM = 3_000_000_019


@dataclasses.dataclass(frozen=True)
class StepPart:
    """What one of several workers prepares of every step.

    The episodes of a step are divided among the replicas in their order, and the replicas among the workers in theirs.

    Attributes:
        replicas: of all workers together.
        workers: how many there are, each with as many replicas.
        worker: number of this one, from 0 on.

    Example:
        >>> StepPart(replicas=4, workers=2, worker=1)
        StepPart(replicas=4, workers=2, worker=1)
    """

    replicas: int = 1
    workers: int = 1
    worker: int = 0


def episode_dataset(
    images: ImageSet,
    episode: EpisodeConfig,
    preparation: ImagePreparation,
    *,
    start: int = 0,
    count: int,
    episodes_per_step: int = 1,
    parallel_calls: int = tf.data.AUTOTUNE,
    part: StepPart = StepPart(),
    load: Loader | None = None,
) -> tf.data.Dataset:
    """Makes a stream of `count` episodes, `episodes_per_step` of them in each element.

    With E episodes of K ways, S shots and q queries a class, an element is `(inputs, labels, base_labels)`:

    - inputs["support_images"]: float32 `(E, K*S, H, W, 3)`, normalised, class by class;
    - inputs["support_labels"]: float32 one-hot `(E, K*S, K)`;
    - inputs["query_images"]: float32 `(E, K*q, H, W, 3)`, class by class;
    - labels: int32 `(E, K*q)`, positions of the classes in the episode;
    - base_labels: int32 `(E, K*q)`, positions of the classes in `images.class_names`.

    Episode i, its augmentation included, depends on the seed and i only: a stream with start=k continues one
    that ended before episode k, and neither the number of threads, nor the memory, nor E, nor how the data set is
    divided among replicas matters. Of a mixture, each episode shows one domain. Images stay in memory from one pass
    over the data set to the next: resized where the augmentation shows the same part of them every time, else as
    they were decoded; steps that are prepared at the same time may each read an image that is not kept yet. Wrap the
    iteration in `original_error()` to get errors of single images as `DataError`.

    Args:
        images: the classes to draw from; where it skips unreadable images, see `draw_episode`.
        episode: ways, shots and queries.
        preparation: of support and query images alike.
        start: number of the first episode.
        count: number of episodes, a multiple of `episodes_per_step`.
        episodes_per_step: E.
        parallel_calls: steps that are prepared at a time.
        part: of each step, what this data set prepares; its elements are then those of single replicas.
        load: gives what stands for the images, of any shape, in place of the `image_loader` of the preparation.

    Raises:
        DataError: the classes do not suffice for such episodes.
        ConfigError: a negative number, a `count` that leaves a part of a step, or a step that cannot be divided among
            the replicas.

    Example:
        >>> from egt_tf.data import open_source
        >>> images = open_source("synthetic:shapes").split("base")
        >>> preparation = ImagePreparation(image_size=16, augmentation="flip", seed=1)
        >>> steps = episode_dataset(images, EpisodeConfig(2, 1, 3), preparation, count=4, episodes_per_step=2)
        >>> for inputs, labels, base_labels in steps.take(1):
        ...     print(inputs["support_images"].shape, labels.numpy()[0])
        (2, 2, 16, 16, 3) [0 0 0 1 1 1]
    """
    check_feasible(images, episode)
    _check_stream(start, count, episodes_per_step)
    _check_part(part, episodes_per_step)
    per_element = episodes_per_step // part.replicas
    size = per_element * (episode.support_size + episode.query_size)
    load = image_loader(images, preparation) if load is None else load

    def draw(numbers: np.ndarray) -> tuple[np.ndarray, ...]:
        parts = [_draw_episode(images, episode, preparation.seed, int(number)) for number in numbers]
        return tuple(map(np.concatenate, zip(*parts, strict=True)))

    @tf.autograph.experimental.do_not_convert
    def prepare(numbers: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        indices, classes, seeds, mirrored = tf.numpy_function(draw, [numbers], (tf.int64, tf.int32, tf.int32, tf.bool))
        batch = load(
            tf.ensure_shape(indices, [size]), tf.ensure_shape(seeds, [size, 2]), tf.ensure_shape(mirrored, [size])
        )
        return _assemble_step(batch, classes, episode, per_element)

    dataset = _episode_numbers(start, count, episodes_per_step, part)
    dataset = dataset.map(prepare, num_parallel_calls=parallel_calls, deterministic=True)
    return dataset.prefetch(PREFETCHED_STEPS)


def episode_pairs(
    images: ImageSet,
    episode: EpisodeConfig,
    preparation: ImagePreparation,
    *,
    start: int = 0,
    count: int,
    episodes_per_step: int = 1,
    parallel_calls: int = tf.data.AUTOTUNE,
    part: StepPart = StepPart(),
) -> tf.data.Dataset:
    """Makes a stream of pairs of steps whose episodes come from different domains.

    An element is a pair of elements of `episode_dataset`. The first is what that gives for the same arguments;
    episode i of the second comes from one of the other domains, drawn with their weights. Both depend on the seed and i
    only.

    Args:
        images: a mixture of at least two domains.
        episode: as for `episode_dataset`.
        preparation: the images that are kept are those of both together.
        start, count, episodes_per_step, parallel_calls, part: as for `episode_dataset`.

    Raises:
        ConfigError: `images` is one domain; and as `episode_dataset`.

    Example:
        >>> from egt_tf.config import WeightedSource
        >>> from egt_tf.data import open_mixture
        >>> images = open_mixture([WeightedSource("synthetic:shapes"), WeightedSource("synthetic:fog")], "base")
        >>> pairs = episode_pairs(images, EpisodeConfig(2, 1, 1), ImagePreparation(image_size=16), count=1)
        >>> for (_, _, base_labels), (_, _, other_labels) in pairs:
        ...     print({int(label) < 40 for label in base_labels[0]} != {int(label) < 40 for label in other_labels[0]})
        True
    """

    def stream(domains: ImageSet, seed: int) -> tf.data.Dataset:
        return episode_dataset(
            domains,
            episode,
            dataclasses.replace(preparation, cache_mb=preparation.cache_mb / 2, seed=seed),
            start=start,
            count=count,
            episodes_per_step=episodes_per_step,
            parallel_calls=parallel_calls,
            part=part,
        )

    first = stream(images, preparation.seed)
    second = stream(counterpart(images, preparation.seed), preparation.seed + COUNTERPART_STREAM)
    return tf.data.Dataset.zip((first, second))


def _check_stream(start: int, count: int, episodes_per_step: int) -> None:
    for name, value, smallest in (
        ("start", start, 0),
        ("count", count, 1),
        ("episodes_per_step", episodes_per_step, 1),
    ):
        if value < smallest:
            raise ConfigError(f"`{name}` must be >= {smallest}. Received: {name}={value}")
    if count % episodes_per_step:
        raise ConfigError(
            "the number of episodes must be a multiple of `episodes_per_step`. "
            f"Received: {count} episodes, episodes_per_step={episodes_per_step}"
        )


def _check_part(part: StepPart, episodes_per_step: int) -> None:
    if part.replicas % part.workers or not 0 <= part.worker < part.workers or episodes_per_step % part.replicas:
        raise ConfigError(
            "`part` must divide the episodes of a step evenly among replicas, and these among workers. "
            f"Received: {part}, episodes_per_step={episodes_per_step}"
        )


def _episode_numbers(start: int, count: int, episodes_per_step: int, part: StepPart) -> tf.data.Dataset:
    """The numbers of the episodes of each element."""
    numbers = tf.data.Dataset.range(start, start + count)
    if part.workers > 1:
        per_worker = episodes_per_step // part.workers
        numbers = numbers.batch(per_worker, drop_remainder=True).shard(part.workers, part.worker).unbatch()
    return numbers.batch(episodes_per_step // part.replicas, drop_remainder=True)


def _draw_episode(images: ImageSet, episode: EpisodeConfig, seed: int, number: int) -> tuple[np.ndarray, ...]:
    """Returns the image indices, support first, and for each its class, an augmentation seed and whether mirrored."""
    drawn, rng = draw_episode(images, episode, seed, number)
    classes = np.concatenate([np.repeat(drawn.classes, each) for each in (episode.shots, episode.queries)]).astype(
        np.int32
    )
    return drawn.images, classes, *draw_augmentation(rng, len(drawn.images))


def _assemble_step(
    batch: tf.Tensor, classes: tf.Tensor, episode: EpisodeConfig, episodes: int
) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
    sizes = [episode.support_size, episode.query_size]
    batch = tf.reshape(batch, [episodes, sum(sizes), *batch.shape[1:]])
    support, query = tf.split(batch, sizes, axis=1)
    ways = np.arange(episode.ways)
    support_labels = np.eye(episode.ways, dtype=np.float32)[np.repeat(ways, episode.shots)]
    query_labels = np.repeat(ways, episode.queries).astype(np.int32)
    inputs = {
        "support_images": support,
        "support_labels": tf.tile(support_labels[None], [episodes, 1, 1]),
        "query_images": query,
    }
    base_labels = tf.reshape(classes, [episodes, sum(sizes)])[:, episode.support_size :]
    return inputs, tf.tile(query_labels[None], [episodes, 1]), base_labels
