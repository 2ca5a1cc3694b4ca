"""What was measured of explanations, as a table, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np

from egt_tf.evaluation.explanation_measures import MEASURES
from egt_tf.evaluation.explanations import ExplanationQuality
from egt_tf.evaluation.randomization import Randomization

_COLUMNS = ("method", "measure", "better", "mean", "interval", "queries")


def table_rows(found: ExplanationQuality) -> list[tuple[str, ...]]:
    """A row for each method: its name and `mean +- half of the 95 % interval` of each measure.

    Example:
        >>> table_rows(ExplanationQuality(("fsc",), ("autvc",), {"autvc": np.array([[1.0, 3.0]])}, None))
        [('fsc', '2.000 +- 1.960')]
    """
    columns = [_cells(found.mean(measure), found.interval(measure)) for measure in found.measures]
    return [(name, *(column[number] for column in columns)) for number, name in enumerate(found.methods)]


def to_csv(found: ExplanationQuality) -> str:
    """A line for each method and measure; empty where nothing could be measured.

    Example:
        >>> quality = ExplanationQuality(("fsc",), ("autvc",), {"autvc": np.array([[1.0, 3.0]])}, None)
        >>> to_csv(quality).splitlines()
        ['method,measure,better,mean,interval,queries', 'fsc,autvc,lower,2.0,1.96,2']
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(_COLUMNS)
    for measure in found.measures:
        mean, interval, counts = found.mean(measure), found.interval(measure), found.counts(measure)
        for number, name in enumerate(found.methods):
            numbers = [_number(each[number]) for each in (mean, interval)]
            words = ["" if value is None else value for value in numbers]
            lines.writerow([name, measure, MEASURES[measure].better, *words, int(counts[number])])
    return text.getvalue()


def randomization_csv(found: Randomization) -> str:
    """A line for each method and layer: the mean correlation over the queries where it is defined.

    Example:
        >>> left = Randomization(("fsc",), ("scores",), np.array([[[0.5, 0.25]]]))
        >>> randomization_csv(left).splitlines()
        ['method,layers,last,correlation', 'fsc,1,scores,0.375']
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("method", "layers", "last", "correlation"))
    for name, of_layers in zip(found.methods, found.correlations, strict=True):
        for number, (layer, values) in enumerate(zip(found.layers, of_layers, strict=True), 1):
            defined = values[np.isfinite(values)]
            lines.writerow([name, number, layer, _number(defined.mean()) if len(defined) else ""])
    return text.getvalue()


def to_json(found: ExplanationQuality, circumstances: dict[str, Any]) -> dict[str, Any]:
    """Everything, query by query; null where a measure is not defined.

    Args:
        found: what was measured.
        circumstances: of what, with what; as JSON types.

    Example:
        >>> quality = ExplanationQuality(("fsc",), ("autvc",), {"autvc": np.array([[1.0, np.nan]])}, None)
        >>> to_json(quality, {"seed": 0})["measures"]["autvc"]["queries"]
        {'fsc': [1.0, None]}
    """
    measures = {
        measure: {
            "better": MEASURES[measure].better,
            "title": MEASURES[measure].title,
            "mean": _by_method(found, found.mean(measure)),
            "interval": _by_method(found, found.interval(measure)),
            "queries": {
                name: [_number(value) for value in values]
                for name, values in zip(found.methods, found.values[measure], strict=True)
            },
        }
        for measure in found.measures
    }
    return {**circumstances, "measures": measures}


def _by_method(found: ExplanationQuality, values: np.ndarray) -> dict[str, float | None]:
    return {name: _number(value) for name, value in zip(found.methods, values, strict=True)}


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def _cells(mean: np.ndarray, interval: np.ndarray) -> list[str]:
    return [
        "-" if not np.isfinite(middle) else f"{middle:.3f}" + (f" +- {half:.3f}" if np.isfinite(half) else "")
        for middle, half in zip(mean, interval, strict=True)
    ]
