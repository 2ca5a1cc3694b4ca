"""What the readers have in common: the bytes of a file, and one error for all that can be wrong with them."""

from __future__ import annotations

import contextlib
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from egt_tf.errors import RunError
from egt_tf.weight_files.objects import ContentError

# What damaged bytes fail with. RuntimeError: damage that looks like encryption or another method of compression.
_DAMAGE = (OSError, EOFError, ValueError, RuntimeError, OverflowError, LookupError, zipfile.BadZipFile, struct.error)


def check_present(path: Path) -> None:
    """Checks that a weight file is there.

    Raises:
        RunError: it is not.

    Example:
        >>> check_present(Path("gone.pth"))
        Traceback (most recent call last):
        egt_tf.errors.RunError: the weight file gone.pth must be a file. Received: no such file
    """
    if not path.is_file():
        raise RunError(f"the weight file {path} must be a file. Received: no such file")


@contextlib.contextmanager
def reading(path: Path, rule: str) -> Iterator[bytes]:
    """The content of a weight file; what goes wrong with it inside the block becomes a `RunError`.

    Args:
        path: the file.
        rule: what it must be, for the message.

    Raises:
        RunError: there is no such file, or its content was refused or is damaged.

    Example:
        >>> with reading(Path("gone.pth"), "a whole file"):
        ...     pass
        Traceback (most recent call last):
        egt_tf.errors.RunError: the weight file gone.pth must be a file. Received: no such file
    """
    check_present(path)
    try:
        yield path.read_bytes()
    except ContentError as error:
        raise RunError(f"the weight file {path} must be {rule}. Received: {error}") from error
    except _DAMAGE as error:
        raise RunError(
            f"the weight file {path} must be {rule}. Received: a damaged file ({type(error).__name__})"
        ) from error


def widened(halves: np.ndarray) -> np.ndarray:
    """Numbers of the type bfloat16, which NumPy has not, as float32.

    Args:
        halves: the numbers as integers of 16 bits.

    Example:
        >>> widened(np.array([0x3F80, 0xC000], np.uint16))
        array([ 1., -2.], dtype=float32)
    """
    return (halves.astype(np.uint32) << 16).view(np.float32)
