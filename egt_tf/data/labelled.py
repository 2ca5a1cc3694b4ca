"""Streams of single images with their classes, as ordinary classification takes them: pure functions of a seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import tensorflow as tf

from egt_tf.config import ImagePreparation
from egt_tf.data.image_set import ImageSet
from egt_tf.data.loading import PREFETCHED_STEPS, image_batches, image_loader
from egt_tf.data.preprocessing import draw_augmentation
from egt_tf.data.sampling import generator_of
from egt_tf.errors import ConfigError, DataError

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

    Example:
        >>> from egt_tf.data import open_source
        >>> training, validation = hold_out(open_source("synthetic:shapes").split("base"), share=0.1, seed=1)
        >>> len(training.members[0]), len(validation.members[0])
        (54, 6)
    """
    rng = generator_of(seed, _HELD_OUT)
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


def batches_per_epoch(images: ImageSet, batch_size: int) -> int:
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
    preparation: ImagePreparation,
    *,
    batch_size: int,
    start: int = 0,
    done: int = 0,
    count: int,
) -> tf.data.Dataset:
    """Makes a stream of `count` epochs of augmented images in random order.

    An element is `(images, labels)`: float32 `(batch, H, W, 3)`, normalised, and int64 `(batch,)`, positions of the
    classes in `images.class_names`. Epoch i depends on the seed and i only: a stream with start=k continues one that
    ended before epoch k.

    Args:
        images: all of them are shown once an epoch, but for what `batches_per_epoch` leaves out. Where it skips
            unreadable images, batches with such images are smaller.
        preparation: of the images.
        batch_size: images of an element.
        start: number of the first epoch.
        done: steps of that epoch that are left out, since they are done.
        count: number of epochs.

    Raises:
        ConfigError: fewer images than a batch has.

    Example:
        >>> from egt_tf.data import open_source
        >>> images = open_source("synthetic:shapes").split("novel")
        >>> batches = labelled_batches(images, ImagePreparation(image_size=16, seed=1), batch_size=4, count=1)
        >>> for images, labels in batches.take(1):
        ...     print(images.shape, labels.shape)
        (4, 16, 16, 3) (4,)
    """
    steps, load = batches_per_epoch(images, batch_size), image_loader(images, preparation)
    indices, labels = indices_and_labels(images)
    seed, size = preparation.seed, batch_size if images.unreadable is None else None

    def draw(number: np.ndarray) -> tuple[np.ndarray, ...]:
        epoch, step = divmod(int(number), steps)
        chosen = generator_of(seed, _ORDER, epoch).permutation(len(indices))[
            step * batch_size : (step + 1) * batch_size
        ]
        seeds, mirrored = draw_augmentation(generator_of(seed, _AUGMENTATION, int(number)), batch_size)
        good = _readable(images, indices[chosen])
        return indices[chosen][good], labels[chosen][good], seeds[good], mirrored[good]

    @tf.autograph.experimental.do_not_convert
    def prepare(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chosen, classes, seeds, mirrored = tf.numpy_function(draw, [number], (tf.int64, tf.int64, tf.int32, tf.bool))
        batch = load(
            tf.ensure_shape(chosen, [size]), tf.ensure_shape(seeds, [size, 2]), tf.ensure_shape(mirrored, [size])
        )
        return batch, tf.ensure_shape(classes, [size])

    dataset = tf.data.Dataset.range(start * steps + done, (start + count) * steps)
    dataset = dataset.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.prefetch(PREFETCHED_STEPS)


def evaluation_batches(images: ImageSet, *, image_size: int, batch_size: int) -> tf.data.Dataset:
    """Makes a stream of all images with their classes, in order and without augmentation.

    Elements are those of `labelled_batches`; the last one may have fewer images.

    Args:
        images: all of them are shown, but for those that it leaves out as unreadable.
        image_size: H and W.
        batch_size: images of an element.

    Example:
        >>> from egt_tf.data import open_source
        >>> images = open_source("synthetic:shapes").split("novel")
        >>> for images, labels in evaluation_batches(images, image_size=16, batch_size=8).take(1):
        ...     print(images.shape, labels.numpy())
        (8, 16, 16, 3) [0 0 0 0 0 0 0 0]
    """
    indices, labels = indices_and_labels(images)
    good = _readable(images, indices)
    indices, labels = indices[good], labels[good]
    batches = image_batches(images, indices, image_size=image_size, batch_size=batch_size)
    return tf.data.Dataset.zip((batches, tf.data.Dataset.from_tensor_slices(labels).batch(batch_size)))


def _readable(images: ImageSet, indices: np.ndarray) -> np.ndarray:
    """For each image whether it is used; not one is an error, since there is no mean of nothing."""
    good = ~np.isin(indices, images.unreadable_among(indices))
    if not good.any():
        raise DataError(f"of the {len(indices)} images of a batch one must be readable. Received: none is")
    return good
