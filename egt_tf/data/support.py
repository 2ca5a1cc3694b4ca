"""Support sets from folders: a few labelled images a class, which say what a model tells apart."""

from __future__ import annotations

import dataclasses
import os

import numpy as np

from egt_tf.data.images import decode_image
from egt_tf.data.preprocessing import evaluation_image
from egt_tf.data.sources import open_source


@dataclasses.dataclass(frozen=True, eq=False)
class SupportSet:
    """Labelled images, ready for a model.

    Attributes:
        class_names: one name a class.
        images: normalised float32 `(ways, shots, size, size, 3)`.
        left_out: images of the folder that were not used because another class has fewer.
    """

    class_names: tuple[str, ...]
    images: np.ndarray
    left_out: int = 0

    @property
    def ways(self) -> int:
        """Number of classes."""
        return self.images.shape[0]

    @property
    def shots(self) -> int:
        """Images of each class."""
        return self.images.shape[1]


def load_support(folder: str | os.PathLike, image_size: int) -> SupportSet:
    """Reads a folder with one sub-folder of images a class.

    Every class is used with as many images as the smallest one has, the first by name.

    Raises:
        DataError: the folder is missing, has fewer than two classes or an empty one, or an image cannot be read.
    """
    images = open_source(f"folder:{os.fspath(folder)}").split("all")
    shots = min(len(members) for members in images.members)
    stacks = [
        np.stack([_prepared(images.read(int(i)), image_size) for i in members[:shots]]) for members in images.members
    ]
    return SupportSet(images.class_names, np.stack(stacks), sum(len(m) - shots for m in images.members))


def load_image(path: str | os.PathLike, image_size: int) -> np.ndarray:
    """Reads one image as `evaluation_image` gives it, float32 `(size, size, 3)`.

    Raises:
        DataError: the file is missing or no readable image.
    """
    return _prepared(decode_image(os.fspath(path), os.fspath(path)), image_size)


def _prepared(image: np.ndarray, image_size: int) -> np.ndarray:
    return evaluation_image(image, image_size).numpy()
