"""What commands that train share: their options, which run and configuration they mean, and how they end."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from egt_tf.config import RunConfig, continued, load_config
from egt_tf.errors import ConfigError, did_you_mean
from egt_tf.runs import RunFolder
from egt_tf.wording import accuracy_text

from .completion import RunPath, begun_by
from .errors import INTERRUPTED, CommandError
from .paths import check_training
from .progress import clear_line, echo_over

if TYPE_CHECKING:
    from egt_tf.keras_api import keras
    from egt_tf.training.state import TrainingState

_STUDIES = "studies/"


def complete_config(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Packaged configurations of that beginning for the shell, and its own files."""
    return begun_by(incomplete, packaged_configs())


def complete_study(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The same of the plans of studies."""
    return begun_by(incomplete, packaged_studies())


config_option = click.option(
    "--config",
    "name",
    metavar="NAME|FILE",
    shell_complete=complete_config,
    help="A configuration of the package (demo, relationnet_conv4_mini, ...) or a YAML file.",
)
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one value, as in training.epochs=3; may be given several times.",
)
resume_option = click.option(
    "--resume",
    is_flag=True,
    help="Go on after the newest state that was kept, if the run folder holds a run. The same line may be given again, "
    "or with more epochs.",
)


def run_option(suffix: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option that names the run folder; see `run_path` for `suffix`."""
    return click.option(
        "--run",
        type=RunPath(),
        metavar="RUN",
        help=f"The run folder; runs/<name of the configuration>{suffix} by default.",
    )


def run_path(name: str | None, run: Path | None, suffix: str = "") -> Path:
    """The folder given, else runs/<name of the configuration><suffix>."""
    if run is not None:
        return run
    if name is None:
        raise click.UsageError("give --config NAME to start a training, or --run DIR --resume to go on with one")
    return Path("runs") / f"{Path(name).stem}{suffix}"


def resolve(
    name: str | None, overrides: tuple[str, ...], run: RunFolder, resume: bool, epochs: str = "training.epochs"
) -> RunConfig:
    """The named configuration with its overrides; for a run that is resumed, the run's own.

    The same command may be given again: what it says of a run that is resumed must be what the run began with, or more
    epochs.

    Args:
        name: of the configuration, or None.
        overrides: of single values.
        run: its folder.
        resume: whether the folder holds a run to go on with.
        epochs: the key of the epochs.
    """
    if resume:
        wanted = load_config(run.config_file if name is None else find_config(name), overrides)
        return continued(run.config(), wanted, epochs)
    if name is None:
        raise click.UsageError(f"{run.path} holds no run yet, and a new training needs --config NAME|FILE")
    config = load_config(find_config(name), overrides)
    check_training(config)
    return config


def find_config(name_or_path: str, study: bool = False) -> Path:
    """The file of a configuration: an existing file wins, then a packaged name ("demo", "demo.yaml").

    Args:
        name_or_path: the name or the file.
        study: whether it is the plan of a study.

    Raises:
        ConfigError: neither a file nor a known name; the known names are listed.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    packaged = packaged_studies() if study else packaged_configs()
    name = name_or_path.removesuffix(".yaml")
    # Only a look-up among listed names, never a joined path: no name can lead out of the package.
    if name in packaged:
        return packaged[name]
    hint = did_you_mean(name, packaged)
    raise ConfigError(
        f"{'the plan of a study' if study else 'a configuration'} must be a YAML file or one of {', '.join(packaged)}. Received: {name_or_path!r}{hint}"
    )


def packaged_configs() -> dict[str, Path]:
    """Name without ".yaml" -> file of each configuration of a run, sorted; names in sub-folders are written with "/"."""
    return {name: file for name, file in _packaged().items() if not name.startswith(_STUDIES)}


def packaged_studies() -> dict[str, Path]:
    """The same of the plans of studies; their names begin with "studies/"."""
    return {name: file for name, file in _packaged().items() if name.startswith(_STUDIES)}


def _packaged() -> dict[str, Path]:
    folder = Path(str(resources.files("egt_tf_configs")))
    files = sorted(folder.rglob("*.yaml"))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def run_to_the_end(
    training: Callable[..., TrainingState],
    config: RunConfig,
    run: RunFolder,
    resume: bool,
    callback: keras.callbacks.Callback,
    command: str,
    chance: float | None = None,
) -> None:
    """Trains, and prints where the result is.

    Args:
        training: the library's function.
        config, run, resume: its arguments.
        callback: shows progress.
        command: name of the command, for the hint that Ctrl-C prints.
        chance: the accuracy of guessing, in [0, 1]; None where it is not known.
    """
    try:
        state = training(config, run, resume, [callback], echo_over)
    except KeyboardInterrupt:
        raise CommandError(resume_hint(run, command), INTERRUPTED) from None
    finally:
        clear_line()
    click.echo(f"run folder: {run.path}  best validation accuracy: {accuracy_text(state.best_accuracy, chance=chance)}")


def resume_hint(run: RunFolder, command: str) -> str:
    """What an interrupted user is told."""
    if not run.config_file.exists():
        return "interrupted before the training began; nothing was written"
    again = shlex.join(["egt-tf", command, "--run", str(run.path), "--resume"])
    return f"interrupted; the newest state is kept. Go on with: {again}"
