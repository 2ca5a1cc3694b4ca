"""Images with their classes: those of a whole data source, and those of one split of it, which episodes are drawn from.

A set of images knows which of its images cannot be read, if it is to leave them out instead of stopping at them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from egt_tf.data.images import decode_image
from egt_tf.data.splits import SPLIT_CHOICES, SPLIT_NAMES
from egt_tf.errors import DataError

# Called with the number of images that are done, and of all.
OnProgress = Callable[[int, int], None]

Set = TypeVar("Set", bound="ImageSet")


class UnreadableImages:
    """Finds the images that cannot be read, tries each image once, and remembers which are to be reported.

    It may be used from several threads.

    Args:
        read: image index -> the image; raises DataError.
    """

    def __init__(self, read: Callable[[int], np.ndarray]):
        self._read = read
        self._good: set[int] = set()
        self._bad: dict[int, None] = {}  # In the order they were found in.
        self._reported = 0
        self._lock = threading.Lock()

    def among(self, indices: Iterable[int]) -> list[int]:
        """The image indices, of those given, that cannot be read."""
        indices = [int(index) for index in indices]
        for index in indices:
            if index not in self._good and index not in self._bad:
                self._try(index)
        return [index for index in indices if index in self._bad]

    def new(self) -> list[int]:
        """The unreadable images that were found since the last call, in ascending order."""
        with self._lock:
            new = sorted(list(self._bad)[self._reported :])
            self._reported = len(self._bad)
        return new

    def _try(self, index: int) -> None:
        try:
            self._read(index)
        except DataError:
            with self._lock:
                self._bad[index] = None
        else:
            self._good.add(index)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """The classes of one split with their images.

    Attributes:
        name: what messages call it, e.g. "folder:birds (split novel)".
        class_names: one name a class.
        members: one int64 array of image indices a class.
        read: image index -> uint8 `(height, width, 3)`; raises DataError.
        describe: image index -> a path or another name of the image.
        mask: image index -> bool `(height, width)`, true on the object; None where the data has no masks.
        unreadable: finds the images that are left out because they cannot be read; None: such an image is an error.
            `skipping_unreadable` sets it.
        encoded: image index -> the bytes of its file; None where images are drawn. Raises OSError.

    Example:
        >>> grey = ImageSet(
        ...     name="grey",
        ...     class_names=("dark", "light"),
        ...     members=(np.arange(0, 3), np.arange(3, 6)),
        ...     read=lambda index: np.full((4, 4, 3), 40 * index, np.uint8),
        ...     describe=lambda index: f"grey/{index}",
        ... )
        >>> int(grey.read(5).max()), grey.describe(5)
        (200, 'grey/5')
    """

    name: str
    class_names: tuple[str, ...]
    members: tuple[np.ndarray, ...]
    read: Callable[[int], np.ndarray]
    describe: Callable[[int], str]
    mask: Callable[[int], np.ndarray] | None = None
    unreadable: UnreadableImages | None = None
    encoded: Callable[[int], bytes] | None = None

    def skipping_unreadable(self: Set) -> Set:
        """The same images; those that cannot be read are left out of episodes and batches, and can be reported."""
        return replace(self, unreadable=UnreadableImages(self.read))

    def stopping_at_unreadable(self: Set) -> Set:
        """The same images; one that cannot be read is an error."""
        return replace(self, unreadable=None)

    def unreadable_among(self, indices: Iterable[int]) -> list[int]:
        """The image indices, of those given, that are to be left out; none unless the set skips unreadable images."""
        return [] if self.unreadable is None else self.unreadable.among(indices)

    def report_unreadable(self, listed: int = 3) -> str | None:
        """A line on the images that were left out since the last report; None if there are none.

        Args:
            listed: how many of them are named.
        """
        new = [] if self.unreadable is None else self.unreadable.new()
        if not new:
            return None
        names = ", ".join(self.describe(index) for index in new[:listed])
        more = f" and {len(new) - listed} more" if len(new) > listed else ""
        return f"left out {len(new)} unreadable image{'s' if len(new) > 1 else ''}: {names}{more}"


@dataclass(frozen=True, eq=False)
class Source:
    """All images of a data source, and its class splits.

    Attributes:
        name: the specification it was opened with, e.g. "folder:birds".
        class_names: one name a class.
        labels: class index of every image, int64 `(n_images,)`.
        splits: class indices of "base", "val" and "novel".
        read, describe, mask: see `ImageSet`.
        encoded: image index -> the bytes of its file; None where images are drawn. Raises OSError.
        path: image index -> its file; None where images have no files of their own.
        ignored: files beside the images that are not named as images.

    Example:
        >>> from egt_tf.data import open_source
        >>> source = open_source("synthetic:shapes")
        >>> len(source.class_names), len(source.labels), sorted(source.splits)
        (80, 4800, ['base', 'novel', 'val'])
        >>> source.split("novel").name
        'synthetic:shapes (split novel)'
    """

    name: str
    class_names: tuple[str, ...]
    labels: np.ndarray
    splits: Mapping[str, tuple[int, ...]]
    read: Callable[[int], np.ndarray]
    describe: Callable[[int], str]
    mask: Callable[[int], np.ndarray] | None = None
    encoded: Callable[[int], bytes] | None = None
    path: Callable[[int], str] | None = None
    ignored: tuple[str, ...] = ()

    def split(self, split: str) -> ImageSet:
        """Returns the classes of "base", "val" or "novel", or every class for "all".

        Raises:
            DataError: no such split, or it has no classes.
        """
        classes = self._classes(split)
        if not classes:
            raise DataError(f"split '{split}' of {self.name} has no classes")
        return ImageSet(
            name=f"{self.name} (split {split})",
            class_names=tuple(self.class_names[c] for c in classes),
            members=tuple(np.flatnonzero(self.labels == c) for c in classes),
            read=self.read,
            describe=self.describe,
            mask=self.mask,
            encoded=self.encoded,
        )

    def _classes(self, split: str) -> tuple[int, ...]:
        if split == "all":
            return tuple(range(len(self.class_names)))
        if split not in SPLIT_NAMES:
            raise DataError(f"the split must be one of {', '.join(SPLIT_CHOICES)}. Received: '{split}'")
        return tuple(sorted(self.splits[split]))


def first_images(members: Sequence[np.ndarray]) -> tuple[np.ndarray, int]:
    """Of every class as many images as the smallest class has, the first ones.

    Args:
        members: the image indices of every class.

    Returns:
        Image indices `(classes, images)`, and how many of the images given are not among them.
    """
    shots = min(map(len, members))
    return np.stack([each[:shots] for each in members]), sum(len(each) - shots for each in members)


def source_of_files(
    name: str,
    class_names: Sequence[str],
    labels: np.ndarray,
    splits: Mapping[str, Sequence[int]],
    paths: Sequence[str],
    ignored: Sequence[str] = (),
    mask: Callable[[int], np.ndarray] | None = None,
) -> Source:
    """Makes a source of image files.

    Args:
        name, labels, ignored, mask: see `Source`.
        class_names, splits: see `source_of_used_classes`.
        paths: the file of every image.
    """

    def path(index: int) -> str:
        return paths[int(index)]

    return source_of_used_classes(
        name,
        class_names,
        labels,
        splits,
        read=lambda index: decode_image(path(index)),
        describe=path,
        encoded=lambda index: Path(path(index)).read_bytes(),
        path=path,
        ignored=tuple(ignored),
        mask=mask,
    )


def source_of_used_classes(
    name: str,
    class_names: Sequence[str],
    labels: np.ndarray,
    splits: Mapping[str, Sequence[int]],
    *,
    read: Callable[[int], np.ndarray],
    describe: Callable[[int], str],
    encoded: Callable[[int], bytes],
    path: Callable[[int], str] | None = None,
    ignored: tuple[str, ...] = (),
    mask: Callable[[int], np.ndarray] | None = None,
) -> Source:
    """Makes a source of the classes that have images.

    Args:
        name: of the source.
        class_names, labels, splits: of all classes: a list that lacks some keeps the published split of the rest.
        read, describe, encoded, path, ignored, mask: the other attributes of the source.
    """
    used = np.unique(labels)
    position = {int(c): i for i, c in enumerate(used)}
    return Source(
        name=name,
        class_names=tuple(class_names[c] for c in used),
        labels=np.searchsorted(used, labels),
        splits={s: tuple(position[c] for c in classes if c in position) for s, classes in splits.items()},
        read=read,
        mask=mask,
        describe=describe,
        encoded=encoded,
        path=path,
        ignored=ignored,
    )
