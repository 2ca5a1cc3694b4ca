"""Turns the errors a user can act on into one line on stderr and an exit code."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator

import click

from egt_tf.errors import EgtError, release_frames

USER_ERROR = 2
INTERRUPTED = 130


class CommandError(click.ClickException):
    """An error that click shows as "Error: <message>" before it exits with `exit_code`."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(" ".join(message.splitlines()))
        self.exit_code = exit_code


@contextlib.contextmanager
def one_line_errors(debug: bool) -> Iterator[None]:
    """Raises `CommandError` in place of `EgtError`, `OSError`, a lack of memory and Ctrl-C; any other error is a bug.

    Args:
        debug: print the traceback too.
    """
    try:
        with _translated_errors(debug):
            yield
    except BaseException as error:
        release_frames(error)
        raise


@contextlib.contextmanager
def _translated_errors(debug: bool) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        # `egt-tf ... | head` is no failure; click ends quietly.
        raise
    except (EgtError, OSError, KeyboardInterrupt, *_out_of_memory_errors()) as error:
        if debug:
            traceback.print_exc()
        raise _command_error(error) from error


def describe_os_error(error: OSError) -> str:
    """The reason first, then the file: "No space left on device: runs/demo/last.npz"."""
    if not error.strerror:
        return str(error) or type(error).__name__
    files = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return ": ".join([error.strerror, " -> ".join(files)] if files else [error.strerror])


def _out_of_memory_errors() -> tuple[type[BaseException], ...]:
    # Asked when an error is there: importing TensorFlow for it would make every command slow.
    tensorflow = sys.modules.get("tensorflow")
    return (MemoryError,) if tensorflow is None else (MemoryError, tensorflow.errors.ResourceExhaustedError)


def _command_error(error: BaseException) -> CommandError:
    if isinstance(error, KeyboardInterrupt):
        return CommandError("interrupted", INTERRUPTED)
    if isinstance(error, _out_of_memory_errors()):
        return CommandError("out of memory; smaller images, fewer queries or fewer ways need less", USER_ERROR)
    message = describe_os_error(error) if isinstance(error, OSError) else str(error)
    return CommandError(message, USER_ERROR)
