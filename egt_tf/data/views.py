"""Several augmented views of each image, always the same ones: what the maps of a frozen backbone are computed of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from egt_tf.config import ImagePreparation
from egt_tf.data.image_set import ImageSet
from egt_tf.data.loading import PREFETCHED_STEPS
from egt_tf.data.preprocessing import draw_augmentation, training_image
from egt_tf.data.sampling import generator_of
from egt_tf.errors import DataError

# Key of the stream of random numbers that the views have among those of a seed.
_VIEWS = 3
_IMAGES_PER_BATCH = 64


def draw_views(seed: int, index: int, views: int) -> tuple[np.ndarray, np.ndarray]:
    """The random numbers of the views of one image, as `draw_augmentation` gives them: a function of the arguments.

    Of two views that follow each other one is mirrored.

    Example:
        >>> seeds, mirrored = draw_views(seed=1, index=7, views=4)
        >>> seeds.shape, int(mirrored.sum())
        ((4, 2), 2)
    """
    seeds, mirrored = draw_augmentation(generator_of(seed, _VIEWS, index), views)
    return seeds, mirrored[0] ^ (np.arange(views) % 2 == 1)


class Views:
    """The views of images, batch by batch.

    Args:
        images: gives the images; where it skips unreadable ones, black pictures stand for these.
        preparation: size, augmentation and seed.
        count: views of each image, >= 1.

    Attributes:
        unreadable: image indices that were found unreadable so far.

    Example:
        >>> from egt_tf.data import open_source
        >>> views = Views(open_source("synthetic:shapes").split("novel"), ImagePreparation(16, "flip"), count=2)
        >>> [batch.shape for batch in views.batches(np.arange(3))]
        [TensorShape([3, 2, 16, 16, 3])]
    """

    def __init__(self, images: ImageSet, preparation: ImagePreparation, count: int):
        self.images, self.preparation, self.count = images, preparation, count
        self.unreadable: set[int] = set()

    def batches(self, indices: np.ndarray) -> Iterator[tf.Tensor]:
        """Normalised views float32 `(batch, views, H, W, 3)` of the images, in the order of the indices.

        Raises:
            DataError: an image cannot be read, as the text of an error of TensorFlow; see `original_error`.
        """
        drawn = [draw_views(self.preparation.seed, int(index), self.count) for index in indices]
        seeds, mirrored = (np.stack(numbers) for numbers in zip(*drawn, strict=True))
        dataset = tf.data.Dataset.from_tensor_slices((np.asarray(indices, np.int64), seeds, mirrored))
        dataset = dataset.map(self._views, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return iter(dataset.batch(max(1, _IMAGES_PER_BATCH // self.count)).prefetch(PREFETCHED_STEPS))

    @tf.autograph.experimental.do_not_convert
    def _views(self, index: tf.Tensor, seeds: tf.Tensor, mirrored: tf.Tensor) -> tf.Tensor:
        size, augmentation = self.preparation.image_size, self.preparation.augmentation
        image = tf.ensure_shape(tf.numpy_function(self._read, [index], tf.uint8), [None, None, 3])
        views = [
            training_image(image, size, augmentation, seeds[number], mirrored[number]) for number in range(self.count)
        ]
        return tf.ensure_shape(tf.stack(views), [self.count, size, size, 3])

    def _read(self, index: np.ndarray) -> np.ndarray:
        try:
            return self.images.read(int(index))
        except DataError:
            if self.images.unreadable is None:
                raise
            self.unreadable.add(int(index))
            return np.zeros((1, 1, 3), np.uint8)
