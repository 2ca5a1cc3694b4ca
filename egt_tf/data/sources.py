"""Where images and their classes come from: folders, file lists, TensorFlow Datasets, named and drawn domains."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from egt_tf.data.domains import DOMAINS, domain_builder, find_domain, is_prepared, prepared_folder
from egt_tf.data.images import IMAGE_SUFFIXES, decode_image
from egt_tf.data.records import Records, read_records
from egt_tf.data.splits import (
    SPLIT_NAMES,
    check_disjoint,
    published_split_rule,
    read_json_object,
    read_splits,
)
from egt_tf.errors import DataError, nearest_name

_SPLIT_OF_PART = {
    "train": "base",
    "base": "base",
    "val": "val",
    "validation": "val",
    "test": "novel",
    "novel": "novel",
}
_KINDS = ("folder", "filelist", "tfds", "domain", "synthetic")


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
    """

    name: str
    class_names: tuple[str, ...]
    members: tuple[np.ndarray, ...]
    read: Callable[[int], np.ndarray]
    describe: Callable[[int], str]
    mask: Callable[[int], np.ndarray] | None = None


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
        )

    def _classes(self, split: str) -> tuple[int, ...]:
        if split == "all":
            return tuple(range(len(self.class_names)))
        if split not in SPLIT_NAMES:
            raise DataError(f"the split must be one of base, val, novel, all. Received: '{split}'")
        return tuple(sorted(self.splits[split]))


def open_source(specification: str) -> Source:
    """Opens a data source by its specification.

    - "folder:DIR": one sub-folder a class, in the order of their names. Splits from DIR/splits.json or
      DIR.splits.json, else by `published_split_rule`. If all sub-folders are called train (or base), val (or
      validation) or test (or novel) and hold the class folders in turn, they are the splits; if they share
      classes, as in ordinary classification, they are pooled and classes split as before.
    - "filelist:FILE.json": a list of the published cross-domain code. Lists named base.json, val.json and
      novel.json in one folder are the splits of one source; any other list takes splits.json beside it, else
      the rule. Relative image names are looked for beside the list.
    - "tfds:NAME" or "tfds:NAME:CONFIG": a prepared data set of TensorFlow Datasets that has images and labels,
      looked for in TFDS_DATA_DIR or the default folder; nothing is downloaded. Its files are gone through once,
      and images are read from them when asked for. Its own splits are pooled; classes are split by the rule.
    - "domain:NAME": a prepared domain of `egt_tf.data.domains`, with its own splits; "tfds:NAME" is the same.
    - "synthetic:NAME": a domain of `egt_tf.data.synthetic`. Splits by the rule.

    Raises:
        DataError: an unknown kind, or the source is missing or not as it must be.
    """
    openers = {
        "folder": _open_folder,
        "filelist": _open_filelist,
        "tfds": _open_tfds,
        "domain": _open_domain,
        "synthetic": _open_synthetic,
    }
    kind, _, location = specification.partition(":")
    if kind not in openers or not location:
        raise DataError(
            "a data source must be folder:DIR, filelist:FILE.json, tfds:NAME, domain:NAME or synthetic:NAME. "
            f"Received: '{specification}'{_likely_meaning(specification)}"
        )
    return openers[kind](specification, location)


def _likely_meaning(specification: str) -> str:
    """What may have been meant by a specification of no known kind."""
    kind, _, location = specification.partition(":")
    if specification in DOMAINS:
        return f"; did you mean 'domain:{specification}'?"
    near = nearest_name(kind, _KINDS)
    if location and near:
        return f"; did you mean '{near}:{location}'?"
    if specification and Path(specification).expanduser().is_dir():
        return f"; did you mean 'folder:{specification}'?"
    return ""


# === folder ===


def _open_folder(specification: str, location: str) -> Source:
    folder = Path(location).expanduser()
    parts = _part_folders(folder)
    folders_of_class = _class_folders(parts.values() if parts else [folder])
    class_names = sorted(folders_of_class)
    if len(class_names) < 2:
        raise DataError(
            f"{specification} must have a sub-folder for each of at least 2 classes. "
            f"Received: {len(class_names)} sub-folders"
        )
    files = [_image_files(folders_of_class[name]) for name in class_names]
    for name, images in zip(class_names, files, strict=True):
        if not images:
            raise DataError(
                f"every class must have images ({', '.join(IMAGE_SUFFIXES)}). "
                f"Received: class '{name}' of {specification} has none"
            )
    labels = np.repeat(np.arange(len(files)), [len(images) for images in files])
    otherwise = _splits_by_part(parts, class_names) or published_split_rule(len(class_names))
    splits = _splits_beside([folder / "splits.json", Path(f"{folder}.splits.json")], class_names, otherwise)
    paths = [path for images in files for path in images]
    ignored = [path for name in class_names for path in _other_files(folders_of_class[name])]
    return _from_paths(specification, class_names, labels, splits, paths, ignored)


def _part_folders(folder: Path) -> dict[str, Path]:
    """Split -> sub-folder, if all sub-folders are named after splits, no two after the same, and hold no images."""
    names = [name for name in _visible_names(folder) if (folder / name).is_dir()]
    parts = {_SPLIT_OF_PART.get(name.lower(), ""): folder / name for name in names}
    is_layout = len(parts) == len(names) and "" not in parts and not _image_files(parts.values())
    return parts if is_layout else {}


def _class_folders(parents: Iterable[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for parent in parents:
        for name in _visible_names(parent):
            if (parent / name).is_dir():
                found.setdefault(name, []).append(parent / name)
    return found


def _splits_by_part(parts: Mapping[str, Path], class_names: Sequence[str]) -> dict[str, tuple[int, ...]] | None:
    """The splits that the parts are; None if there are none or they share a class."""
    names_of_part = {split: set(_class_folders([part])) for split, part in parts.items()}
    if not parts or sum(map(len, names_of_part.values())) > len(class_names):
        return None
    return {
        split: tuple(i for i, name in enumerate(class_names) if name in names_of_part.get(split, ()))
        for split in SPLIT_NAMES
    }


def _image_files(folders: Iterable[Path]) -> list[str]:
    return [
        os.path.join(folder, name)
        for folder in folders
        for name in _visible_names(folder)
        if name.lower().endswith(IMAGE_SUFFIXES)
    ]


def _other_files(folders: Iterable[Path]) -> list[str]:
    return [
        os.path.join(folder, name)
        for folder in folders
        for name in _visible_names(folder)
        if not name.lower().endswith(IMAGE_SUFFIXES)
    ]


def _visible_names(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror or error}") from error


def _splits_beside(
    candidates: Sequence[Path], class_names: Sequence[str], otherwise: dict[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    for path in candidates:
        if path.exists():
            return read_splits(path, class_names)
    return otherwise


# === filelist ===


@dataclass(frozen=True)
class _FileList:
    """The content of one published list."""

    class_names: list[str]
    paths: list[str]
    labels: list[int]

    def used_names(self) -> list[str]:
        """The classes that have images, in the order of their labels."""
        return [self.class_names[label] for label in sorted(set(self.labels))]


def _open_filelist(specification: str, location: str) -> Source:
    path = Path(location).expanduser()
    if path.stem in SPLIT_NAMES and path.suffix == ".json":
        return _open_list_family(specification, path)
    single = _read_list(path)
    rule = published_split_rule(len(single.class_names))
    splits = _splits_beside([path.parent / "splits.json"], single.class_names, rule)
    labels = np.array(single.labels, np.int64)
    return _from_paths(specification, single.class_names, labels, splits, single.paths)


def _open_list_family(specification: str, path: Path) -> Source:
    """Opens base.json, val.json and novel.json of one folder, as far as they exist, as one source."""
    files = {split: path.with_name(f"{split}.json") for split in SPLIT_NAMES}
    lists = {split: _read_list(file) for split, file in files.items() if file == path or file.exists()}
    names_of_split = {split: lists[split].used_names() if split in lists else [] for split in SPLIT_NAMES}
    check_disjoint(names_of_split, str(path.parent))
    class_names = [name for names in names_of_split.values() for name in names]
    index_of = {name: i for i, name in enumerate(class_names)}
    labels = [index_of[one.class_names[label]] for one in lists.values() for label in one.labels]
    splits = {split: tuple(index_of[name] for name in names) for split, names in names_of_split.items()}
    paths = [image for one in lists.values() for image in one.paths]
    _check_unique(path.parent, "image", paths)
    return _from_paths(specification, class_names, np.array(labels, np.int64), splits, paths)


def _read_list(path: Path) -> _FileList:
    content = read_json_object(path)
    for key in ("label_names", "image_names", "image_labels"):
        if not isinstance(content.get(key), list):
            raise DataError(f"{path} must have a list '{key}'. Received: {_kind_of(content, key)}")
    class_names, names, labels = content["label_names"], content["image_names"], content["image_labels"]
    if len(names) != len(labels):
        raise DataError(
            f"'image_names' and 'image_labels' of {path} must be of equal length. "
            f"Received: {len(names)} and {len(labels)}"
        )
    _check_strings(path, "label_names", class_names)
    _check_strings(path, "image_names", names)
    _check_labels(path, labels, len(class_names))
    found = _FileList(class_names, [os.path.join(path.parent, name) for name in names], labels)
    _check_unique(path, "image", found.paths)
    _check_unique(path, "class", found.used_names())
    return found


def _kind_of(content: Mapping, key: str) -> str:
    return type(content[key]).__name__ if key in content else "no such key"


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


# === synthetic ===


def _open_synthetic(specification: str, domain: str) -> Source:
    from egt_tf.data import synthetic

    synthetic.check_domain(domain)
    names, per_class = synthetic.CLASS_NAMES, synthetic.IMAGES_PER_CLASS

    def draw(index: int) -> tuple[np.ndarray, np.ndarray]:
        return synthetic.draw(domain, *divmod(int(index), per_class))

    return Source(
        name=specification,
        class_names=tuple(names),
        labels=np.repeat(np.arange(len(names)), per_class),
        splits=published_split_rule(len(names)),
        read=lambda index: draw(index)[0],
        describe=lambda index: f"{specification}/{names[int(index) // per_class]}/{int(index) % per_class}",
        mask=lambda index: draw(index)[1],
    )


# === TensorFlow Datasets ===


def _open_tfds(specification: str, location: str) -> Source:
    if location in DOMAINS:
        return _open_domain(specification, location)
    records = _tfds_records(specification, _tfds_name(location))
    splits = published_split_rule(len(records.class_names))
    return _from_records(records, splits, describe=lambda index: f"{specification}/{int(index)}")


def _tfds_name(location: str) -> str:
    """Our NAME:CONFIG is NAME/CONFIG there; their own NAME/CONFIG:VERSION stays."""
    return location if "/" in location else location.replace(":", "/", 1)


def _tfds_records(specification: str, name: str) -> Records:
    """The examples of every split."""
    import tensorflow_datasets as tfds

    data_dir = os.environ.get("TFDS_DATA_DIR")
    try:
        builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    # What building fails with: an unknown name, an unknown version, a missing file of the installation.
    except (ValueError, AssertionError, OSError) as error:
        raise DataError(f"TensorFlow Datasets cannot open '{name}': {str(error).splitlines()[0]}") from error
    if not builder.info.splits:
        option = f" --data_dir={data_dir}" if data_dir else ""
        raise DataError(
            f"{specification} is not prepared in {builder.data_dir}; prepare it with: tfds build {name}{option}"
        )
    return read_records(specification, builder)


def _open_domain(specification: str, name: str) -> Source:
    domain = find_domain(name)
    if not is_prepared(domain):
        raise DataError(
            f"{specification} is not prepared in {prepared_folder(domain)}; prepare it with: egt-tf data prepare {name}"
        )
    records = read_records(specification, domain_builder(domain), SPLIT_NAMES, ("origin",))
    in_split = np.array(records.splits)
    splits = {split: tuple(np.unique(records.labels[in_split == split]).tolist()) for split in SPLIT_NAMES}
    origins = records.kept["origin"]
    return _from_records(records, splits, lambda index: f"{specification}/{origins[int(index)]}")


def _from_records(records: Records, splits: Mapping[str, Sequence[int]], describe: Callable[[int], str]) -> Source:
    return _assemble(
        records.name,
        records.class_names,
        records.labels,
        splits,
        read=lambda index: decode_image(records.image(index), describe(index)),
        describe=describe,
        encoded=records.image,
    )


# === shared ===


def _from_paths(
    name: str,
    class_names: Sequence[str],
    labels: np.ndarray,
    splits: Mapping[str, Sequence[int]],
    paths: Sequence[str],
    ignored: Sequence[str] = (),
) -> Source:
    def path(index: int) -> str:
        return paths[int(index)]

    return _assemble(
        name,
        class_names,
        labels,
        splits,
        read=lambda index: decode_image(path(index)),
        describe=path,
        encoded=lambda index: Path(path(index)).read_bytes(),
        path=path,
        ignored=tuple(ignored),
    )


def _assemble(
    name: str,
    class_names: Sequence[str],
    labels: np.ndarray,
    splits: Mapping[str, Sequence[int]],
    **access: Any,
) -> Source:
    """Makes a source of the classes that have images; `access` are its other attributes.

    The splits are given for all classes: a list that lacks some keeps the published split of the rest.
    """
    used = np.unique(labels)
    position = {int(c): i for i, c in enumerate(used)}
    return Source(
        name=name,
        class_names=tuple(class_names[c] for c in used),
        labels=np.searchsorted(used, labels),
        splits={s: tuple(position[c] for c in classes if c in position) for s, classes in splits.items()},
        **access,
    )
