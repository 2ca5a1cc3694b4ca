"""Errors a user can act on. Each message states the rule that was broken and what was received."""

from __future__ import annotations

import contextlib
import difflib
import gc
import math
import traceback
from collections.abc import Iterable, Iterator
from multiprocessing.pool import ThreadPool
from numbers import Integral, Real

# How a message about numbers that are not finite ends.
OVERFLOW = "the weights may be so large that sums overflow"


class EgtError(ValueError):
    """Base of every error that the command line shows as one line with exit code 2."""


class DataError(EgtError):
    """An image, a class, a split or a data source is not as it must be."""


class ConfigError(EgtError):
    """A configuration has an unknown key or a value of the wrong type or range."""


class RunError(EgtError):
    """A run folder or a weight file is missing, damaged or made by another architecture."""


class ExplainError(EgtError):
    """A model cannot be explained as asked: an unknown layer, composite, target or shape."""


class ExportError(EgtError):
    """A model cannot be exported as asked, or an exported one is missing, damaged or not what it should be."""


class ServerError(EgtError):
    """A model server cannot be reached, has not what it is asked for, or answers what it should not."""


class RequestRefusedError(ServerError):
    """A model server was asked rightly and found the request itself wrong, such as an image it cannot decode."""


class NotFiniteError(EgtError):
    """What a model computes is infinite or not a number: its weights are damaged or far too large."""


def nearest_name(name: object, known: Iterable[str]) -> str | None:
    """The known name nearest to a misspelt one, or None if no name is near."""
    return next(iter(difflib.get_close_matches(str(name), list(known), n=1)), None)


def did_you_mean(name: object, known: Iterable[str], otherwise: str = "") -> str:
    """The end of a sentence that suggests the known name nearest to a misspelt one.

    Args:
        name: what was received.
        known: the names there are.
        otherwise: what to return if no name is near.

    Returns:
        "; did you mean 'conv4'?", or `otherwise`.

    Example:
        >>> did_you_mean("conv5", ["conv4", "resnet10"])
        "; did you mean 'conv4'?"
    """
    near = nearest_name(name, known)
    return otherwise if near is None else f"; did you mean {near!r}?"


def as_number(value: object) -> float | None:
    """A finite number that a configuration may give as text, or None if it is none; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, (Real, str)):
        return None
    try:
        # YAML 1.1 reads `3e-4`, which has no dot, as a string.
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def check_integer(name: str, value: object, smallest: int) -> None:
    """Checks an argument that a configuration may set to anything.

    Raises:
        ConfigError: `value` is no integer (a bool is none) or is below `smallest`.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < smallest:
        raise ConfigError(f"`{name}` must be an integer >= {smallest}. Received: {name}={value!r}")


def check_boolean(name: str, value: object) -> None:
    """As `check_integer`, for true or false."""
    if not isinstance(value, bool):
        raise ConfigError(f"`{name}` must be true or false. Received: {name}={value!r}")


def check_positive(name: str, value: object) -> None:
    """As `check_integer`, for a finite number > 0."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < float("inf"):
        raise ConfigError(f"`{name}` must be a number > 0. Received: {name}={value!r}")


def release_frames(error: BaseException) -> None:
    """Frees what the frames that an error passed still hold, and those of the errors that led to it.

    An iterator over a data set must be gone when Python shuts down: TensorFlow waits, without end, for Python
    functions of the data set that Python does not run any more. A pool of threads, by which TensorFlow reads a
    variable of several workers and which it closes only where that ends well, can print a traceback then.
    """
    for link in _chain(error):
        for frame, _ in traceback.walk_tb(link.__traceback__):
            pool = frame.f_locals.get("self")
            if isinstance(pool, ThreadPool):
                pool.close()
        traceback.clear_frames(link.__traceback__)
        for frame, _ in traceback.walk_tb(link.__traceback__):
            # Asking brings a copy of the variables up to date, which `locals()` has made and `clear_frames` forgets.
            _ = frame.f_locals
    gc.collect()


@contextlib.contextmanager
def original_error() -> Iterator[None]:
    """Within the block, an `EgtError` that a framework wrapped into an error of its own appears as itself.

    TensorFlow and Keras do so with what is raised while they trace a function or call a layer; their text holds the
    lines of code it passed. Of what the Python functions of a tf.data data set raise, nothing but the text is left,
    which ends with the message. Errors that no `EgtError` led to pass unchanged.

    Example:
        >>> with original_error():
        ...     try:
        ...         raise DataError("cannot read image 7.png")
        ...     except DataError as error:
        ...         raise RuntimeError("in some graph") from error
        Traceback (most recent call last):
        egt_tf.errors.DataError: cannot read image 7.png
    """
    try:
        yield
    except Exception as error:
        # The first one that was raised.
        original = next((link for link in reversed(_chain(error)) if isinstance(link, EgtError)), None)
        original = original or _told_in_text(error)
        if original is None or original is error:
            raise
        raise original from None


def _chain(error: BaseException) -> list[BaseException]:
    """An error and the errors that led to it, the last raised first."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links


def _told_in_text(error: Exception) -> DataError | None:
    """The `DataError` whose traceback an error of TensorFlow holds as text, or None."""
    prefix = f"{DataError.__module__}.{DataError.__qualname__}: "
    # TensorFlow's errors have their text here; other errors have no such attribute.
    lines = str(getattr(error, "message", "")).splitlines()
    return next((DataError(line[len(prefix) :]) for line in reversed(lines) if line.startswith(prefix)), None)
