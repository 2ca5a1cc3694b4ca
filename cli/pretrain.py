"""egt-tf pretrain"""

from __future__ import annotations

from pathlib import Path

import click

from .errors import INTERRUPTED, CommandError
from .progress import clear_line, echo_over, pretraining_line, training_progress
from .run_options import config_option, resolve, resume_hint, resume_option, run_path, set_option


@click.command(short_help="Train a backbone for a training to start from.")
@config_option
@set_option
@click.option(
    "--run",
    "folder",
    type=click.Path(path_type=Path),
    help="The run folder; runs/<name of the configuration>_pretrained by default.",
)
@resume_option
def pretrain(name: str | None, overrides: tuple[str, ...], folder: Path | None, resume: bool) -> None:
    """Train a backbone to classify the base classes, for a training to start from (train --warm-start)."""
    path = run_path(name, folder, "_pretrained")
    from egt_tf.runs import RunFolder
    from egt_tf.training.pretrain import pretrain as run_pretraining

    run = RunFolder(path)
    resume = resume and run.config_file.exists()
    config = resolve(name, overrides, run, resume)
    options = config.pretrain
    callback = training_progress(options.epochs, None, options.batch_size, click.echo, "images", pretraining_line)
    try:
        progress = run_pretraining(config, run, resume, [callback], echo_over)
    except KeyboardInterrupt:
        raise CommandError(resume_hint(run, "pretrain"), INTERRUPTED) from None
    finally:
        clear_line()
    click.echo(f"run folder: {run.path}  best validation accuracy: {100 * progress.best_accuracy:.2f} %")
    click.echo(f"train from it with: egt-tf train --config NAME --warm-start {run.path}")
