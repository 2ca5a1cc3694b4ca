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

    Raises:
        DataError: `images` is no such array, or has another number of classes than there are names.

    Example:
        >>> support = SupportSet(("ant", "bee"), np.zeros((2, 5, 84, 84, 3), np.uint8))
        >>> support.ways, support.shots
        (2, 5)
    """

    class_names: tuple[str, ...]
    images: np.ndarray
    left_out: int = 0

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

    @property
    def ways(self) -> int:
        """Number of classes."""
        return self.images.shape[0]

    @property
    def shots(self) -> int:
        """Images of each class."""
        return self.images.shape[1]


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
