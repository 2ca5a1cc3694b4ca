"""Lines and tables that several commands print."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

if TYPE_CHECKING:
    from egt_tf.data.support import SupportSet


def prediction_line(
    image: Path, class_name: str, probability: float, known: bool | None = None, tie: str | None = None
) -> str:
    """What an image was taken for: "photo.jpg: bee (93.1 %)".

    Args:
        image: its file.
        class_name: the most probable class.
        probability: of it.
        known: False: the image shows none of the classes; "photo.jpg: none of these (nearest: bee)".
        tie: what `egt_tf.ties.tie_text` says where several classes are equally probable; "photo.jpg: a tie of ant and
            bee (40.0 % each), no prediction".
    """
    if tie is not None:
        return f"{image}: {tie} ({100 * probability:.1f} % each), no prediction"
    if known is False:
        return f"{image}: none of these (nearest: {class_name})"
    return f"{image}: {class_name} ({100 * probability:.1f} %)"


def counts_text(counts: Sequence[int]) -> str:
    """How many images each class has: "5 images each", "2 to 7 images each"."""
    smallest, largest = min(counts), max(counts)
    number = f"{largest}" if smallest == largest else f"{smallest} to {largest}"
    return f"{number} images each"


def say_left_out(left_out: int, shots: int) -> None:
    """Tells of support images that are not used because another class has fewer."""
    if left_out:
        click.echo(
            f"{left_out} support images are not used: every class counts with {shots}, as many as the smallest has"
        )


def warn_of_unlike(paths: Sequence[Path], images: Sequence[np.ndarray], own: SupportSet | None) -> None:
    """Warns, on stderr, of images that look unlike those that come with a model.

    Args:
        paths: their files.
        images: uint8 `(size, size, 3)`, one a file.
        own: the support set that comes with the model, of the kind that it was trained on; None: nothing is said.
    """
    from egt_tf.data.likeness import unlike

    if own is None or not len(images):
        return
    strange = [
        path for path, is_strange in zip(paths, unlike(np.stack(images), own.flat_images), strict=True) if is_strange
    ]
    if strange:
        which = (
            f"{strange[0]} looks"
            if len(paths) == 1
            else f"{len(strange)} of {len(paths)} images, such as {strange[0]}, look"
        )
        click.echo(
            f"warning: {which} unlike the images that come with the model, as photographs and drawings do; what it says "
            "of such images may mean nothing",
            err=True,
        )


def picture_names(images: Sequence[Path], ending: str, folder: Path = Path()) -> list[Path]:
    """A PNG file for each image that is not there yet; a/01.png and b/01.png get different ones.

    Args:
        images: files.
        ending: goes between the name of the image and ".png".
        folder: where the files are to be.
    """
    names: list[Path] = []
    for image in images:
        stem = f"{image.stem}-{ending}"
        numbered = (folder / f"{stem}-{number}.png" for number in itertools.count(2))
        candidates = itertools.chain([folder / f"{stem}.png"], numbered)
        names.append(next(name for name in candidates if name not in names and not os.path.lexists(name)))
    return names


def table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Left-aligned columns, as wide as what they hold."""
    texts = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in texts
    )
