"""One page for one explained query: what was predicted, how sure, which pixels and images mattered."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, NamedTuple, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle

from egt_tf.errors import ExplainError
from egt_tf.explain import heatmap
from egt_tf.files import atomic_write, write_array, write_json

# Gaussian sigma over the shorter side of the image: one pixel at 84 px, about 2.7 at 224 px.
SMOOTHING = 1.0 / 84

# All lengths are inches, measured from the top left corner of the page.
_DPI = 160
# Agg refuses 2 ** 16 pixels; a page of hundreds of classes becomes coarser instead.
_MOST_PIXELS = 30_000
_MOST_BARS = 20
_WIDTH, _MARGIN, _GAP = 11.2, 0.4, 0.22
_CONTENT = _WIDTH - 2 * _MARGIN
_HEADER = 0.98
_CAPTION = 0.42
_TILE = 2.3
_EXTRA_COLUMNS, _LARGEST_EXTRA = 7, 1.6
_LEGEND = 0.5
_SUPPORT_HEADING = 0.52
_LABEL, _BLOCK_GAP = 1.8, 0.3
# Smallest and largest width of one support image with all beside it; from 11 classes on the page stays short.
_UNIT_FEW, _UNIT_MANY, _FEW = (1.05, 1.72), (0.8, 1.3), 10

_INK, _MUTED, _BAR, _PALE, _TRACK, _TINT, _WHITE = (
    "#1a1c20", "#666b73", "#a9afb7", "#d3d6da", "#e6e8eb", "#f1f3f5", "#ffffff")
_FOR, _AGAINST = "#c62a32", "#2a5fbf"
_CLASS_NUMBER = re.compile(r"^(?:n\d{8}|\d{1,4})[._\- ]+(?=\S)")


@dataclass(frozen=True)
class EpisodeExplanation:
    """All that the figure shows, in NumPy arrays; K classes, S support images per class, E explained classes.

    Args:
        query_image: uint8 `(H, W, 3)`.
        class_names: K names, at least two.
        probabilities: `(K,)` in [0, 1].
        explained: the E different class indices that relevance was computed for, in the order they are drawn.
            The first is the class the support maps are drawn for: the predicted one, or the one asked for.
        query_relevance: signed `(E, H, W)`, summed over the colour channels.
        support_images: uint8 `(K, S, H, W, 3)`.
        support_relevance: signed `(E, K, S, H, W)`, in the units of `query_relevance`.
        image_name: of the query, for the page and the JSON file.
        run_name: which model.
        method_name: the composite or the method the relevance comes from.

    Raises:
        ExplainError: shapes that do not fit together, images that are not uint8, probabilities outside
            [0, 1], relevance that is not finite.
    """

    query_image: np.ndarray
    class_names: tuple[str, ...]
    probabilities: np.ndarray
    explained: tuple[int, ...]
    query_relevance: np.ndarray
    support_images: np.ndarray
    support_relevance: np.ndarray
    image_name: str = ""
    run_name: str = ""
    method_name: str = ""

    def __post_init__(self):
        self._check_classes()
        self._check_images()
        self._check_relevance()

    @property
    def ranking(self) -> tuple[int, ...]:
        """Class indices from the most to the least probable; ties keep their order."""
        return tuple(int(i) for i in np.argsort(-np.asarray(self.probabilities), kind="stable"))

    @property
    def predicted(self) -> int:
        """The most probable class."""
        return self.ranking[0]

    @property
    def runner_up(self) -> int:
        """The second most probable class."""
        return self.ranking[1]

    def _check_classes(self) -> None:
        ways = len(self.class_names)
        if ways < 2:
            raise ExplainError(f"`class_names` must hold at least two. Received: {self.class_names!r}")
        _check_shape("probabilities", self.probabilities, (ways,))
        if not np.all((self.probabilities >= 0) & (self.probabilities <= 1 + 1e-5)):
            raise ExplainError(f"`probabilities` must be in [0, 1]. Received: {list(self.probabilities)}")
        if not self.explained or len(set(self.explained)) != len(self.explained):
            raise ExplainError("`explained` must hold different classes, at least one. "
                               f"Received: {self.explained!r}")
        if not all(0 <= index < ways for index in self.explained):
            raise ExplainError(f"`explained` must be in 0..{ways - 1}. Received: {self.explained!r}")

    def _check_images(self) -> None:
        for name, ndim in (("query_image", 3), ("support_images", 5)):
            image = getattr(self, name)
            if image.dtype != np.uint8 or image.ndim != ndim or image.shape[-1] != 3 or 0 in image.shape:
                raise ExplainError(f"`{name}` must be uint8 with {ndim} axes, RGB last. "
                                   f"Received: {image.dtype} {image.shape}")
        if self.support_images.shape[0] != len(self.class_names):
            raise ExplainError(f"`support_images` must hold {len(self.class_names)} classes. "
                               f"Received: shape={self.support_images.shape}")

    def _check_relevance(self) -> None:
        count = len(self.explained)
        _check_shape("query_relevance", self.query_relevance, (count, *self.query_image.shape[:2]))
        _check_shape("support_relevance", self.support_relevance, (count, *self.support_images.shape[:-1]))
        for name in ("query_relevance", "support_relevance"):
            if not np.isfinite(getattr(self, name)).all():
                raise ExplainError(f"`{name}` must be finite. Received: infinite values or not-a-number")


def to_json(explanation: EpisodeExplanation) -> dict[str, Any]:
    """The numbers of an explanation as JSON types.

    Returns:
        `image`, `run`, `method`; `class_names` and `probabilities` (K); `predicted` and `runner_up` with
        `index`, `name` and `probability`; `explained`, the E class indices; `query_relevance_sums` (E);
        `support_relevance_sums` (E, K, S).
    """
    probabilities = [float(p) for p in explanation.probabilities]

    def entry(index: int) -> dict[str, Any]:
        return {"index": index, "name": explanation.class_names[index], "probability": probabilities[index]}

    return {
        "image": explanation.image_name,
        "run": explanation.run_name,
        "method": explanation.method_name,
        "class_names": list(explanation.class_names),
        "probabilities": probabilities,
        "predicted": entry(explanation.predicted),
        "runner_up": entry(explanation.runner_up),
        "explained": [int(index) for index in explanation.explained],
        "query_relevance_sums": _sums(explanation.query_relevance).tolist(),
        "support_relevance_sums": _sums(explanation.support_relevance).tolist(),
    }


def save(explanation: EpisodeExplanation, out_png: str | os.PathLike) -> list[Path]:
    """Writes OUT.png, OUT.npy (query relevance (E, H, W)), OUT.support.npy ((E, K, S, H, W)) and OUT.json.

    Args:
        explanation: what to write; the maps become float32 as they are, not smoothed.
        out_png: path of the figure; the other names come from it.

    Returns:
        The four paths, in that order. Each file is written whole or not at all.

    Raises:
        ExplainError: `out_png` does not end in .png.
        OSError: a file cannot be written.
    """
    out_png = _png_path(out_png)
    paths = [out_png, *(out_png.with_suffix(suffix) for suffix in (".npy", ".support.npy", ".json"))]
    draw(explanation, paths[0])
    write_array(paths[1], np.asarray(explanation.query_relevance, np.float32))
    write_array(paths[2], np.asarray(explanation.support_relevance, np.float32))
    write_json(paths[3], to_json(explanation))
    return paths


def draw(explanation: EpisodeExplanation, path: str | os.PathLike) -> None:
    """Draws the page and writes it as PNG, whole or not at all.

    Query maps of all explained classes share one symmetric scale; the support maps share a second one, since
    the mean over the shots makes each of them weaker than the query. Maps are smoothed for display only, by
    `SMOOTHING` times the side of the image.

    Args:
        explanation: what to draw.
        path: a .png file.

    Raises:
        ExplainError: `path` does not end in .png.
        OSError: the file cannot be written.
    """
    path = _png_path(path)
    layout = _Layout.of(explanation)
    sheet = _Sheet(layout.height)
    _draw_header(sheet, explanation)
    _draw_query_row(sheet, explanation, _display_maps(explanation.query_relevance))
    _draw_support(sheet, explanation, layout)
    with atomic_write(path, "wb") as file:
        # The version of the drawing library would make equal pictures differ byte by byte.
        sheet.canvas.print_png(file, metadata={"Software": None})


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
        tail = name[-(limit * (1 + tail_words) // 5):]
    head = name[:limit - 1 - len(tail)]
    whole_words = name[:len(head) + 1].rpartition(" ")[0]
    return (whole_words if 2 * len(whole_words) >= len(head) else head).rstrip() + "…" + tail


def _percent(probability: float) -> str:
    """Whole per cent that never claims certainty: "<1 %", "62 %", ">99 %"."""
    if probability < 0.005:
        return "<1 %"
    return ">99 %" if probability >= 0.995 else f"{100 * probability:.0f} %"


def _check_shape(name: str, array: np.ndarray, expected: tuple[int, ...]) -> None:
    if np.shape(array) != expected:
        raise ExplainError(f"`{name}` must have shape {expected}. Received: shape={np.shape(array)}")


def _png_path(path: str | os.PathLike) -> Path:
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ExplainError(f"the path of the figure must end in .png. Received: '{path}'")
    return path


def _sums(maps: np.ndarray) -> np.ndarray:
    """Sums over the last two axes in float64."""
    return np.asarray(maps, np.float64).sum(axis=(-2, -1))


def _display_maps(maps: np.ndarray) -> np.ndarray:
    """Smoothed maps on one signed symmetric scale, in [-1, 1]."""
    smoothed = heatmap.smooth(maps, SMOOTHING * min(maps.shape[-2:]))
    return heatmap.normalize(smoothed, heatmap.shared_scale([smoothed]))


# === Page ===

class _Box(NamedTuple):
    """A rectangle on the page, in inches from the top left corner."""

    x: float
    y: float
    width: float
    height: float


_Shortener = Callable[[Sequence[str], int], tuple[str, ...]]


class _Sheet:
    """A white page with one axes in inches, so that every element is placed by hand and none can overlap."""

    def __init__(self, height: float):
        dpi = min(_DPI, _MOST_PIXELS / height)
        self.figure = Figure(figsize=(_WIDTH, height), dpi=dpi, facecolor=_WHITE)
        self.canvas = FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.axes.set_xlim(0, _WIDTH)
        self.axes.set_ylim(height, 0)
        self._widths: dict[tuple[str, float, bool], float] = {}

    def image(self, pixels: np.ndarray, box: _Box) -> None:
        """Fits an image into the box, keeping its proportions and its top left corner."""
        rows, columns = pixels.shape[:2]
        zoom = min(box.width / columns, box.height / rows)
        box = _Box(box.x, box.y, columns * zoom, rows * zoom)
        extent = (box.x, box.x + box.width, box.y + box.height, box.y)
        self.axes.imshow(pixels, extent=extent, aspect="auto", interpolation="bicubic", origin="upper",
                         zorder=2)
        self.rectangle(box, edge=_PALE)

    def rectangle(self, box: _Box, fill: str = "none", edge: str = "none") -> None:
        """Fills a box behind the images or draws a thin frame over them."""
        line_width, order = (0.6, 3) if fill == "none" else (0.0, 1)
        self.axes.add_patch(Rectangle((box.x, box.y), box.width, box.height, facecolor=fill, edgecolor=edge,
                                      linewidth=line_width, zorder=order))

    def text(self, x: float, y: float, words: str, size: float, *, color: str = _INK, bold: bool = False,
             align: str = "left") -> None:
        """Writes one line whose baseline is at `y`. A dollar sign is a dollar sign, never mathematics."""
        self.axes.text(x, y, words, fontproperties=_font(size, bold), color=color, ha=align, va="baseline",
                       parse_math=False, usetex=False, zorder=4)

    def width_of(self, words: str, size: float, bold: bool = False) -> float:
        """Width in inches; remembered, since fitting a name asks for the same words again and again."""
        key = (words, size, bold)
        if key not in self._widths:
            renderer = self.canvas.get_renderer()
            pixels = renderer.get_text_width_height_descent(words, _font(size, bold), ismath=False)[0]
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

    def fit_names(self, names: Sequence[str], width: float, size: float, bold: bool = False, *,
                  lines: int = 1, shorten: _Shortener = short_names) -> list[list[str]]:
        """Short names as at most `lines` lines of at most `width` inches, different where the names are."""
        def wrapped(limit: int) -> list[list[str]]:
            return [self.wrap(name, width, size, bold) for name in shorten(names, limit)]

        def fits(limit: int) -> bool:
            return all(len(parts) <= lines and all(self.width_of(part, size, bold) <= width for part in parts)
                       for parts in wrapped(limit))

        low, high = 8, max(8, *map(len, names))
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(middle) else (low, middle - 1)
        return wrapped(low)


class _Layout(NamedTuple):
    """How many support blocks stand side by side, how large they are, and how tall the page becomes."""

    columns: int
    column_width: float
    unit: float
    row_height: float
    support_top: float
    height: float

    @classmethod
    def of(cls, explanation: EpisodeExplanation) -> _Layout:
        ways, shots = explanation.support_images.shape[:2]
        smallest, largest = _UNIT_FEW if ways <= _FEW else _UNIT_MANY
        block = _LABEL + shots * smallest + _BLOCK_GAP
        columns = min(ways, max(1, int((_CONTENT + _BLOCK_GAP) / block)))
        column_width = (_CONTENT - (columns - 1) * _BLOCK_GAP) / columns
        rows = -(-ways // columns)
        unit = min(largest, (column_width - _LABEL) / shots)
        row_height = max(0.62, _overlay_side(unit) + 0.34)
        support_top = _extra_top(len(explanation.explained) - 2)
        height = support_top + _SUPPORT_HEADING + rows * row_height + 0.25
        return cls(columns, column_width, unit, row_height, support_top, height)


def _overlay_side(unit: float) -> float:
    """Side of a support overlay; the photograph beside it has half of it."""
    return 0.62 * unit


def _extra_tile(count: int) -> float:
    """Side of the small overlays of `count` further classes: as large as one row allows, within limits."""
    columns = max(1, min(count, _EXTRA_COLUMNS))
    return min(_LARGEST_EXTRA, (_CONTENT + _GAP) / columns - _GAP)


def _extra_top(count: int) -> float:
    """Where the page goes on after the rows of `count` small overlays."""
    rows = -(-max(0, count) // _EXTRA_COLUMNS)
    return _HEADER + _CAPTION + _TILE + _LEGEND + rows * (_extra_tile(count) + _CAPTION + 0.08)


def _font(size: float, bold: bool = False) -> FontProperties:
    return FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")


def _plain_names(names: Sequence[str], limit: int) -> tuple[str, ...]:
    """Shortens text that is not a class name."""
    return tuple(_shorten(" ".join(name.split()), limit, 1) for name in names)


def _role(explanation: EpisodeExplanation, index: int) -> str:
    """How the class came out: "predicted, 62 %", or only the number from the third on."""
    roles = {explanation.predicted: "predicted, ", explanation.runner_up: "runner-up, "}
    return roles.get(index, "") + _percent(explanation.probabilities[index])


# === Header ===

def _draw_header(sheet: _Sheet, explanation: EpisodeExplanation) -> None:
    """What was predicted and how sure; on the right where the picture comes from."""
    names, probabilities = explanation.class_names, explanation.probabilities
    first, second = explanation.predicted, explanation.runner_up
    sure = _percent(probabilities[first])
    room = 7.0 - sheet.width_of("  " + sure, 20)
    winner = sheet.fit_names(names, room, 20, bold=True)[first][0]
    sheet.text(_MARGIN, 0.56, winner, 20, bold=True)
    sheet.text(_MARGIN + sheet.width_of(winner + "  ", 20, bold=True), 0.56, sure, 20, color=_MUTED)
    other = sheet.fit_names(names, 4.5, 10)[second][0]
    sheet.text(_MARGIN, 0.82, f"runner-up: {other}, {_percent(probabilities[second])}", 10, color=_MUTED)
    sources = (("model", explanation.run_name), ("method", explanation.method_name))
    for row, (label, value) in enumerate((label, value) for label, value in sources if value):
        line = sheet.fit(f"{label}: {value}", 3.2, 8)
        sheet.text(_WIDTH - _MARGIN, 0.56 + 0.19 * row, line, 8, color=_MUTED, align="right")


# === Query ===

def _draw_query_row(sheet: _Sheet, explanation: EpisodeExplanation, maps: np.ndarray) -> None:
    """The photograph, its overlays, the colour bar and the probabilities."""
    boxes = _overlay_boxes(len(explanation.explained))
    query = _Box(_MARGIN, boxes[0].y, _TILE, _TILE)
    _caption(sheet, query, "query", sheet.fit(explanation.image_name or "image", _TILE, 9.5, bold=True))
    sheet.image(explanation.query_image, query)
    widths = {box.width for box in boxes}
    names = {width: sheet.fit_names(explanation.class_names, width, 9.5, bold=True) for width in widths}
    for box, index, relevance in zip(boxes, explanation.explained, maps):
        _caption(sheet, box, _role(explanation, index), names[box.width][index][0])
        sheet.image(heatmap.overlay(explanation.query_image, relevance), box)
    last = boxes[:2][-1]
    right = last.x + last.width
    _draw_colour_bar(sheet, _Box(boxes[0].x, last.y + _TILE + 0.1, right - boxes[0].x, 0.1))
    left = right + 1.6 * _GAP
    _draw_probabilities(sheet, explanation, _Box(left, last.y, _WIDTH - _MARGIN - left, _TILE))


def _overlay_boxes(count: int) -> list[_Box]:
    """Two large boxes beside the query, then rows of small ones."""
    top = _HEADER + _CAPTION
    large = [_Box(_MARGIN + i * (_TILE + _GAP), top, _TILE, _TILE) for i in (1, 2)]
    tile, below = _extra_tile(count - 2), top + _TILE + _LEGEND + _CAPTION
    small = []
    for i in range(count - 2):
        row, column = divmod(i, _EXTRA_COLUMNS)
        x, y = _MARGIN + column * (tile + _GAP), below + row * (tile + _CAPTION + 0.08)
        small.append(_Box(x, y, tile, tile))
    return (large + small)[:count]


def _caption(sheet: _Sheet, box: _Box, role: str, title: str) -> None:
    """Two lines above a picture."""
    sheet.text(box.x, box.y - 0.25, role, 8, color=_MUTED)
    sheet.text(box.x, box.y - 0.08, title, 9.5, bold=True)


def _draw_colour_bar(sheet: _Sheet, box: _Box) -> None:
    """The colours as they look over a mid-grey photograph, so that they match the overlays."""
    ramp = np.tile(np.linspace(-1, 1, 512), (8, 1))
    colours = heatmap.overlay(np.full((8, 512, 3), 150, np.uint8), ramp)
    sheet.axes.imshow(colours, extent=(box.x, box.x + box.width, box.y + box.height, box.y), aspect="auto",
                      interpolation="bilinear", zorder=2)
    sheet.rectangle(box, edge=_PALE)
    middle, baseline = box.x + box.width / 2, box.y + box.height + 0.17
    sheet.text(middle, baseline, "against  \u2190  relevance  \u2192  for", 8.5, color=_MUTED, align="center")


def _draw_probabilities(sheet: _Sheet, explanation: EpisodeExplanation, box: _Box) -> None:
    """One bar per class, the most probable on top; with few classes the names stand above their bars."""
    ways, shown = len(explanation.class_names), explanation.ranking[:_MOST_BARS]
    title = "class probability" if ways == len(shown) else f"class probability, first {len(shown)} of {ways}"
    sheet.text(box.x, box.y - 0.08, title, 8, color=_MUTED)
    step = min(0.46, (box.height - 0.02) / len(shown))
    stacked = step >= 0.3
    size = 9.0 if stacked else min(8.5, 58 * step)
    name_width = box.width - 0.5 if stacked else 0.55 * box.width
    names = sheet.fit_names(explanation.class_names, name_width, size, bold=True)
    for row, index in enumerate(shown):
        probability = float(explanation.probabilities[index])
        top, first = box.y + row * step, index == explanation.predicted
        baseline = top + (0.155 if stacked else 0.5 * step + 0.36 * size / 72)
        sheet.text(box.x, baseline, names[index][0], size, bold=first)
        sheet.text(box.x + box.width, baseline, _percent(probability), size, bold=first, align="right")
        if stacked:
            track = _Box(box.x, top + 0.21, box.width, 0.11)
        else:
            start, length = box.x + name_width + 0.08, box.width - name_width - 0.54
            track = _Box(start, top + 0.18 * step, length, 0.64 * step)
        sheet.rectangle(track, fill=_TRACK)
        filled = track._replace(width=max(0.015, track.width * min(1.0, probability)))
        sheet.rectangle(filled, fill=_INK if first else _BAR)


# === Support ===

def _draw_support(sheet: _Sheet, explanation: EpisodeExplanation, layout: _Layout) -> None:
    """One block per class, the most probable first: its support images with their relevance for one class."""
    focus = explanation.explained[0]
    top = layout.support_top + 0.1
    sheet.rectangle(_Box(_MARGIN, top, _CONTENT, 0.006), fill=_PALE)
    name = sheet.fit_names(explanation.class_names, 3.5, 9.5, bold=True)[focus][0]
    heading = "Support images: relevance for "
    sheet.text(_MARGIN, top + 0.26, heading, 9.5)
    sheet.text(_MARGIN + sheet.width_of(heading, 9.5), top + 0.26, name, 9.5, bold=True)
    note = "bar: summed relevance of the image; support has its own colour scale"
    sheet.text(_WIDTH - _MARGIN, top + 0.26, note, 8, color=_MUTED, align="right")
    labels = sheet.fit_names(explanation.class_names, _LABEL - 0.15, 9, bold=True, lines=2)
    maps = _display_maps(explanation.support_relevance[0])
    sums = heatmap.compress(_sums(explanation.support_relevance[0]), gamma=1.0)
    for place, index in enumerate(explanation.ranking):
        row, column = divmod(place, layout.columns)
        box = _Box(_MARGIN + column * (layout.column_width + _BLOCK_GAP),
                   layout.support_top + _SUPPORT_HEADING + row * layout.row_height,
                   layout.column_width, layout.row_height)
        _draw_support_label(sheet, explanation, index, labels[index], box)
        _draw_shots(sheet, explanation.support_images[index], maps[index], sums[index], box, layout.unit)


def _draw_support_label(sheet: _Sheet, explanation: EpisodeExplanation, index: int, lines: Sequence[str],
                        box: _Box) -> None:
    """Name and role of a class; the explained class has a tinted block with a dark edge."""
    emphasised = index == explanation.explained[0]
    if emphasised:
        sheet.rectangle(_Box(box.x - 0.12, box.y, box.width + 0.24, box.height), fill=_TINT)
        sheet.rectangle(_Box(box.x - 0.12, box.y, 0.05, box.height), fill=_INK)
    for row, line in enumerate(lines):
        sheet.text(box.x, box.y + 0.22 + 0.16 * row, line, 9, bold=emphasised)
    sheet.text(box.x, box.y + 0.23 + 0.16 * len(lines), _role(explanation, index), 8, color=_MUTED)


def _draw_shots(sheet: _Sheet, images: np.ndarray, maps: np.ndarray, sums: np.ndarray, box: _Box,
                unit: float) -> None:
    """The support images of one class: overlay, photograph, and a signed bar of the summed relevance."""
    side = _overlay_side(unit)
    for shot, (image, relevance, total) in enumerate(zip(images, maps, sums)):
        x, y = box.x + _LABEL + shot * unit, box.y + 0.11
        sheet.image(heatmap.overlay(image, relevance), _Box(x, y, side, side))
        sheet.image(image, _Box(x + side + 0.03 * unit, y, side / 2, side / 2))
        _draw_signed_bar(sheet, float(total), _Box(x, y + side + 0.06, side, 0.055))


def _draw_signed_bar(sheet: _Sheet, value: float, box: _Box) -> None:
    """A value in [-1, 1] from the middle of the box, red to the right or blue to the left."""
    middle, half = box.x + box.width / 2, box.width / 2
    sheet.rectangle(box, fill=_TRACK)
    left, length = middle + min(0.0, value) * half, abs(value) * half
    sheet.rectangle(_Box(left, box.y, length, box.height), fill=_FOR if value > 0 else _AGAINST)
    sheet.rectangle(_Box(middle - 0.004, box.y - 0.015, 0.008, box.height + 0.03), fill=_MUTED)
