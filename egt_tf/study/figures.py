"""Pictures of a study: paired differences, learning curves and costs, as PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from egt_tf.figures.agg import (
    Figure,
    FigureCanvasAgg,
    Line2D,
    MaxNLocator,
    StrMethodFormatter,
    drawable,
    rc_context,
)
from egt_tf.study.curves import mean_curve
from egt_tf.study.results import CellResult
from egt_tf.study.verdicts import TargetDifference, Verdict

_DPI, _WIDTH, _COLUMNS = 160, 10.0, 3
_INK, _MUTED, _LINE, _TINT = "#1a1c20", "#5c626b", "#d3d6da", "#eef0f2"
# Okabe and Ito's colours, told apart by the colour-blind, without the yellow, which white swallows; and two more.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#4d4d4d", "#8c6bb1")
_MARKERS, _DASHES = ("o", "s", "D", "^", "v"), ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_LONGEST_NAME = 26
_FONTS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.labelsize": 10,
    "legend.fontsize": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _MUTED,
    "xtick.color": _INK,
    "ytick.color": _INK,
    # A dollar sign in a name is a dollar sign, never mathematics.
    "text.parse_math": False,
    "text.usetex": False,
    "axes.unicode_minus": True,
}


def differences_figure(
    differences: Sequence[TargetDifference],
    targets: Sequence[str],
    comparisons: Sequence[tuple[str, str]],
    chosen_on: Collection[str] = (),
) -> bytes:
    """Paired differences as a forest plot: a panel a head, a row a target, a colour a comparison.

    A point is the mean over seeds with its 95 % t interval over them, hollow where one seed gives no interval. The
    differences of the single seeds lie a little lower, faint.

    Args:
        differences: of groups that differ in their head only, at least one.
        targets: from the top; those that have no difference are shown too.
        comparisons: pairs of arms, from the top of each row.
        chosen_on: targets on a grey ground, which do not count.

    Returns:
        The content of a PNG file.

    Example:
        >>> from egt_tf.study.statistics import Difference
        >>> from egt_tf.study.verdicts import Group
        >>> difference = Difference(0.03, 0.01, 0.01, {1: 0.025, 2: 0.035})
        >>> found = TargetDifference(Group("default", "cosine", 5), "guided", "plain", "cub", difference)
        >>> differences_figure([found], ["cub"], [("guided", "plain")])[:4]
        b'\\x89PNG'
    """
    heads = list(dict.fromkeys(found.group.head for found in differences))
    height = 0.75 + len(targets) * (0.2 + 0.2 * len(comparisons))
    with _panels(heads, height, sharex=True, sharey=True) as (figure, panels):
        for axes, head in zip(panels, heads, strict=True):
            _target_rows(axes, targets, chosen_on)
            axes.axvline(0, color=_INK, linewidth=1, zorder=1)
            for found in differences:
                if found.group.head == head:
                    place = comparisons.index((found.first, found.second))
                    offset = (place + 0.5) / len(comparisons) - 0.5
                    _draw_difference(axes, found, targets.index(found.target) + 0.76 * offset, place)
        figure.supxlabel("difference of the accuracies in percentage points", fontsize=10)
        names = [f"{_short(first)} - {_short(second)}" for first, second in comparisons]
        _legend(figure, [_marker(place) for place in range(len(names))], names)
        return _png(figure)


def curves_figure(cells: Sequence[CellResult], arms: Sequence[str]) -> bytes:
    """Accuracy on one target against training episodes: a panel a head, a line an arm.

    A line is the mean over the seeds at the episodes that all of them have, a band reaches from the lowest to the
    highest.

    Args:
        cells: of groups that differ in their head only, at least one.
        arms: in the order of the legend.

    Returns:
        The content of a PNG file.

    Example:
        >>> from egt_tf.study.results import CellName
        >>> cell = CellResult(CellName("default", "cosine", 5, "plain", 1), 20, ((10, 0.4), (20, 0.5)), 0.1, {})
        >>> curves_figure([cell], ["plain"])[:4]
        b'\\x89PNG'
    """
    heads = list(dict.fromkeys(cell.name.head for cell in cells))
    with _panels(heads, 2.6) as (figure, panels):
        for axes, head in zip(panels, heads, strict=True):
            for place, arm in enumerate(arms):
                curve = mean_curve([c.curve for c in cells if (c.name.head, c.name.arm) == (head, arm)])
                axes.fill_between(
                    curve.episodes,
                    100 * curve.lowest,
                    100 * curve.highest,
                    color=_color(place),
                    alpha=0.15,
                    linewidth=0,
                )
                marker = "o" if len(curve.episodes) == 1 else None
                axes.plot(curve.episodes, 100 * curve.mean, marker=marker, **_line(place))
            axes.grid(color=_LINE, linewidth=0.6)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        figure.supxlabel("training episodes", fontsize=10)
        figure.supylabel("accuracy in %", fontsize=10)
        _legend(figure, [Line2D([], [], **_line(place)) for place in range(len(arms))], list(map(_short, arms)))
        return _png(figure)


def costs_figure(costs: Mapping[str, Mapping[str, float]], arms: Sequence[str], baseline: str) -> bytes:
    """Seconds a training step, relative to one arm, as bars: a group a head, a bar an arm.

    Args:
        costs: head -> arm -> cost, at least one; see `egt_tf.study.costs.relative_costs`.
        arms: from the top of each group.
        baseline: the arm that costs 1, which has a line and no bar.

    Returns:
        The content of a PNG file.

    Example:
        >>> costs_figure({"cosine": {"plain": 1.0, "guided": 2.5}}, ["plain", "guided"], "plain")[:4]
        b'\\x89PNG'
    """
    places = [place for place, arm in enumerate(arms) if arm != baseline]
    with rc_context(_FONTS):
        figure = _figure(0.9 + len(costs) * (0.15 + 0.21 * max(1, len(places))))
        axes = figure.subplots()
        _target_rows(axes, list(costs), ())
        for row, by_arm in enumerate(costs.values()):
            for order, place in enumerate(places):
                if arms[place] in by_arm:
                    y = row + 0.8 * ((order + 0.5) / len(places) - 0.5)
                    _draw_cost(axes, by_arm[arms[place]], y, 0.8 / len(places), _color(place))
        axes.axvline(1, color=_INK, linewidth=1, zorder=3)
        axes.set_xlim(0, 1.1 * max(1.0, *(cost for by_arm in costs.values() for cost in by_arm.values())))
        axes.set_xlabel(f"seconds a step, relative to {_short(baseline)}")
        bars = [Line2D([], [], color=_color(place), linewidth=7) for place in places]
        _legend(figure, bars, [_short(arms[place]) for place in places])
        return _png(figure)


# === Parts ===


@contextmanager
def _panels(titles: Sequence[str], height: float, **shared: Any) -> Iterator[tuple[Figure, list]]:
    """A figure with a titled panel for each head, as many beside each other as there is room for."""
    columns = min(_COLUMNS, len(titles))
    rows = math.ceil(len(titles) / columns)
    with rc_context(_FONTS):
        figure = _figure(0.8 + rows * height)
        grid = figure.subplots(rows, columns, squeeze=False, **shared).ravel().tolist()
        for axes in grid[len(titles) :]:
            axes.set_axis_off()
        # The panel that would have had the numbers below a column is empty.
        for axes in grid[len(titles) - columns : len(titles)]:
            axes.tick_params(labelbottom=True)
        for axes, title in zip(grid, titles, strict=False):
            axes.set_title(_short(title), loc="left")
            axes.spines[["top", "right"]].set_visible(False)
        yield figure, grid[: len(titles)]


def _figure(height: float) -> Figure:
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _target_rows(axes: Any, names: Sequence[str], grey: Collection[str]) -> None:
    """One row a name, the first at the top, with a line between two."""
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    for row, name in enumerate(names):
        if name in grey:
            axes.axhspan(row - 0.5, row + 0.5, color=_TINT, linewidth=0, zorder=0)
        if row:
            axes.axhline(row - 0.5, color=_LINE, linewidth=0.8, zorder=0)


def _draw_difference(axes: Any, found: TargetDifference, y: float, place: int) -> None:
    difference, color = found.difference, _color(place)
    hollow = found.verdict is Verdict.ONE_SEED
    seeds = [] if hollow else [100 * value for value in difference.by_seed.values()]
    # A little lower, since the interval would hide them.
    axes.plot(
        seeds, [y + 0.06] * len(seeds), linestyle="none", marker="o", markersize=4.5, color=color, alpha=0.35, mew=0
    )
    axes.errorbar(
        100 * difference.mean,
        y,
        xerr=None if difference.seed_interval is None else 100 * difference.seed_interval,
        color=color,
        elinewidth=1.8,
        capsize=3,
        marker=_MARKERS[place % len(_MARKERS)],
        markersize=6,
        markerfacecolor="white" if hollow else color,
        zorder=3,
    )


def _draw_cost(axes: Any, cost: float, y: float, height: float, color: str) -> None:
    axes.barh(y, cost, height=0.85 * height, color=color, zorder=2)
    axes.annotate(f"{cost:.2f}", (cost, y), (4, 0), textcoords="offset points", va="center", fontsize=9)


def _marker(place: int) -> Line2D:
    return Line2D([], [], color=_color(place), linewidth=1.8, marker=_MARKERS[place % len(_MARKERS)], markersize=6)


def _line(place: int) -> dict[str, Any]:
    return {"color": _color(place), "linestyle": _DASHES[place % len(_DASHES)], "linewidth": 1.8}


def _color(place: int) -> str:
    return _COLORS[place % len(_COLORS)]


def _legend(figure: Figure, handles: Sequence[Line2D], names: Sequence[str]) -> None:
    """A legend above the panels, of as many columns as fit."""
    columns = max(1, min(len(names), int(110 / (8 + max(map(len, names), default=0)))))
    # Names that begin with an underscore would be left out; they are set afterwards.
    legend = figure.legend(
        handles, ["-"] * len(names), loc="outside upper left", ncols=columns, frameon=False, handlelength=2.6
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)


def _short(name: str) -> str:
    """A name on one line, without the middle if it is too long."""
    # Bold type, in which titles are, has no character more than the other.
    line = drawable(" ".join(name.split()), bold=True)
    if len(line) <= _LONGEST_NAME:
        return line
    return f"{line[: _LONGEST_NAME * 2 // 3]}…{line[-_LONGEST_NAME // 4 :]}"


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    # The version of the drawing library would make equal pictures differ byte by byte.
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
