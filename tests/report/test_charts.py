from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ElementTree

import pytest

from egt_tf.report.charts import (
    HEIGHT,
    WIDTH,
    Axes,
    Line,
    ShareRow,
    intervals_chart,
    line_chart,
    reliability_chart,
    ticks,
)


def places(svg: str) -> list[tuple[float, float]]:
    """Every point of every path."""
    paths = [each.get("d") for each in ElementTree.fromstring(svg).iter("path")]
    return [(float(x), float(y)) for path in paths for x, y in re.findall(r"([-\d.]+),([-\d.]+)", path)]


def words(svg: str) -> list[str]:
    return [each.text for each in ElementTree.fromstring(svg).iter("text")]


CHARTS = {
    "lines": line_chart(
        "What <it> shows",
        [Line("a & b", ((1, 2.0), (2, 1.0)), (0.5, None)), Line("c", ((1, 0.5), (2, 0.25)), (0.1, 0.1))],
        Axes("epoch", "loss", reference=(1.5, "chance")),
    ),
    "one epoch": line_chart("One", [Line("a", ((1, 0.0),))], Axes("epoch", "loss")),
    "many": line_chart("Many", [Line("a", [(x, 1 / x) for x in range(1, 2000)])], Axes("epoch", "loss")),
    "five lines": line_chart("Five", [Line("a long name " * 2, ((1, k), (3, k))) for k in range(5)], Axes("x", "y")),
    "reliability": reliability_chart("How sure", [(0.2, 0.0, 1), (1.0, 1.0, 10_000)]),
    "intervals": intervals_chart("All", [ShareRow("<a>" * 40, 0.01, 0.5, 0.2), ShareRow("b", 1.0, None, 0.2)]),
}


@pytest.mark.parametrize("name", CHARTS)
def test_charts_are_sound_and_nothing_lies_outside(name):
    svg = CHARTS[name]
    height = float(ElementTree.fromstring(svg).get("viewBox").split()[3])
    assert ElementTree.fromstring(svg).get("aria-label")
    assert all(0 <= x <= WIDTH and 0 <= y <= height for x, y in places(svg))
    assert not re.search("nan|inf", svg)


def test_a_line_lies_where_its_values_are():
    svg = line_chart("", [Line("a", ((0, 0.0), (1, 10.0), (2, 5.0)))], Axes("x", "y"))
    (path,) = re.findall(r'class="line c0" stroke-dasharray="" d="M(.*?)"', svg)[:1]
    (x0, y0), (x1, y1), (x2, y2) = (tuple(map(float, point.split(","))) for point in path.split())
    assert (x1 - x0) == pytest.approx(x2 - x1, abs=0.11)
    assert y0 > y2 > y1
    assert (y0 - y2) == pytest.approx(y2 - y1, abs=0.11)


def test_names_are_text_and_the_long_one_is_shortened():
    assert {"a & b", "c", "chance", "epoch", "loss"} <= set(words(CHARTS["lines"]))
    assert ElementTree.fromstring(CHARTS["lines"]).get("aria-label") == "What <it> shows"
    assert max(map(len, words(CHARTS["intervals"]))) <= 52


def test_the_band_needs_two_intervals():
    assert CHARTS["lines"].count("band") == 1


def test_a_sure_point_is_right_of_an_unsure_one_and_larger_if_it_counts_more():
    (few, many) = ElementTree.fromstring(CHARTS["reliability"]).iter("circle")
    assert float(few.get("cx")) < float(many.get("cx"))
    assert float(few.get("cy")) > float(many.get("cy"))
    assert 2 < float(few.get("r")) < float(many.get("r"))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (1, 7), (0, 0.0003), (-2, 5), (1, 1999), (0.1, 0.11), (0, 1e9)])
def test_ticks_are_round_few_and_inside(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 6
    assert all(low <= tick <= high for tick in found)
    assert len({round(b - a, 9) for a, b in itertools.pairwise(found)}) == 1 or high < 0.001


def test_the_size_is_that_of_the_view():
    assert f'viewBox="0 0 {WIDTH} {HEIGHT}"' in CHARTS["lines"]
