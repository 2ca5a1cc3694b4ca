"""What importing the package does: it hands out names that are imported when they are first used, and stays silent."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def quiet_tensorflow() -> None:
    """Keeps TensorFlow from logging lines about itself, unless a level was chosen or it is imported already.

    TensorFlow reads the level, an environment variable, when it is imported. At 2, TensorFlow 2.14 still reports three
    harmless registrations of CUDA as errors; real errors are raised too.
    """
    if "tensorflow" not in sys.modules:
        os.environ.setdefault(LOG_LEVEL, "3")


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
