"""egt-tf study"""

from __future__ import annotations

import os
from pathlib import Path

import click

from .errors import INTERRUPTED, USER_ERROR, CommandError
from .progress import duration
from .run_options import find_config


@click.command(short_help="Run a grid of trainings and compare them, with seeds and controls.")
@click.argument("plan", metavar="NAME|FILE")
@click.option("--out", type=click.Path(path_type=Path), help="Results and report; studies/<name of the plan> by default.")
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
    from egt_tf.study.runner import StudyProgress, copy_plan, finished_cells, run_study
    from egt_tf.study.summary import write_summary

    file = find_config(plan)
    loaded = load_study(file)
    out = out or Path("studies") / loaded.name
    folders = StudyFolders(out, work or out / "work")
    done = {result.name for result in finished_cells(loaded, folders)}
    click.echo(f"{len(loaded.cells)} trainings, of which {len(done)} are finished")

    def show(progress: StudyProgress) -> None:
        end = f"failed: {progress.reason}" if progress.reason else f"done in {duration(progress.seconds)}"
        left = f"  {duration(progress.seconds_left)} left" if progress.done < progress.total else ""
        click.echo(f"{progress.done}/{progress.total}  {progress.name.path}  {end}{left}")

    failed = {}
    if not report_only:
        try:
            failed = run_study(loaded, copy_plan(file, folders), root, folders, jobs, show)
        except KeyboardInterrupt:
            write_summary(loaded, folders, {})
            raise CommandError("interrupted; call it again to go on with what is left", INTERRUPTED) from None
    for line in write_summary(loaded, folders, failed):
        click.echo(line)
    click.echo(f"report: {out / 'report.md'}, {out / 'report.html'}")
    if failed:
        raise CommandError(
            f"{len(failed)} of {len(loaded.cells)} trainings failed; the report names them and {folders.work / 'logs'} "
            "has what they printed",
            USER_ERROR,
        )
