"""The figure of one explained query: what was predicted, how sure, which pixels and images mattered."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from egt_tf.errors import ExplainError
from egt_tf.explain.explanation import EpisodeExplanation, to_json
from egt_tf.figures import colormap
from egt_tf.figures.canvas import (
    AGAINST,
    BAR,
    FOR,
    GAP,
    HEADER,
    INK,
    MARGIN,
    MUTED,
    PALE,
    TINT,
    TRACK,
    WIDTH,
    Box,
    Canvas,
)
from egt_tf.files import write_array, write_json
from egt_tf.measures.smoothing import smooth

# Gaussian sigma over the shorter side of the image: one pixel at 84 px, about 2.7 at 224 px.
SMOOTHING = 1.0 / 84

_MOST_BARS = 20

# Lengths as in `egt_tf.figures.canvas`.
_CONTENT = WIDTH - 2 * MARGIN
_CAPTION = 0.42
_TILE = 2.3
_EXTRA_COLUMNS, _LARGEST_EXTRA = 7, 1.6
_LEGEND = 0.5
_SUPPORT_HEADING = 0.52
_LABEL, _BLOCK_GAP = 1.8, 0.3
# Smallest and largest width of one support image with all beside it; from 11 classes on the figure stays short.
_UNIT_FEW, _UNIT_MANY, _FEW = (1.05, 1.72), (0.8, 1.3), 10


def save_figure(explanation: EpisodeExplanation, path: str | os.PathLike[str]) -> list[Path]:
    """Writes the figure OUT.png and its numbers: OUT.npy, OUT.support.npy and OUT.json.

    OUT.npy holds the query relevance (E, H, W), OUT.support.npy that of the support images (E, K, S, H, W).

    Args:
        explanation: what to write; the maps become float32 as they are, not smoothed.
        path: of the figure, OUT.png; the other names come from it.

    Returns:
        The four paths, the figure first. Each file is written whole or not at all.

    Raises:
        ExplainError: `path` does not end in .png.
        OSError: a file cannot be written.

    Example:
        >>> import tempfile
        >>> images, relevance = np.zeros((2, 1, 8, 8, 3), np.uint8), np.zeros((1, 2, 1, 8, 8))
        >>> probabilities = np.array([0.3, 0.7])
        >>> explanation = EpisodeExplanation(
        ...     images[0, 0], ("ant", "bee"), probabilities, (1,), relevance[0, :1, 0], images, relevance
        ... )
        >>> [file.name for file in save_figure(explanation, Path(tempfile.mkdtemp(), "bee.png"))]
        ['bee.png', 'bee.npy', 'bee.support.npy', 'bee.json']
    """
    path = checked_png_path(path)
    paths = [path, *(path.with_suffix(suffix) for suffix in (".npy", ".support.npy", ".json"))]
    write_array(paths[1], np.asarray(explanation.query_relevance, np.float32))
    write_array(paths[2], np.asarray(explanation.support_relevance, np.float32))
    write_json(paths[3], to_json(explanation))
    # Last: who sees the figure finds the numbers that belong to it.
    draw_explanation(explanation).save(path)
    return paths


def draw_explanation(explanation: EpisodeExplanation) -> Canvas:
    """Draws the figure; all figures are equally wide.

    Query maps of all explained classes share one symmetric scale; the support maps share a second one, since
    the mean over the shots makes each of them weaker than the query. Maps are smoothed for display only, by
    `SMOOTHING` times the side of the image.

    Example:
        >>> images, relevance = np.zeros((2, 1, 8, 8, 3), np.uint8), np.zeros((1, 2, 1, 8, 8))
        >>> probabilities = np.array([0.3, 0.7])
        >>> explanation = EpisodeExplanation(
        ...     images[0, 0], ("ant", "bee"), probabilities, (1,), relevance[0, :1, 0], images, relevance
        ... )
        >>> draw_explanation(explanation).pixels().shape[1:]
        (1792, 3)
    """
    layout = _Layout.of(explanation)
    canvas = Canvas(WIDTH, layout.height)
    _draw_header(canvas, explanation)
    _draw_query_row(canvas, explanation, display_maps(explanation.query_relevance))
    _draw_support(canvas, explanation, layout)
    return canvas


def explanation_png(explanation: EpisodeExplanation) -> bytes:
    """What a notebook shows of an explanation: the figure, smaller than `save_figure` writes it.

    Returns:
        The content of a PNG file.
    """
    return draw_explanation(explanation)._repr_png_()


def percent(probability: float) -> str:
    """Whole per cent that never claims certainty: "<1 %", "62 %", ">99 %"."""
    if probability < 0.005:
        return "<1 %"
    return ">99 %" if probability >= 0.995 else f"{100 * probability:.0f} %"


def checked_png_path(path: str | os.PathLike) -> Path:
    """The path of a figure.

    Raises:
        ExplainError: it does not end in .png.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ExplainError(f"the path of the figure must end in .png. Received: '{path}'")
    return path


def display_maps(maps: np.ndarray) -> np.ndarray:
    """Smoothed maps on one signed symmetric scale, in [-1, 1]."""
    smoothed = smooth(maps, SMOOTHING * min(maps.shape[-2:]))
    return colormap.scaled(smoothed, colormap.shared_scale([smoothed]))


# === Layout ===


class _Layout(NamedTuple):
    """How many support blocks stand side by side, how large they are, and how tall the figure becomes."""

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
    return min(_LARGEST_EXTRA, (_CONTENT + GAP) / columns - GAP)


def _extra_top(count: int) -> float:
    """Where the figure goes on after the rows of `count` small overlays."""
    rows = -(-max(0, count) // _EXTRA_COLUMNS)
    return HEADER + _CAPTION + _TILE + _LEGEND + rows * (_extra_tile(count) + _CAPTION + 0.08)


def _role(explanation: EpisodeExplanation, index: int) -> str:
    """How the class came out: "predicted, 62 %", or only the number from the third on."""
    roles = {explanation.predicted: "predicted, ", explanation.runner_up: "runner-up, "}
    if len(explanation.tied) > 1:
        roles = dict.fromkeys(explanation.tied, "tied, ")
    return roles.get(index, "") + percent(explanation.probabilities[index])


# === Header ===


def _draw_header(canvas: Canvas, explanation: EpisodeExplanation) -> None:
    """What was predicted and how sure; on the right where the picture comes from."""
    names, probabilities = explanation.class_names, explanation.probabilities
    first, second = explanation.predicted, explanation.runner_up
    sure = percent(probabilities[first])
    room = 7.0 - canvas.width_of("  " + sure, 20)
    winner = canvas.fit_names(names, room, 20, bold=True)[first][0]
    if len(explanation.tied) > 1:
        winner = f"tie of {len(explanation.tied)} classes"
    canvas.text(MARGIN, 0.56, winner, 20, bold=True)
    canvas.text(MARGIN + canvas.width_of(winner + "  ", 20, bold=True), 0.56, sure, 20, color=MUTED)
    other = canvas.fit_names(names, 4.5, 10)[second][0]
    line = f"runner-up: {other}, {percent(probabilities[second])}"
    if explanation.known is False:
        line = f"probably none of these classes; {line}"
    # In the place of the runner-up, which a tie does not have.
    line = canvas.fit("; ".join(explanation.doubts), _CONTENT - 3.4, 10) if explanation.doubts else line
    canvas.text(MARGIN, 0.82, line, 10, color=MUTED)
    sources = (("model", explanation.run_name), ("method", explanation.method_name))
    for row, (label, value) in enumerate((label, value) for label, value in sources if value):
        line = canvas.fit(f"{label}: {value}", 3.2, 8)
        canvas.text(WIDTH - MARGIN, 0.56 + 0.19 * row, line, 8, color=MUTED, align="right")


# === Query ===


def _draw_query_row(canvas: Canvas, explanation: EpisodeExplanation, maps: np.ndarray) -> None:
    """The photograph, its overlays, the colour bar and the probabilities."""
    boxes = _overlay_boxes(len(explanation.explained))
    query = Box(MARGIN, boxes[0].y, _TILE, _TILE)
    canvas.caption(query, "query", canvas.fit(explanation.image_name or "image", _TILE, 9.5, bold=True))
    canvas.image(explanation.query_image, query)
    widths = {box.width for box in boxes}
    names = {width: canvas.fit_names(explanation.class_names, width, 9.5, bold=True) for width in widths}
    for box, index, relevance in zip(boxes, explanation.explained, maps, strict=True):
        canvas.caption(box, _role(explanation, index), names[box.width][index][0])
        canvas.image(colormap.overlay(explanation.query_image, relevance), box)
    last = boxes[:2][-1]
    right = last.x + last.width
    _draw_colour_bar(canvas, Box(boxes[0].x, last.y + _TILE + 0.1, right - boxes[0].x, 0.1))
    left = right + 1.6 * GAP
    _draw_probabilities(canvas, explanation, Box(left, last.y, WIDTH - MARGIN - left, _TILE))


def _overlay_boxes(count: int) -> list[Box]:
    """Two large boxes beside the query, then rows of small ones."""
    top = HEADER + _CAPTION
    large = [Box(MARGIN + i * (_TILE + GAP), top, _TILE, _TILE) for i in (1, 2)]
    tile, below = _extra_tile(count - 2), top + _TILE + _LEGEND + _CAPTION
    small = []
    for i in range(count - 2):
        row, column = divmod(i, _EXTRA_COLUMNS)
        x, y = MARGIN + column * (tile + GAP), below + row * (tile + _CAPTION + 0.08)
        small.append(Box(x, y, tile, tile))
    return (large + small)[:count]


def _draw_colour_bar(canvas: Canvas, box: Box) -> None:
    """The colours as they look over a mid-grey photograph, so that they match the overlays."""
    ramp = np.tile(np.linspace(-1, 1, 512), (8, 1))
    colours = colormap.overlay(np.full((8, 512, 3), 150, np.uint8), ramp)
    canvas.axes.imshow(
        colours,
        extent=(box.x, box.x + box.width, box.y + box.height, box.y),
        aspect="auto",
        interpolation="bilinear",
        zorder=2,
    )
    canvas.rectangle(box, edge=PALE)
    middle, baseline = box.x + box.width / 2, box.y + box.height + 0.17
    canvas.text(middle, baseline, "against  \u2190  relevance  \u2192  for", 8.5, color=MUTED, align="center")


def _draw_probabilities(canvas: Canvas, explanation: EpisodeExplanation, box: Box) -> None:
    """One bar per class, the most probable on top; with few classes the names stand above their bars."""
    ways, shown = len(explanation.class_names), explanation.ranking[:_MOST_BARS]
    title = "class probability" if ways == len(shown) else f"class probability, first {len(shown)} of {ways}"
    canvas.text(box.x, box.y - 0.08, title, 8, color=MUTED)
    step = min(0.46, (box.height - 0.02) / len(shown))
    stacked = step >= 0.3
    size = 9.0 if stacked else min(8.5, 58 * step)
    name_width = box.width - 0.5 if stacked else 0.55 * box.width
    names = canvas.fit_names(explanation.class_names, name_width, size, bold=True)
    for row, index in enumerate(shown):
        probability = float(explanation.probabilities[index])
        top, first = box.y + row * step, index in explanation.tied
        baseline = top + (0.155 if stacked else 0.5 * step + 0.36 * size / 72)
        canvas.text(box.x, baseline, names[index][0], size, bold=first)
        canvas.text(box.x + box.width, baseline, percent(probability), size, bold=first, align="right")
        if stacked:
            track = Box(box.x, top + 0.21, box.width, 0.11)
        else:
            start, length = box.x + name_width + 0.08, box.width - name_width - 0.54
            track = Box(start, top + 0.18 * step, length, 0.64 * step)
        canvas.rectangle(track, fill=TRACK)
        filled = track._replace(width=max(0.015, track.width * min(1.0, probability)))
        canvas.rectangle(filled, fill=INK if first else BAR)


# === Support ===


def _draw_support(canvas: Canvas, explanation: EpisodeExplanation, layout: _Layout) -> None:
    """One block per class, the most probable first: its support images with their relevance for their own class.

    A class that was not explained shows its relevance for the first class explained.
    """
    top = layout.support_top + 0.1
    canvas.rectangle(Box(MARGIN, top, _CONTENT, 0.006), fill=PALE)
    _draw_support_heading(canvas, explanation, top + 0.26)
    note = "bar: summed relevance; own colour scale"
    canvas.text(WIDTH - MARGIN, top + 0.26, note, 8, color=MUTED, align="right")
    labels = canvas.fit_names(explanation.class_names, _LABEL - 0.15, 9, bold=True, lines=2)
    rows = [
        explanation.explained.index(index) if index in explanation.explained else 0
        for index in range(len(explanation.class_names))
    ]
    classes = np.arange(len(rows))
    maps = display_maps(explanation.support_relevance[rows, classes])
    sums = colormap.over_maximum(explanation.support_sums[rows, classes])
    for place, index in enumerate(explanation.ranking):
        row, column = divmod(place, layout.columns)
        box = Box(
            MARGIN + column * (layout.column_width + _BLOCK_GAP),
            layout.support_top + _SUPPORT_HEADING + row * layout.row_height,
            layout.column_width,
            layout.row_height,
        )
        _draw_support_label(canvas, explanation, index, labels[index], box)
        # Behind them are blank ones, where classes have different numbers.
        shown = slice(explanation.support_sizes[index])
        images = explanation.support_images[index, shown]
        _draw_shots(canvas, images, maps[index, shown], sums[index, shown], box, layout.unit)


def _draw_support_heading(canvas: Canvas, explanation: EpisodeExplanation, baseline: float) -> None:
    """For which class the red pixels of the support images spoke."""
    count, left = len(explanation.explained), MARGIN
    name = canvas.fit_names(explanation.class_names, 1.6, 9.5, bold=True)[explanation.explained[0]][0]
    if count == len(explanation.class_names):
        parts = [("Support images: red spoke for the class of the row, blue against it", False)]
    elif count == 1:
        parts = [("Support images: red spoke for ", False), (name, True), (", blue against it", False)]
    else:
        rest = "; in the rows of other classes explained, for these"
        parts = [("Support images: red spoke for ", False), (name, True), (rest, False)]
    for text, bold in parts:
        canvas.text(left, baseline, text, 9.5, bold=bold)
        left += canvas.width_of(text, 9.5, bold=bold)


def _draw_support_label(
    canvas: Canvas, explanation: EpisodeExplanation, index: int, lines: Sequence[str], box: Box
) -> None:
    """Name and role of a class; the explained class has a tinted block with a dark edge."""
    emphasised = index == explanation.explained[0]
    if emphasised:
        canvas.rectangle(Box(box.x - 0.12, box.y, box.width + 0.24, box.height), fill=TINT)
        canvas.rectangle(Box(box.x - 0.12, box.y, 0.05, box.height), fill=INK)
    for row, line in enumerate(lines):
        canvas.text(box.x, box.y + 0.22 + 0.16 * row, line, 9, bold=emphasised)
    canvas.text(box.x, box.y + 0.23 + 0.16 * len(lines), _role(explanation, index), 8, color=MUTED)


def _draw_shots(canvas: Canvas, images: np.ndarray, maps: np.ndarray, sums: np.ndarray, box: Box, unit: float) -> None:
    """The support images of one class: overlay, photograph, and a signed bar of the summed relevance."""
    side = _overlay_side(unit)
    for shot, (image, relevance, total) in enumerate(zip(images, maps, sums, strict=True)):
        x, y = box.x + _LABEL + shot * unit, box.y + 0.11
        canvas.image(colormap.overlay(image, relevance), Box(x, y, side, side))
        canvas.image(image, Box(x + side + 0.03 * unit, y, side / 2, side / 2))
        _draw_signed_bar(canvas, float(total), Box(x, y + side + 0.06, side, 0.055))


def _draw_signed_bar(canvas: Canvas, value: float, box: Box) -> None:
    """A value in [-1, 1] from the middle of the box, red to the right or blue to the left."""
    middle, half = box.x + box.width / 2, box.width / 2
    canvas.rectangle(box, fill=TRACK)
    left, length = middle + min(0.0, value) * half, abs(value) * half
    canvas.rectangle(Box(left, box.y, length, box.height), fill=FOR if value > 0 else AGAINST)
    canvas.rectangle(Box(middle - 0.004, box.y - 0.015, 0.008, box.height + 0.03), fill=MUTED)
