"""Charts as SVG within a page: their colours are those of the page, light or dark. Pure functions."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence

from egt_tf.document import html_text

# Small, so that words stay readable where the chart is as narrow as a telephone.
WIDTH, HEIGHT = 360, 236
_LEFT, _RIGHT, _BOTTOM, _LEGEND_ROW = 48, 12, 38, 17
_LETTER = 6.3
# Of the colours in `STYLE`; lines are told apart by their dashes, too.
_COLORS = 4
_DASHES = ("", "7 3", "2 3", "9 3 2 3")

STYLE = """\
:root { --c0: #0060a0; --c1: #b84a00; --c2: #007a58; --c3: #a0478b; }
@media (prefers-color-scheme: dark) { :root { --c0: #5db9f0; --c1: #f0975a; --c2: #3cc79c; --c3: #e29bcb; } }
@media print { :root { --c0: #0060a0; --c1: #b84a00; --c2: #007a58; --c3: #a0478b; } }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
.charts figure { margin: 0; min-width: 0; }
.chart { display: block; width: 100%; max-width: 32rem; height: auto; font: 12px system-ui, sans-serif; }
.chart text { fill: var(--ink); stroke: var(--page); stroke-width: 3px; paint-order: stroke; }
.chart .axis { stroke: var(--muted); }
.chart .grid { stroke: var(--line); }
.chart .reference { stroke: var(--muted); stroke-dasharray: 1 4; stroke-linecap: round; stroke-width: 2; }
.chart .line { fill: none; stroke-width: 2; }
.chart .band { opacity: 0.2; stroke: none; }
.chart .interval { stroke-width: 9; opacity: 0.4; }
""" + "".join(
    f".chart .c{number} {{ stroke: var(--c{number}); }}\n.chart .f{number} {{ fill: var(--c{number}); }}\n"
    for number in range(_COLORS)
)


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: in the legend.
        points: x and y of each.
        halves: half the width of the interval at each point, or None; empty for none.

    Example:
        >>> Line("loss", ((1, 0.5),)).halves
        ()
    """

    name: str
    points: Sequence[tuple[float, float]]
    halves: Sequence[float | None] = ()


@dataclasses.dataclass(frozen=True)
class Axes:
    """What the axes of a chart say.

    Attributes:
        x_label, y_label: in words.
        y_range: the values at the bottom and at the top; None: as far as the lines go, from 0 on.
        reference: a value that a horizontal line is drawn at, with its name; None for none.
        whole_x: whether there is nothing between whole numbers along x.

    Example:
        >>> Axes("epoch", "loss").y_range is None
        True
    """

    x_label: str
    y_label: str
    y_range: tuple[float, float] | None = None
    reference: tuple[float, str] | None = None
    whole_x: bool = False


@dataclasses.dataclass(frozen=True)
class ShareRow:
    """A row of `intervals_chart`.

    Attributes:
        name: above the row.
        value: in [0, 1].
        half: half the width of its interval, or None.
        chance: what guessing gives, in [0, 1].

    Example:
        >>> ShareRow("synthetic:fog", 0.6, None, 0.2).value
        0.6
    """

    name: str
    value: float
    half: float | None
    chance: float


def line_chart(description: str, lines: Sequence[Line], axes: Axes) -> str:
    """Lines over the same axes, each with its interval as a band.

    Args:
        description: what the chart shows, for those who do not see it.
        lines: at least one, each of at least one point; four have colours of their own.
        axes: what they say.

    Example:
        >>> line_chart("The loss falls.", [Line("loss", ((1, 2.0), (2, 1.0)))], Axes("epoch", "loss"))[:42]
        '<svg class="chart" viewBox="0 0 360 236" r'
    """
    xs = [x for line in lines for x, _ in line.points]
    plot = _Plot.of(xs, axes.y_range or _range(lines), _legend_rows(lines, axes))
    drawn = itertools.chain.from_iterable(_draw_line(plot, line, place) for place, line in enumerate(lines))
    parts = [*_frame(plot, axes), *_draw_reference(plot, axes), *drawn, *_legend(lines, axes)]
    return _svg(description, HEIGHT, parts)


def reliability_chart(description: str, points: Sequence[tuple[float, float, int]]) -> str:
    """Accuracy over confidence; where a point lies on the diagonal, probabilities can be believed.

    Args:
        description: what the chart shows, for those who do not see it.
        points: confidence and accuracy in [0, 1], and how many queries: the area of the point.

    Example:
        >>> reliability_chart("One point.", [(0.9, 0.7, 10)]).count("<circle")
        1
    """
    plot = _Plot(0.0, 1.0, 0.0, 1.0, top=10)
    most = max(queries for *_, queries in points)
    parts = _frame(plot, Axes("mean probability of the prediction", "share that is right"))
    parts.append(f'<path class="reference line" d="{_path([(plot.x(0), plot.y(0)), (plot.x(1), plot.y(1))])}"/>')
    for confidence, accuracy, queries in points:
        x, radius = plot.x(confidence), 2.5 + 7 * math.sqrt(queries / most)
        parts.append(
            f'<path class="line c1" d="{_path([(x, plot.y(confidence)), (x, plot.y(accuracy))])}"/>'
            f'<circle class="f0" cx="{x:.1f}" cy="{plot.y(accuracy):.1f}" r="{radius:.1f}">'
            f"<title>{100 * accuracy:.1f} % right at {100 * confidence:.1f} %, {queries} queries</title></circle>"
        )
    return _svg(description, HEIGHT, parts)


def intervals_chart(description: str, rows: Sequence[ShareRow]) -> str:
    """Shares with their intervals, one below the other, each with a tick at chance.

    Args:
        description: what the chart shows, for those who do not see it.
        rows: at least one.

    Example:
        >>> intervals_chart("One.", [ShareRow("synthetic:fog", 0.6, 0.1, 0.2)]).count("<circle")
        1
    """
    row_height, left = 36, 22
    height = len(rows) * row_height + _BOTTOM

    def x(share: float) -> float:
        return left + (WIDTH - 2 * left) * min(1.0, max(0.0, share))

    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<path class="grid" d="{_path([(x(tick), 0), (x(tick), height - _BOTTOM)])}"/>')
        parts.append(_text(x(tick), height - _BOTTOM + 16, f"{100 * tick:.0f} %", "middle"))
    for place, row in enumerate(rows):
        y = place * row_height + 25
        parts.append(_text(left, y - 11, _short(row.name, 52)))
        parts.append(f'<path class="reference line" d="{_path([(x(row.chance), y - 6), (x(row.chance), y + 6)])}"/>')
        half = row.half or 0.0
        parts.append(f'<path class="interval c0" d="{_path([(x(row.value - half), y), (x(row.value + half), y)])}"/>')
        parts.append(f'<circle class="f0" cx="{x(row.value):.1f}" cy="{y}" r="2.5"/>')
    parts.append(_text(WIDTH / 2, height - 4, "accuracy", "middle"))
    return _svg(description, height, parts)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`, at most `most` of them.

    Example:
        >>> ticks(0, 1), ticks(1, 6), ticks(2, 2)
        ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2.0])
    """
    if not high > low:
        return [float(low)]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (power, 2 * power, 5 * power, 10 * power, 20 * power):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            break
    return [round(number * step, 12) for number in range(first, last + 1)]


# === Parts ===


@dataclasses.dataclass(frozen=True)
class _Plot:
    """Where values lie in the picture."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    top: float

    @classmethod
    def of(cls, xs: Sequence[float], y_range: tuple[float, float], legend_rows: int) -> _Plot:
        low, high = min(xs), max(xs)
        # A single epoch stands in the middle.
        low, high = (low, high) if high > low else (low - 1, high + 1)
        return cls(low, high, *y_range, top=8 + _LEGEND_ROW * legend_rows)

    def x(self, value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (value - self.x_low) / (self.x_high - self.x_low)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return HEIGHT - _BOTTOM - (HEIGHT - _BOTTOM - self.top) * min(1.0, max(0.0, share))


def _range(lines: Sequence[Line]) -> tuple[float, float]:
    """From 0, or the lowest value, to the highest."""
    values = [y for line in lines for _, y in line.points]
    low, high = min(0.0, *values), max(values)
    return low, high if high > low else low + 1.0


def _frame(plot: _Plot, axes: Axes) -> list[str]:
    parts = []
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    for tick in ticks(plot.y_low, plot.y_high):
        y = plot.y(tick)
        parts.append(f'<path class="grid" d="{_path([(_LEFT, y), (right, y)])}"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{tick:g}", "end"))
    for tick in ticks(plot.x_low, plot.x_high):
        if axes.whole_x and not tick.is_integer():
            continue
        x = plot.x(tick)
        parts.append(f'<path class="axis" d="{_path([(x, bottom), (x, bottom + 4)])}"/>')
        parts.append(_text(x, bottom + 17, f"{tick:g}", "middle"))
    parts.append(f'<path class="axis" d="{_path([(_LEFT, bottom), (right, bottom)])}"/>')
    parts.append(_text((_LEFT + right) / 2, HEIGHT - 4, axes.x_label, "middle"))
    middle = (plot.top + bottom) / 2
    parts.append(
        f'<text x="14" y="{middle:.1f}" text-anchor="middle" transform="rotate(-90 14 {middle:.1f})">'
        f"{html_text(axes.y_label)}</text>"
    )
    return parts


def _draw_line(plot: _Plot, line: Line, place: int) -> Iterable[str]:
    color, dash = place % _COLORS, _DASHES[place % len(_DASHES)]
    points = [(plot.x(x), plot.y(y)) for x, y in line.points]
    known = [(x, y, half) for (x, y), half in zip(line.points, line.halves, strict=False) if half is not None]
    if len(known) > 1:
        upper = [(plot.x(x), plot.y(y + half)) for x, y, half in known]
        lower = [(plot.x(x), plot.y(y - half)) for x, y, half in reversed(known)]
        yield f'<path class="band f{color}" d="{_path([*upper, *lower])}Z"/>'
    if len(points) == 1:
        yield f'<circle class="f{color}" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3.5"/>'
    else:
        yield f'<path class="line c{color}" stroke-dasharray="{dash}" d="{_path(points)}"/>'


def _draw_reference(plot: _Plot, axes: Axes) -> list[str]:
    if axes.reference is None:
        return []
    y = plot.y(axes.reference[0])
    return [f'<path class="reference line" d="{_path([(_LEFT, y), (WIDTH - _RIGHT, y)])}"/>']


def _entries(lines: Sequence[Line], axes: Axes) -> list[tuple[str, str]]:
    """Name and attributes of everything in the legend."""
    entries = [
        (line.name, f'class="line c{place % _COLORS}" stroke-dasharray="{_DASHES[place % len(_DASHES)]}"')
        for place, line in enumerate(lines)
    ]
    return entries if axes.reference is None else [*entries, (axes.reference[1], 'class="reference line"')]


def _legend_places(lines: Sequence[Line], axes: Axes) -> list[tuple[float, int]]:
    """Left edge and row of each entry."""
    places, x, row = [], 0.0, 0
    for name, _ in _entries(lines, axes):
        width = 40 + _LETTER * len(name)
        if x and x + width > WIDTH:
            x, row = 0.0, row + 1
        places.append((x, row))
        x += width
    return places


def _legend_rows(lines: Sequence[Line], axes: Axes) -> int:
    return _legend_places(lines, axes)[-1][1] + 1


def _legend(lines: Sequence[Line], axes: Axes) -> Iterable[str]:
    for (name, attributes), (x, row) in zip(_entries(lines, axes), _legend_places(lines, axes), strict=True):
        y = 9 + _LEGEND_ROW * row
        yield f'<path {attributes} d="{_path([(x + 2, y), (x + 24, y)])}"/>'
        yield _text(x + 29, y + 4, name)


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html_text(words)}</text>'


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "M" + " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most // 3]}…{name[-(most - most // 3 - 1) :]}"


def _svg(description: str, height: float, parts: Iterable[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{html_text(description)}">\n'
        + "\n".join(parts)
        + "\n</svg>"
    )
