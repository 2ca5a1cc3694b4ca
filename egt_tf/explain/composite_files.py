"""Composites in files, for `--method FILE`: JSON that names rules and layer types, and runs nothing."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from egt_tf.errors import ConfigError, ExplainError
from egt_tf.explain.methods import Method, composite_method
from egt_tf.files import write_json
from egt_tf.lrp.composites import Composite

_FORMAT = 1


def write_composite(
    path: str | os.PathLike[str], composite: Composite, canonize: bool = False, about: Mapping[str, Any] | None = None
) -> None:
    """Writes a composite, whole or not at all.

    Args:
        path: of the file.
        composite: gives each layer its rule.
        canonize: fold batch normalisation first.
        about: how it was found, as JSON types; for people.

    Example:
        >>> import tempfile
        >>> from egt_tf.lrp.presets import COMPOSITES
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_composite(f"{folder}/mine.json", COMPOSITES.get("epsilon_plus"), canonize=True)
        ...     read_composite(f"{folder}/mine.json").canonize
        True
    """
    content = {"format": _FORMAT, "composite": composite.to_json(), "canonize": canonize, "about": dict(about or {})}
    write_json(Path(path), content)


def read_composite(path: str | os.PathLike[str]) -> Method:
    """A composite of a file as a method, which is called as the file is, without its ending.

    Raises:
        ExplainError: the file cannot be read, or is none of `write_composite`.

    Example:
        >>> read_composite("no/such/file.json")
        Traceback (most recent call last):
        egt_tf.errors.ExplainError: cannot read the composite no/such/file.json: No such file or directory
    """
    try:
        content = json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ExplainError(f"cannot read the composite {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ExplainError(
            f"{path} must be a composite in JSON, as `egt-tf tune-composite` writes it: {error}"
        ) from error
    if (
        not isinstance(content, dict)
        or content.get("format") != _FORMAT
        or not isinstance(content.get("canonize"), bool)
    ):
        raise ExplainError(
            f"{path} must be a composite of format {_FORMAT}, as `egt-tf tune-composite` writes it. Received: another file"
        )
    try:
        composite = Composite.from_json(content["composite"])
    except (ConfigError, ExplainError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ExplainError(f"{path} must hold a composite of known rules and layer types. Received: {error}") from error
    method = composite_method(composite, f"the composite of {path}", content["canonize"])
    # Two of them, or one beside its defaults, are compared.
    return dataclasses.replace(method, name=Path(path).stem)
