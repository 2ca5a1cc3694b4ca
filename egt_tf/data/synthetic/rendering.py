"""How each synthetic domain renders an object: colours, strokes, textures, fog and clutter.

Everything is drawn with Pillow as a coverage map, three times enlarged and then reduced, which smooths the
edges; colours are blended at the final size.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

_ENLARGE = 3
_REFERENCE_SIZE = 84  # widths and radii below are in pixels of an image of this side

Colour = tuple[int, int, int]


class ObjectCanvas:
    """The polygons of one object, and coverage maps (8-bit grey images, 255 = covered) drawn from them.

    Args:
        size: side of the image in pixels.
        main: polygon `(points, 2)` of the main component, x before y, in pixels.
        small: polygons of the small components, painted over the main one.
    """

    def __init__(self, size: int, main: np.ndarray, small: Sequence[np.ndarray]):
        self.size = size
        self.unit = size / _REFERENCE_SIZE
        self.main = self._filled([main])
        self.small = self._filled(small)
        self._polygons = [main, *small]

    def filled(self) -> Image.Image:
        """Coverage by all components."""
        return ImageChops.lighter(self.main, self.small)

    def outline(self, width: float) -> Image.Image:
        """Coverage by strokes of `width` (in pixels of the reference size) along the polygons."""
        return self._strokes(self._polygons, width)

    def unsteady_outline(self, width: float, rng: np.random.Generator) -> Image.Image:
        """Coverage by strokes along slightly distorted polygons."""
        return self._strokes([_unsteady(polygon, rng) for polygon in self._polygons], width)

    def clutter(self, rng: np.random.Generator, count: int) -> Image.Image:
        """Coverage by `count` small blobs and short lines anywhere in the image."""
        image, pen = self._blank()
        for _ in range(count):
            _distractor(pen, self.size, rng)
        return image.reduce(_ENLARGE)

    def _filled(self, polygons: Sequence[np.ndarray]) -> Image.Image:
        image, pen = self._blank()
        for polygon in polygons:
            pen.polygon((polygon * _ENLARGE).ravel().tolist(), fill=255)
        return image.reduce(_ENLARGE)

    def _strokes(self, polygons: Sequence[np.ndarray], width: float) -> Image.Image:
        thickness = max(1, round(width * self.unit * _ENLARGE))
        image, pen = self._blank()
        for polygon in polygons:
            _stroke(pen, polygon, thickness)
        return image.reduce(_ENLARGE)

    def _blank(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        image = Image.new("L", (self.size * _ENLARGE, self.size * _ENLARGE))
        return image, ImageDraw.Draw(image)


def _stroke(pen: ImageDraw.ImageDraw, polygon: np.ndarray, thickness: int) -> None:
    """A closed line; discs close the gaps that wide lines leave at corners."""
    points = polygon * _ENLARGE
    pen.line(np.concatenate([points, points[:1]]).ravel().tolist(), fill=255, width=thickness)
    if thickness > 2:
        for x, y in points.tolist():
            _disc(pen, x, y, thickness / 2 - 0.5)


def _disc(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)


def _unsteady(polygon: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The polygon slightly displaced, scaled and sheared about its centre."""
    centre = polygon.mean(axis=0)
    distortion = np.eye(2) + rng.uniform(-0.05, 0.05, (2, 2))
    return (polygon - centre) @ distortion + centre + 0.015 * np.ptp(polygon, axis=0) * rng.uniform(-1, 1, 2)


def _distractor(pen: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
    """A blob or a short line."""
    side, unit = size * _ENLARGE, size * _ENLARGE / _REFERENCE_SIZE
    kind, x, y, length, turn = rng.uniform(size=5).tolist()
    if kind < 0.5:
        _disc(pen, x * side, y * side, (1.2 + 1.6 * length) * unit)
        return
    reach = (4 + 7 * length) * unit
    end = (x * side + reach * np.cos(2 * np.pi * turn), y * side + reach * np.sin(2 * np.pi * turn))
    pen.line((x * side, y * side, *end), fill=255, width=max(1, round(1.3 * unit)))


# === Colours ===


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _between(first: Colour, second: Colour, weight: np.ndarray) -> Image.Image:
    """An RGB image that is `first` where the weight `(size, size)` is 0 and `second` where it is 1."""
    levels = Image.fromarray((255 * np.clip(weight, 0, 1)).astype(np.uint8))
    picture = Image.new("RGB", levels.size, first)
    picture.paste(second, mask=levels)
    return picture


def _gradient(size: int, first: Colour, second: Colour, rng: np.random.Generator) -> Image.Image:
    """A background that goes from one colour to another in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    axis = np.linspace(-0.5, 0.5, size)
    return _between(first, second, 0.5 + axis * np.cos(angle) + axis[:, None] * np.sin(angle))


def _noisy(picture: np.ndarray, noise: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(picture + noise, 0, 255).astype(np.uint8))


# === Domains: each gives the RGB image and the coverage by its object ===


def _shapes(canvas: ObjectCanvas, rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """The source domain: saturated flat fills with a dark outline on a pale background."""
    hue = rng.uniform()
    pale, paler = (_hsv(hue + shift, rng.uniform(0.05, 0.22), rng.uniform(0.86, 1.0)) for shift in (0, 0.08))
    picture = _gradient(canvas.size, pale, paler, rng)
    for _ in range(2):
        colour = _hsv(rng.uniform(), rng.uniform(0.3, 0.8), rng.uniform(0.5, 0.9))
        picture.paste(colour, mask=canvas.clutter(rng, int(rng.integers(2, 5))))
    main_hue = rng.uniform()
    values = rng.permutation([rng.uniform(0.50, 0.65), rng.uniform(0.85, 1.0)])
    picture.paste(_hsv(main_hue, rng.uniform(0.6, 0.95), values[0]), mask=canvas.main)
    small_hue = main_hue + rng.uniform(0.25, 0.75)
    picture.paste(_hsv(small_hue, rng.uniform(0.6, 0.95), values[1]), mask=canvas.small)
    outline = canvas.outline(rng.uniform(0.8, 2.2))
    picture.paste(_hsv(rng.uniform(), 0.4, rng.uniform(0.1, 0.25)), mask=outline)
    return picture, ImageChops.lighter(canvas.filled(), outline)


def _negative(canvas: ObjectCanvas, rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """Inverted colours: bright outlines on a dark background."""
    picture, covered = _shapes(canvas, rng)
    return ImageChops.invert(picture), covered


def _fog(canvas: ObjectCanvas, rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """Blurred, faded towards a grey veil, with sensor noise."""
    picture, covered = _shapes(canvas, rng)
    blurred = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.8, 1.7) * canvas.unit))
    veil = Image.new("RGB", picture.size, _hsv(rng.uniform(), rng.uniform(0, 0.08), rng.uniform(0.65, 0.9)))
    faded = np.asarray(Image.blend(veil, blurred, rng.uniform(0.35, 0.6)), np.float32)
    noise = rng.standard_normal((canvas.size, canvas.size, 1), np.float32)
    return _noisy(faded, rng.uniform(3, 7) * noise), covered


def _sketch(canvas: ObjectCanvas, rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """Pencil outlines, each drawn twice with an unsteady hand, on grained paper."""
    paper = _hsv(rng.uniform(0.08, 0.16), rng.uniform(0.02, 0.12), rng.uniform(0.9, 0.99))
    grain = rng.uniform(2, 5) * rng.standard_normal((canvas.size, canvas.size, 1), np.float32)
    picture = _noisy(np.array(paper, np.float32), grain)
    hue, value = rng.uniform(), rng.uniform(0.1, 0.35)
    dark, light = _hsv(hue, rng.uniform(0, 0.5), value), _hsv(hue, 0.1, value + 0.3)
    picture.paste(light, mask=canvas.clutter(rng, int(rng.integers(3, 8))))
    covered = canvas.filled()
    for pencil in (light, dark):
        stroke = canvas.unsteady_outline(rng.uniform(0.8, 1.5), rng)
        picture.paste(pencil, mask=stroke)
        covered = ImageChops.lighter(covered, stroke)
    return picture, covered


def _texture(canvas: ObjectCanvas, rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """Patterned background and patterned fills, which differ in brightness, hue and pattern; thin outline."""
    values = (rng.uniform(0.75, 0.95), *rng.permutation([0.50, 0.70]))
    hues = rng.uniform() + rng.permutation([0.0, 1 / 3, 2 / 3]) + rng.uniform(-0.08, 0.08, 3)
    patterns = rng.permutation(len(_PATTERNS))[:3]
    picture, main, small = (
        _patterned(canvas.size, hue, value, _PATTERNS[pattern], rng)
        for hue, value, pattern in zip(hues, values, patterns, strict=True)
    )
    clutter_colour = _hsv(rng.uniform(), rng.uniform(0.2, 0.7), rng.uniform(0.3, 0.9))
    picture.paste(clutter_colour, mask=canvas.clutter(rng, int(rng.integers(4, 8))))
    picture.paste(main, mask=canvas.main)
    picture.paste(small, mask=canvas.small)
    outline = canvas.outline(rng.uniform(0.8, 1.6))
    picture.paste(_hsv(rng.uniform(), 0.4, rng.uniform(0.05, 0.2)), mask=outline)
    return picture, ImageChops.lighter(canvas.filled(), outline)


# === Patterns: weights `(size, size)`, clipped to [0, 1] by the caller, from two perpendicular phases ===

_Pattern = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def _patterned(size: int, hue: float, value: float, pattern: _Pattern, rng: np.random.Generator) -> Image.Image:
    """An RGB image that alternates between two shades of one colour."""
    saturation = rng.uniform(0.2, 0.6)
    dark, bright = (_hsv(hue + shift, saturation, min(value + shift, 1.0)) for shift in (-0.05, 0.05))
    u, v = _rotated_grid(size, rng.uniform(0, np.pi), rng.uniform(0.09, 0.16))
    return _between(dark, bright, pattern(u, v, rng))


def _rotated_grid(size: int, angle: float, period: float) -> tuple[np.ndarray, np.ndarray]:
    """Two perpendicular phases `(size, size)` that grow by 2 pi in `period` of the image side."""
    axis = np.linspace(0, 2 * np.pi / period, size, dtype=np.float32)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * axis + sin * axis[:, None], cos * axis[:, None] - sin * axis


def _stripes(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 0.5 + 1.5 * np.sin(u)


def _checks(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 0.5 + 3 * np.sin(u / 2) * np.sin(v / 2)


def _dots(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 2 * (np.sin(u) + np.sin(v)) - 1


def _waves(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 0.5 + 1.5 * np.sin(u + 1.5 * np.sin(v / 2))


def _grain(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    coarse = rng.integers(0, 256, (24, 24), np.uint8)
    return (
        np.asarray(Image.fromarray(coarse).resize((u.shape[1], u.shape[0]), Image.Resampling.BILINEAR), np.float32)
        / 255
    )


_PATTERNS: tuple[_Pattern, ...] = (_stripes, _checks, _dots, _waves, _grain)

RENDERERS: dict[str, Callable[[ObjectCanvas, np.random.Generator], tuple[Image.Image, Image.Image]]] = {
    "shapes": _shapes,
    "sketch": _sketch,
    "texture": _texture,
    "negative": _negative,
    "fog": _fog,
}
