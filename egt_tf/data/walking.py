"""Image files below folders."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from egt_tf.data.images import IMAGE_SUFFIXES
from egt_tf.errors import DataError


def image_files(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Files as they are, and in place of each folder the images in it and in its folders, sorted.

    Args:
        paths: files, which need not exist, and folders; hidden files and folders in these are passed over.

    Raises:
        DataError: a folder has no image.

    Example:
        >>> image_files(["a.jpg", "b.txt"])
        [PosixPath('a.jpg'), PosixPath('b.txt')]
    """
    found: list[Path] = []
    for path in map(Path, paths):
        found += _below(path) if path.is_dir() else [path]
    return found


def _below(folder: Path) -> list[Path]:
    files = []
    # Links to folders are not followed, so that none is gone through without end.
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        shown = sorted(name for name in names if not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES))
        files += [Path(root, name) for name in shown]
    if not files:
        raise DataError(f"the folder {folder} must have images ({', '.join(IMAGE_SUFFIXES)}). Received: none in it")
    return files
