"""Which classes are for training (base), for validation (val) and for testing (novel)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from egt_tf.errors import DataError

SPLIT_NAMES = ("base", "val", "novel")
# What can be asked of a source: a split, or every class.
SPLIT_CHOICES = (*SPLIT_NAMES, "all")


def published_split_rule(n_classes: int) -> dict[str, tuple[int, ...]]:
    """Splits classes by their index as the published cross-domain lists do.

    Class i belongs to base if i % 2 == 0, to val if i % 4 == 1, to novel if i % 4 == 3 (Tseng et al.,
    "Cross-domain few-shot classification via learned feature-wise transformation", ICLR 2020; CUB, Cars,
    Places, Plantae).
    """
    return {
        "base": tuple(range(0, n_classes, 2)),
        "val": tuple(range(1, n_classes, 4)),
        "novel": tuple(range(3, n_classes, 4)),
    }


def read_splits(path: str | os.PathLike, class_names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Reads a splits.json: `{"base": [class names], "val": [...], "novel": [...]}`.

    A split that is left out is empty; a class that is not listed belongs to no split.

    Returns:
        the class indices of each split, in ascending order.

    Raises:
        DataError: no JSON object of lists of names, an unknown split or class, or a class listed twice.
    """
    listed = read_json_object(path)
    unknown = sorted(set(listed) - set(SPLIT_NAMES))
    if unknown:
        raise DataError(f"the splits of {path} must be base, val and novel. Received: '{unknown[0]}'")
    check_disjoint({split: _names(path, split, listed[split]) for split in listed}, str(path))
    index_of = {name: i for i, name in enumerate(class_names)}
    for split in SPLIT_NAMES:
        for name in listed.get(split, ()):
            if name not in index_of:
                raise DataError(f"'{split}' of {path} must name classes of the data. Received: '{name}'")
    return {split: tuple(sorted(index_of[name] for name in listed.get(split, ()))) for split in SPLIT_NAMES}


def splits_beside(
    candidates: Sequence[Path], class_names: Sequence[str], otherwise: dict[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """The splits that the first file there is of `candidates` gives (see `read_splits`), or `otherwise`."""
    for path in candidates:
        if path.exists():
            return read_splits(path, class_names)
    return otherwise


def check_disjoint(names_of_split: Mapping[str, Sequence[str]], origin: str) -> None:
    """Checks that no class name occurs twice, in one split or in two.

    Raises:
        DataError: names the class, its splits and `origin`.
    """
    split_of: dict[str, str] = {}
    for split, names in names_of_split.items():
        for name in names:
            if name in split_of:
                raise DataError(
                    f"a class may be in one split only, once. Received: class '{name}' is in "
                    f"{split_of[name]} and in {split} of {origin}"
                )
            split_of[name] = split


def read_json_object(path: str | os.PathLike) -> dict:
    """Reads a JSON file whose outermost value is an object.

    Raises:
        DataError: the file is missing or unreadable, is no JSON, or holds something else.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} must hold a JSON object. Received: {type(value).__name__}")
    return value


def _names(path: str | os.PathLike, split: str, names: object) -> list[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"'{split}' of {path} must be a list of class names. Received: {_short(names)}")
    return names


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
