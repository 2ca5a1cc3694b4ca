"""What is wrong with the images of a source: unreadable, duplicate, odd, too few of a class."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from egt_tf.data.images import IMAGE_SUFFIXES, oddities
from egt_tf.data.sources import Source
from egt_tf.data.splits import SPLIT_NAMES
from egt_tf.errors import DataError, check_integer

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Finding:
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
class Report:
    """The result of `check_source`.

    Attributes:
        name: of the source.
        images, classes: how many there are.
        unreadable: images that cannot be decoded.
        duplicates: images whose pixels occur in another split too.
        few: classes with fewer images than an episode takes.
        notes: what does no harm: odd images (see `egt_tf.data.images.oddities`), images that occur twice in a split,
            and files that are passed over.
    """

    name: str
    images: int
    classes: int
    unreadable: tuple[Finding, ...]
    duplicates: tuple[Finding, ...]
    few: tuple[Finding, ...]
    notes: tuple[Finding, ...]

    @property
    def wrong(self) -> bool:
        """Whether there is anything but notes."""
        return bool(self.unreadable or self.duplicates or self.few)


def find_unreadable(
    source: Source,
    indices: Iterable[int] | None = None,
    *,
    on_image: Callable[[int, np.ndarray], None] | None = None,
    progress: Progress | None = None,
) -> dict[int, str]:
    """Decodes images and tells which cannot be.

    Args:
        source: where they are from.
        indices: image indices; all of the source by default.
        on_image: called with the index and the pixels, uint8 `(height, width, 3)`, of every image that can be read.
        progress: called with the number of images done and of all.

    Returns:
        image index -> what `Source.read` says about it, which names the image.
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


def check_source(source: Source, images_per_class: int, progress: Progress | None = None) -> Report:
    """Decodes every image of a source and looks for what would spoil a training or a measurement.

    Args:
        source: what to check.
        images_per_class: shots + queries of an episode; a class with fewer readable images is found wanting.
        progress: see `find_unreadable`.

    Raises:
        ConfigError: `images_per_class` is below 1.
    """
    check_integer("images_per_class", images_per_class, 1)
    same: dict[bytes, list[int]] = defaultdict(list)
    unreadable = find_unreadable(
        source, on_image=lambda index, image: same[pixel_digest(image)].append(index), progress=progress
    )
    groups = [group for group in same.values() if len(group) > 1]
    split_of = _split_of_images(source)
    across = [group for group in groups if len({split_of[i] for i in group} - {""}) > 1]
    within = [group for group in groups if group not in across]
    return Report(
        name=source.name,
        images=len(source.labels),
        classes=len(source.class_names),
        unreadable=tuple(Finding(source.describe(i), _bare(source, i, why)) for i, why in unreadable.items()),
        duplicates=tuple(_duplicate(source, group, split_of) for group in across),
        few=tuple(_classes_with_few(source, unreadable, images_per_class)),
        notes=(
            *_odd_images(source, unreadable),
            *(_duplicate(source, group, split_of) for group in within),
            *(Finding(path, f"passed over, not named {', '.join(IMAGE_SUFFIXES)}") for path in source.ignored),
        ),
    )


def pixel_digest(image: np.ndarray) -> bytes:
    """A hash of the size and the pixels: equal for equal pictures, however they are encoded or named."""
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image))
    return digest.digest()


def _bare(source: Source, index: int, message: str) -> str:
    """The reason without the words before it, which repeat the name of the image."""
    return message.removeprefix(f"cannot read image {source.describe(index)}: ")


def _split_of_images(source: Source) -> list[str]:
    """The split of every image; "" where its class belongs to none."""
    split_of_class = {c: split for split in SPLIT_NAMES for c in source.splits.get(split, ())}
    return [split_of_class.get(int(label), "") for label in source.labels]


def _duplicate(source: Source, group: Sequence[int], split_of: Sequence[str]) -> Finding:
    places = [f"{source.class_names[source.labels[i]]} ({split_of[i] or 'no split'})" for i in group]
    copies = ", ".join(f"{source.describe(i)} of {place}" for i, place in zip(group[1:], places[1:], strict=True))
    return Finding(source.describe(group[0]), f"of {places[0]}, has the same pixels as {copies}")


def _classes_with_few(source: Source, unreadable: Iterable[int], needed: int) -> Iterable[Finding]:
    readable = np.delete(source.labels, list(unreadable))
    counts = np.bincount(readable, minlength=len(source.class_names))
    for name, count in zip(source.class_names, counts.tolist(), strict=True):
        if count < needed:
            yield Finding(f"class '{name}'", f"has {count} readable images, an episode takes {needed} of a class")


def _odd_images(source: Source, unreadable: Iterable[int]) -> Iterable[Finding]:
    if source.encoded is None:
        return
    for index in sorted(set(range(len(source.labels))) - set(unreadable)):
        phrases = oddities(source.encoded(index))
        if phrases:
            yield Finding(source.describe(index), "; ".join(phrases))
