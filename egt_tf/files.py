"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "wb") -> Iterator[IO]:
    """Opens a temporary file beside `path` and renames it to `path` when the block ends well.

    If the block raises (a full disk, Ctrl-C), the temporary file is removed and an existing `path` stays as it was.

    Args:
        path: the final file. Its folder is created if it does not exist.
        mode: "wb" or "w".

    Raises:
        OSError: the folder cannot be made or written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        # Of text only what stands for undecoded bytes of a file name cannot be written as UTF-8.
        encoding, errors = (None, None) if "b" in mode else ("utf-8", "backslashreplace")
        with os.fdopen(descriptor, mode, encoding=encoding, errors=errors) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; a run folder is read by others like any other file.
        set_ordinary_permissions(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno and error.filename in (None, temporary):
            # A full disk names no file, and the name of the temporary one helps nobody.
            error.filename = str(path)
            # None in its place would be shown.
            del error.filename2
        raise


@contextlib.contextmanager
def partial_folder(parent: str | os.PathLike) -> Iterator[Path]:
    """Makes a folder under a hidden name in `parent`, for the block to fill and then to rename.

    If the block raises, the folder is removed, and so are `parent` and those above it as far as they were made for it.

    Raises:
        OSError: the folder cannot be made.
    """
    parent = Path(parent)
    made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=".", suffix=".part"))
    try:
        # mkdtemp makes private folders; what is written here is read by others like any other file.
        set_ordinary_permissions(folder)
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        for empty in made:
            with contextlib.suppress(OSError):
                empty.rmdir()
        raise


def remove_partial_files(folder: str | os.PathLike) -> None:
    """Removes the temporary files of `atomic_write` that a killed process left in `folder`; a missing folder has none.

    No other process may be writing there.
    """
    for file in Path(folder).glob(".*.part"):
        file.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` as UTF-8, whole or not at all."""
    with atomic_write(path, "w") as file:
        file.write(text)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all. Not-a-number is refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_array(path: str | os.PathLike, array: np.ndarray) -> None:
    """Writes `array` as .npy without pickling, whole or not at all."""
    with atomic_write(path, "wb") as file:
        np.save(file, array, allow_pickle=False)


def write_png(path: str | os.PathLike, image: np.ndarray) -> None:
    """Writes a uint8 image `(height, width, 3)` as PNG, whole or not at all."""
    with atomic_write(path) as file:
        Image.fromarray(image).save(file, format="PNG")


def expanded(path: str | os.PathLike) -> Path:
    """The path with ~ and ~user in place of home folders; as in a shell, a user that there is not stays as written.

    Example:
        >>> expanded("~nobody-of-that-name/images")
        PosixPath('~nobody-of-that-name/images')
    """
    return Path(os.path.expanduser(path))


def text_of_name(name: str) -> str:
    """A name of a file or a folder, as the system gives it, as text that can be written anywhere.

    Names are bytes. Those of UTF-8 are that text, in every locale; other bytes become "\\xe9".

    Example:
        >>> text_of_name(os.fsdecode("caf\u00e9".encode())), text_of_name(os.fsdecode(b"caf\\xe9"))
        ('café', 'caf\\\\xe9')
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def name_of_text(text: str) -> str:
    """The name that a file or a folder gets from text, in every locale that of its UTF-8.

    Example:
        >>> os.fsencode(name_of_text("caf\u00e9"))
        b'caf\\xc3\\xa9'
    """
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


def lock(file: int | IO) -> None:
    """Keeps other processes out of an open file or folder, until it is closed or this process ends.

    Raises:
        BlockingIOError: another process has it.

    Notes:
        Windows has no such locks: there, nothing is locked.
    """
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def set_ordinary_permissions(path: str | os.PathLike) -> None:
    """Gives a file or a folder the permissions that it would have had if it had not been made as a temporary one."""
    # The mask can only be read by setting it.
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(path, (0o777 if os.path.isdir(path) else 0o666) & ~umask)
