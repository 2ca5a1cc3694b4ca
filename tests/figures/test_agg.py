"""The environment of figures: any display or none, and names that the font cannot write."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

from egt_tf.figures import canvas
from egt_tf.figures.agg import drawable
from egt_tf.figures.canvas import Canvas

NOTEBOOKS = "module://matplotlib_inline.backend_inline"
# Where it is installed, it stays.
LEFT = "agg" if importlib.util.find_spec("matplotlib_inline") is None else NOTEBOOKS


def in_a_process(code: str, backend: str | None) -> list[str]:
    """What the code prints in a process whose environment names this display."""
    environment = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
    if backend is not None:
        environment["MPLBACKEND"] = backend
    done = subprocess.run(
        [sys.executable, "-c", f"import os, sys\n{code}"], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("backend", "left"),
    [(NOTEBOOKS, LEFT), ("module://nowhere", "module://nowhere"), ("svg", "svg"), ("", "agg"), (None, "agg")],
)
def test_no_display_is_needed_and_that_of_the_user_stays(backend, left):
    code = (
        "from egt_tf.figures.canvas import Canvas\n"
        "print('matplotlib' in sys.modules)\n"
        "print(Canvas(2.0, 1.0).pixels().shape)\n"
        "import matplotlib; print(matplotlib.get_backend()); print(os.environ.get('MPLBACKEND'))"
    )
    assert in_a_process(code, backend) == ["False", "(160, 320, 3)", left, str(backend)]


def test_a_matplotlib_that_is_there_is_left_alone():
    code = (
        "import matplotlib; matplotlib.use('pdf')\n"
        "from egt_tf.figures.canvas import Canvas\n"
        "Canvas(2.0, 1.0); print(matplotlib.get_backend())"
    )
    assert in_a_process(code, "svg") == ["pdf"]


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("ant", "ant"),
        ("Käfer", "Käfer"),
        ("Кот", "Кот"),
        ("猫", "�"),
        ("bird \N{FLAMINGO}", "bird �"),
        ("caf\udce9", "caf�"),
    ],
)
@pytest.mark.parametrize("bold", [False, True])
def test_characters_without_a_glyph_are_replaced(name, drawn, bold):
    assert drawable(name, bold) == drawn


def test_names_without_glyphs_are_drawn_without_a_warning_and_stay_different():
    drawing = Canvas(6.0, 4.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = drawing.fit_names(("猫", "犬", "bee", "鳥 x"), 2.0, 9, bold=True)
        drawing.text(0.5, 0.5, "bird \N{FLAMINGO} caf\udce9", 12)
        drawn = drawing.pixels()
        assert drawing.width_of("\N{FLAMINGO}", 9) == drawing.width_of("�", 9) > 0
    assert fitted == [["1 �"], ["2 �"], ["bee"], ["� x"]]
    other = Canvas(6.0, 4.0)
    other.text(0.5, 0.5, "bird � caf�", 12)
    np.testing.assert_array_equal(drawn, other.pixels())
    assert canvas.short_names(["caf\udce9" * 20], 8) != []
