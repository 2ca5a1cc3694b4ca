"""Images from a set, read, resized, augmented and kept in memory, as TensorFlow takes them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from egt_tf.config import ImagePreparation, find_augmentation
from egt_tf.data.image_set import ImageSet
from egt_tf.data.preprocessing import evaluation_image, normalize, resized_centre, training_image

PREFETCHED_STEPS = 2

Loader = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


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

    def __contains__(self, index: int) -> bool:
        """Whether the image of that number was kept; it then stays."""
        return int(index) in self._images

    def __getitem__(self, index: int) -> np.ndarray:
        """The image of that number, which was kept."""
        return self._images[int(index)]

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
        if index in self:
            return self[index]
        image = self._read(int(index))
        self.keep(index, image)
        return image


def image_loader(images: ImageSet, preparation: ImagePreparation) -> Loader:
    """A function that loads images in a graph.

    Its arguments are image indices `(n,)`, and seeds `(n, 2)` and whether each image is mirrored `(n,)`, both as
    `draw_augmentation` draws them; it returns normalised images `(n, H, W, 3)`. It does not depend on the memory.

    Args:
        images: gives the images.
        preparation: size, augmentation and memory; its seed is not used.
    """
    crops = find_augmentation(preparation.augmentation).crops
    return (_RandomCrops if crops else _FixedCrops)(images, preparation)


class _RandomCrops:
    """Keeps what was decoded."""

    def __init__(self, images: ImageSet, preparation: ImagePreparation):
        self._read = ImageCache(images.read, preparation.cache_mb)
        self._size, self._augmentation = preparation.image_size, preparation.augmentation

    def __call__(self, indices: tf.Tensor, seeds: tf.Tensor, mirrored: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(self._crop, (indices, seeds, mirrored), fn_output_signature=tf.float32)

    def _crop(self, one: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tf.Tensor:
        index, seed, mirrored = one
        crop = training_image(_read_image(self._read, index), self._size, self._augmentation, seed, mirrored)
        return tf.ensure_shape(crop, [self._size, self._size, 3])


class _FixedCrops:
    """For augmentations that show the same part of an image every time: keeps what was resized."""

    def __init__(self, images: ImageSet, preparation: ImagePreparation):
        self._read, self._shape = images.read, (preparation.image_size, preparation.image_size, 3)
        self._flips = find_augmentation(preparation.augmentation).flips
        self._store = ImageStore(preparation.cache_mb)

    def __call__(self, indices: tf.Tensor, seeds: tf.Tensor, mirrored: tf.Tensor) -> tf.Tensor:
        missing = tf.ensure_shape(tf.numpy_function(self._missing, [indices], tf.int64), [None])
        new = tf.map_fn(self._resized, tf.gather(indices, missing), fn_output_signature=tf.uint8)
        # All that is kept of a step comes in one call.
        pixels = tf.numpy_function(self._assembled, [indices, mirrored, missing, new], tf.uint8)
        return normalize(tf.ensure_shape(pixels, [*indices.shape, *self._shape]))

    def _missing(self, numbers: np.ndarray) -> np.ndarray:
        """The places among `numbers` of the images that are not kept."""
        return np.flatnonzero([number not in self._store for number in numbers])

    def _resized(self, index: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(resized_centre(_read_image(self._read, index), self._shape[0]), self._shape)

    def _assembled(self, numbers: np.ndarray, mirrored: np.ndarray, missing: np.ndarray, new: np.ndarray) -> np.ndarray:
        """All images of a step, mirrored where the augmentation does so, of which `new` were missing; keeps these."""
        new_at = dict(zip(missing.tolist(), new, strict=True))
        pixels = np.empty((len(numbers), *self._shape), np.uint8)
        for place, number in enumerate(numbers):
            image = new_at[place] if place in new_at else self._store[number]
            pixels[place] = image[:, ::-1] if self._flips and mirrored[place] else image
        for place, image in new_at.items():
            # A copy of its own; TensorFlow frees the array, which holds all new images of the step.
            self._store.keep(int(numbers[place]), image.copy())
        return pixels


def _read_image(read: Callable[[int], np.ndarray], index: tf.Tensor) -> tf.Tensor:
    image = tf.numpy_function(read, [index], tf.uint8)
    return tf.ensure_shape(image, [None, None, 3])


def image_batches(
    images: ImageSet, indices: Sequence[int] | np.ndarray, *, image_size: int, batch_size: int
) -> tf.data.Dataset:
    """Makes a stream of evaluation images in the order of `indices`.

    Args:
        images: gives the images.
        indices: image indices, as in `images.members`.
        image_size: H and W.
        batch_size: images of an element; the last one may have fewer.

    Returns:
        float32 `(batch, H, W, 3)`, see `evaluation_image`. As for errors, see `episode_dataset`.

    Example:
        >>> from egt_tf.data import open_source
        >>> images = open_source("synthetic:shapes").split("novel")
        >>> batches = image_batches(images, images.members[0][:3], image_size=16, batch_size=2)
        >>> [len(batch) for batch in batches]
        [2, 1]
    """

    @tf.autograph.experimental.do_not_convert
    def load(index: tf.Tensor) -> tf.Tensor:
        image = evaluation_image(_read_image(images.read, index), image_size)
        return tf.ensure_shape(image, [image_size, image_size, 3])

    dataset = tf.data.Dataset.from_tensor_slices(np.asarray(indices, np.int64))
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.batch(batch_size).prefetch(PREFETCHED_STEPS)
