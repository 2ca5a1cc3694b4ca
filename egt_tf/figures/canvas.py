"""What figures are drawn on: boxes, pictures, lines of text, and names that fit their place."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from egt_tf.files import atomic_write

INK, MUTED, BAR, PALE, TRACK, TINT, WHITE = (
    "#1a1c20",
    "#666b73",
    "#a9afb7",
    "#d3d6da",
    "#e6e8eb",
    "#f1f3f5",
    "#ffffff",
)
FOR, AGAINST = "#c62a32", "#2a5fbf"
# What all figures have alike, in inches, measured from the top left corner.
WIDTH, MARGIN, GAP, HEADER = 11.2, 0.4, 0.22, 0.98

_DPI = 160
# Agg refuses 2 ** 16 pixels; a figure of hundreds of classes becomes coarser instead.
_MOST_PIXELS = 30_000
# Of what notebooks keep; type of 8 points can still be read.
_NOTEBOOK_SCALE, _NOTEBOOK_COLOURS = 820 / (WIDTH * _DPI), 128
_CLASS_NUMBER = re.compile(r"^(?:n\d{8}|\d{1,4})[._\- ]+(?=\S)")


# === Names ===


def readable_name(name: str) -> str:
    """A class name without the number of its data set: "013.Bobolink" and "n01532829_house_finch" lose it."""
    return " ".join(_CLASS_NUMBER.sub("", name).replace("_", " ").split()) or name


def short_names(names: Sequence[str], limit: int) -> tuple[str, ...]:
    """Readable names of at most `limit` characters (>= 8) that stay different if the names are different.

    The middle is left out ("Bentley Continental… 2012"), since names of one family differ at the end. Where
    the short names still coincide, more of the end is kept, and finally the position is put in front.
    """
    readable = [readable_name(name) for name in names]
    if len(set(readable)) < len(set(names)):
        readable = [" ".join(name.replace("_", " ").split()) for name in names]
    for tail_words in (1, 2, 3):
        short = tuple(_shorten(name, limit, tail_words) for name in readable)
        if len(set(short)) == len(set(names)):
            return short
    return tuple(f"{i} {_shorten(name, limit - 1 - len(str(i)), 1)}" for i, name in enumerate(readable, 1))


def _shorten(name: str, limit: int, tail_words: int) -> str:
    """Leaves out the middle of a name that is too long; cuts between words where that costs little."""
    if len(name) <= limit:
        return name
    tail = " " + " ".join(name.split()[-tail_words:])
    if len(tail) > 0.75 * limit:
        tail = name[-(limit * (1 + tail_words) // 5) :]
    head = name[: limit - 1 - len(tail)]
    whole_words = name[: len(head) + 1].rpartition(" ")[0]
    return (whole_words if 2 * len(whole_words) >= len(head) else head).rstrip() + "…" + tail


def _told_apart(names: Sequence[str], bold: bool) -> Sequence[str]:
    """The names as they can be drawn; where characters that the font lacks make them alike, their positions in front."""
    from egt_tf.figures.agg import drawable

    shown = [drawable(name, bold) for name in names]
    if len(set(shown)) == len(set(names)):
        return shown
    return [f"{i} {name}" if shown.count(name) > 1 else name for i, name in enumerate(shown, 1)]


def _plain_names(names: Sequence[str], limit: int) -> tuple[str, ...]:
    """Shortens text that is not a class name."""
    return tuple(_shorten(" ".join(name.split()), limit, 1) for name in names)


# === Canvas ===


class Box(NamedTuple):
    """A rectangle on the canvas, in inches from the top left corner."""

    x: float
    y: float
    width: float
    height: float


_Shortener = Callable[[Sequence[str], int], tuple[str, ...]]


class Canvas:
    """A white area with one axes in inches, so that every element is placed by hand and none can overlap.

    Lengths count from the top left corner, downwards and to the right; sizes of type are in points.

    Args:
        width: in inches.
        height: in inches.

    Example:
        >>> canvas = Canvas(width=2.0, height=1.0)
        >>> canvas.text(0.1, 0.5, "a dollar sign: $", size=8)
        >>> canvas.pixels().shape
        (160, 320, 3)
    """

    def __init__(self, width: float, height: float):
        from egt_tf.figures.agg import Figure, FigureCanvasAgg

        dpi = min(_DPI, _MOST_PIXELS / height)
        self.figure = Figure(figsize=(width, height), dpi=dpi, facecolor=WHITE)
        self._agg = FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.axes.set_xlim(0, width)
        self.axes.set_ylim(height, 0)
        self._widths: dict[tuple[str, float, bool], float] = {}

    def pixels(self) -> np.ndarray:
        """What was drawn so far, uint8 `(height, width, 3)`."""
        self._agg.draw()
        return np.array(self._agg.buffer_rgba())[..., :3]

    def save(self, path: Path) -> None:
        """Writes what was drawn so far as PNG, whole or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        with atomic_write(path, "wb") as file:
            # The version of the drawing library would make equal pictures differ byte by byte.
            self._agg.print_png(file, metadata={"Software": None})

    def __repr__(self) -> str:
        width, height = (round(side) for side in self.figure.bbox.size)
        return f"<a picture of {width} x {height} pixels>"

    def _repr_png_(self) -> bytes:
        """What a notebook shows: smaller than the file and of few colours, since notebooks keep their pictures."""
        picture = Image.fromarray(self.pixels())
        size = round(_NOTEBOOK_SCALE * picture.width), round(_NOTEBOOK_SCALE * picture.height)
        picture = picture.resize(size, Image.Resampling.LANCZOS)
        content = io.BytesIO()
        picture.quantize(_NOTEBOOK_COLOURS, dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
        return content.getvalue()

    def image(self, pixels: np.ndarray, box: Box) -> None:
        """Fits an image into the box, keeping its proportions and its top left corner."""
        rows, columns = pixels.shape[:2]
        zoom = min(box.width / columns, box.height / rows)
        box = Box(box.x, box.y, columns * zoom, rows * zoom)
        extent = (box.x, box.x + box.width, box.y + box.height, box.y)
        self.axes.imshow(pixels, extent=extent, aspect="auto", interpolation="bicubic", origin="upper", zorder=2)
        self.rectangle(box, edge=PALE)

    def rectangle(self, box: Box, fill: str = "none", edge: str = "none") -> None:
        """Fills a box behind the images or draws a thin frame over them."""
        from egt_tf.figures.agg import Rectangle

        line_width, order = (0.6, 3) if fill == "none" else (0.0, 1)
        self.axes.add_patch(
            Rectangle(
                (box.x, box.y),
                box.width,
                box.height,
                facecolor=fill,
                edgecolor=edge,
                linewidth=line_width,
                zorder=order,
            )
        )

    def text(
        self, x: float, y: float, words: str, size: float, *, color: str = INK, bold: bool = False, align: str = "left"
    ) -> None:
        """Writes one line whose baseline is at `y`. A dollar sign is a dollar sign, never mathematics.

        Characters that the font lacks are replaced, see `egt_tf.figures.agg.drawable`.
        """
        from egt_tf.figures.agg import drawable, font

        self.axes.text(
            x,
            y,
            drawable(words, bold),
            fontproperties=font(size, bold),
            color=color,
            ha=align,
            va="baseline",
            parse_math=False,
            usetex=False,
            zorder=4,
        )

    def caption(self, box: Box, role: str, title: str) -> None:
        """Writes two lines above the box of a picture: what part it has, and what it is called."""
        self.text(box.x, box.y - 0.25, role, 8, color=MUTED)
        self.text(box.x, box.y - 0.08, title, 9.5, bold=True)

    def width_of(self, words: str, size: float, bold: bool = False) -> float:
        """Width in inches; remembered, since fitting a name asks for the same words again and again."""
        key = (words, size, bold)
        if key not in self._widths:
            from egt_tf.figures.agg import drawable, font

            renderer, shown = self._agg.get_renderer(), drawable(words, bold)
            pixels = renderer.get_text_width_height_descent(shown, font(size, bold), ismath=False)[0]
            self._widths[key] = pixels / self.figure.dpi
        return self._widths[key]

    def wrap(self, words: str, width: float, size: float, bold: bool = False) -> list[str]:
        """Breaks the text between words into lines of at most `width` inches; a word alone may be wider."""
        lines: list[str] = []
        for word in words.split(" "):
            longer = f"{lines[-1]} {word}" if lines else word
            if lines and self.width_of(longer, size, bold) <= width:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines

    def fit(self, words: str, width: float, size: float, bold: bool = False) -> str:
        """The text, shortened in the middle until it is at most `width` inches wide."""
        return self.fit_names((words,), width, size, bold, shorten=_plain_names)[0][0]

    def fit_names(
        self,
        names: Sequence[str],
        width: float,
        size: float,
        bold: bool = False,
        *,
        lines: int = 1,
        shorten: _Shortener = short_names,
    ) -> list[list[str]]:
        """Short names as at most `lines` lines of at most `width` inches, different where the names are.

        Eight characters stay even where they are wider.
        """
        names = _told_apart(names, bold)

        def wrapped(limit: int) -> list[list[str]]:
            return [self.wrap(name, width, size, bold) for name in shorten(names, limit)]

        def fits(limit: int) -> bool:
            return all(
                len(parts) <= lines and all(self.width_of(part, size, bold) <= width for part in parts)
                for parts in wrapped(limit)
            )

        low, high = 8, max(8, *map(len, names))
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(middle) else (low, middle - 1)
        return wrapped(low)
