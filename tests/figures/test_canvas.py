from __future__ import annotations

import numpy as np
import pytest

from egt_tf.figures import canvas
from egt_tf.figures.canvas import Canvas

CARS = "039.Bentley_Continental_Supersports_Conv_Convertible_2012"
FAMILY = tuple(f"{CARS}_{i}" for i in range(9))


@pytest.fixture
def drawing():
    return Canvas(6.0, 4.0)


# === Names ===


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("n01532829_house_finch", "house finch"),
        ("013.Bobolink", "Bobolink"),
        ("039.Audi_A5__Coupe_2012", "Audi A5 Coupe 2012"),
        ("2012", "2012"),
        ("007.", "007."),
        ("3d_shape", "3d shape"),
        ("", ""),
    ],
)
def test_readable_name(name, readable):
    assert canvas.readable_name(name) == readable


def test_short_names_leave_out_the_middle():
    assert canvas.short_names([CARS], 25) == ("Bentley Continental… 2012",)


@pytest.mark.parametrize(
    "names",
    [
        ("001.cat", "002.cat"),
        ("a_b", "a b"),
        ("Aston_Martin_V8_Vantage_Convertible_2012", "Aston_Martin_V8_Vantage_Coupe_2012"),
        tuple("x" * 30 + str(i) + "y" * 30 for i in range(20)),
    ],
)
@pytest.mark.parametrize("limit", [8, 12, 20])
def test_short_names_stay_short_and_different(names, limit):
    short = canvas.short_names(names, limit)
    assert len(set(short)) == len(names)
    assert max(map(len, short)) <= limit


# === Canvas ===


def test_lengths_are_inches_from_the_top_left_corner(drawing):
    drawing.rectangle(canvas.Box(1.0, 0.5, 2.0, 1.0), fill=canvas.INK)
    rows, columns = np.nonzero(drawing.pixels()[..., 0] < 128)
    inches = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / drawing.figure.dpi
    np.testing.assert_allclose(inches, [1.0, 0.5, 3.0, 1.5], atol=0.01)


@pytest.mark.parametrize(("shape", "width", "height"), [((6, 18, 3), 2.0, 2 / 3), ((18, 6, 3), 1 / 3, 1.0)])
def test_an_image_keeps_its_proportions_inside_its_box(drawing, shape, width, height):
    drawing.image(np.zeros(shape, np.uint8), canvas.Box(1.0, 0.5, 2.0, 1.0))
    left, right, bottom, top = drawing.axes.images[0].get_extent()
    assert (left, top) == (1.0, 0.5)
    assert (right - left, bottom - top) == pytest.approx((width, height))


def test_a_canvas_too_tall_for_the_renderer_is_coarser(monkeypatch):
    monkeypatch.setattr(canvas, "_MOST_PIXELS", 300)
    assert Canvas(2.0, 40.0).pixels().shape == (300, 15, 3)


def test_a_line_is_as_wide_as_it_is_drawn(drawing):
    words = "house finch"
    drawing.text(0.5, 0.5, words, 12, bold=True)
    drawn = drawing.axes.texts[0].get_window_extent().width / drawing.figure.dpi
    assert drawing.width_of(words, 12, bold=True) == pytest.approx(drawn, abs=0.02)
    assert drawing.width_of(words, 12) < drawing.width_of(words, 12, bold=True)


def test_a_dollar_sign_is_drawn_and_measured_as_one(drawing):
    drawing.text(0.5, 0.5, "$\\frac{$", 12)
    drawing.pixels()
    assert drawing.width_of("$a$", 12) > drawing.width_of("a", 12) + drawing.width_of("$", 12)


def test_wrap_breaks_between_words(drawing):
    width = drawing.width_of("a house", 9)
    assert drawing.wrap("a house finch", width, 9) == ["a house", "finch"]
    assert drawing.wrap("a housefinch", 0.1, 9) == ["a", "housefinch"]


@pytest.mark.parametrize("names", [FAMILY, ("W" * 80, "house finch", "n")], ids=["words", "one broad word"])
@pytest.mark.parametrize("lines", [1, 2])
@pytest.mark.parametrize("width", [1.3, 1.65, 4.5])
def test_fitted_names_fit_and_stay_different(drawing, names, lines, width):
    fitted = drawing.fit_names(names, width, 9, bold=True, lines=lines)
    assert len(set(map(tuple, fitted))) == len(names)
    assert max(map(len, fitted)) <= lines
    assert all(drawing.width_of(part, 9, bold=True) <= width for parts in fitted for part in parts)


def test_names_with_room_are_not_shortened(drawing):
    names = ("013.Bobolink", "n01532829_house_finch")
    assert drawing.fit_names(names, 4.0, 9) == [["Bobolink"], ["house finch"]]


def test_other_text_keeps_its_number_and_loses_its_middle(drawing):
    assert drawing.fit("013.jpg", 2.0, 9) == "013.jpg"
    short = drawing.fit("013_" + "long_" * 40 + ".jpg", 2.0, 9)
    assert short.startswith("013_")
    assert short.endswith(".jpg")
    assert "…" in short
    assert 1.5 < drawing.width_of(short, 9) <= 2.0
