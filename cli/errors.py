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
        # Click declares it a variable of the class, for errors whose class says the code; here each error has its own.
        self.exit_code = exit_code  # type: ignore[misc]


@contextlib.contextmanager
def one_line_errors(debug: bool) -> Iterator[None]:
    """Raises `CommandError` in place of `EgtError`, `OSError`, a lack of memory and Ctrl-C; any other error is a bug.

    Args:
        debug: print the traceback too.
    """
    try:
        yield
    except BaseException as error:
        command_error = _command_error(error)
        if debug and command_error is not None:
            traceback.print_exc()
        release_frames(error)
        if command_error is None:
            raise
        raise command_error from error


def describe_os_error(error: OSError) -> str:
    """The reason first, then the file: "No space left on device: runs/demo/best.npz"."""
    if not error.strerror:
        return str(error) or type(error).__name__
    files = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return ": ".join([error.strerror, " -> ".join(files)] if files else [error.strerror])


def describe_name_error(error: UnicodeEncodeError) -> str:
    """A name that can be written nowhere: TensorFlow takes paths of UTF-8 only, a locale may know fewer characters."""
    return (
        f"names of files and folders must be {error.encoding} here. Received: {error.object!r}; rename it, or set "
        "PYTHONUTF8=1 if that is not the reason"
    )


def _command_error(error: BaseException) -> CommandError | None:
    """What is shown in its place; None for bugs, for click's own errors and for `egt-tf ... | head`, no failure."""
    # Asked when an error is there: importing TensorFlow for it would make every command slow.
    tensorflow = sys.modules.get("tensorflow")
    if isinstance(error, KeyboardInterrupt):
        return CommandError("interrupted", INTERRUPTED)
    if isinstance(error, MemoryError) or (tensorflow and isinstance(error, tensorflow.errors.ResourceExhaustedError)):
        return CommandError("out of memory; smaller images, fewer queries or fewer ways need less", USER_ERROR)
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        return CommandError(describe_os_error(error), USER_ERROR)
    if isinstance(error, UnicodeEncodeError):
        return CommandError(describe_name_error(error), USER_ERROR)
    return CommandError(str(error), USER_ERROR) if isinstance(error, EgtError) else None
