"""The classes of the drawn domains: components, and how they are arranged."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# === Components: closed polygons about the origin, y downwards, about two units across ===


class Component(NamedTuple):
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


COMPONENTS: dict[str, Component] = {
    "disc": Component(_arc(0, 350, 36, radius=0.97), room=0.97),
    "square": Component(_arc(45, 315, 4, radius=1.22), room=0.86),
    "triangle": Component(_arc(-90, 150, 3, radius=1.22) + [0.0, 0.15], centre=(0.0, 0.15), room=0.61),
    "diamond": Component(np.array([[0, -1.25], [0.74, 0], [0, 1.25], [-0.74, 0]]), room=0.63),
    "star": Component(_star(), room=0.56),
    "cross": Component(_cross(), room=0.50),
    "heart": Component(_heart(), centre=(0.0, -0.15), room=0.66),
    "dome": Component(_arc(180, 360, 24, radius=1.15) + [0.0, 0.5], centre=(0.0, -0.02), room=0.55),
    "drop": Component(_drop()),
    "moon": Component(_moon()),
    "arrow": Component(_arrow()),
}


# === Arrangements: where the components of a class go ===


class Arrangement(NamedTuple):
    """How copies of a small component lie about a main one: the name, the directions, the size of a copy."""

    name: Callable[[str, str], str]
    directions: tuple[tuple[float, float], ...]
    scale: float


_ARRANGEMENTS = (
    Arrangement(lambda small, main: f"{small}-in-{main}", (), 0.80),
    Arrangement(lambda small, main: f"{small}-above-{main}", ((0.0, -1.0),), 0.66),
    Arrangement(lambda small, main: f"{small}-beside-{main}", ((1.0, 0.0),), 0.66),
    Arrangement(lambda small, main: f"two-{_plural(small)}-beside-{main}", ((1.0, 0.0), (-1.0, 0.0)), 0.56),
    Arrangement(
        lambda small, main: f"three-{_plural(small)}-around-{main}",
        ((0.0, -1.0), (0.866, 0.5), (-0.866, 0.5)),
        0.52,
    ),
)


def _plural(noun: str) -> str:
    return noun + ("es" if noun.endswith("s") else "s")


# === Classes ===


class DrawnClass(NamedTuple):
    """An arrangement of a small and a main component, by their names."""

    arrangement: Arrangement
    small: str
    main: str

    @property
    def name(self) -> str:
        """As in the names of classes: "star-in-disc"."""
        return self.arrangement.name(self.small, self.main)


def _combinations(shift: Callable[[int], int], mains: Callable[[int], range]) -> list[DrawnClass]:
    """One class for each arrangement a and main component m in `mains(a)`; the small one is m + shift(a)."""
    common = list(COMPONENTS)[:8]
    return [
        DrawnClass(arrangement, common[(main + shift(a)) % 8], common[main % 8])
        for a, arrangement in enumerate(_ARRANGEMENTS)
        for main in mains(a)
    ]


def _with_unseen(small: tuple[str, ...], first_main: int) -> list[DrawnClass]:
    """One class for each arrangement whose small component occurs in no base class."""
    common = list(COMPONENTS)[:8]
    return [
        DrawnClass(arrangement, small[a % len(small)], common[(first_main + a) % 8])
        for a, arrangement in enumerate(_ARRANGEMENTS)
    ]


def _classes() -> tuple[DrawnClass, ...]:
    """Every second class for training, every fourth for validation, every fourth held out.

    The base classes pair the eight common components in five ways, one for each arrangement; the others use
    pairs that no base class has, and one in four of them a component that no base class has.
    """
    base = _combinations(lambda a: 1 + a, lambda a: range(8))
    val = _combinations(lambda a: 6, lambda a: range(a, a + 9, 3)) + _with_unseen(("drop",), 2)
    novel = _combinations(lambda a: 7, lambda a: range(a + 1, a + 10, 3)) + _with_unseen(("moon", "arrow"), 5)
    fours = zip(base[0::2], val, base[1::2], novel, strict=True)
    return tuple(member for four in fours for member in four)


CLASSES = _classes()
# What a source offers of each.
IMAGES_PER_CLASS = 60
CLASS_NAMES: tuple[str, ...] = tuple(member.name for member in CLASSES)
