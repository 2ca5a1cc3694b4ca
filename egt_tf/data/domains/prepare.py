"""Preparing a named domain, and verifying what was written."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from egt_tf.data.check import SourceCheck, check_source
from egt_tf.data.domains import Domain, data_dir, domain_builder, find_domain, is_prepared, prepared_folder
from egt_tf.data.image_set import OnProgress, Source
from egt_tf.data.sources import open_source
from egt_tf.data.splits import SPLIT_NAMES
from egt_tf.errors import DataError, original_error
from egt_tf.files import lock


@dataclass(frozen=True)
class SplitCount:
    """What a split of a prepared domain holds.

    Attributes:
        split: "base", "val" or "novel".
        classes, images: how many.
        expected_classes: how many classes the domain has in this split.
        fewest, most: images of its smallest and of its largest class.
    """

    split: str
    classes: int
    images: int
    expected_classes: int
    fewest: int
    most: int


@dataclass(frozen=True)
class Prepared:
    """A domain that is prepared.

    Attributes:
        folder: where its files are.
        made: whether they were written now; false if they were there.
        counts: one entry a split.
        expected_images: how many images the domain has; None if it is not known.
        check: what decoding every image found.
    """

    folder: Path
    made: bool
    counts: tuple[SplitCount, ...]
    expected_images: int | None
    check: SourceCheck

    @property
    def problems(self) -> tuple[str, ...]:
        """What is not as it should be, one phrase each."""
        wrong = [
            f"split {one.split} has {one.classes} classes, not {one.expected_classes}"
            for one in self.counts
            if one.classes != one.expected_classes
        ]
        if self.expected_images not in (None, self.check.images):
            wrong.append(f"{self.check.images} images, not {self.expected_images}")
        for remarks, what in (
            (self.check.unreadable, "unreadable images"),
            (self.check.duplicates, "images in two splits"),
        ):
            wrong += [f"{len(remarks)} {what}"] if remarks else []
        return tuple(wrong)


def prepare_domain(
    name: str, manual_dir: str | os.PathLike | None = None, progress: OnProgress | None = None
) -> Prepared:
    """Prepares a domain unless it is, then verifies it: classes of each split, every image, no image in two splits.

    The prepared files appear whole or not at all. After an interruption, what was downloaded is still there and is not
    downloaded again. Sets that the package may download are downloaded here and nowhere else.

    Args:
        name: of the domain, e.g. "cub".
        manual_dir: folder of files that were fetched by hand; `downloads/manual` of the data folder by default.
        progress: called with the number of images verified and of all.

    Raises:
        DataError: an unknown domain, missing files (says which go where), or another process is preparing the domain.

    Example:
        >>> prepare_domain("cubs")
        Traceback (most recent call last):
        egt_tf.errors.DataError: a domain must be one of ... Received: 'cubs'; did you mean 'cub'?
    """
    domain = find_domain(name)
    made = not is_prepared(domain)
    if made:
        manual = _manual_folder(domain, manual_dir)
        with _only_one(domain):
            _build(domain, manual)
    source = open_source(f"domain:{name}")
    counts = tuple(_count(source, domain, split) for split in SPLIT_NAMES)
    return Prepared(prepared_folder(domain), made, counts, domain.images, check_source(source, progress=progress))


def _manual_folder(domain: Domain, manual_dir: str | os.PathLike | None) -> Path:
    folder = Path(manual_dir) if manual_dir else data_dir() / "downloads" / "manual"
    if manual_dir and not folder.is_dir():
        raise DataError(f"the folder of files fetched by hand must exist. Received: {folder}")
    if domain.origin is None and not (folder.is_dir() and any(folder.iterdir())):
        instructions = " ".join(domain_builder(domain).MANUAL_DOWNLOAD_INSTRUCTIONS.split())
        raise DataError(f"{domain.name} cannot be downloaded, and {folder} is empty or missing. {instructions}")
    return folder


def _build(domain: Domain, manual: Path) -> None:
    import tensorflow_datasets as tfds

    config = tfds.download.DownloadConfig(manual_dir=manual, try_download_gcs=False)
    with original_error(), _quiet(tfds):
        domain_builder(domain).download_and_prepare(download_config=config, file_format="tfrecord")


@contextlib.contextmanager
def _quiet(tfds: Any) -> Iterator[None]:
    """Shows what TensorFlow Datasets prints, and its progress bars, on stderr and only if that is a terminal."""
    terminal = sys.stderr.isatty()
    if not terminal:
        tfds.disable_progress_bar()
    with contextlib.redirect_stdout(sys.stderr if terminal else io.StringIO()):
        yield


@contextlib.contextmanager
def _only_one(domain: Domain) -> Iterator[None]:
    """Keeps a second process out, and removes what a killed one or an interruption has left."""
    parent = prepared_folder(domain).parent
    parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(parent, os.O_RDONLY)
    try:
        lock(descriptor)
    except OSError as error:
        os.close(descriptor)
        raise DataError(f"{domain.name} is being prepared by another process in {parent}") from error
    try:
        _remove_incomplete(parent)
        yield
    finally:
        # TensorFlow Datasets leaves it if it is interrupted before it has begun to write.
        _remove_incomplete(parent)
        os.close(descriptor)
        # An empty folder is all that a failure leaves.
        with contextlib.suppress(OSError):
            parent.rmdir()


def _remove_incomplete(parent: Path) -> None:
    for leftover in parent.glob("incomplete.*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _count(source: Source, domain: Domain, split: str) -> SplitCount:
    sizes: np.ndarray = np.bincount(source.labels)[list(source.splits[split])]
    expected = dict(zip(SPLIT_NAMES, domain.classes, strict=True))[split]
    fewest, most = (int(sizes.min()), int(sizes.max())) if len(sizes) else (0, 0)
    return SplitCount(split, len(sizes), int(sizes.sum()), expected, fewest, most)
