"""Several methods side by side: of one query, or of images of any model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from egt_tf.errors import ExplainError
from egt_tf.explain.explanation import EpisodeExplanation, pool_channels
from egt_tf.figures import colormap
from egt_tf.figures.canvas import GAP, HEADER, MARGIN, MUTED, WIDTH, Box, Canvas
from egt_tf.figures.explanation import checked_png_path, display_maps, percent

_CAPTION = 0.5
_COLUMNS = 5
# Of `draw_maps`, whose columns are as many as there are methods.
_LARGEST_TILE = 2.3
_TILE = (WIDTH - 2 * MARGIN - (_COLUMNS - 1) * GAP) / _COLUMNS


def draw_comparison(explanations: Sequence[EpisodeExplanation], path: str | os.PathLike[str] | None = None) -> Canvas:
    """Draws the query and, for each method, its relevance for the class explained first.

    Each method has a colour scale of its own, since their numbers have different units. Written whole or not at all.

    Args:
        explanations: of the same query and the same class, one for each method.
        path: a .png file to write; None: none is written.

    Returns:
        The picture, which a notebook shows.

    Raises:
        ExplainError: there are none, they are of different classes, or `path` does not end in .png.
        OSError: the file cannot be written.

    Example:
        >>> import dataclasses, pathlib, tempfile
        >>> images, relevance = np.zeros((2, 1, 8, 8, 3), np.uint8), np.zeros((1, 2, 1, 8, 8))
        >>> fsc = EpisodeExplanation(
        ...     images[0, 0], ("ant", "bee"), np.array([0.3, 0.7]), (1,), relevance[0, :1, 0], images, relevance
        ... )
        >>> gradient = dataclasses.replace(fsc, method_name="gradient")
        >>> path = pathlib.Path(tempfile.mkdtemp(), "both.png")
        >>> canvas = draw_comparison([fsc, gradient], path)
        >>> path.exists()
        True
    """
    path = None if path is None else checked_png_path(path)
    if not explanations or len({e.explained[0] for e in explanations}) != 1:
        raise ExplainError(
            "a comparison must show at least one explanation, all of the same class. Received: "
            f"{len(explanations)} of the classes {sorted({e.explained[0] for e in explanations})}"
        )
    rows = -(-(len(explanations) + 1) // _COLUMNS)
    canvas = Canvas(WIDTH, HEADER + rows * (_TILE + _CAPTION) + 0.15)
    first = explanations[0]
    _draw_header(canvas, first)
    _draw_tile(canvas, 0, "query", first.image_name or "image", first.query_image)
    for place, explanation in enumerate(explanations, start=1):
        picture = colormap.overlay(explanation.query_image, display_maps(explanation.query_relevance[:1])[0])
        _draw_tile(canvas, place, "method", explanation.method_name, picture)
    if path is not None:
        canvas.save(path)
    return canvas


def draw_maps(images: np.ndarray, maps: Mapping[str, np.ndarray], names: Sequence[str] | None = None) -> Canvas:
    """Draws a row for each image: the image, and its relevance by several methods or for several classes.

    Every map has a colour scale of its own: red is positive, blue negative.

    Args:
        images: uint8 `(n, H, W, 3)`.
        maps: what stands above a column, such as the name of a composite or of a class -> signed relevance `(n, H, W)`, or
            `(n, H, W, C)`, which is summed over the channels.
        names: what stands above each image; None: their numbers.

    Returns:
        The picture, which a notebook shows, and which `save(path)` writes as PNG.

    Raises:
        ExplainError: maps that do not fit the images or are not finite, or not one name for each image.

    Example:
        >>> images = np.full((2, 8, 8, 3), 128, np.uint8)
        >>> draw_maps(images, {"epsilon_plus": np.ones((2, 8, 8, 3))}).pixels().shape
        (960, 899, 3)
    """
    images = np.asarray(images)
    names = [f"image {number}" for number in range(len(images))] if names is None else names
    if not len(images) or len(names) != len(images):
        raise ExplainError(f"each image must have a name. Received: {len(images)} images, {len(names)} names")
    columns = 1 + len(maps)
    tile = min(_LARGEST_TILE, (WIDTH - 2 * MARGIN + GAP) / columns - GAP)
    canvas = Canvas(2 * MARGIN + columns * (tile + GAP) - GAP, MARGIN + len(images) * (tile + _CAPTION))
    shown = {method: _pooled(relevance, images) for method, relevance in maps.items()}
    for row, (image, name) in enumerate(zip(images, names, strict=True)):
        top = MARGIN + row * (tile + _CAPTION) + _CAPTION - 0.2
        pictures = {name: image, **{m: colormap.overlay(image, display_maps(shown[m][row][None])[0]) for m in shown}}
        for column, (title, picture) in enumerate(pictures.items()):
            box = Box(MARGIN + column * (tile + GAP), top, tile, tile)
            canvas.caption(box, "relevance" if column else "image", canvas.fit(title, tile, 9.5, bold=True))
            canvas.image(picture, box)
    return canvas


def _pooled(relevance: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Relevance `(n, H, W)` of images `(n, H, W, 3)`."""
    pooled = pool_channels(relevance) if np.ndim(relevance) == 4 else np.asarray(relevance)
    if pooled.shape != images.shape[:3]:
        raise ExplainError(
            f"maps must have the shape of the images, {images.shape[:3]}. Received: shape={np.shape(relevance)}"
        )
    return pooled


def _draw_header(canvas: Canvas, explanation: EpisodeExplanation) -> None:
    target = explanation.explained[0]
    name = canvas.fit_names(explanation.class_names, 7.0, 20, bold=True)[target][0]
    canvas.text(MARGIN, 0.56, name, 20, bold=True)
    probability = percent(explanation.probabilities[target])
    canvas.text(MARGIN + canvas.width_of(name + "  ", 20, bold=True), 0.56, probability, 20, color=MUTED)
    legend = (
        "red: for the class, blue: against it (of a gradient: what would raise or lower the score); each on its "
        "own scale"
    )
    doubts = f"{'; '.join(explanation.doubts)}. " if explanation.doubts else ""
    canvas.text(MARGIN, 0.82, canvas.fit(doubts + legend, WIDTH - 2 * MARGIN, 10), 10, color=MUTED)
    model = canvas.fit(f"model: {explanation.run_name}", 3.2, 8) if explanation.run_name else ""
    canvas.text(WIDTH - MARGIN, 0.56, model, 8, color=MUTED, align="right")


def _draw_tile(canvas: Canvas, place: int, role: str, title: str, picture: np.ndarray) -> None:
    row, column = divmod(place, _COLUMNS)
    box = Box(MARGIN + column * (_TILE + GAP), HEADER + row * (_TILE + _CAPTION) + _CAPTION - 0.08, _TILE, _TILE)
    canvas.caption(box, role, canvas.fit(title, _TILE, 9.5, bold=True))
    canvas.image(picture, box)
