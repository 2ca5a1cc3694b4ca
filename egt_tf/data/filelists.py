"""The JSON lists of the published cross-domain code: one reads them as a source, and writes the splits of a source.

A list holds "label_names" (names of classes), "image_names" (files) and "image_labels" (for each file the position of
its class in "label_names").
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from egt_tf.data.heic import is_heic
from egt_tf.data.image_set import OnProgress, Source, source_of_files
from egt_tf.data.splits import SPLIT_NAMES, check_disjoint, published_split_rule, read_json_object, splits_beside
from egt_tf.errors import DataError
from egt_tf.files import expanded, partial_folder, write_json

_SUFFIXES = ((b"\x89PNG", ".png"), (b"\xff\xd8", ".jpg"), (b"GIF8", ".gif"), (b"BM", ".bmp"), (b"RIFF", ".webp"))


@dataclass(frozen=True)
class FileList:
    """One list.

    Attributes:
        class_names: "label_names".
        images: "image_names", each a path, or relative to the folder of the list.
        labels: "image_labels".

    Example:
        >>> FileList(["cat", "dog"], ["1.png", "2.png"], [1, 1]).used_names()
        ['dog']
    """

    class_names: Sequence[str]
    images: Sequence[str]
    labels: Sequence[int]

    @classmethod
    def read(cls, path: Path) -> FileList:
        """Reads a list, its images as paths.

        Raises:
            DataError: the file cannot be read, or is not as a list must be.
        """
        content = read_json_object(path)
        for key in ("label_names", "image_names", "image_labels"):
            if not isinstance(content.get(key), list):
                received = type(content[key]).__name__ if key in content else "no such key"
                raise DataError(f"{path} must have a list '{key}'. Received: {received}")
        class_names, names, labels = content["label_names"], content["image_names"], content["image_labels"]
        if len(names) != len(labels):
            raise DataError(
                f"'image_names' and 'image_labels' of {path} must be of equal length. "
                f"Received: {len(names)} and {len(labels)}"
            )
        _check_strings(path, "label_names", class_names)
        _check_strings(path, "image_names", names)
        _check_labels(path, labels, len(class_names))
        found = cls(class_names, [_path_of(path.parent, name) for name in names], labels)
        _check_unique(path, "image", found.images)
        _check_unique(path, "class", found.used_names())
        return found

    def write(self, path: Path) -> None:
        """Writes the list as it is, whole or not at all."""
        content = {"label_names": self.class_names, "image_names": self.images, "image_labels": self.labels}
        write_json(path, {key: list(values) for key, values in content.items()})

    def used_names(self) -> list[str]:
        """The classes that have images, in the order of their labels."""
        return [self.class_names[label] for label in sorted(set(self.labels))]


# === Reading ===


def source_of_list(specification: str, location: str) -> Source:
    """Opens "filelist:FILE.json", see `egt_tf.data.sources.open_source`.

    Args:
        specification: the name of the source.
        location: FILE.json.

    Raises:
        DataError: a list cannot be read, or is not as it must be.
    """
    path = expanded(location)
    if path.stem in SPLIT_NAMES and path.suffix == ".json":
        return _open_list_family(specification, path)
    single = FileList.read(path)
    rule = published_split_rule(len(single.class_names))
    splits = splits_beside([path.parent / "splits.json"], single.class_names, rule)
    labels = np.array(single.labels, np.int64)
    return source_of_files(specification, single.class_names, labels, splits, single.images)


def _open_list_family(specification: str, path: Path) -> Source:
    """Opens base.json, val.json and novel.json of one folder, as far as they exist, as one source."""
    files = {split: path.with_name(f"{split}.json") for split in SPLIT_NAMES}
    lists = {split: FileList.read(file) for split, file in files.items() if file == path or file.exists()}
    names_of_split = {split: lists[split].used_names() if split in lists else [] for split in SPLIT_NAMES}
    check_disjoint(names_of_split, str(path.parent))
    class_names = [name for names in names_of_split.values() for name in names]
    index_of = {name: i for i, name in enumerate(class_names)}
    labels = [index_of[one.class_names[label]] for one in lists.values() for label in one.labels]
    splits = {split: tuple(index_of[name] for name in names) for split, names in names_of_split.items()}
    paths = [image for one in lists.values() for image in one.images]
    _check_unique(path.parent, "image", paths)
    return source_of_files(specification, class_names, np.array(labels, np.int64), splits, paths)


def _path_of(folder: Path, name: str) -> str:
    """The path of a listed image. Lists that were written under Windows have backslashes where there are folders."""
    path = os.path.join(folder, name)
    if "\\" not in name or os.path.exists(path):
        return path
    return os.path.join(folder, name.replace("\\", "/"))


def _check_strings(path: Path, key: str, values: Sequence) -> None:
    for value in values:
        if not isinstance(value, str) or not value:
            raise DataError(f"'{key}' of {path} must hold names. Received: {value!r}")


def _check_labels(path: Path, labels: Sequence, n_classes: int) -> None:
    if not labels:
        raise DataError(f"{path} must list at least one image. Received: 0")
    for label in labels:
        if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < n_classes:
            raise DataError(f"'image_labels' of {path} must be integers from 0 to {n_classes - 1}. Received: {label!r}")


def _check_unique(path: Path, what: str, names: Sequence[str]) -> None:
    name, count = Counter(os.path.normpath(name) for name in names).most_common(1)[0]
    if count > 1:
        raise DataError(f"{path} may list each {what} once only. Received: '{name}' {count} times")


# === Writing ===


def export_filelists(
    source: Source, folder: str | os.PathLike, *, copy_images: bool = False, progress: OnProgress | None = None
) -> dict[str, int]:
    """Writes base.json, val.json and novel.json; `open_source("filelist:FOLDER/base.json")` reads all three.

    Each list names every class of the source. Classes of no split are in no list, and a split without classes has none.

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

    Example:
        >>> import tempfile
        >>> from egt_tf.data import open_source
        >>> from egt_tf.files import write_png
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("ant", "bee", "cat", "dog"):
        ...     write_png(folder / "images" / name / "1.png", np.zeros((20, 20, 3), np.uint8))
        >>> export_filelists(open_source(f"folder:{folder}/images"), folder / "lists")
        {'base': 2, 'val': 1, 'novel': 1}
        >>> open_source(f"filelist:{folder}/lists/base.json").class_names
        ('ant', 'cat', 'bee', 'dog')
    """
    folder = Path(folder)
    _check_exportable(source, folder, copy_images)
    indices = {split: np.flatnonzero(np.isin(source.labels, source.splits.get(split, ()))) for split in SPLIT_NAMES}
    indices = {split: images for split, images in indices.items() if len(images)}
    if not indices:
        raise DataError(f"an export needs classes in base, val or novel. Received: {source.name} has none there")
    with partial_folder(folder.parent) as temporary:
        copied = iter(range(sum(map(len, indices.values()))))
        total = sum(map(len, indices.values()))
        for split, images in indices.items():
            names = []
            for index in images.tolist():
                if progress:
                    progress(next(copied), total)
                names.append(_copy(source, index, temporary) if copy_images else _own_file(source, index))
            FileList(source.class_names, names, source.labels[images].tolist()).write(temporary / f"{split}.json")
        os.replace(temporary, folder)
    return {split: len(images) for split, images in indices.items()}


def _check_exportable(source: Source, folder: Path, copy_images: bool) -> None:
    if not copy_images:
        _own_file(source, 0)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"an export goes into a new or an empty folder. Received: {folder}")


def _own_file(source: Source, index: int) -> str:
    if source.path is None:
        raise DataError(
            f"lists name image files, and {source.name} has none of its own; write them too (--copy-images)"
        )
    return os.path.abspath(source.path(index))


def _copy(source: Source, index: int, folder: Path) -> str:
    """Writes an image and returns its name relative to the folder; numbers, since class names may be no file names."""
    pixels = source.read(index)
    encoded = source.encoded(index) if source.encoded else _png(pixels)
    name = Path("images", f"{int(source.labels[index]):04d}", f"{index:07d}{_suffix(encoded)}")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(encoded)
    return name.as_posix()


def _suffix(encoded: bytes) -> str:
    return ".heic" if is_heic(encoded) else next(suffix for start, suffix in _SUFFIXES if encoded.startswith(start))


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
