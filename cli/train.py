"""egt-tf train"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from egt_tf.config import STRATEGIES

from .errors import INTERRUPTED, CommandError
from .progress import clear_line, echo_over, training_progress
from .run_options import config_option, resolve, resume_hint, resume_option, run_path, set_option


@click.command(short_help="Train a few-shot classifier, guided or plain.")
@config_option
@set_option
@click.option(
    "--warm-start",
    metavar="RUN|FILE",
    help="Start from the backbone of a run, of a pre-training or of a weight file; short for "
    "--set training.warm_start=...",
)
@click.option(
    "--run",
    "folder",
    type=click.Path(path_type=Path),
    help="The run folder; runs/<name of the configuration> by default.",
)
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
    folder: Path | None,
    resume: bool,
    strategy: str | None,
) -> None:
    """Train a few-shot classifier, with explanation guidance unless guidance.mode is none."""
    path = run_path(name, folder)
    from egt_tf.runs import RunFolder

    run = RunFolder(path)
    resume = resume and run.config_file.exists()
    if warm_start is not None:
        # JSON is YAML, whatever characters the path has.
        overrides = (*overrides, f"training.warm_start={json.dumps(warm_start)}")
    config = _on_devices(resolve(name, overrides, run, resume), strategy)
    from egt_tf.training.loop import train as run_training

    training = config.training
    steps = training.episodes_per_epoch // training.episodes_per_step
    callback = training_progress(training.epochs, steps, training.episodes_per_step, click.echo)
    try:
        progress = run_training(config, run, resume, [callback], echo_over)
    except KeyboardInterrupt:
        raise CommandError(resume_hint(run, "train"), INTERRUPTED) from None
    finally:
        clear_line()
    click.echo(f"run folder: {run.path}  best validation accuracy: {100 * progress.best_accuracy:.2f} %")


def _on_devices(config, strategy):
    """A resumed run may go on with another strategy: the numbers stay the same, up to rounding."""
    if strategy is None:
        return config
    return dataclasses.replace(config, training=dataclasses.replace(config.training, strategy=strategy))
