"""Image domains drawn from a seed: composed shapes with the mask of the object, so no download is needed.

A class is an arrangement of two kinds of components, for instance "star-in-disc", "heart-above-square" or
"three-drops-around-cross". The classes are the same in every domain; what changes is how they are rendered.
Position, size, rotation, mirroring, colour, stroke width and clutter are drawn anew for every image and say
nothing about its class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from egt_tf.data.synthetic_domains import RENDERERS, ObjectCanvas
from egt_tf.errors import DataError, did_you_mean

DOMAINS: tuple[str, ...] = tuple(RENDERERS)
IMAGES_PER_CLASS = 60

_MAX_ROTATION = np.deg2rad(25.0)
_SPAN = (0.55, 0.80)  # longest side of the object's box, as a fraction of the image side
_MARGIN = 0.03  # least distance of the object from the image's edge, as a fraction of the image side
_SMALLEST_SIZE = 16


# === Components: closed polygons about the origin, y downwards, about two units across ===


class _Component(NamedTuple):
    """A polygon, and the centre and radius of a disc that lies inside it (where an inner shape may go)."""

    polygon: np.ndarray
    centre: tuple[float, float] = (0.0, 0.0)
    room: float = 0.5


def _arc(start: float, stop: float, points: int, radius: float = 1.0) -> np.ndarray:
    angles = np.deg2rad(np.linspace(start, stop, points))
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star() -> np.ndarray:
    radii = np.where(np.arange(10) % 2 == 0, 1.2, 0.54)
    return _arc(-90, 234, 10) * radii[:, None]


def _cross() -> np.ndarray:
    arm, end = 0.37, 1.05
    quarter = np.array([[arm, -end], [arm, -arm], [end, -arm]])
    turns = [np.array([[c, -s], [s, c]]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    return np.concatenate([quarter @ turn.T for turn in turns])


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    height = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -height - 2], axis=1) / 14.5


def _drop() -> np.ndarray:
    return np.concatenate([[[0.0, -1.25]], _arc(-25, 205, 22, radius=0.8) + [0.0, 0.35]])


def _moon() -> np.ndarray:
    return np.concatenate([_arc(60, 300, 24), _arc(280, 80, 16, radius=0.88) + [0.35, 0.0]]) + [0.2, 0.0]


def _arrow() -> np.ndarray:
    right = np.array([[0.0, -1.15], [0.9, -0.1], [0.34, -0.1], [0.34, 1.1]])
    return np.concatenate([right, right[:0:-1] * [-1, 1]])


_COMPONENTS: dict[str, _Component] = {
    "disc": _Component(_arc(0, 350, 36, radius=0.97), room=0.97),
    "square": _Component(_arc(45, 315, 4, radius=1.22), room=0.86),
    "triangle": _Component(_arc(-90, 150, 3, radius=1.22) + [0.0, 0.15], centre=(0.0, 0.15), room=0.61),
    "diamond": _Component(np.array([[0, -1.25], [0.74, 0], [0, 1.25], [-0.74, 0]]), room=0.63),
    "star": _Component(_star(), room=0.56),
    "cross": _Component(_cross(), room=0.50),
    "heart": _Component(_heart(), centre=(0.0, -0.15), room=0.66),
    "dome": _Component(_arc(180, 360, 24, radius=1.15) + [0.0, 0.5], centre=(0.0, -0.02), room=0.55),
    "drop": _Component(_drop()),
    "moon": _Component(_moon()),
    "arrow": _Component(_arrow()),
}


# === Arrangements: where the components of a class go ===


class _Arrangement(NamedTuple):
    """How copies of a small component lie about a main one: the name, the directions, the size of a copy."""

    name: Callable[[str, str], str]
    directions: tuple[tuple[float, float], ...]
    scale: float


_ARRANGEMENTS = (
    _Arrangement(lambda small, main: f"{small}-in-{main}", (), 0.80),
    _Arrangement(lambda small, main: f"{small}-above-{main}", ((0.0, -1.0),), 0.66),
    _Arrangement(lambda small, main: f"{small}-beside-{main}", ((1.0, 0.0),), 0.66),
    _Arrangement(lambda small, main: f"two-{_plural(small)}-beside-{main}", ((1.0, 0.0), (-1.0, 0.0)), 0.56),
    _Arrangement(
        lambda small, main: f"three-{_plural(small)}-around-{main}",
        ((0.0, -1.0), (0.866, 0.5), (-0.866, 0.5)),
        0.52,
    ),
)


def _plural(noun: str) -> str:
    return noun + ("es" if noun.endswith("s") else "s")


# === Classes ===


class _Class(NamedTuple):
    arrangement: _Arrangement
    small: str
    main: str

    @property
    def name(self) -> str:
        return self.arrangement.name(self.small, self.main)


def _combinations(shift: Callable[[int], int], mains: Callable[[int], range]) -> list[_Class]:
    """One class for each arrangement a and main component m in `mains(a)`; the small one is m + shift(a)."""
    common = list(_COMPONENTS)[:8]
    return [
        _Class(arrangement, common[(main + shift(a)) % 8], common[main % 8])
        for a, arrangement in enumerate(_ARRANGEMENTS)
        for main in mains(a)
    ]


def _with_unseen(small: tuple[str, ...], first_main: int) -> list[_Class]:
    """One class for each arrangement whose small component occurs in no base class."""
    common = list(_COMPONENTS)[:8]
    return [
        _Class(arrangement, small[a % len(small)], common[(first_main + a) % 8])
        for a, arrangement in enumerate(_ARRANGEMENTS)
    ]


def _classes() -> tuple[_Class, ...]:
    """Every second class for training, every fourth for validation, every fourth held out.

    The base classes pair the eight common components in five ways, one for each arrangement; the others use
    pairs that no base class has, and one in four of them a component that no base class has.
    """
    base = _combinations(lambda a: 1 + a, lambda a: range(8))
    val = _combinations(lambda a: 6, lambda a: range(a, a + 9, 3)) + _with_unseen(("drop",), 2)
    novel = _combinations(lambda a: 7, lambda a: range(a + 1, a + 10, 3)) + _with_unseen(("moon", "arrow"), 5)
    fours = zip(base[0::2], val, base[1::2], novel, strict=True)
    return tuple(member for four in fours for member in four)


_CLASSES = _classes()
CLASS_NAMES: tuple[str, ...] = tuple(member.name for member in _CLASSES)


# === Drawing ===


def check_domain(name: str) -> str:
    """Hands back `name` if it is one of `DOMAINS`.

    Raises:
        DataError: it is not; the message lists the names and suggests the nearest.
    """
    if name in DOMAINS:
        return name
    hint = did_you_mean(name, DOMAINS, otherwise=".")
    raise DataError(f"unknown synthetic domain {name!r}{hint} Known: {', '.join(DOMAINS)}")


def draw(domain: str, class_index: int, instance: int, seed: int = 0, size: int = 84) -> tuple[np.ndarray, np.ndarray]:
    """Draws one image and the mask of its object; the same arguments always give the same pixels.

    Args:
        domain: one of `DOMAINS`.
        class_index: position in `CLASS_NAMES`.
        instance: which image of the class, from 0; a source offers the first `IMAGES_PER_CLASS`.
        seed: another seed gives another, unrelated set of images.
        size: side of the image in pixels, at least 16.

    Returns:
        The image, uint8 `(size, size, 3)` RGB, and a bool mask `(size, size)`, true where at least half of
        the pixel belongs to the object: its components, filled also where a domain draws only their outlines,
        and its strokes. Clutter never belongs to it.

    Raises:
        DataError: an unknown domain, or a number out of range.
    """
    check_domain(domain)
    _check_range("class_index", class_index, 0, len(CLASS_NAMES) - 1)
    _check_range("instance", instance, 0)
    _check_range("seed", seed, 0)
    _check_range("size", size, _SMALLEST_SIZE)
    key = (class_index, instance, *domain.encode())
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
    canvas = ObjectCanvas(size, *_place(_CLASSES[class_index], size, rng))
    picture, covered = RENDERERS[domain](canvas, rng)
    return np.array(picture), np.asarray(covered) >= 128


def _check_range(name: str, value: int, low: int, high: int | None = None) -> None:
    if value < low or (high is not None and value > high):
        rule = f">= {low}" if high is None else f"in {low}..{high}"
        raise DataError(f"`{name}` must be {rule}. Received: {name}={value}")


def _place(member: _Class, size: int, rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """The polygons of the main and of the small components in pixels, turned and placed at random."""
    main, small = _arrange(member, rng)
    turn = _random_linear_map(rng)
    polygons = [polygon @ turn.T for polygon in (main, *small)]
    everything = np.concatenate(polygons)
    low, extent = everything.min(axis=0), np.ptp(everything, axis=0)
    scale = size * rng.uniform(*_SPAN) / extent.max()
    free = size * (1 - 2 * _MARGIN) - extent * scale
    corner = size * _MARGIN + rng.uniform(size=2) * free
    main, *small = [(polygon - low) * scale + corner for polygon in polygons]
    return main, small


def _arrange(member: _Class, rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """The polygons of the main and of the small components in component units."""
    main = _COMPONENTS[member.main]
    small = _COMPONENTS[member.small].polygon * member.arrangement.scale * rng.uniform(0.88, 1.08)
    if not member.arrangement.directions:
        return main.polygon, [small * main.room + main.centre]
    gap = rng.uniform(0.06, 0.24)
    return main.polygon, [
        small + _clearance(main.polygon, small, np.array(direction), gap) * np.array(direction)
        for direction in member.arrangement.directions
    ]


def _clearance(main: np.ndarray, small: np.ndarray, direction: np.ndarray, gap: float) -> float:
    """How far along `direction` the small polygon must move to lie beyond the main one."""
    return (main @ direction).max() - (small @ direction).min() + gap


def _random_linear_map(rng: np.random.Generator) -> np.ndarray:
    """A rotation after a slight stretch, mirrored left to right half of the time."""
    angle = rng.uniform(-_MAX_ROTATION, _MAX_ROTATION)
    stretch = np.exp(rng.uniform(-0.12, 0.12))
    mirror = rng.choice([-1.0, 1.0])
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]]) * [mirror * stretch, 1 / stretch]
