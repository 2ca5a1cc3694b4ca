"""Photos with their classes: from a folder or from lists, checked, without those that cannot be read or come twice."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from egt_tf.data.check import Remark
from egt_tf.data.image_set import OnProgress
from egt_tf.data.images import IMAGE_SUFFIXES
from egt_tf.data.preprocessing import resized_centre
from egt_tf.data.support import ImageOrPath, load_image
from egt_tf.errors import DataError
from egt_tf.files import text_of_name


@dataclass(frozen=True, eq=False)
class Photos:
    """Labelled photos as the network takes them.

    Attributes:
        class_names: sorted, each with at least one photo.
        labels: class of each photo, ascending, int64 `(n,)`.
        names: what each photo is called, "class/file.jpg".
        digests: a hash of the pixels of each, by which the same photo is known again.
        pixels: uint8 `(n, size, size, 3)`.
        left_out: files that are not among the photos, and why.
        remarks: what else there is to know about the photos.

    Example:
        >>> photos = labelled_photos([np.zeros((8, 8, 3), np.uint8), np.ones((8, 8, 3), np.uint8)], ["a", "b"], 8)
        >>> photos.class_names, photos.names
        (('a', 'b'), ('a/1', 'b/2'))
    """

    class_names: tuple[str, ...]
    labels: np.ndarray
    names: tuple[str, ...]
    digests: tuple[str, ...]
    pixels: np.ndarray
    left_out: tuple[Remark, ...] = ()
    remarks: tuple[Remark, ...] = ()


class _Labelled(NamedTuple):
    """A photo that is to be read."""

    image: ImageOrPath
    class_name: str
    name: str


@dataclass(eq=False)
class _Reader:
    """Collects photos."""

    image_size: int
    known: dict[str, tuple[str, str]] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    pixels: list[np.ndarray] = field(default_factory=list)
    left_out: list[Remark] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)

    def __post_init__(self) -> None:
        # They need no new photo.
        self.known_classes = {class_name for _, class_name in self.known.values()}

    def read(self, images: Sequence[_Labelled], progress: OnProgress | None = None) -> None:
        """Adds photos, or says why they are left out."""
        # Files are decoded outside of Python's lock, so that threads share the work.
        with ThreadPoolExecutor() as pool:
            for done, (one, pixels) in enumerate(zip(images, pool.map(self._pixels, images), strict=True)):
                if progress is not None:
                    progress(done, len(images))
                if isinstance(pixels, DataError):
                    self.left_out.append(Remark(one.name, str(pixels)))
                else:
                    self._add(pixels, one.class_name, one.name)
        if progress is not None:
            progress(len(images), len(images))

    def _pixels(self, one: _Labelled) -> np.ndarray | DataError:
        try:
            return photo_pixels(one.image, self.image_size)
        except DataError as error:
            return error

    def _add(self, pixels: np.ndarray, class_name: str, name: str) -> None:
        digest = hashlib.sha256(pixels.tobytes()).hexdigest()
        other, other_class = self.known.get(digest, (None, None))
        if other is not None and other_class == class_name:
            self.left_out.append(Remark(name, f"the same photo as {other}"))
            return
        if other is not None:
            self.remarks.append(Remark(name, f"the same photo as {other}, in another class"))
        self.known.setdefault(digest, (name, class_name))
        self.classes.append(class_name)
        self.names.append(name)
        self.digests.append(digest)
        self.pixels.append(pixels)

    def photos(self, wanted: Iterable[str]) -> Photos:
        """All that was read.

        Args:
            wanted: classes that must have a photo each.
        """
        for class_name in wanted:
            if class_name not in {*self.classes, *self.known_classes}:
                reasons = [str(remark) for remark in self.left_out if remark.where.startswith(f"{class_name}/")]
                raise DataError(
                    f"every class must have a photo that can be read. Received: none in {class_name!r}"
                    + (f" ({reasons[0]})" if reasons else "")
                )
        if not self.classes:
            raise DataError(f"there must be a photo that can be read and is new. Received: none ({self.left_out[0]})")
        class_names = tuple(sorted(set(self.classes)))
        labels = np.array([class_names.index(name) for name in self.classes], np.int64)
        order = np.argsort(labels, kind="stable")
        return Photos(
            class_names=class_names,
            labels=labels[order],
            names=tuple(self.names[index] for index in order),
            digests=tuple(self.digests[index] for index in order),
            pixels=np.stack([self.pixels[index] for index in order]),
            left_out=tuple(self.left_out),
            remarks=tuple(self.remarks),
        )


def folder_photos(
    folder: str | os.PathLike[str],
    image_size: int,
    known: dict[str, tuple[str, str]] | None = None,
    progress: OnProgress | None = None,
) -> Photos:
    """Reads FOLDER/CLASS/PHOTO.

    Args:
        folder: one sub-folder of photos a class.
        image_size: height and width that the photos are brought to.
        known: digest -> name and class of photos that are there already; they are not taken again for that class.
        progress: called with the number of files done and of all.

    Raises:
        DataError: no sub-folders, photos or further folders where there should be none, or a class without a photo that
            can be read or is new.

    Example:
        >>> folder_photos("no/such/folder", 32)
        Traceback (most recent call last):
        egt_tf.errors.DataError: cannot read the folder no/such/folder: No such file or directory
    """
    files = class_files(Path(folder))
    reader = _Reader(image_size, dict(known or {}))
    images = [_Labelled(path, name, f"{name}/{path.name}") for name, paths in files.items() for path in paths]
    reader.read(images, progress)
    return reader.photos(files)


def labelled_photos(
    images: Sequence[ImageOrPath],
    labels: Sequence[str],
    image_size: int,
    known: dict[str, tuple[str, str]] | None = None,
    names: Sequence[str] | None = None,
) -> Photos:
    """Reads images with a label each.

    Args:
        images: files, or uint8 pixels `(height, width, 3)` of any size.
        labels: the class of each.
        image_size, known: see `folder_photos`.
        names: what each is called; None: by its file, or by its number.

    Raises:
        DataError: another number of labels or names than of images, none, or a class without a photo that can be read.

    Example:
        >>> labelled_photos([np.zeros((8, 8, 3), np.uint8)], [], 8)
        Traceback (most recent call last):
        egt_tf.errors.DataError: every image must have a label. Received: 1 images and 0 labels
    """
    labels = [str(label) for label in labels]
    if len(images) != len(labels) or not labels:
        raise DataError(f"every image must have a label. Received: {len(images)} images and {len(labels)} labels")
    if names is None:
        names = [
            f"{number}" if isinstance(image, np.ndarray) else Path(image).name
            for number, image in enumerate(images, start=1)
        ]
    if len(names) != len(images):
        raise DataError(f"every image must have a name, or none. Received: {len(images)} images and {len(names)} names")
    reader = _Reader(image_size, dict(known or {}))
    named = zip(images, labels, names, strict=True)
    reader.read([_Labelled(image, label, f"{label}/{name}") for image, label, name in named])
    return reader.photos(sorted(set(labels)))


def photo_pixels(image: ImageOrPath, image_size: int) -> np.ndarray:
    """A file, or pixels of any size, as the network takes them: uint8 `(image_size, image_size, 3)`.

    Pixels that have that size already are taken as they are, others are resized and cropped as a file is.

    Raises:
        DataError: the file cannot be read, or the pixels are not uint8 `(height, width, 3)`.

    Example:
        >>> photo_pixels(np.zeros((20, 30, 3), np.uint8), 8).shape
        (8, 8, 3)
    """
    if not isinstance(image, np.ndarray):
        return load_image(image, image_size)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise DataError(
            f"an image must be a file or uint8 pixels (height, width, 3), RGB. Received: {image.dtype} {image.shape}"
        )
    return image if image.shape[:2] == (image_size, image_size) else resized_centre(image, image_size).numpy()


def class_files(folder: Path) -> dict[str, list[Path]]:
    """Class -> its image files, both sorted; hidden files and files of other types are passed over.

    Raises:
        DataError: see `folder_photos`.
    """
    classes = [entry for entry in _entries(folder) if entry.is_dir()]
    if not classes:
        loose = [entry for entry in _entries(folder) if _is_image(entry)]
        received = f"{len(loose)} photos without a class" if loose else "no sub-folders"
        raise DataError(f"{folder} must have a sub-folder of photos for each class. Received: {received}")
    return {text_of_name(entry.name): _photo_files(entry) for entry in classes}


def _photo_files(folder: Path) -> list[Path]:
    entries = _entries(folder)
    files = [entry for entry in entries if _is_image(entry) and entry.is_file()]
    if files:
        return files
    nested = [entry for entry in entries if entry.is_dir()]
    received = f"folders in it, such as {nested[0].name!r}" if nested else "none"
    raise DataError(
        f"the folder of a class must have photos ({', '.join(IMAGE_SUFFIXES)}). Received: {received} in {folder}"
        + ("; name the folder whose sub-folders are the classes" if nested else "")
    )


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror or error}") from error


def _is_image(path: Path) -> bool:
    return path.name.lower().endswith(IMAGE_SUFFIXES)
