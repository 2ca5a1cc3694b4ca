"""What there is to know about the images of a source: what is wrong with them, their numbers, sizes and colours."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from egt_tf.config import EpisodeConfig
from egt_tf.data.image_set import ImageSet, OnProgress, Source
from egt_tf.data.images import IMAGE_SUFFIXES, oddities
from egt_tf.data.sampling import settings_that_do
from egt_tf.data.splits import SPLIT_NAMES
from egt_tf.errors import DataError, check_integer


@dataclass(frozen=True)
class Remark:
    """One thing to know about an image or a class.

    Attributes:
        where: the path or another name of the image, or the class.
        reason: what it is.
    """

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True)
class SourceCheck:
    """The result of `check_source`.

    Attributes:
        name: of the source.
        images, classes: how many there are.
        unreadable: images that cannot be decoded.
        duplicates: images whose pixels occur in another split too.
        contradictions: images whose pixels occur in another class of the same split too, so that one label is wrong.
        few: classes with fewer images than an episode takes, and splits with fewer classes.
        remedy: the settings of a training with which the splits suffice, such as "--set episode.ways=3"; empty if they
            suffice as they are, or in no way.
        notes: what does no harm: odd images (see `egt_tf.data.images.oddities`), images that occur twice in a class,
            and files that are passed over.
    """

    name: str
    images: int
    classes: int
    unreadable: tuple[Remark, ...]
    duplicates: tuple[Remark, ...]
    contradictions: tuple[Remark, ...]
    few: tuple[Remark, ...]
    notes: tuple[Remark, ...]
    remedy: str = ""

    @property
    def wrong(self) -> bool:
        """Whether there is anything but notes."""
        return bool(self.unreadable or self.duplicates or self.contradictions or self.few)


def find_unreadable(
    source: Source,
    indices: Iterable[int] | None = None,
    *,
    on_image: Callable[[int, np.ndarray], None] | None = None,
    progress: OnProgress | None = None,
) -> dict[int, str]:
    """Decodes images and tells which cannot be.

    Args:
        source: where they are from.
        indices: image indices; all of the source by default.
        on_image: called with the index and the pixels, uint8 `(height, width, 3)`, of every image that can be read.
        progress: called with the number of images done and of all.

    Returns:
        image index -> what `Source.read` says about it, which names the image.

    Example:
        >>> from egt_tf.data import open_source
        >>> find_unreadable(open_source("synthetic:shapes"), range(5))
        {}
    """
    indices = range(len(source.labels)) if indices is None else list(indices)
    unreadable = {}
    for done, index in enumerate(indices):
        if progress:
            progress(done, len(indices))
        try:
            image = source.read(index)
        except DataError as error:
            unreadable[index] = str(error)
        else:
            if on_image:
                on_image(index, image)
    if progress:
        progress(len(indices), len(indices))
    return unreadable


def check_source(
    source: Source, episode: EpisodeConfig | None = None, progress: OnProgress | None = None
) -> SourceCheck:
    """Decodes every image of a source and looks for what would spoil a training or a measurement.

    Args:
        source: what to check.
        episode: what is to be drawn from each split; a split with fewer classes than ways is found wanting, and so is a
            class with fewer readable images than shots and queries together. A split without any class is noted. None: a
            class must have one readable image, and no more is asked.
        progress: see `find_unreadable`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from egt_tf.data import open_source
        >>> from egt_tf.files import write_png
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("cat", "dog"):
        ...     write_png(folder / name / "1.png", np.zeros((20, 20, 3), np.uint8))
        >>> found = check_source(open_source(f"folder:{folder}"), EpisodeConfig(ways=2, shots=1, queries=1))
        >>> found.images, found.unreadable, len(found.duplicates)
        (2, (), 1)
    """
    same: dict[bytes, list[int]] = defaultdict(list)
    unreadable = find_unreadable(
        source, on_image=lambda index, image: same[pixel_digest(image)].append(index), progress=progress
    )
    groups = [group for group in same.values() if len(group) > 1]
    split_of_class = {c: split for split in SPLIT_NAMES for c in source.splits.get(split, ())}
    # "" where the class of an image belongs to none.
    split_of = [split_of_class.get(int(label), "") for label in source.labels]
    across = [group for group in groups if len({split_of[i] for i in group} - {""}) > 1]
    within = [group for group in groups if group not in across]
    labelled_twice = [group for group in within if len({int(source.labels[i]) for i in group}) > 1]
    return SourceCheck(
        name=source.name,
        images=len(source.labels),
        classes=len(source.class_names),
        unreadable=tuple(
            # Without the words that repeat the name of the image.
            Remark(source.describe(i), why.removeprefix(f"cannot read image {source.describe(i)}: "))
            for i, why in unreadable.items()
        ),
        duplicates=tuple(_duplicate(source, group, split_of) for group in across),
        contradictions=tuple(_duplicate(source, group, split_of) for group in labelled_twice),
        few=(*_splits_with_few(source, episode), *_classes_with_few(source, unreadable, episode)),
        notes=(
            *_odd_images(source, unreadable),
            *(_duplicate(source, group, split_of) for group in within if group not in labelled_twice),
            *(Remark(path, f"passed over, not named {', '.join(IMAGE_SUFFIXES)}") for path in source.ignored),
            *(Remark(f"split '{split}'", "has no classes") for split in SPLIT_NAMES if not source.splits.get(split)),
        ),
        remedy=_remedy(source, unreadable, episode),
    )


def pixel_digest(image: np.ndarray) -> bytes:
    """A hash of the size and the pixels: equal for equal pictures, however they are encoded or named."""
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def _duplicate(source: Source, group: Sequence[int], split_of: Sequence[str]) -> Remark:
    places = [f"{source.class_names[source.labels[i]]} ({split_of[i] or 'no split'})" for i in group]
    copies = ", ".join(f"{source.describe(i)} of {place}" for i, place in zip(group[1:], places[1:], strict=True))
    return Remark(source.describe(group[0]), f"of {places[0]}, has the same pixels as {copies}")


def _remedy(source: Source, unreadable: Iterable[int], episode: EpisodeConfig | None) -> str:
    sets = [_readable(source, split, unreadable) for split in _used_splits(source)]
    return "" if episode is None or not sets else settings_that_do(sets, episode)


def _used_splits(source: Source) -> list[str]:
    return [split for split in SPLIT_NAMES if source.splits.get(split)]


def _readable(source: Source, split: str, unreadable: Iterable[int]) -> ImageSet:
    images, left_out = source.split(split), list(unreadable)
    return replace(images, members=tuple(members[~np.isin(members, left_out)] for members in images.members))


def _splits_with_few(source: Source, episode: EpisodeConfig | None) -> Iterable[Remark]:
    ways = 1 if episode is None else episode.ways
    for split in _used_splits(source):
        count = len(source.splits[split])
        if count < ways:
            yield Remark(
                f"split '{split}'", f"has {count} class{'' if count == 1 else 'es'}, a {ways}-way episode takes {ways}"
            )


def _classes_with_few(source: Source, unreadable: Iterable[int], episode: EpisodeConfig | None) -> Iterable[Remark]:
    needed = 1 if episode is None else episode.shots + episode.queries
    readable = np.delete(source.labels, list(unreadable))
    counts = np.bincount(readable, minlength=len(source.class_names))
    for name, count in zip(source.class_names, counts.tolist(), strict=True):
        if count < needed:
            yield Remark(f"class '{name}'", f"has {count} readable images, an episode takes {needed} of a class")


def _odd_images(source: Source, unreadable: Iterable[int]) -> Iterable[Remark]:
    if source.encoded is None:
        return
    for index in sorted(set(range(len(source.labels))) - set(unreadable)):
        phrases = oddities(source.encoded(index))
        if phrases:
            yield Remark(source.describe(index), "; ".join(phrases))


# === Numbers, sizes and colours ===


def source_statistics(
    source: Source, images_per_class: int | None = None, progress: OnProgress | None = None
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

    Example:
        >>> from egt_tf.data import open_source
        >>> found = source_statistics(open_source("synthetic:shapes"), images_per_class=1)
        >>> found["splits"][0]["classes"], found["splits"][0]["height"]
        (40, [84.0, 84.0, 84.0])
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
