"""Photographs to learn from: read from a folder, with what was odd about it, or given as arrays."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from egt_tf.data.image_set import OnProgress
from egt_tf.data.images import IMAGE_SUFFIXES, decode_image
from egt_tf.data.preprocessing import resized_centre
from egt_tf.data.support import ImageOrPath
from egt_tf.errors import DataError

_SHOWN = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Photos:
    """Labelled photographs at the size that a network takes.

    Attributes:
        pixels: uint8 `(n, size, size, 3)`.
        labels: the name of each one's class.
        names: what each is called, such as its file.
        notes: what was odd where they come from, a sentence each.

    Example:
        >>> photos = Photos(np.zeros((2, 8, 8, 3), np.uint8), ("ant", "bee"), ("1.jpg", "2.jpg"))
        >>> len(photos.digests)
        2
    """

    pixels: np.ndarray
    labels: tuple[str, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def digests(self) -> tuple[str, ...]:
        """The same for the same pixels."""
        return tuple(hashlib.sha256(each.tobytes()).hexdigest() for each in self.pixels)


def read_photo_folder(
    folder: str | os.PathLike[str], image_size: int, least_classes: int = 2, progress: OnProgress | None = None
) -> Photos:
    """Reads a folder with one sub-folder of photographs a class, as many in each as there are.

    What cannot be read is left out and named in the notes.

    Args:
        folder: the folder.
        image_size: height and width of the result in pixels.
        least_classes: how many classes there must be.
        progress: called with (photographs read, photographs).

    Raises:
        DataError: no such folder, too few classes, a class without a readable photograph, or photographs that do not
            lie in folders of classes.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("ant", "bee"):
        ...     (folder / name).mkdir()
        ...     Image.new("RGB", (40, 30), "red").save(folder / name / "1.png")
        >>> read_photo_folder(folder, image_size=16).labels
        ('ant', 'bee')
    """
    folder = Path(folder).expanduser()
    classes, notes = _classes(folder, least_classes)
    files = [(name, path) for name, paths in classes.items() for path in paths]
    pixels, errors = _read([path for _, path in files], image_size, progress)
    kept = [index for index, error in enumerate(errors) if error is None]
    unread = [error for error in errors if error is not None]
    if unread:
        notes.append(f"left out {_counted(len(unread), 'unreadable photo')}: {_shortened(unread)}")
    for name in classes:
        if not any(files[index][0] == name for index in kept):
            first = next(error for (label, _), error in zip(files, errors, strict=True) if label == name)
            raise DataError(f"every class must have a readable photo. Received: class {name!r}, {first}")
    return Photos(
        np.stack([pixels[index] for index in kept]),
        tuple(files[index][0] for index in kept),
        tuple(f"{files[index][0]}/{files[index][1].name}" for index in kept),
        tuple(notes),
    )


def photos_of_images(images: Sequence[ImageOrPath], labels: Sequence[str], image_size: int) -> Photos:
    """Photographs in memory, or files.

    Args:
        images: see `pixels_of_images`.
        labels: the name of each one's class.
        image_size: height and width of the result in pixels.

    Raises:
        DataError: another number of labels than of images, none, or an image that cannot be read.

    Example:
        >>> photos_of_images([np.zeros((40, 30, 3), np.uint8)], ["ant"], image_size=8).pixels.shape
        (1, 8, 8, 3)
    """
    if len(images) != len(labels) or len(images) == 0:
        raise DataError(
            f"there must be one label for each image. Received: {len(images)} images and {len(labels)} labels"
        )
    names = tuple(
        f"image {index}" if isinstance(each, np.ndarray) else Path(each).name for index, each in enumerate(images)
    )
    return Photos(pixels_of_images(images, image_size), tuple(map(str, labels)), names)


def pixels_of_images(images: Sequence[ImageOrPath], image_size: int) -> np.ndarray:
    """Images at the size that a network takes.

    Args:
        images: uint8 arrays `(height, width, 3)`, those of the right size as they are and others resized and cropped,
            or files.
        image_size: height and width of the result in pixels.

    Returns:
        uint8 `(n, image_size, image_size, 3)`.

    Raises:
        DataError: an array is no such image, or a file cannot be read.

    Example:
        >>> pixels_of_images([np.zeros((40, 30, 3), np.uint8)], image_size=8).shape
        (1, 8, 8, 3)
    """
    if isinstance(images, (str, os.PathLike)):
        raise DataError(f"`images` must be a list of images or files. Received: images={images!r}; put it into a list")
    found = [_sized(each, image_size) for each in images]
    return np.stack(found) if found else np.zeros((0, image_size, image_size, 3), np.uint8)


def _sized(image: ImageOrPath, image_size: int) -> np.ndarray:
    if not isinstance(image, np.ndarray):
        return _resized(decode_image(image), image_size)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise DataError(
            f"an image must be uint8 (height, width, 3) or a file. Received: {image.dtype} {image.shape}"
        )
    return image if image.shape[:2] == (image_size, image_size) else _resized(image, image_size)


def _resized(image: np.ndarray, image_size: int) -> np.ndarray:
    return resized_centre(image, image_size).numpy()


def _read(
    paths: Sequence[Path], image_size: int, progress: OnProgress | None
) -> tuple[list[np.ndarray | None], list[str | None]]:
    """The pixels of each file, or what is wrong with it."""

    def read(path: Path) -> tuple[np.ndarray | None, str | None]:
        try:
            return _resized(decode_image(path), image_size), None
        except DataError as error:
            return None, str(error)

    report: Callable[[int, int], None] = progress or (lambda done, total: None)
    report(0, len(paths))
    pixels: list[np.ndarray | None] = []
    errors: list[str | None] = []
    # Decoding takes most of the time and lets other threads run.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, (image, error) in enumerate(pool.map(read, paths), start=1):
            pixels.append(image)
            errors.append(error)
            report(done, len(paths))
    return pixels, errors


# === What is in the folder ===


def _classes(folder: Path, least: int) -> tuple[dict[str, list[Path]], list[str]]:
    """The photographs of each class, and what is not used."""
    if not folder.is_dir():
        received = "a file" if folder.exists() else "no such folder"
        raise DataError(f"{folder} must be a folder with a folder of photos for each class. Received: {received}")
    inside = _visible(folder)
    folders = [path for path in inside if path.is_dir()]
    loose = _photos(inside)
    if not folders:
        received = _counted(len(loose), "photo") + " in the folder itself" if loose else "an empty folder"
        raise DataError(
            f"{folder} must have a folder of photos for each class, such as {folder / 'cat'}. Received: {received}"
        )
    notes = [f"not used, since no class is named: {_shortened([path.name for path in loose])}"] if loose else []
    classes = {path.name: _photos_of_class(path, notes) for path in folders}
    if len(classes) < least:
        raise DataError(
            f"{folder} must have photos of at least {least} classes, a folder each. "
            f"Received: {', '.join(classes)} alone"
        )
    return classes, notes


def _photos_of_class(folder: Path, notes: list[str]) -> list[Path]:
    """Adds to the notes what is not used."""
    inside = _visible(folder)
    photos, deeper = _photos(inside), [path for path in inside if path.is_dir()]
    if not photos and deeper:
        raise DataError(
            f"the folder of a class must hold its photos. Received: {folder} with folders in it; "
            f"name {folder} itself if these are the classes"
        )
    if not photos:
        received = f"{_shortened([path.name for path in inside])}" if inside else "an empty folder"
        raise DataError(
            f"the folder of a class must hold photos ({', '.join(IMAGE_SUFFIXES)}). Received: {folder}, {received}"
        )
    others = [f"{folder.name}/{path.name}" for path in inside if path not in photos]
    if others:
        notes.append(f"not used, no photos that can be read here: {_shortened(others)}")
    return photos


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _photos(paths: Sequence[Path]) -> list[Path]:
    return [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()]


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _shortened(texts: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more
