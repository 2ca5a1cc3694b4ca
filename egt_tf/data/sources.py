"""Where images and their classes come from: folders, file lists, TensorFlow Datasets, named and drawn domains."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from egt_tf.data.domains import DOMAINS, domain_builder, find_domain, is_prepared, prepared_folder
from egt_tf.data.filelists import source_of_list
from egt_tf.data.image_set import Source, source_of_files, source_of_used_classes
from egt_tf.data.images import IMAGE_SUFFIXES, decode_image
from egt_tf.data.records import Records, read_records
from egt_tf.data.splits import SPLIT_NAMES, published_split_rule, splits_beside
from egt_tf.errors import DataError, nearest_name
from egt_tf.files import expanded, text_of_name

# Numbers with dots, any of them *; configurations are not such.
_TFDS_VERSION = re.compile(r"[\d*]+(\.[\d*]+)+")
# Behind the name of a folder of images, that of the masks of their objects; grey levels above this are on the object.
_MASKS, _ON_OBJECT = ".masks", 127
_SPLIT_OF_PART = {
    "train": "base",
    "training": "base",
    "base": "base",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "novel",
    "testing": "novel",
    "novel": "novel",
}


def open_source(specification: str) -> Source:
    """Opens a data source by its specification.

    - "folder:DIR": one sub-folder a class, in the order of their names. Splits from DIR/splits.json or
      DIR.splits.json, else by `published_split_rule`. If all sub-folders are called train (training, base), val
      (valid, validation) or test (testing, novel) and hold the class folders in turn, they are the splits; if they share
      classes, as in ordinary classification, they are pooled and classes split as before.
    - "filelist:FILE.json": a list of the published cross-domain code. Lists named base.json, val.json and
      novel.json in one folder are the splits of one source; any other list takes splits.json beside it, else
      the rule. Relative image names are looked for beside the list, with / for \\ where there is no such file.
    - "tfds:NAME", "tfds:NAME:CONFIG", "tfds:NAME:VERSION" or "tfds:NAME:CONFIG:VERSION" (or as they write it,
      NAME/CONFIG:VERSION): a prepared data set of TensorFlow Datasets that has images and labels, looked for in
      TFDS_DATA_DIR or the default folder; nothing is downloaded. Its files are gone through once, and images are read
      from them when asked for. Its own splits are pooled; classes are split by the rule.
    - "domain:NAME": a prepared domain of `egt_tf.data.domains`, with its own splits; "tfds:NAME" is the same.
    - "synthetic:NAME": a domain of `egt_tf.data.synthetic`. Splits by the rule.

    Raises:
        DataError: an unknown scheme, or the source is missing or not as it must be.

    Example:
        >>> open_source("synthetic:shapes").split("base").class_names[0]
        'square-in-disc'
    """
    scheme, _, location = specification.partition(":")
    if scheme not in _OPENERS or not location:
        raise DataError(
            "a data source must be folder:DIR, filelist:FILE.json, tfds:NAME, domain:NAME or synthetic:NAME. "
            f"Received: '{specification}'{_likely_meaning(specification)}"
        )
    return _OPENERS[scheme](specification, location)


def check_present(specification: str) -> None:
    """Checks that the folder or the file list of a source is there, without going through it; others are left alone.

    Raises:
        DataError: it is not, as `open_source` says it.

    Example:
        >>> check_present("folder:no/such/folder")
        Traceback (most recent call last):
        egt_tf.errors.DataError: cannot read the folder no/such/folder: No such file or directory
    """
    scheme, _, location = specification.partition(":")
    if scheme == "folder" and location:
        _visible_names(Path(location).expanduser())
    if scheme == "filelist" and location:
        path = Path(location).expanduser()
        try:
            path.open("rb").close()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _likely_meaning(specification: str) -> str:
    """What may have been meant by a specification of no known scheme."""
    scheme, _, location = specification.partition(":")
    if specification in DOMAINS:
        return f"; did you mean 'domain:{specification}'?"
    near = nearest_name(scheme, _OPENERS)
    if location and near:
        return f"; did you mean '{near}:{location}'?"
    if specification and expanded(specification).is_dir():
        return f"; did you mean 'folder:{specification}'?"
    return ""


# === folder ===


def _open_folder(specification: str, location: str) -> Source:
    folder = expanded(location)
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
    splits = splits_beside([folder / "splits.json", Path(f"{folder}.splits.json")], class_names, otherwise)
    paths = [path for images in files for path in images]
    ignored = [path for name in class_names for path in _other_files(folders_of_class[name])]
    return source_of_files(specification, class_names, labels, splits, paths, ignored, _masks(folder, paths))


def _masks(folder: Path, paths: Sequence[str]) -> Callable[[int], np.ndarray] | None:
    """From an image to the mask of its object, if there is a folder of masks beside that of the images."""
    beside = Path(f"{folder}{_MASKS}")
    if not beside.is_dir():
        return None

    def mask(index: int) -> np.ndarray:
        image = Path(paths[int(index)])
        file = beside / image.relative_to(folder).with_suffix(".png")
        if not file.is_file():
            raise DataError(f"every image must have a mask where there are any. Received: no file {file} for {image}")
        found, expected = decode_image(file).max(axis=-1) > _ON_OBJECT, decode_image(image).shape[:2]
        if found.shape != expected:
            raise DataError(
                f"a mask must be as large as its image, {expected[1]} x {expected[0]} pixels. Received: {file}, "
                f"{found.shape[1]} x {found.shape[0]}"
            )
        return found

    return mask


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
                found.setdefault(text_of_name(name), []).append(parent / name)
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
    """Our NAME:CONFIG is NAME/CONFIG there; their own NAME:VERSION and NAME/CONFIG:VERSION stay."""
    name, colon, rest = location.partition(":")
    if "/" in location or not colon or _TFDS_VERSION.fullmatch(rest):
        return location
    return f"{name}/{rest}"


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
    return source_of_used_classes(
        records.name,
        records.class_names,
        records.labels,
        splits,
        read=lambda index: decode_image(records.image(index), describe(index)),
        describe=describe,
        encoded=records.image,
    )


# === All of them ===

_OPENERS: Mapping[str, Callable[[str, str], Source]] = {
    "folder": _open_folder,
    "filelist": source_of_list,
    "tfds": _open_tfds,
    "domain": _open_domain,
    "synthetic": _open_synthetic,
}
