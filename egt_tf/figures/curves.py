"""Curves of several methods in one picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from egt_tf.figures.agg import Figure, FigureCanvasAgg, MaxNLocator, drawable, rc_context

_DPI = 160
_INK, _MUTED, _LINE = "#1a1c20", "#5c626b", "#d3d6da"
# Okabe and Ito's colours, told apart by the colour-blind, without the yellow, which white swallows; and two more.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#4d4d4d", "#8c6bb1")
_DASHES = ("-", "--", ":")


def curves_figure(
    curves: Mapping[str, np.ndarray],
    control: str,
    title: str,
    x_label: str,
    y_label: str,
    x: Sequence[float] | None = None,
) -> bytes:
    """Mean curves, a line a name, with the 95 % interval of each mean as a band.

    Args:
        curves: name -> `(queries, points)`, all of as many points; rows that are not numbers are left out.
        control: the name that is drawn grey and broad; empty for none.
        title, x_label, y_label: words.
        x: where the points are, a number each; None: they are numbered from 0 on.

    Returns:
        The content of a PNG file.

    Example:
        >>> curves_figure({"fsc": np.ones((3, 5)), "random": np.zeros((3, 5))}, "random", "a", "b", "c")[:4]
        b'\\x89PNG'
    """
    with rc_context({"font.family": "DejaVu Sans", "font.size": 10, "text.parse_math": False}):
        figure = Figure(figsize=(9, 5), dpi=_DPI, layout="constrained")
        axes = figure.add_subplot()
        number = 0
        for name, values in curves.items():
            found = values[np.isfinite(values).all(axis=1)]
            if not len(found):
                continue
            mean, points = found.mean(axis=0), np.arange(found.shape[1]) if x is None else np.asarray(x)
            style: dict[str, Any] = {"color": _MUTED, "linewidth": 3.0, "linestyle": "-"}
            if name != control:
                color, dash = _COLORS[number % len(_COLORS)], _DASHES[number // len(_COLORS) % len(_DASHES)]
                style = {"color": color, "linewidth": 1.6, "linestyle": dash}
                number += 1
            axes.plot(points, mean, label=drawable(name), **style)
            if len(found) > 1:
                half = 1.96 * found.std(axis=0, ddof=1) / np.sqrt(len(found))
                axes.fill_between(points, mean - half, mean + half, color=style["color"], alpha=0.06, linewidth=0)
        # Of the whole figure, which makes room for it; that of the axes would run into the legend.
        figure.suptitle(drawable(title), x=0.01, ha="left", fontsize=11, fontweight="bold", color=_INK)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True) if x is None else MaxNLocator(steps=[1, 2, 5, 10]))
        axes.grid(color=_LINE, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside right center", frameon=False)
        content = io.BytesIO()
        FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()
