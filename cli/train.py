"""egt-tf train"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from egt_tf.config import STRATEGIES
from egt_tf.runs import RunFolder

from .commands import Command
from .progress import training_progress
from .run_options import config_option, resolve, resume_option, run_option, run_path, run_to_the_end, set_option


@click.command(
    cls=Command,
    short_help="Train a few-shot classifier, guided or plain.",
    examples=(
        "egt-tf train --config demo --run runs/first",
        "egt-tf train --run runs/first --resume",
        "egt-tf train --config demo --set training.epochs=3 --set guidance.mode=none",
    ),
)
@config_option
@set_option
@click.option(
    "--warm-start",
    metavar="RUN|FILE",
    help="Start from the backbone of a run, of a pre-training or of a weight file; short for "
    "--set training.warm_start=...",
)
@run_option()
@resume_option
@click.option(
    "--strategy",
    type=click.Choice(STRATEGIES),
    default=None,
    help="The devices: one, all GPUs of this machine, or the machines that TF_CONFIG names. By default as "
    "training.strategy says.",
)
def train(
    name: str | None,
    overrides: tuple[str, ...],
    warm_start: str | None,
    run: Path | None,
    resume: bool,
    strategy: str | None,
) -> None:
    """Train a few-shot classifier, with explanation guidance unless guidance.mode is none."""
    run_folder = RunFolder(run_path(name, run))
    resume = resume and run_folder.config_file.exists()
    if warm_start is not None:
        # JSON is YAML, whatever characters the path has.
        overrides = (*overrides, f"training.warm_start={json.dumps(warm_start)}")
    config = resolve(name, overrides, run_folder, resume)
    training = config.training
    if strategy is not None:
        # A resumed run may go on with another one: the numbers stay the same, up to rounding.
        training = dataclasses.replace(training, strategy=strategy)
        config = dataclasses.replace(config, training=training)
    from egt_tf.training.loop import train as run_training

    chance = 1 / config.episode.ways
    callback = training_progress(training.epochs, training.episodes_per_step, "episodes", click.echo, chance)
    run_to_the_end(run_training, config, run_folder, resume, callback, "train", chance)
