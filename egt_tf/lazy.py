"""What importing the package does: it hands out names that are imported when they are first used, and stays silent."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
# At 2, TensorFlow 2.14 still reports three harmless registrations of CUDA as errors; real errors are raised too.
_QUIET = "3"
# Lines of the log, and the one that says where they go.
_LOGGED = re.compile(rb"[IWE]\d{4} |WARNING: All log messages before absl::InitializeLog")
_STDERR = 2


def quiet_tensorflow() -> None:
    """Keeps TensorFlow from logging lines about itself, unless a level was chosen or it is imported already.

    TensorFlow reads the level, an environment variable, when it is imported; later versions write some lines before
    that, which are taken from what its import writes.
    """
    if "tensorflow" not in sys.modules:
        os.environ.setdefault(LOG_LEVEL, _QUIET)
        sys.meta_path.insert(0, _QuietImport())
        # In a notebook TensorFlow's Python half says what it writes; it sets its level itself, when it first logs.
        logging.getLogger("tensorflow").addFilter(_is_worth_saying)


def _is_worth_saying(record: logging.LogRecord) -> bool:
    return record.levelno > logging.INFO or os.environ.get(LOG_LEVEL) != _QUIET


class _QuietImport(MetaPathFinder):
    """Finds TensorFlow as all others do, and has its import leave out what it logs about itself."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "tensorflow" or os.environ.get(LOG_LEVEL) != _QUIET:
            return None
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, found), None)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                with _without_logged_lines():
                    run(module)

            # Of this loader alone, which is made for this import.
            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


@contextlib.contextmanager
def _without_logged_lines() -> Iterator[None]:
    """Holds back what libraries write to the standard error meanwhile, and then writes all but the lines of a log."""
    with contextlib.ExitStack() as opened:
        try:
            held = opened.enter_context(tempfile.TemporaryFile())
            real = os.dup(_STDERR)
        except OSError:
            # There is no standard error, as in a service, or no room to hold anything back.
            yield
            return
        os.dup2(held.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(real, _STDERR)
            os.close(real)
            held.seek(0)
            kept = b"".join(line for line in held if not _LOGGED.match(line))
            if kept:
                os.write(_STDERR, kept)


def lazy_names(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """What a package needs to hand out names of its modules without importing them (PEP 562).

    Args:
        package: the `__name__` of the package.
        modules: full name of a module -> the names that it defines.

    Returns:
        The package's `__getattr__`, `__dir__` and `__all__`.

    Example:
        >>> get, _, names = lazy_names("egt_tf", {"egt_tf.errors": ["DataError"]})
        >>> get("DataError"), names
        (<class 'egt_tf.errors.DataError'>, ['DataError'])
    """
    module_of = {name: module for module, names in modules.items() for name in names}

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(module_of[name]), name)
        # Found without this function from now on.
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *module_of})

    return get, names, sorted(module_of)
