"""What a version that was learnt from photos holds beside its graph: classes, features, calibration, photos.

Two files, read without running anything of the model: `learned.json`, and `learned.npz` with arrays only.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from egt_tf.data.images import decode_image
from egt_tf.data.support import SupportSet, padded_support
from egt_tf.errors import DataError, ExportError

LEARNED = "assets.extra/learned.json"
LEARNED_ARRAYS = "assets.extra/learned.npz"
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class LearnedModel:
    """A classifier learnt from photos, without its network.

    Attributes:
        settings: JSON values: how the network is made, and what was chosen and calibrated.
        class_names: sorted by name.
        labels: class of each photo, ascending, int64 `(n,)`.
        names: what each photo is called.
        digests: a hash of the pixels of each photo.
        features: float32 `(n, c)`.
        pixels: uint8 `(n, size, size, 3)`, or None if the photos were left out.

    Raises:
        ExportError: these do not fit together.

    Example:
        >>> learned = LearnedModel(
        ...     {"image_size": 8}, ("ant", "bee"), np.array([0, 1]), ("a", "b"), ("1", "2"), np.eye(2, dtype=np.float32)
        ... )
        >>> learned.counts, learned.pixels is None
        ((1, 1), True)
    """

    settings: Mapping[str, Any]
    class_names: tuple[str, ...]
    labels: np.ndarray
    names: tuple[str, ...]
    digests: tuple[str, ...]
    features: np.ndarray
    pixels: np.ndarray | None = None

    def __post_init__(self) -> None:
        count, ways = len(self.labels), len(self.class_names)
        fits = self.labels.ndim == 1 and np.array_equal(np.unique(self.labels), np.arange(ways))
        fits = fits and bool(np.all(np.diff(self.labels) >= 0))
        if not fits or self.features.ndim != 2 or {len(self.names), len(self.digests), len(self.features)} != {count}:
            raise ExportError(
                f"a learnt model must have a class, a name, a hash and features of each photo. Received: {count} labels "
                f"of {ways} classes, {len(self.names)} names, {len(self.digests)} hashes, features of shape "
                f"{self.features.shape}"
            )

    @property
    def counts(self) -> tuple[int, ...]:
        """Photos of each class."""
        return tuple(np.bincount(self.labels, minlength=len(self.class_names)).tolist())

    @property
    def image_size(self) -> int:
        """Height and width of the photos in pixels."""
        return int(self.settings["image_size"])

    def support(self) -> SupportSet:
        """The photos as a support set; one without images if they were left out."""
        size = self.image_size
        pixels = np.zeros((0, size, size, 3), np.uint8) if self.pixels is None else self.pixels
        labels = self.labels[: len(pixels)]
        return padded_support(self.class_names, [pixels[labels == index] for index in range(len(self.class_names))])

    def files(self) -> dict[str, bytes]:
        """The two files, by their paths in a version."""
        text = {
            "format": _FORMAT,
            **self.settings,
            "classes": list(self.class_names),
            "labels": self.labels.tolist(),
            "photos": list(self.names),
            "sha256": list(self.digests),
            "photos_inside": self.pixels is not None,
        }
        arrays: dict[str, Any] = {"features": np.asarray(self.features, np.float32)}
        if self.pixels is not None:
            encoded = [_png(pixels) for pixels in self.pixels]
            arrays["photos"] = np.frombuffer(b"".join(encoded), np.uint8)
            arrays["sizes"] = np.array([len(each) for each in encoded], np.int64)
        file = io.BytesIO()
        np.savez(file, **arrays)
        content = json.dumps(text, indent=1, allow_nan=False) + "\n"
        return {LEARNED: content.encode(), LEARNED_ARRAYS: file.getvalue()}


def is_learned(version: Path) -> bool:
    """Whether a version was learnt from photos.

    Example:
        >>> is_learned(Path("no/such/model/1"))
        False
    """
    return (version / LEARNED).is_file()


def read_learned(version: Path) -> LearnedModel:
    """Reads the two files of a version.

    Raises:
        ExportError: they are missing or damaged.

    Example:
        >>> read_learned(Path("no/such/model/1"))
        Traceback (most recent call last):
        egt_tf.errors.ExportError: no/such/model/1 must be a model of `egt-tf learn`. Received: no assets.extra/learned.json
    """
    if not is_learned(version):
        raise ExportError(f"{version} must be a model of `egt-tf learn`. Received: no {LEARNED}")
    try:
        text = json.loads((version / LEARNED).read_text(encoding="utf-8"))
        if not zipfile.is_zipfile(version / LEARNED_ARRAYS):
            raise ValueError("no archive of arrays")
        with np.load(version / LEARNED_ARRAYS, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return _learned(text, arrays)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, (KeyError, TypeError)) else str(error)
        raise ExportError(f"the files {LEARNED} and .npz of {version} are damaged: {reason}") from error


def _learned(text: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> LearnedModel:
    if text.pop("format") != _FORMAT:
        raise ExportError("its format must be that of this version of egt-tf. Received: another one")
    labels = np.array(text.pop("labels"), np.int64)
    pixels = _pixels(arrays, int(text["image_size"])) if text.pop("photos_inside") else None
    if pixels is not None and len(pixels) != len(labels):
        raise ExportError(f"there must be {len(labels)} photos. Received: {len(pixels)}")
    parts = {key: tuple(map(str, text.pop(key))) for key in ("classes", "photos", "sha256")}
    features = arrays["features"].astype(np.float32)
    return LearnedModel(text, parts["classes"], labels, parts["photos"], parts["sha256"], features, pixels)


def _pixels(arrays: Mapping[str, np.ndarray], size: int) -> np.ndarray:
    ends = np.cumsum(arrays["sizes"])
    content = arrays["photos"].tobytes()
    if not len(ends) or ends[-1] != len(content) or arrays["sizes"].min() < 1:
        raise ExportError("its photos must be as long as is said. Received: another length")
    photos = []
    for number, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True), start=1):
        photo = decode_image(content[start:end], f"photo {number}")
        if photo.shape != (size, size, 3):
            raise DataError(f"photo {number} must be {size} x {size} pixels. Received: {photo.shape}")
        photos.append(photo)
    return np.stack(photos)


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()
