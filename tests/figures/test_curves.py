"""Curves of several methods."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from egt_tf.figures.curves import curves_figure


def test_every_name_has_a_line_of_its_own_colour():
    rng = np.random.default_rng(0)
    curves = {f"method {n}": n + 0.1 * rng.normal(size=(4, 6)) for n in range(3)} | {"random": rng.normal(size=(4, 6))}
    curves["nothing"] = np.full((4, 6), np.nan)
    content = curves_figure(curves, "random", "a title", "x", "y")
    with Image.open(io.BytesIO(content)) as picture:
        pixels = {tuple(pixel) for pixel in np.asarray(picture.convert("RGB")).reshape(-1, 3)}
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73), (0x5C, 0x62, 0x6B)):
        assert colour in pixels
    assert (0xCC, 0x79, 0xA7) not in pixels


def test_points_stand_where_they_are_said_to():
    curves = {"a": np.arange(6.0).reshape(2, 3)}
    numbered, placed = (
        curves_figure(curves, "", "t", "x", "y"),
        curves_figure(curves, "", "t", "x", "y", [0.0, 0.1, 0.5]),
    )
    assert numbered != placed
    assert placed == curves_figure(curves, "", "t", "x", "y", [0.0, 0.1, 0.5])
