"""Values of JSON files that anybody may have edited, checked while they are read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from egt_tf.errors import RunError


class Record:
    """A JSON object whose values are asked for by key and by kind.

    Args:
        values: of a JSON file.
        what: what it is, for messages.

    Raises:
        RunError: it is no JSON object.

    Example:
        >>> Record({"shots": 5}, "a.json").count("shots")
        5
        >>> Record({"shots": "5"}, "a.json").count("shots")
        Traceback (most recent call last):
        egt_tf.errors.RunError: `shots` of a.json must be an integer >= 0. Received: '5'
    """

    def __init__(self, values: Any, what: str):
        if not isinstance(values, Mapping):
            raise RunError(f"{what} must hold a JSON object. Received: {type(values).__name__}")
        self.values, self.what = values, what

    def text(self, key: str) -> str:
        """A string."""
        return self._checked(key, "a string", lambda value: isinstance(value, str))

    def flag(self, key: str) -> bool:
        """True or false."""
        return self._checked(key, "true or false", lambda value: isinstance(value, bool))

    def count(self, key: str) -> int:
        """An integer >= 0."""
        return self._checked(key, "an integer >= 0", lambda value: type(value) is int and value >= 0)

    def number(self, key: str) -> float:
        """A finite number."""
        return self._checked(key, "a finite number", is_number)

    def share(self, key: str) -> float:
        """A number in [0, 1]."""
        return self._checked(key, "a number in [0, 1]", lambda value: is_number(value) and 0 <= value <= 1)

    def number_or_none(self, key: str) -> float | None:
        """A finite number, or None where there is none."""
        return None if self.values.get(key) is None else self.number(key)

    def share_or_none(self, key: str) -> float | None:
        """A number in [0, 1], or None where there is none."""
        return None if self.values.get(key) is None else self.share(key)

    def record(self, key: str) -> Record:
        """An object."""
        return Record(self.values.get(key), f"`{key}` of {self.what}")

    def records(self, key: str) -> list[Record]:
        """A list of objects."""
        found = self._checked(key, "a list", lambda value: isinstance(value, list))
        return [Record(each, f"`{key}` of {self.what}") for each in found]

    def numbers(self, key: str) -> dict[str, float | None]:
        """An object of finite numbers and nulls."""
        inner = self.record(key)
        return {name: inner.number_or_none(name) for name in inner.values}

    def _checked(self, key: str, kind: str, accepts: Any) -> Any:
        value = self.values.get(key)
        if not accepts(value):
            raise RunError(f"`{key}` of {self.what} must be {kind}. Received: {value!r}")
        return value


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number; true and false are none.

    Example:
        >>> is_number(0.5), is_number(True), is_number(float("nan"))
        (True, False, False)
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def read_record(path: Path) -> Record:
    """Reads a JSON file that holds an object.

    Raises:
        RunError: it holds something else.
        OSError: it cannot be read.
    """
    try:
        return Record(json.loads(path.read_text(encoding="utf-8")), str(path))
    # Of nested lists without end.
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} must be a JSON file. Received: {error}") from error
