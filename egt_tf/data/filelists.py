"""Writes the class splits of a source as the three lists of the published cross-domain code."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from egt_tf.data.check import Progress
from egt_tf.data.sources import Source
from egt_tf.data.splits import SPLIT_NAMES
from egt_tf.errors import DataError
from egt_tf.files import write_json

_SUFFIXES = ((b"\x89PNG", ".png"), (b"\xff\xd8", ".jpg"), (b"GIF8", ".gif"), (b"BM", ".bmp"))


def export_filelists(
    source: Source, folder: str | os.PathLike, *, copy_images: bool = False, progress: Progress | None = None
) -> dict[str, int]:
    """Writes base.json, val.json and novel.json; `open_source("filelist:FOLDER/base.json")` reads all three.

    Each list has "label_names" (every class of the source), "image_names" and "image_labels" (positions in
    label_names). Classes of no split are in no list, and a split without classes has none.

    Args:
        source: what to list.
        folder: a new or an empty folder; it appears whole or not at all.
        copy_images: write the images into FOLDER/images too, byte by byte or, where they are drawn, as PNG, and list
            them relative to FOLDER. Otherwise the lists hold absolute paths of the source's own files.
        progress: called with the number of images copied and of all.

    Returns:
        split -> number of images, for the lists written.

    Raises:
        DataError: the folder has files already, no split has classes, an image cannot be read, or the source has no
            files to list and `copy_images` is false.
    """
    folder = Path(folder)
    _check_exportable(source, folder, copy_images)
    indices = {split: _images_of(source, split) for split in SPLIT_NAMES}
    indices = {split: images for split, images in indices.items() if len(images)}
    if not indices:
        raise DataError(f"an export needs classes in base, val or novel. Received: {source.name} has none there")
    with _whole_folder(folder) as temporary:
        copied = iter(range(sum(map(len, indices.values()))))
        total = sum(map(len, indices.values()))
        for split, images in indices.items():
            names = []
            for index in images.tolist():
                if progress:
                    progress(next(copied), total)
                names.append(_copy(source, index, temporary) if copy_images else os.path.abspath(source.path(index)))
            write_json(
                temporary / f"{split}.json",
                {
                    "label_names": list(source.class_names),
                    "image_names": names,
                    "image_labels": source.labels[images].tolist(),
                },
            )
    return {split: len(images) for split, images in indices.items()}


def _check_exportable(source: Source, folder: Path, copy_images: bool) -> None:
    if source.path is None and not copy_images:
        raise DataError(
            f"lists name image files, and {source.name} has none of its own; write them too (--copy-images)"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"an export goes into a new or an empty folder. Received: {folder}")


def _images_of(source: Source, split: str) -> np.ndarray:
    return np.flatnonzero(np.isin(source.labels, source.splits.get(split, ())))


def _copy(source: Source, index: int, folder: Path) -> str:
    """Writes an image and returns its name relative to the folder; numbers, since class names may be no file names."""
    pixels = source.read(index)
    encoded = source.encoded(index) if source.encoded else _png(pixels)
    suffix = next(suffix for start, suffix in _SUFFIXES if encoded.startswith(start))
    name = Path("images", f"{int(source.labels[index]):04d}", f"{index:07d}{suffix}")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(encoded)
    return name.as_posix()


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@contextlib.contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder` when the block ends well, and vanishes otherwise."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
    try:
        yield temporary
        # mkdtemp makes private folders; the lists are read by others like any other file.
        shutil.copymode(folder.parent, temporary)
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
