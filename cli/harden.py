"""egt-tf harden"""

from __future__ import annotations

import json
from pathlib import Path

import click

from egt_tf.config import RunConfig, continued, load_config
from egt_tf.runs import RunFolder

from .commands import Command
from .completion import RunPath
from .paths import check_inputs, check_training
from .progress import training_progress
from .run_options import resume_option, run_to_the_end, set_option

SUFFIX = "_student"


@click.command(
    cls=Command,
    short_help="Train a stochastic student of a run.",
    examples=(
        "egt-tf harden runs/first --degree 0.3",
        "egt-tf harden runs/first --out runs/student --resume",
    ),
)
@click.argument("run", metavar="RUN", type=RunPath())
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="RUN2",
    help=f"The run folder of the student; RUN{SUFFIX} by default.",
)
@click.option(
    "--degree",
    type=float,
    help="Of the noise behind each block of the backbone, in [0, 1] of its channels' deviations; 0.2 by default.",
)
@click.option(
    "--weight", type=float, help="Of the divergence from the probabilities of RUN; 1.0 by default, 0 leaves it out."
)
@set_option
@resume_option
def harden(
    run: Path, out: Path | None, degree: float | None, weight: float | None, overrides: tuple[str, ...], resume: bool
) -> None:
    """Put noise into the network of RUN and train it on, starting from all its weights and keeping to its predictions.

    The student is a run like any other. It is trained as RUN was, for half of its epochs unless --set
    training.epochs=N says otherwise.
    """
    check_inputs(run)
    # Of "." too.
    folder = run if run.name else run.resolve()
    student = RunFolder(out or folder.with_name(f"{run.resolve().name}{SUFFIX}"))
    resume = resume and student.config_file.exists()
    config = _config(RunFolder(run), student, {"degree": degree, "weight": weight}, overrides, resume)
    if not resume:
        student.check_new()
        check_training(config)
    from egt_tf.training.loop import train as run_training

    chance, training = 1 / config.episode.ways, config.training
    callback = training_progress(training.epochs, training.episodes_per_step, "episodes", click.echo, chance)
    # The configuration of the student says the rest: it is gone on with like any other run.
    run_to_the_end(run_training, config, student, resume, callback, "train", chance)


def _config(
    run: RunFolder, student: RunFolder, given: dict[str, float | None], overrides: tuple[str, ...], resume: bool
) -> RunConfig:
    """That of a new student, or the stored one of a student that is gone on with by the same line or with more epochs."""
    from egt_tf.training.student import student_config

    said = {name: value for name, value in given.items() if value is not None}
    if not resume:
        return student_config(run, **said, overrides=overrides)
    stored = student.config()
    keys = {"degree": "model.backbone.noise", "weight": "student.weight"}
    # JSON is YAML, whatever characters a path has.
    again = {**{keys[name]: value for name, value in said.items()}, "student.teacher": str(run.path)}
    wanted = load_config(
        student.config_file, [*(f"{key}={json.dumps(value)}" for key, value in again.items()), *overrides]
    )
    return continued(stored, wanted)
