"""egt-tf study"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .commands import Command
from .errors import INTERRUPTED, USER_ERROR, CommandError
from .progress import clear_line, duration, echo_over, write_over
from .run_options import complete_study, find_config

if TYPE_CHECKING:
    from egt_tf.study.folders import StudyFolders
    from egt_tf.study.pool import StudyProgress
    from egt_tf.study.results import CellName


@click.command(
    cls=Command,
    short_help="Run and compare a grid of trainings.",
    examples=(
        "egt-tf study studies/guidance_core --root data --out study --jobs 2",
        "egt-tf study my_plan.yaml --out study",
    ),
)
@click.argument("plan", metavar="NAME|FILE", shell_complete=complete_study)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Results and report; studies/<name of the plan> by default."
)
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    help="Runs and cached maps, which are large; the folder work in that of the results by default.",
)
@click.option("--root", metavar="DIR", help="The folder of the data, for a plan whose sources begin with {root}.")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=max(1, os.cpu_count() or 1),
    show_default="one a processor core",
    help="Trainings side by side.",
)
@click.option("--report-only", is_flag=True, help="Train nothing; write the report of what has been measured.")
def study(plan: str, out: Path | None, work: Path | None, root: str | None, jobs: int, report_only: bool) -> None:
    """Run the grid of trainings that a plan describes, and write a report.

    Finished trainings are not repeated and interrupted ones go on: call it again. See docs/studies.md for plans.
    """
    from egt_tf.study.folders import StudyFolders
    from egt_tf.study.plan import load_study
    from egt_tf.study.pool import Watch
    from egt_tf.study.runner import finished_cells, run_study
    from egt_tf.study.summary import write_summary

    file = find_config(plan, study=True)
    loaded = load_study(file)
    out = out or Path("studies") / loaded.name
    folders = StudyFolders(out, work or out / "work")
    click.echo(f"{len(loaded.cells)} trainings, of which {len(finished_cells(loaded, folders))} are finished")
    failed: dict[CellName, str] = {}

    def ended(progress: StudyProgress) -> None:
        if progress.reason is not None:
            failed[progress.name] = progress.reason
        echo_over(_ended_line(progress))

    def running(names: Sequence[CellName]) -> None:
        write_over(_running_line(names, folders))

    def report() -> None:
        command = ["egt-tf", "study", plan, *([] if root is None else ["--root", "DIR"]), "--out", str(out)]
        for line in write_summary(loaded, folders, failed, shlex.join(command)):
            click.echo(line)
        click.echo(f"report: {out / 'report.md'}, {out / 'report.html'}")

    if not report_only:
        try:
            run_study(loaded, file, root, folders, jobs, Watch(ended, running))
        except KeyboardInterrupt:
            clear_line()
            report()
            raise CommandError("interrupted; call it again to go on with what is left", INTERRUPTED) from None
        finally:
            clear_line()
    report()
    if failed:
        raise CommandError(
            f"{len(failed)} of {len(loaded.cells)} trainings failed; the report names them and {folders.work / 'logs'} "
            "has what they printed",
            USER_ERROR,
        )


def _ended_line(progress: StudyProgress) -> str:
    end = f"done in {duration(progress.seconds)}" if progress.reason is None else f"failed: {progress.reason}"
    seconds_left = None if progress.ended == progress.total else progress.seconds_left
    left = "" if seconds_left is None else f"  {duration(seconds_left)} left"
    return f"{progress.ended}/{progress.total}  {progress.name.path}  {end}{left}"


def _running_line(names: Sequence[CellName], folders: StudyFolders) -> str:
    """The cells that run and the last line that each printed."""
    from egt_tf.study.pool import last_line

    lines = ((name, last_line(folders.log_file(name))) for name in names)
    return "  |  ".join(f"{name.head}/{name.arm}/seed{name.seed} {line}".strip() for name, line in lines)
