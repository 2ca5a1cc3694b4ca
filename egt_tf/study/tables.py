"""Results and differences of a study as tidy tables: CSV and JSON, one row an observation."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from egt_tf.files import write_text
from egt_tf.study.results import CellResult
from egt_tf.study.statistics import episode_interval
from egt_tf.study.verdicts import TargetDifference

RESULT_COLUMNS = (
    "setting",
    "head",
    "shots",
    "arm",
    "seed",
    "target",
    "accuracy",
    "episode_interval",
    "calibration_error",
    "negative_log_likelihood",
    "test_episodes",
    "episodes_id",
    "training_episodes",
    "seconds_per_step",
)
DIFFERENCE_COLUMNS = (
    "setting",
    "head",
    "shots",
    "first",
    "second",
    "target",
    "difference",
    "seed_interval",
    "episode_interval",
    "seeds",
    "verdict",
    "counted",
)


def result_rows(cells: Sequence[CellResult]) -> list[dict[str, Any]]:
    """A row for each cell and target, with the keys `RESULT_COLUMNS`.

    Accuracies, intervals (half of the 95 % interval over the test episodes) and calibration errors are in [0, 1]. A
    number that is not known or not finite is None.

    Example:
        >>> from egt_tf.study.results import CellName, TargetResult
        >>> targets = {"cub": TargetResult((0.5, 0.75), "abc", 0.1, 1.2)}
        >>> (row,) = result_rows([CellResult(CellName("default", "cosine", 5, "plain", 1), 100, (), 0.02, targets)])
        >>> row["target"], row["accuracy"], row["test_episodes"]
        ('cub', 0.625, 2)
    """
    rows = []
    for cell in cells:
        name = cell.name
        for target, result in cell.targets.items():
            values = (
                *(name.setting, name.head, name.shots, name.arm, name.seed, target),
                *(result.accuracy, episode_interval(result.accuracies)),
                *(result.calibration_error, result.negative_log_likelihood),
                *(len(result.accuracies), result.episodes_id, cell.episodes, cell.seconds_per_step),
            )
            rows.append(_row(RESULT_COLUMNS, values))
    return rows


def difference_rows(differences: Sequence[TargetDifference], chosen_on: Collection[str] = ()) -> list[dict[str, Any]]:
    """A row for each comparison and target, with the keys `DIFFERENCE_COLUMNS`.

    `difference`, first - second, and the halves of its two 95 % intervals are in shares of 1; `seeds` is the number of
    training seeds that both arms have, `verdict` one of `egt_tf.study.verdicts.Verdict`; `counted` is false for targets
    on which settings were chosen.

    Example:
        >>> from egt_tf.study.statistics import Difference
        >>> from egt_tf.study.verdicts import Group
        >>> difference = Difference(0.03, 0.01, 0.004, {1: 0.03, 2: 0.03})
        >>> found = TargetDifference(Group("default", "cosine", 5), "guided", "plain", "cub", difference)
        >>> (row,) = difference_rows([found])
        >>> row["difference"], row["seeds"], row["verdict"]
        (0.03, 2, 'above zero')
    """
    rows = []
    for found in differences:
        group, difference = found.group, found.difference
        values = (
            *(group.setting, group.head, group.shots, found.first, found.second, found.target),
            *(difference.mean, difference.seed_interval, difference.episode_interval),
            *(len(difference.by_seed), found.verdict.value, found.target not in chosen_on),
        )
        rows.append(_row(DIFFERENCE_COLUMNS, values))
    return rows


def write_csv(path: str | os.PathLike, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows as CSV with a heading, whole or not at all; None is an empty field.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "table.csv"
        >>> write_csv(path, ("arm", "seed"), [{"arm": "a, b", "seed": None}])
        >>> path.read_text()
        'arm,seed\\n"a, b",\\n'
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _row(columns: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    known = [None if isinstance(value, float) and not math.isfinite(value) else value for value in values]
    return dict(zip(columns, known, strict=True))
