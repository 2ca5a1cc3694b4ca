"""egt-tf train"""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import click

from egt_tf.config import STRATEGIES, load_config

from .config_lookup import find_config
from .errors import INTERRUPTED, CommandError
from .progress import clear_line, training_progress


@click.command()
@click.option("--config", "name", metavar="NAME|FILE",
              help="A configuration of the package (demo, relationnet_conv4_mini, ...) or a YAML file.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
              help="Change one value, as in training.epochs=3; may be given several times.")
@click.option("--run", "folder", type=click.Path(path_type=Path),
              help="The run folder; runs/<name of the configuration> by default.")
@click.option("--resume", is_flag=True, help="Go on after the last finished epoch, if the run folder holds a run.")
@click.option("--strategy", type=click.Choice(STRATEGIES), default=None,
              help="The devices: one, all GPUs of this machine, or the machines that TF_CONFIG names. By default as "
              "training.strategy says.")
def train(name: str | None, overrides: tuple[str, ...], folder: Path | None, resume: bool,
          strategy: str | None) -> None:
    """Train a few-shot classifier, with explanation guidance unless guidance.mode is none."""
    run_folder = _run_folder(name, folder)
    from egt_tf.runs import RunFolder

    run = RunFolder(run_folder)
    resume = resume and run.config_file.exists()
    config = _on_devices(_resolve(name, overrides, run, resume), strategy)
    from egt_tf.training.loop import train as run_training

    training = config.training
    steps = training.episodes_per_epoch // training.episodes_per_step
    callback = training_progress(training.epochs, steps, training.episodes_per_step, click.echo)
    try:
        progress = run_training(config, run, resume, [callback], _echo)
    except KeyboardInterrupt:
        raise CommandError(_how_to_go_on(run), INTERRUPTED) from None
    finally:
        clear_line()
    click.echo(f"run folder: {run.path}  best validation accuracy: {100 * progress.best_accuracy:.2f} %")


def _echo(line):
    """Between two updates of the progress line."""
    clear_line()
    click.echo(line)


def _run_folder(name, folder):
    if folder is not None:
        return folder
    if name is None:
        raise click.UsageError("give --config NAME to start a training, or --run DIR --resume to go on with one")
    return Path("runs") / Path(name).stem


def _resolve(name, overrides, run, resume):
    """The run's own configuration when it is resumed, else the named one with its overrides."""
    if resume:
        if overrides:
            raise click.UsageError("--resume keeps the configuration of the run; leave --set out")
        config = run.config()
        if name is not None and load_config(find_config(name)) != config:
            raise click.UsageError(f"{run.path} holds a run with another configuration than {name}; leave --config out to "
                                   "go on with it, or name another folder")
        return config
    if name is None:
        raise click.UsageError(f"{run.path} holds no run yet, and a new training needs --config NAME|FILE")
    return load_config(find_config(name), overrides)


def _on_devices(config, strategy):
    """A resumed run may go on with another strategy: the numbers stay the same, up to rounding."""
    if strategy is None:
        return config
    return dataclasses.replace(config, training=dataclasses.replace(config.training, strategy=strategy))


def _how_to_go_on(run):
    if not run.config_file.exists():
        return "interrupted before the training began; nothing was written"
    again = shlex.join(["egt-tf", "train", "--run", str(run.path), "--resume"])
    return f"interrupted; finished epochs are kept. Go on with: {again}"
