"""egt-tf runs"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from egt_tf.run_table import SORTS, EvaluationRow, RunRow, list_runs
from egt_tf.wording import accuracy_text, calibration_text

from .commands import Command
from .lines import table

HEADER = ("run", "head", "backbone", "data", "guidance", "epochs", "best validation", "written")


@click.command(
    cls=Command,
    short_help="List the runs in a folder with their evaluations.",
    examples=(
        "egt-tf runs",
        "egt-tf runs --sort accuracy",
    ),
)
@click.argument("root", type=click.Path(path_type=Path), default="runs", metavar="[DIR]")
@click.option(
    "--sort",
    type=click.Choice(SORTS),
    default="name",
    show_default=True,
    help="All but the name: the best, the longest or the newest first.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything that is known as JSON.")
def runs(root: Path, sort: str, as_json: bool) -> None:
    """List the runs in DIR (runs by default) and in its sub-folders, with their evaluations.

    A damaged run is listed with what is wrong.
    """
    rows = list_runs(root, sort)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
    elif not rows:
        click.echo(f"no runs in {root}; train one: egt-tf train --config demo --run {root}/demo")
    else:
        head, *lines = table(HEADER, [_cells(row) for row in rows]).splitlines()
        click.echo(head)
        for row, line in zip(rows, lines, strict=True):
            click.echo(
                "\n".join(
                    [
                        line,
                        *map(_evaluation_line, row.evaluations),
                        *(f"    damaged: {' '.join(problem.splitlines())}" for problem in row.problems),
                    ]
                )
            )


def _cells(row: RunRow) -> list[str]:
    data = None if row.data is None else ", ".join(map(_short, row.data))
    epochs = f"{_known(row.epochs_done)}/{_known(row.epochs_planned)}"
    best = None if row.accuracy is None else accuracy_text(row.accuracy, row.interval, chance=row.chance)
    written = None if row.written is None else row.written[:16].replace("T", " ")
    return [row.name, *map(_known, (row.head, row.backbone, data, row.guidance)), epochs, _known(best), _known(written)]


def _known(value: str | int | None) -> str:
    return "-" if value is None else str(value)


def _evaluation_line(row: EvaluationRow) -> str:
    sources = ", ".join(map(_short, row.source.split(", ")))
    how = "" if row.inference == "inductive" else f", {row.inference}"
    calibration = ""
    if row.calibration_error is not None and row.negative_log_likelihood is not None:
        calibration = f", {calibration_text(row.calibration_error, row.negative_log_likelihood)}"
    return (
        f"    {sources} ({row.split}), {row.ways}-way {row.shots}-shot{how}, {row.episodes} episodes: "
        f"{accuracy_text(row.accuracy, row.interval, chance=1 / row.ways)}{calibration}"
    )


def _short(source: str) -> str:
    """A long path would push the other columns off the screen; its last folder tells it from the others."""
    scheme, _, rest = source.partition(":")
    path = Path(rest)
    return source if len(path.parts) < 3 else f"{scheme}:.../{path.name}"
