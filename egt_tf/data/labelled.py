"""Streams of single images with their classes, as ordinary classification takes them: pure functions of a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import tensorflow as tf

from egt_tf.data.pipeline import image_batches, image_loader
from egt_tf.data.sources import ImageSet
from egt_tf.data.unreadable import UnreadableImages
from egt_tf.errors import ConfigError, DataError

_SEED_BOUND = 2**31
_PREFETCHED_STEPS = 2
# Keys of the streams that one seed gives.
_HELD_OUT, _ORDER, _AUGMENTATION = 0, 1, 2


def hold_out(images: ImageSet, share: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """Divides the images of every class into those to train on and those to validate on.

    Args:
        images: at least two of each class.
        share: part of each class that is held out, in (0, 1), rounded; at least one image, and one less than all.
        seed: which images these are.

    Raises:
        DataError: a class has one image only.
    """
    rng = _generator(seed, _HELD_OUT)
    kept, held = [], []
    for name, members in zip(images.class_names, images.members, strict=True):
        if len(members) < 2:
            raise DataError(
                f"a class needs 2 images, one of them to validate on. Received: class '{name}' of "
                f"{images.name} has {len(members)}; set pretrain.validation_share=0"
            )
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        order = rng.permutation(members)
        held.append(np.sort(order[:count]))
        kept.append(np.sort(order[count:]))
    return replace(images, members=tuple(kept)), replace(images, members=tuple(held))


def indices_and_labels(images: ImageSet) -> tuple[np.ndarray, np.ndarray]:
    """Image indices, class by class, and the class of each, both int64 `(images,)`."""
    sizes = [len(members) for members in images.members]
    return np.concatenate(images.members).astype(np.int64), np.repeat(np.arange(len(sizes)), sizes)


def steps_per_epoch(images: ImageSet, batch_size: int) -> int:
    """Whole batches in one pass over the images; what is left over is left out, other images every time.

    Raises:
        ConfigError: there are fewer images than one batch has.
    """
    count = sum(map(len, images.members))
    if count < batch_size:
        raise ConfigError(
            f"`batch_size` must be at most the number of images. Received: batch_size={batch_size}, "
            f"{images.name} has {count}"
        )
    return count // batch_size


def labelled_batches(
    images: ImageSet,
    *,
    image_size: int,
    augmentation: str,
    batch_size: int,
    seed: int,
    start: int = 0,
    done: int = 0,
    count: int,
    cache_mb: float = 1024,
    unreadable: UnreadableImages | None = None,
) -> tf.data.Dataset:
    """Makes a stream of `count` epochs of augmented images in random order.

    An element is `(images, labels)`: float32 `(batch, H, W, 3)`, normalised, and int64 `(batch,)`, positions of the
    classes in `images.class_names`. Epoch i depends on `seed` and i only: a stream with start=k continues one that
    ended before epoch k.

    Args:
        images: all of them are shown once an epoch, but for what `steps_per_epoch` leaves out.
        image_size: H and W.
        augmentation: see `training_image`.
        batch_size: images of an element.
        seed: the stream.
        start: number of the first epoch.
        done: steps of that epoch that are left out, since they are done.
        count: number of epochs.
        cache_mb: megabytes of images to keep.
        unreadable: leaves out the images that it finds unreadable, so that their batches are smaller; None: they are
            an error.

    Raises:
        ConfigError: an unknown augmentation, or fewer images than a batch has.
    """
    steps, load = steps_per_epoch(images, batch_size), image_loader(images, image_size, augmentation, cache_mb)
    indices, labels = indices_and_labels(images)

    def draw(number):
        epoch, step = divmod(int(number), steps)
        chosen = _generator(seed, _ORDER, epoch).permutation(len(indices))[step * batch_size : (step + 1) * batch_size]
        seeds = _generator(seed, _AUGMENTATION, int(number)).integers(_SEED_BOUND, size=(batch_size, 2))
        good = _readable(indices[chosen], unreadable)
        return indices[chosen][good], labels[chosen][good], seeds.astype(np.int32)[good]

    def prepare(number):
        chosen, classes, seeds = tf.numpy_function(draw, [number], (tf.int64, tf.int64, tf.int32))
        size = batch_size if unreadable is None else None
        batch = load(tf.ensure_shape(chosen, [size]), tf.ensure_shape(seeds, [size, 2]))
        return batch, tf.ensure_shape(classes, [size])

    dataset = tf.data.Dataset.range(start * steps + done, (start + count) * steps)
    dataset = dataset.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.prefetch(_PREFETCHED_STEPS)


def evaluation_batches(
    images: ImageSet,
    *,
    image_size: int,
    batch_size: int,
    cache_mb: float = 0,
    unreadable: UnreadableImages | None = None,
) -> tf.data.Dataset:
    """Makes a stream of all images with their classes, in order and without augmentation.

    Args and elements as for `labelled_batches`; the last element may have fewer images.
    """
    indices, labels = indices_and_labels(images)
    if unreadable is not None:
        good = _readable(indices, unreadable)
        indices, labels = indices[good], labels[good]
    batches = image_batches(images, indices, image_size=image_size, batch_size=batch_size, cache_mb=cache_mb)
    return tf.data.Dataset.zip((batches, tf.data.Dataset.from_tensor_slices(labels).batch(batch_size)))


def _readable(indices: Sequence[int], unreadable: UnreadableImages | None) -> np.ndarray:
    """For each image whether it is used; not one is an error, since there is no mean of nothing."""
    good = ~np.isin(indices, unreadable.among(indices)) if unreadable else np.ones(len(indices), bool)
    if not good.any():
        raise DataError(f"of the {len(indices)} images of a batch one must be readable. Received: none is")
    return good


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(int(seed), spawn_key=key))
