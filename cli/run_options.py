"""What commands that train share: where the run is, which configuration it has, and how it goes on."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from egt_tf.config import RunConfig, load_config

from .config_lookup import find_config

if TYPE_CHECKING:
    from egt_tf.runs import RunFolder


def config_option(command):
    """The option that names the configuration."""
    option = click.option(
        "--config",
        "name",
        metavar="NAME|FILE",
        help="A configuration of the package (demo, relationnet_conv4_mini, ...) or a YAML file.",
    )
    return option(command)


def set_option(command):
    """The option that changes values of the configuration."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change one value, as in training.epochs=3; may be given several times.",
    )(command)


def resume_option(command):
    """The option that goes on with a run."""
    return click.option(
        "--resume", is_flag=True, help="Go on after the newest state that was kept, if the run folder holds a run."
    )(command)


def run_path(name: str | None, folder: Path | None, suffix: str = "") -> Path:
    """The folder given, else runs/<name of the configuration><suffix>."""
    if folder is not None:
        return folder
    if name is None:
        raise click.UsageError("give --config NAME to start a training, or --run DIR --resume to go on with one")
    return Path("runs") / f"{Path(name).stem}{suffix}"


def resolve(name: str | None, overrides: tuple[str, ...], run: RunFolder, resume: bool) -> RunConfig:
    """The run's own configuration when it is resumed, else the named one with its overrides."""
    if resume:
        if overrides:
            raise click.UsageError("--resume keeps the configuration of the run; leave --set and --warm-start out")
        config = run.config()
        if name is not None and load_config(find_config(name)) != config:
            raise click.UsageError(
                f"{run.path} holds a run with another configuration than {name}; leave --config out "
                "to go on with it, or name another folder"
            )
        return config
    if name is None:
        raise click.UsageError(f"{run.path} holds no run yet, and a new training needs --config NAME|FILE")
    return load_config(find_config(name), overrides)


def resume_hint(run: RunFolder, command: str) -> str:
    """What an interrupted user is told."""
    if not run.config_file.exists():
        return "interrupted before the training began; nothing was written"
    again = shlex.join(["egt-tf", command, "--run", str(run.path), "--resume"])
    return f"interrupted; the newest state is kept. Go on with: {again}"
