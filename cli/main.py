"""The `egt-tf` command: a group whose sub-commands are imported when they are used."""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import add_completion_class

from egt_tf import __version__
from egt_tf.environment import lane, tensorflow_version
from egt_tf.errors import did_you_mean
from egt_tf.lazy import LOG_LEVEL

from .bash import ColonBash
from .commands import write_sections
from .errors import one_line_errors

add_completion_class(ColonBash)


class LazyGroup(click.Group):
    """A click group that imports a sub-command on first use and shows errors as one line.

    Args:
        sections: heading in the help -> name of a sub-command -> "module:attribute", the module relative to this package.
        **kwargs: as for `click.Group`.
    """

    def __init__(self, *args: Any, sections: Mapping[str, Mapping[str, str]], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.sections = sections
        self.lazy_commands = {name: place for section in sections.values() for name, place in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.lazy_commands, *(name for name in super().list_commands(ctx) if name not in self.lazy_commands)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_sections(ctx, formatter, self, {title: tuple(section) for title, section in self.sections.items()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy_commands:
            return super().get_command(ctx, cmd_name)
        module, attribute = self.lazy_commands[cmd_name].split(":")
        return getattr(importlib.import_module(f".{module}", __package__), attribute)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if super().get_command(ctx, args[0]) is None and args[0] not in self.lazy_commands:
            ctx.fail(f"No such command {args[0]!r}{did_you_mean(args[0], self.list_commands(ctx), otherwise='.')}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with one_line_errors(debug=ctx.params["debug"]):
            return super().invoke(ctx)


@click.group(
    cls=LazyGroup,
    # A new command is one line here.
    sections={
        "Learn and predict": {
            "learn": "learn:learn",
            "predict": "predict:predict",
            "app": "app:app",
        },
        "Train and evaluate": {
            "train": "train:train",
            "evaluate": "evaluate:evaluate",
            "runs": "runs:runs",
            "report": "report:report",
            "pretrain": "pretrain:pretrain",
            "study": "study:study",
            "harden": "harden:harden",
            "convert": "convert:convert",
        },
        "Explain": {
            "explain": "explain:explain",
            "evaluate-explanations": "evaluate_explanations:evaluate_explanations",
            "tune-composite": "tune_composite:tune_composite",
        },
        "Serve": {
            "export": "export:export",
            "client": "client:client",
        },
        "Data": {"data": "data:data"},
        "Machine": {"doctor": "doctor:doctor"},
    },
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="egt-tf")
@click.option("--debug", is_flag=True, help="Show tracebacks and the log of TensorFlow.")
def cli(debug: bool) -> None:
    """Train, evaluate and explain few-shot classifiers across image domains."""
    _print_any_name()
    _leave_keras_3_out()
    if debug:
        # Set when this package was imported.
        if os.environ.get(LOG_LEVEL) == "3":
            del os.environ[LOG_LEVEL]
        return
    _quiet_tensorflow()


def _print_any_name() -> None:
    """Characters that the terminal's encoding lacks, and bytes of names that are no text, are printed as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _leave_keras_3_out() -> None:
    """Keeps TensorFlow from importing Keras 3, which no command uses.

    It takes a second, and imports matplotlib, which fails in a shell that was started from a notebook.
    """
    if lane(tensorflow_version() or "0.0") == "current":
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")


def _quiet_tensorflow() -> None:
    """Hides what TensorFlow's Python half logs about itself, unless the user has chosen a level."""
    if os.environ.get(LOG_LEVEL) != "3":
        return
    # TensorFlow's Python half has a logger of its own, which does not ask for the level above.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    # absl replaces the class of its logger when it is imported, so its level can only be set through itself.
    from absl import logging as absl_logging

    absl_logging.set_verbosity(absl_logging.ERROR)
