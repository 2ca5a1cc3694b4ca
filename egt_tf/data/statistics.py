"""Counts, sizes and colours of the images of a source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from egt_tf.data.check import Progress, find_unreadable
from egt_tf.data.sources import Source
from egt_tf.data.splits import SPLIT_NAMES
from egt_tf.errors import check_integer


def source_statistics(
    source: Source, images_per_class: int | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Counts the classes and images of each split, and measures the images.

    Args:
        source: what to measure.
        images_per_class: decode this many images of each class at most, its first ones; all by default. The counts of
            images are always those of the whole source.
        progress: called with the number of images done and of all.

    Returns:
        JSON types: "source"; "splits", a list of one entry for "base", "val", "novel" and "all" with "split",
        "classes", "images", "images_per_class" (least, median, most), "measured" and "unreadable" images, and of the
        measured ones "height" and "width" (least, median, most) in pixels, "channel_mean" and "channel_std" of red,
        green and blue over all pixels, in [0, 1]. What cannot be measured is None.

    Raises:
        ConfigError: `images_per_class` is below 1.
    """
    if images_per_class is not None:
        check_integer("images_per_class", images_per_class, 1)
    members = [np.flatnonzero(source.labels == c)[:images_per_class] for c in range(len(source.class_names))]
    measured: dict[int, np.ndarray] = {}
    unreadable = find_unreadable(
        source,
        (int(index) for some in members for index in some),
        on_image=lambda index, image: measured.update({index: _measure(image)}),
        progress=progress,
    )
    every = {**{split: source.splits.get(split, ()) for split in SPLIT_NAMES}, "all": range(len(members))}
    splits = [_split_entry(split, classes, source, measured, unreadable) for split, classes in every.items()]
    return {"source": source.name, "splits": splits}


def _measure(image: np.ndarray) -> np.ndarray:
    """Height, width, and the sums and sums of squares of the three channels, float64 `(8,)`."""
    pixels = image.reshape(-1, 3).astype(np.float64) / 255
    return np.concatenate([image.shape[:2], pixels.sum(axis=0), np.square(pixels).sum(axis=0)])


def _split_entry(
    split: str, classes: Sequence[int], source: Source, measured: dict[int, np.ndarray], unreadable: dict[int, str]
) -> dict[str, Any]:
    counts = np.bincount(source.labels, minlength=len(source.class_names))[list(classes)]
    own = set(classes)
    rows = [row for index, row in measured.items() if int(source.labels[index]) in own]
    return {
        "split": split,
        "classes": len(counts),
        "images": int(counts.sum()),
        "images_per_class": _spread(counts),
        "measured": len(rows),
        "unreadable": sum(int(source.labels[index]) in own for index in unreadable),
        **_pixel_statistics(np.array(rows)),
    }


def _spread(values: np.ndarray) -> list[float] | None:
    """Least, median, most."""
    return None if not len(values) else [float(f(values)) for f in (np.min, np.median, np.max)]


def _pixel_statistics(rows: np.ndarray) -> dict[str, list[float] | None]:
    """See `source_statistics`; rows as `_measure` gives them, `(images, 8)`."""
    if not len(rows):
        return dict.fromkeys(("height", "width", "channel_mean", "channel_std"))
    pixels = (rows[:, 0] * rows[:, 1]).sum()
    mean, square = rows[:, 2:5].sum(axis=0) / pixels, rows[:, 5:].sum(axis=0) / pixels
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    return {
        "height": _spread(rows[:, 0]),
        "width": _spread(rows[:, 1]),
        "channel_mean": mean.round(6).tolist(),
        "channel_std": deviation.round(6).tolist(),
    }
