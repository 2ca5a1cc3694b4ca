"""Contact sheets: some images of some classes on one picture."""

from __future__ import annotations

import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from egt_tf.data.image_set import ImageSet
from egt_tf.errors import ConfigError, check_integer

_GAP, _LINE, _LINES, _FONT_SIZE = 8, 13, 3, 11
_LETTER = 6.2  # about the width of one, in pixels
_INK, _FRAME = (30, 30, 40), (232, 232, 236)


def contact_sheet(
    images: ImageSet, classes: int = 8, images_per_class: int = 6, tile: int = 96, seed: int = 0
) -> Image.Image:
    """Draws one column a class under its name, with images drawn at random, whole and in their own proportions.

    Args:
        images: what to show.
        classes: columns; fewer if there are not so many.
        images_per_class: rows; a class with fewer leaves the rest of its column empty.
        tile: side of the square that an image is fitted into, in pixels, >= 32.
        seed: chooses classes and images.

    Raises:
        ConfigError: a number is too small.
        DataError: an image cannot be read.

    Example:
        >>> from egt_tf.data import open_source
        >>> contact_sheet(open_source("synthetic:fog").split("novel"), classes=3, images_per_class=2, tile=40).size
        (152, 143)
    """
    for name, value, smallest in (
        ("classes", classes, 1),
        ("images_per_class", images_per_class, 1),
        ("tile", tile, 32),
        ("seed", seed, 0),
    ):
        check_integer(name, value, smallest)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(images.members), min(classes, len(images.members)), replace=False))
    step, header = tile + _GAP, _GAP + _LINE * _LINES
    size = (_GAP + step * len(chosen), header + step * images_per_class)
    if max(size) > 16_384:
        raise ConfigError(f"a sheet may have at most 16384 pixels a side. Received: {size[0]} x {size[1]}")
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for column, c in enumerate(chosen.tolist()):
        left = _GAP + step * column
        _write_heading(pen, images.class_names[c], left, tile)
        members = images.members[c]
        drawn = rng.choice(members, min(images_per_class, len(members)), replace=False)
        for row, index in enumerate(drawn.tolist()):
            sheet.paste(_fitted(images.read(index), tile), (left, header + step * row))
    return sheet


def _write_heading(pen: ImageDraw.ImageDraw, name: str, left: int, width: int) -> None:
    """The name in up to three lines, broken at spaces, dashes and underscores where it has any."""
    per_line = max(4, int(width / _LETTER))
    lines = textwrap.wrap(name.replace("_", " ").replace("-", "- "), per_line, max_lines=_LINES, placeholder="...")
    text = "\n".join(lines).encode("latin-1", "replace").decode("latin-1")
    middle = (left + width / 2, _GAP / 2)
    pen.multiline_text(middle, text, _INK, ImageFont.load_default(_FONT_SIZE), anchor="ma", align="center", spacing=1)


def _fitted(image: np.ndarray, tile: int) -> Image.Image:
    picture = Image.fromarray(image)
    scale = tile / max(picture.size)
    size = [max(1, round(side * scale)) for side in picture.size]
    # Small images keep their visible pixels.
    way = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    canvas = Image.new("RGB", (tile, tile), _FRAME)
    canvas.paste(picture.resize(size, way), ((tile - size[0]) // 2, (tile - size[1]) // 2))
    return canvas
