"""egt-tf doctor"""

from __future__ import annotations

import dataclasses
import json

import click

from .commands import Command
from .lines import table

SOMETHING_IS_WRONG = 1


@click.command(
    cls=Command,
    short_help="Say whether this machine is fit for a training.",
    examples=(
        "egt-tf doctor",
        "egt-tf doctor --json > machine.json",
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Say whether this machine is fit for a training, and what to do if not.

    Looks at versions, devices, number formats, memory, disk and TF_CONFIG, then takes a few guided training steps on
    every device. Nothing is downloaded or written. The exit code is 1 if something must be put right, else 0.
    """
    from egt_tf.doctor.examination import examine
    from egt_tf.doctor.findings import State

    findings = examine()
    wrong = sum(finding.state is State.WRONG for finding in findings)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        rows = [
            (
                finding.state.value,
                finding.topic,
                finding.subject,
                finding.found + (f"  -> {finding.advice}" if finding.advice else ""),
            )
            for finding in findings
        ]
        click.echo(table(("state", "topic", "what", "found"), rows))
        click.echo(f"{wrong} to put right: see the lines that begin with wrong" if wrong else "all is well")
    if wrong:
        ctx.exit(SOMETHING_IS_WRONG)
