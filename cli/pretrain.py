"""egt-tf pretrain"""

from __future__ import annotations

from pathlib import Path

import click

from egt_tf.runs import RunFolder

from .commands import Command
from .progress import training_progress
from .run_options import config_option, resolve, resume_option, run_option, run_path, run_to_the_end, set_option

SUFFIX = "_pretrained"


@click.command(
    cls=Command,
    short_help="Train a backbone for a training to start from.",
    examples=(
        "egt-tf pretrain --config demo --run runs/backbone",
        "egt-tf pretrain --config demo --run runs/backbone --resume",
    ),
)
@config_option
@set_option
@run_option(SUFFIX)
@resume_option
def pretrain(name: str | None, overrides: tuple[str, ...], run: Path | None, resume: bool) -> None:
    """Train a backbone to classify the base classes, for a training to start from (train --warm-start)."""
    run_folder = RunFolder(run_path(name, run, SUFFIX))
    resume = resume and run_folder.config_file.exists()
    config = resolve(name, overrides, run_folder, resume, epochs="pretrain.epochs")
    from egt_tf.training.pretraining import pretrain as run_pretraining

    callback = training_progress(config.pretrain.epochs, config.pretrain.batch_size, "images", click.echo)
    run_to_the_end(run_pretraining, config, run_folder, resume, callback, "pretrain")
    click.echo(f"train from it with: egt-tf train --config NAME --warm-start {run_folder.path}")
