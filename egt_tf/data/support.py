"""Images that are explained, as uint8 pixels: support sets from folders, and single images.

They stay what a person sees; `egt_tf.data.preprocessing.normalize` makes a network's input of them where one is needed.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TypeAlias

import numpy as np

from egt_tf.data.image_set import first_images
from egt_tf.data.images import decode_image
from egt_tf.data.preprocessing import resized_centre
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
        counts: how many images each class has, the first ones of its row; what follows them is blank and not used.
            None: every class has `shots`.

    Raises:
        DataError: `images` is no such array, or has another number of classes than there are names or counts, or a
            count is below 1 or above `shots`.

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
        counts = self.counts
        if counts is not None and (
            len(counts) != self.ways or not all(1 <= count <= self.shots for count in counts)
        ):
            raise DataError(
                f"`counts` must be {self.ways} numbers from 1 to {self.shots}. Received: counts={counts!r}"
            )

    @property
    def ways(self) -> int:
        """Number of classes."""
        return self.images.shape[0]

    @property
    def shots(self) -> int:
        """Images of each class; of the largest one if they differ."""
        return self.images.shape[1]

    @property
    def used(self) -> np.ndarray:
        """Which of the places of `images` hold an image, bool `(ways, shots)`."""
        counts = np.full(self.ways, self.shots) if self.counts is None else np.array(self.counts)
        return np.arange(self.shots) < counts[:, None]

    @property
    def flat_images(self) -> np.ndarray:
        """The images one after the other, class by class, `(support, size, size, 3)`."""
        return self.images[self.used]

    @property
    def labels(self) -> np.ndarray:
        """One-hot labels of `flat_images`, float32 `(support, ways)`."""
        return np.eye(self.ways, dtype=np.float32)[np.nonzero(self.used)[0]]

    def by_class(self, values: np.ndarray) -> np.ndarray:
        """Brings what belongs to each of `flat_images` into the order of `images`; blank places get 0.

        Args:
            values: `(n, support, ...)`.

        Returns:
            `(n, ways, shots, ...)`.
        """
        places = np.zeros((len(values), self.ways, self.shots, *values.shape[2:]), values.dtype)
        places[:, self.used] = values
        return places


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
    images = open_source(f"folder:{os.fspath(folder)}").split("all")
    chosen, left_out = first_images(images.members)
    pixels = [[resized_centre(images.read(int(index)), image_size).numpy() for index in each] for each in chosen]
    return SupportSet(images.class_names, np.array(pixels), left_out)


def load_image(path: str | os.PathLike[str], image_size: int) -> np.ndarray:
    """Reads one image, resizes it and crops its centre, see `egt_tf.data.preprocessing.resized_centre`.

    Args:
        path: a file of any format that Pillow reads.
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
    return resized_centre(decode_image(os.fspath(path), os.fspath(path)), image_size).numpy()


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
