"""Ways to explain as commands are given them: names, and files of composites."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from egt_tf.errors import ConfigError

if TYPE_CHECKING:
    from egt_tf.explain import Method
    from egt_tf.explain.adaptive_noise import Report


def named_method(name: str, arguments: Sequence[str] = (), report: Report | None = None) -> Method:
    """The method of a name, or of a file of `egt-tf tune-composite`, which ends in .json.

    Args:
        name: see above.
        arguments: of a named one, "KEY=VALUE".
        report: see `egt_tf.explain.get_method`.

    Raises:
        ExplainError: there is no such method or argument, or the file is no composite.
        ConfigError: arguments for a file.
    """
    from egt_tf.config import apply_overrides
    from egt_tf.explain import get_method
    from egt_tf.explain.composite_files import read_composite

    if Path(name).suffix != ".json":
        return get_method(apply_overrides({"name": name}, arguments), report=report)
    if arguments:
        raise ConfigError(f"a composite in a file has its numbers: leave --set out. Received: {', '.join(arguments)}")
    return read_composite(name)
