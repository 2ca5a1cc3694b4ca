"""Streams of episodes and of single images as `tf.data.Dataset`s."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from egt_tf.config import EpisodeConfig
from egt_tf.data.mixture import counterpart
from egt_tf.data.preprocessing import (
    FIXED_CROPS,
    check_augmentation,
    evaluation_image,
    is_mirrored,
    normalize,
    resized_centre,
    training_image,
)
from egt_tf.data.sampling import check_feasible, draw_episode
from egt_tf.data.sources import ImageSet
from egt_tf.data.unreadable import UnreadableImages
from egt_tf.errors import ConfigError

_PREFETCHED_STEPS = 2
_SEED_BOUND = 2**31
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
    """

    replicas: int = 1
    workers: int = 1
    worker: int = 0


class ImageStore:
    """Keeps images as long as they fit into a budget. It may be used from several threads.

    Args:
        capacity_mb: megabytes (2**20 bytes) of pixels to keep at most; 0 keeps none.
    """

    def __init__(self, capacity_mb: float):
        self._capacity = capacity_mb * 2**20
        self._images: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of pixels kept."""
        return self._nbytes

    def get(self, index: int) -> np.ndarray | None:
        """The image of that number, if it was kept."""
        return self._images.get(int(index))

    def keep(self, index: int, image: np.ndarray) -> None:
        """Keeps an image unless the budget is spent."""
        index = int(index)
        with self._lock:
            if index not in self._images and self._nbytes + image.nbytes <= self._capacity:
                self._images[index] = image
                self._nbytes += image.nbytes


class ImageCache(ImageStore):
    """Keeps decoded images as long as they fit into a budget; what comes later is read every time.

    Calling it with an image index returns the image. It may be called from several threads.

    Args:
        read: image index -> uint8 array.
        capacity_mb: see `ImageStore`.
    """

    def __init__(self, read: Callable[[int], np.ndarray], capacity_mb: float):
        super().__init__(capacity_mb)
        self._read = read

    def __call__(self, index: int) -> np.ndarray:
        image = self.get(index)
        if image is None:
            image = self._read(int(index))
            self.keep(index, image)
        return image


def episode_dataset(
    images: ImageSet,
    spec: EpisodeConfig,
    *,
    image_size: int,
    augmentation: str,
    seed: int,
    start: int = 0,
    count: int,
    episodes_per_step: int = 1,
    cache_mb: float = 1024,
    unreadable: UnreadableImages | None = None,
    parallel_calls: int = tf.data.AUTOTUNE,
    part: StepPart = StepPart(),
) -> tf.data.Dataset:
    """Makes a stream of `count` episodes, `episodes_per_step` of them in each element.

    With E episodes of K ways, S shots and q queries a class, an element is `(inputs, labels, base_labels)`:

    - inputs["support_images"]: float32 `(E, K*S, H, W, 3)`, normalised, class by class;
    - inputs["support_labels"]: float32 one-hot `(E, K*S, K)`;
    - inputs["query_images"]: float32 `(E, K*q, H, W, 3)`, class by class;
    - labels: int32 `(E, K*q)`, positions of the classes in the episode;
    - base_labels: int32 `(E, K*q)`, positions of the classes in `images.class_names`.

    Episode i, its augmentation included, depends on `seed` and i only: a stream with start=k continues one
    that ended before episode k, and neither the number of threads, nor the memory, nor E, nor how the data set is
    divided among replicas matters. Of a mixture, each episode shows one domain. Images stay in memory from one pass
    over the data set to the next: resized where the augmentation shows the same part of them every time, else as
    they were decoded; steps that are prepared at the same time may each read an image that is not kept yet. Wrap the
    iteration in `original_error()` to get errors of single images as `DataError`.

    Args:
        images: the classes to draw from.
        spec: ways, shots and queries.
        image_size: H and W.
        augmentation: "none", "flip", "full" or "full_erasing" (see `training_image`), for support and query images
            alike.
        seed: the stream; training and validation take different ones.
        start: number of the first episode.
        count: number of episodes, a multiple of `episodes_per_step`.
        episodes_per_step: E.
        cache_mb: megabytes of images to keep.
        unreadable: leaves out the images that it finds unreadable, see `draw_episode`; None: they are an error.
        parallel_calls: steps that are prepared at a time.
        part: of each step, what this data set prepares; its elements are then those of single replicas.

    Raises:
        DataError: the classes do not suffice for such episodes.
        ConfigError: an unknown augmentation, a negative number, a `count` that leaves a part of a step, or a step that
            cannot be divided among the replicas.
    """
    check_feasible(images, spec)
    _check_stream(seed, start, count, episodes_per_step)
    _check_part(part, episodes_per_step)
    per_element = episodes_per_step // part.replicas
    size = per_element * (spec.support_size + spec.query_size)
    load = image_loader(images, image_size, augmentation, cache_mb)

    def draw(numbers):
        parts = [_draw_episode(images, spec, seed, int(number), unreadable) for number in numbers]
        return tuple(map(np.concatenate, zip(*parts, strict=True)))

    def prepare(numbers):
        indices, classes, seeds = tf.numpy_function(draw, [numbers], (tf.int64, tf.int32, tf.int32))
        batch = load(tf.ensure_shape(indices, [size]), tf.ensure_shape(seeds, [size, 2]))
        return _assemble_step(batch, classes, spec, per_element, image_size)

    dataset = _episode_numbers(start, count, episodes_per_step, part)
    dataset = dataset.map(prepare, num_parallel_calls=parallel_calls, deterministic=True)
    return dataset.prefetch(_PREFETCHED_STEPS)


def episode_pairs(
    images: ImageSet, spec: EpisodeConfig, *, seed: int, cache_mb: float = 1024, **options
) -> tf.data.Dataset:
    """Makes a stream of pairs of steps whose episodes come from different domains.

    An element is a pair of elements of `episode_dataset`. The first is what that gives for the same arguments;
    episode i of the second comes from one of the other domains, drawn with their weights. Both depend on `seed` and i
    only.

    Args:
        images: a mixture of at least two domains.
        spec, seed: as for `episode_dataset`.
        cache_mb: megabytes of images to keep for both together.
        **options: as for `episode_dataset`.

    Raises:
        ConfigError: `images` is one domain; and as `episode_dataset`.
    """
    others, share = counterpart(images, seed), cache_mb / 2
    first = episode_dataset(images, spec, seed=seed, cache_mb=share, **options)
    second = episode_dataset(others, spec, seed=seed + COUNTERPART_STREAM, cache_mb=share, **options)
    return tf.data.Dataset.zip((first, second))


def image_loader(
    images: ImageSet, image_size: int, augmentation: str, cache_mb: float
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """A function of image indices `(n,)` and augmentation seeds `(n, 2)` to normalised images `(n, H, W, 3)`.

    Args:
        images: gives the images.
        image_size: H and W.
        augmentation: see `training_image`.
        cache_mb: megabytes of images to keep.

    Raises:
        ConfigError: an unknown augmentation.
    """
    check_augmentation(augmentation)
    return (_FixedCrops if augmentation in FIXED_CROPS else _RandomCrops)(images, image_size, augmentation, cache_mb)


def image_batches(
    images: ImageSet, indices: Sequence[int], *, image_size: int, batch_size: int, cache_mb: float = 0
) -> tf.data.Dataset:
    """Makes a stream of evaluation images in the order of `indices`.

    Args:
        images: gives the images.
        indices: image indices, as in `images.members`.
        image_size: H and W.
        batch_size: images of an element; the last one may have fewer.
        cache_mb: megabytes of decoded images to keep from one pass over the data set to the next.

    Returns:
        float32 `(batch, H, W, 3)`, see `evaluation_image`. As for errors, see `episode_dataset`.
    """
    read = ImageCache(images.read, cache_mb)

    def load(index):
        image = evaluation_image(_read_image(read, index), image_size)
        return tf.ensure_shape(image, [image_size, image_size, 3])

    dataset = tf.data.Dataset.from_tensor_slices(np.asarray(indices, np.int64))
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.batch(batch_size).prefetch(_PREFETCHED_STEPS)


def _check_stream(seed: int, start: int, count: int, episodes_per_step: int) -> None:
    for name, value, smallest in (
        ("seed", seed, 0),
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


def _draw_episode(
    images: ImageSet, spec: EpisodeConfig, seed: int, number: int, unreadable: UnreadableImages | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the image indices, support first, and for each its class and an augmentation seed."""
    episode, rng = draw_episode(images, spec, seed, number, unreadable.among if unreadable else None)
    seeds = rng.integers(_SEED_BOUND, size=(len(episode.images), 2), dtype=np.int64).astype(np.int32)
    classes = np.concatenate([np.repeat(episode.classes, each) for each in (spec.shots, spec.queries)]).astype(np.int32)
    return episode.images, classes, seeds


class _RandomCrops:
    """Image indices `(n,)` and seeds `(n, 2)` to normalised images `(n, size, size, 3)`; keeps what was decoded."""

    def __init__(self, images: ImageSet, size: int, augmentation: str, cache_mb: float):
        self._read = ImageCache(images.read, cache_mb)
        self._size, self._augmentation = size, augmentation

    def __call__(self, indices: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(self._crop, (indices, seeds), fn_output_signature=tf.float32)

    def _crop(self, index_and_seed):
        index, seed = index_and_seed
        crop = training_image(_read_image(self._read, index), self._size, self._augmentation, seed)
        return tf.ensure_shape(crop, [self._size, self._size, 3])


class _FixedCrops:
    """The same for `FIXED_CROPS`; keeps what was resized, and fetches all that is kept of a step in one call."""

    def __init__(self, images: ImageSet, size: int, augmentation: str, cache_mb: float):
        self._read, self._shape, self._augmentation = images.read, (size, size, 3), augmentation
        self._store = ImageStore(cache_mb)

    def __call__(self, indices: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        kept, present, missing = tf.numpy_function(self._kept, [indices, seeds], (tf.uint8, tf.int32, tf.int32))
        missing = tf.ensure_shape(missing, [None])
        absent, seeds = tf.gather(indices, missing), tf.gather(seeds, missing)
        new = tf.map_fn(self._resized, absent, fn_output_signature=tf.uint8)
        new = tf.numpy_function(self._keep, [absent, seeds, new], tf.uint8)
        places = [tf.ensure_shape(present, [None]), missing]
        pixels = tf.dynamic_stitch(places, [tf.ensure_shape(part, [None, *self._shape]) for part in (kept, new)])
        return normalize(tf.ensure_shape(pixels, [*indices.shape, *self._shape]))

    def _kept(self, numbers, seeds):
        """The kept images as the augmentation turns them, their places among `numbers`, and those of the others."""
        images = [self._store.get(number) for number in numbers]
        missing = np.array([image is None for image in images])
        present = np.flatnonzero(~missing)
        pixels = np.empty((len(present), *self._shape), np.uint8)
        for row, place, mirrored in zip(pixels, present, is_mirrored(self._augmentation, seeds[present]), strict=True):
            row[:] = _turned(images[place], mirrored)
        return pixels, present.astype(np.int32), np.flatnonzero(missing).astype(np.int32)

    def _resized(self, index):
        return tf.ensure_shape(resized_centre(_read_image(self._read, index), self._shape[0]), self._shape)

    def _keep(self, numbers, seeds, images):
        """Keeps new images, and returns them as the augmentation turns them."""
        for number, image in zip(numbers, images, strict=True):
            # A copy of its own; TensorFlow frees the array, which holds all new images of the step.
            self._store.keep(number, image.copy())
        mirrored = is_mirrored(self._augmentation, seeds)
        return np.array([_turned(*pair) for pair in zip(images, mirrored, strict=True)], np.uint8).reshape(images.shape)


def _turned(image: np.ndarray, mirrored: bool) -> np.ndarray:
    return image[:, ::-1] if mirrored else image


def _read_image(read: Callable[[int], np.ndarray], index: tf.Tensor) -> tf.Tensor:
    image = tf.numpy_function(read, [index], tf.uint8)
    return tf.ensure_shape(image, [None, None, 3])


def _assemble_step(
    batch: tf.Tensor, classes: tf.Tensor, spec: EpisodeConfig, episodes: int, image_size: int
) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
    sizes = [spec.support_size, spec.query_size]
    batch = tf.reshape(batch, [episodes, sum(sizes), image_size, image_size, 3])
    support, query = tf.split(batch, sizes, axis=1)
    ways = np.arange(spec.ways)
    support_labels = np.eye(spec.ways, dtype=np.float32)[np.repeat(ways, spec.shots)]
    query_labels = np.repeat(ways, spec.queries).astype(np.int32)
    inputs = {
        "support_images": support,
        "support_labels": tf.tile(support_labels[None], [episodes, 1, 1]),
        "query_images": query,
    }
    base_labels = tf.reshape(classes, [episodes, sum(sizes)])[:, spec.support_size :]
    return inputs, tf.tile(query_labels[None], [episodes, 1]), base_labels
