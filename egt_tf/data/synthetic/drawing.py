"""Draws single images of the drawn domains, each a pure function of its numbers."""

from __future__ import annotations

import numpy as np

from egt_tf.data.synthetic.classes import CLASS_NAMES, CLASSES, COMPONENTS, DrawnClass
from egt_tf.data.synthetic.rendering import RENDERERS, ObjectCanvas
from egt_tf.errors import DataError, did_you_mean

DRAWN_DOMAINS: tuple[str, ...] = tuple(RENDERERS)

_MAX_ROTATION = np.deg2rad(25.0)
_SPAN = (0.55, 0.80)  # longest side of the object's box, as a fraction of the image side
_MARGIN = 0.03  # least distance of the object from the image's edge, as a fraction of the image side
_SMALLEST_SIZE = 16


def check_domain(name: str) -> str:
    """Hands back `name` if it is one of `DRAWN_DOMAINS`.

    Raises:
        DataError: it is not; the message lists the names and suggests the nearest.

    Example:
        >>> check_domain("frog")
        Traceback (most recent call last):
        egt_tf.errors.DataError: unknown synthetic domain 'frog'; did you mean 'fog'? Known: ...
    """
    if name in DRAWN_DOMAINS:
        return name
    hint = did_you_mean(name, DRAWN_DOMAINS, otherwise=".")
    raise DataError(f"unknown synthetic domain {name!r}{hint} Known: {', '.join(DRAWN_DOMAINS)}")


def draw(domain: str, class_index: int, instance: int, seed: int = 0, size: int = 84) -> tuple[np.ndarray, np.ndarray]:
    """Draws one image and the mask of its object; the same arguments always give the same pixels.

    Args:
        domain: one of `DRAWN_DOMAINS`.
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

    Example:
        >>> image, mask = draw("fog", class_index=2, instance=0, size=32)
        >>> image.shape, image.dtype, mask.shape
        ((32, 32, 3), dtype('uint8'), (32, 32))
    """
    check_domain(domain)
    _check_range("class_index", class_index, 0, len(CLASS_NAMES) - 1)
    _check_range("instance", instance, 0)
    _check_range("seed", seed, 0)
    _check_range("size", size, _SMALLEST_SIZE)
    key = (class_index, instance, *domain.encode())
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
    canvas = ObjectCanvas(size, *_place(CLASSES[class_index], size, rng))
    picture, covered = RENDERERS[domain](canvas, rng)
    return np.array(picture), np.asarray(covered) >= 128


def _check_range(name: str, value: int, low: int, high: int | None = None) -> None:
    if value < low or (high is not None and value > high):
        rule = f">= {low}" if high is None else f"in {low}..{high}"
        raise DataError(f"`{name}` must be {rule}. Received: {name}={value}")


def _place(member: DrawnClass, size: int, rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
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


def _arrange(member: DrawnClass, rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """The polygons of the main and of the small components in component units."""
    main = COMPONENTS[member.main]
    small = COMPONENTS[member.small].polygon * member.arrangement.scale * rng.uniform(0.88, 1.08)
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
