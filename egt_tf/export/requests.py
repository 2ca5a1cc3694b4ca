"""How much a request to an exported model may hold, and the checks of it inside the graph.

A server answers a request that fails a check with INVALID_ARGUMENT and the check's message.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from egt_tf.data.images import MAX_PIXELS
from egt_tf.errors import ExportError
from egt_tf.heads.base import Head

MAX_IMAGES = 256
_LEAST_PIXELS = 32 * 32
# As float32 of four channels, in which an image is laid over white, this is 2 GiB.
_MOST_PIXELS = 2**27 - 1
_MOST_IMAGES = 2**16


@dataclasses.dataclass(frozen=True)
class RequestLimits:
    """Limits that become part of the graph of an exported model.

    Attributes:
        max_pixels: height times width of an encoded image, 1024 to 2^27 - 1.
        max_images: images of a request, 3 to 65536; its queries and its support images or prototypes count together.

    Raises:
        ExportError: one of them is out of its range.

    Example:
        >>> RequestLimits(max_pixels=2_000_000).size
        '2 megapixels'
    """

    max_pixels: int = MAX_PIXELS
    max_images: int = MAX_IMAGES

    def __post_init__(self) -> None:
        _check_range("max_pixels", self.max_pixels, _LEAST_PIXELS, _MOST_PIXELS)
        # Two classes and a query.
        _check_range("max_images", self.max_images, 3, _MOST_IMAGES)

    @property
    def size(self) -> str:
        """`max_pixels` in words."""
        megapixels, rest = divmod(self.max_pixels, 1_000_000)
        return f"{self.max_pixels} pixels" if rest else f"{megapixels} megapixels"

    def check_head(self, head: Head) -> None:
        """Checks that a request can hold an episode of the head.

        Raises:
            ExportError: the head takes more classes than images may be in a request, its query included.
        """
        if head.needs_ways and self.max_images <= head.ways:
            raise ExportError(
                f"`max_images` must be at least {head.ways + 1} for a head of {head.ways} classes, an "
                f"image of each and a query. Received: max_images={self.max_images}"
            )


def _check_range(name: str, value: int, smallest: int, largest: int) -> None:
    if not smallest <= value <= largest:
        raise ExportError(f"`{name}` must be between {smallest} and {largest}. Received: {name}={value}")


def checked(value: tf.Tensor, *rules: tuple[tf.Tensor, Sequence[Any]]) -> tf.Tensor:
    """Hands `value` on if every rule holds.

    Args:
        value: any tensor. Whatever is computed from the result waits for the checks.
        *rules: pairs of a boolean tensor, which must be all true, and the parts of the message if it is not, strings
            and tensors.

    Returns:
        `value`.

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs and a rule does not hold.
    """
    assertions = [tf.debugging.Assert(tf.reduce_all(holds), message, summarize=8) for holds, message in rules]
    # TensorFlow orders assertions among each other, but not before the operations that would fail without them.
    with tf.control_dependencies(assertions):
        return tf.identity(value)


def checked_labels(labels: tf.Tensor, images: tf.Tensor, head: Head) -> tf.Tensor:
    """One-hot labels of the support images of a request.

    Args:
        labels: class of each support image, int64 `(support,)`.
        images: number of support images.
        head: may want a certain number of classes.

    Returns:
        float32 `(support, ways)`; ways is the largest label plus one.

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs: another number of labels than of images, none, labels
            below 0, fewer than two classes or not as many as the head takes, or a class without an image.
    """
    labels = checked(
        labels,
        (images > 0, ["at least one support image must be given. Received: none"]),
        (
            tf.size(labels) == images,
            ["every support image must have one label. Received:", images, "images and", tf.size(labels), "labels"],
        ),
    )
    in_range = (labels >= 0) & (labels < tf.cast(images, labels.dtype))
    # Before anything as long as the largest label is made.
    labels = checked(
        labels, (in_range, ["support labels must be 0, 1, ..., each class with at least one image. Received:", labels])
    )
    ways = tf.reduce_max(labels) + 1
    counts = tf.math.unsorted_segment_sum(tf.ones_like(labels), labels, ways)
    rules = [
        (counts > 0, ["every class from 0 to the largest label must have a support image. Received:", labels]),
        (ways >= 2, ["the support images must be of at least two classes. Received:", ways]),
    ]
    if head.needs_ways:
        rules.append((ways == head.ways, [f"this model takes {head.ways} classes. Received:", ways]))
    labels = checked(labels, *rules)
    return tf.one_hot(labels, tf.cast(tf.reduce_max(labels) + 1, tf.int32))


def checked_targets(targets: tf.Tensor, queries: tf.Tensor, ways: tf.Tensor | int) -> tf.Tensor:
    """The classes to explain of a request.

    Args:
        targets: int64 `(queries,)`, class indices, -1 for the predicted class.
        queries: their number.
        ways: number of classes.

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs: another number of targets, or one that is no class.
    """
    in_range = (targets >= -1) & (targets < tf.cast(ways, targets.dtype))
    return checked(
        targets,
        (
            tf.size(targets) == queries,
            ["every query must have one target. Received:", queries, "queries and", tf.size(targets), "targets"],
        ),
        (
            in_range,
            [
                "a target must be a class index, or -1 for the predicted class. Received:",
                targets,
                "for",
                ways,
                "classes",
            ],
        ),
    )


def checked_positions(positions: tf.Tensor, photos: tf.Tensor, stored: tf.Tensor) -> tf.Tensor:
    """Where the photos of a request are in the stored support set.

    Args:
        positions: int64 `(photos,)`, from 0 on.
        photos: their number.
        stored: how many images the support set has.

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs: another number of positions, or one that is not there.
    """
    in_range = (positions >= 0) & (positions < tf.cast(stored, positions.dtype))
    count = tf.size(positions)
    return checked(
        positions,
        (count == photos, ["every photo must have one position. Received:", photos, "photos and", count, "positions"]),
        (in_range, ["a position must be that of a stored photo. Received:", positions, "for", stored, "photos"]),
    )
