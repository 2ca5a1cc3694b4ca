"""egt-tf report"""

from __future__ import annotations

from pathlib import Path

import click

from .commands import Command
from .completion import RunPath
from .paths import check_inputs
from .progress import stage_progress


@click.command(
    cls=Command,
    short_help="Write a page of HTML about a run.",
    examples=(
        "egt-tf report runs/first",
        "egt-tf report runs/first --examples 0 --out first.html",
    ),
)
@click.argument("run", metavar="RUN", type=RunPath())
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="The page; report.html in the run folder by default. An older one is replaced.",
)
@click.option(
    "--examples",
    type=click.IntRange(0),
    default=4,
    show_default=True,
    help="Stored queries to explain, wrong ones first; 0 for none, which is quick.",
)
def report(run: Path, out: Path | None, examples: int) -> None:
    """Write one self-contained page of HTML about RUN: curves, evaluations, explained examples, configuration.

    It can be read in any browser, printed and sent: it needs no other file, no network and no script. What has not been
    measured is said, with the command that does; what is damaged is named, and the rest is shown.
    """
    check_inputs(run)
    from egt_tf.report import write_run_page
    from egt_tf.report.writing import PAGE
    from egt_tf.runs import RunFolder

    path = out or run / PAGE
    with stage_progress("queries") as show:
        facts = write_run_page(RunFolder(run), path, examples, show)
    for problem in facts.problems:
        click.echo(f"damaged, {problem.part.value}: {' '.join(problem.text.splitlines())}")
    click.echo(f"written: {path}")
