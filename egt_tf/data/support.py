"""Images that are explained, as uint8 pixels: support sets from folders, and single images.

They stay what a person sees; `egt_tf.data.preprocessing.normalize` makes a network's input of them where one is needed.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from egt_tf.data.image_set import first_images
from egt_tf.data.images import decode_image
from egt_tf.data.preprocessing import resized_centre, resized_side
from egt_tf.data.sources import open_source
from egt_tf.errors import DataError

# Pixels as `load_image` gives them, or the path of a file; a support set, or a folder of one.
ImageOrPath: TypeAlias = "np.ndarray | str | os.PathLike[str]"
SupportOrPath: TypeAlias = "SupportSet | str | os.PathLike[str]"


@dataclasses.dataclass(frozen=True, eq=False)
class SupportSet:
    """Labelled images of the classes that a model is to tell apart.

    Attributes:
        class_names: one name a class.
        images: uint8 `(ways, shots, size, size, 3)`, RGB.
        left_out: images of the folder that were not used because another class has fewer.
        counts: how many images of each class there are, if classes have different numbers; those behind them in `images`
            are blank. None: `shots` of each.

    Raises:
        DataError: `images` is no such array, or has another number of classes than there are names or counts.

    Example:
        >>> support = SupportSet(("ant", "bee"), np.zeros((2, 5, 84, 84, 3), np.uint8))
        >>> support.ways, support.shots
        (2, 5)
    """

    class_names: tuple[str, ...]
    images: np.ndarray
    left_out: int = 0
    counts: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 5 or self.images.shape[-1] != 3:
            raise DataError(
                "`images` of a support set must be uint8 (ways, shots, height, width, 3). "
                f"Received: {self.images.dtype} {self.images.shape}"
            )
        if len(self.class_names) != self.ways:
            raise DataError(
                f"`class_names` must hold a name for each of the {self.ways} classes. Received: {self.class_names!r}"
            )
        if len(self.sizes) != self.ways or not all(0 <= size <= self.shots for size in self.sizes):
            raise DataError(
                f"`counts` must hold a number from 0 to {self.shots} for each of the {self.ways} classes. "
                f"Received: {self.counts}"
            )

    @property
    def ways(self) -> int:
        """Number of classes."""
        return self.images.shape[0]

    @property
    def shots(self) -> int:
        """Images of each class; the most that a class has, if the numbers differ."""
        return self.images.shape[1]

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many images each class has."""
        return self.ways * (self.shots,) if self.counts is None else self.counts

    @property
    def flat_images(self) -> np.ndarray:
        """All images without blank ones, class by class, `(images, size, size, 3)`."""
        return self.images[self._there]

    @property
    def flat_labels(self) -> np.ndarray:
        """The class of each of `flat_images`, int64 `(images,)`."""
        return np.repeat(np.arange(self.ways), self.sizes)

    def placed(self, values: np.ndarray) -> np.ndarray:
        """Values of `flat_images`, `(images, ...)`, where these are in `images`: `(ways, shots, ...)`, 0 elsewhere.

        Example:
            >>> support = SupportSet(("ant", "bee"), np.zeros((2, 2, 8, 8, 3), np.uint8), counts=(1, 2))
            >>> support.placed(np.array([3, 4, 5])).tolist()
            [[3, 0], [4, 5]]
        """
        placed = np.zeros((self.ways, self.shots, *values.shape[1:]), values.dtype)
        placed[self._there] = values
        return placed

    @property
    def _there(self) -> np.ndarray:
        """Which of `images` are not blank, bool `(ways, shots)`."""
        return np.arange(self.shots) < np.array(self.sizes)[:, None]


def padded_support(class_names: Sequence[str], images: Sequence[np.ndarray]) -> SupportSet:
    """A support set of classes with different numbers of images.

    Args:
        class_names: one name a class.
        images: of each class, uint8 `(shots, size, size, 3)`; a class may have none.

    Example:
        >>> padded_support(("ant", "bee"), [np.zeros((1, 8, 8, 3), np.uint8), np.zeros((3, 8, 8, 3), np.uint8)]).counts
        (1, 3)
    """
    counts = tuple(map(len, images))
    blank = np.full((len(images), max(1, *counts), *images[0].shape[1:]), 255, np.uint8)
    for place, each in zip(blank, images, strict=True):
        place[: len(each)] = each
    return SupportSet(tuple(class_names), blank, counts=counts)


def load_support(folder: str | os.PathLike[str], image_size: int) -> SupportSet:
    """Reads a folder with one sub-folder of images a class.

    Every class is used with as many images as the smallest one has, the first by name.

    Args:
        folder: the folder.
        image_size: height and width of the result in pixels, as a model takes them.

    Raises:
        DataError: the folder is missing, has fewer than two classes or an empty one, or an image cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("ant", "bee"):
        ...     (folder / name).mkdir()
        ...     Image.new("RGB", (40, 30), "red").save(folder / name / "1.png")
        >>> support = load_support(folder, image_size=16)
        >>> support.class_names, support.images.shape
        (('ant', 'bee'), (2, 1, 16, 16, 3))
    """
    source = open_source(f"folder:{os.fspath(folder)}")
    chosen, left_out = first_images(source.split("all").members)
    pixels = [[load_image(source.describe(int(index)), image_size) for index in each] for each in chosen]
    return SupportSet(source.class_names, np.array(pixels), left_out)


def load_image(path: str | os.PathLike[str], image_size: int) -> np.ndarray:
    """Reads one image, resizes it and crops its centre, see `egt_tf.data.preprocessing.resized_centre`.

    Args:
        path: a file of a format that `decode_image` reads. Large JPEG images are decoded at a part of their size.
        image_size: height and width of the result in pixels, as a model takes them.

    Returns:
        uint8 `(image_size, image_size, 3)`, RGB.

    Raises:
        DataError: the file is missing or no readable image.

    Example:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> path = pathlib.Path(tempfile.mkdtemp(), "red.png")
        >>> Image.new("RGB", (40, 30), "red").save(path)
        >>> load_image(path, image_size=16)[8, 8].tolist()
        [255, 0, 0]
    """
    return resized_centre(decode_image(path, side=resized_side(image_size)), image_size).numpy()


def as_image(image: ImageOrPath, image_size: int) -> np.ndarray:
    """Pixels as they are, or those of a file as `load_image` gives them.

    Raises:
        DataError: the pixels are not uint8 `(image_size, image_size, 3)`, or the file cannot be read.
    """
    if not isinstance(image, np.ndarray):
        return load_image(image, image_size)
    if image.dtype != np.uint8 or image.shape != (image_size, image_size, 3):
        raise DataError(
            f"`image` must be uint8 ({image_size}, {image_size}, 3), as load_image gives it, or the path of a file. "
            f"Received: {image.dtype} {image.shape}"
        )
    return image


def as_support(support: SupportOrPath, image_size: int) -> SupportSet:
    """A support set as it is, or that of a folder as `load_support` gives it.

    Raises:
        DataError: its images are not `image_size` pixels a side, or the folder cannot be read.
    """
    if not isinstance(support, SupportSet):
        return load_support(support, image_size)
    if support.images.shape[2:4] != (image_size, image_size):
        raise DataError(
            f"the images of the support set must be {image_size} x {image_size} pixels, as the model takes them. "
            f"Received: shape={support.images.shape}"
        )
    return support
