"""Reads the parts of a plan. Each error states the rule, the place where it is broken, and what was received."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from egt_tf.errors import ConfigError, check_integer, did_you_mean

# They become folders, and are words of a report's lines.
_NAME = re.compile(r"\w[\w.+-]*")
# Keys of a run that differ from cell to cell, and the keys of the plan that say how.
_OF_THE_GRID = {"episode.shots": "shots", "training.seed": "seeds"}


def mapping_at(value: Any, where: str) -> Mapping[str, Any]:
    """A mapping; an empty one where nothing was written.

    Raises:
        ConfigError: the value is something else.

    Example:
        >>> mapping_at(["plain"], "`arms` of plan.yaml")
        Traceback (most recent call last):
        egt_tf.errors.ConfigError: `arms` of plan.yaml must be a mapping. Received: ['plain']
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} must be a mapping. Received: {value!r}")
    return value


def named_parts(value: Any, where: str) -> Mapping[str, Any]:
    """A mapping of names, at least one, to anything.

    Raises:
        ConfigError: it is no mapping or empty, or a name is not as it must be.

    Example:
        >>> named_parts({True: {}}, "`arms` of plan.yaml")
        Traceback (most recent call last):
        egt_tf.errors.ConfigError: a name in `arms` of plan.yaml must be text; ... in quotes. Received: True
    """
    parts = mapping_at(value, where)
    if not parts:
        raise ConfigError(f"{where} must have at least one entry. Received: none")
    for name in parts:
        _check_name(name, where)
    return parts


def changes_at(value: Any, where: str) -> Mapping[str, Any]:
    """Changes of a run's configuration, by dotted keys.

    Raises:
        ConfigError: it is no mapping, a key has no dot, or the grid has a word for it.

    Example:
        >>> changes_at({"guidance": {"mode": "none"}}, "`arms.plain` of plan.yaml")
        Traceback (most recent call last):
        egt_tf.errors.ConfigError: each key of `arms.plain` ... section.key, as in training.epochs. Received: 'guidance'
    """
    changes = mapping_at(value, where)
    for key in changes:
        if not isinstance(key, str) or "." not in key or not all(key.split(".")):
            raise ConfigError(
                f"each key of {where} must be written section.key, as in training.epochs. Received: {key!r}"
            )
        if key in _OF_THE_GRID:
            raise ConfigError(f"`{key}` must be left to `{_OF_THE_GRID[key]}` of the plan. Received: {key} in {where}")
    return changes


def names_at(value: Any, known: Iterable[str], noun: str, where: str) -> tuple[str, ...]:
    """A list of different names, each a known one; empty where nothing was written.

    Raises:
        ConfigError: it is no such list; the nearest known name is suggested.

    Example:
        >>> names_at(["plain", "giuded"], ["plain", "guided"], "arm", "`heads.cosine.arms` of plan.yaml")
        Traceback (most recent call last):
        egt_tf.errors.ConfigError: every arm in ... must be one of plain, guided. Received: 'giuded'; did you mean ...?
    """
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{where} must be a list. Received: {value!r}")
    for name in value:
        _check_name(name, where)
    check_known(value, known, noun, where)
    if len(set(value)) < len(value):
        raise ConfigError(f"{where} must name every {noun} once. Received: {value!r}")
    return tuple(value)


def check_known(names: Iterable[Any], known: Iterable[str], noun: str, where: str) -> None:
    """Checks names against the known ones.

    Raises:
        ConfigError: one is none of them; the nearest is suggested.

    Example:
        >>> check_known(["sead"], ["seeds", "shots"], "key", "plan.yaml")
        Traceback (most recent call last):
        egt_tf.errors.ConfigError: every key in plan.yaml must be one of seeds, shots. Received: 'sead'; did you mean ...?
    """
    known = list(known)
    for name in names:
        if name not in known:
            raise ConfigError(
                f"every {noun} in {where} must be one of {', '.join(known)}. Received: {name!r}"
                f"{did_you_mean(name, known)}"
            )


def integers_at(value: Any, smallest: int, key: str, where: str) -> tuple[int, ...]:
    """A list of different integers, at least one.

    Args:
        value: what the plan has.
        smallest: that one may be.
        key, where: for the message.

    Raises:
        ConfigError: it is no such list.

    Example:
        >>> integers_at(5, 0, "seeds", "plan.yaml")
        Traceback (most recent call last):
        egt_tf.errors.ConfigError: `seeds` of plan.yaml must be a list of different integers. Received: 5
    """
    if not isinstance(value, (list, tuple)) or not value:
        raise ConfigError(f"`{key}` of {where} must be a list of different integers. Received: {value!r}")
    for each in value:
        check_integer(key, each, smallest)
    if len(set(value)) < len(value):
        raise ConfigError(f"`{key}` of {where} must be a list of different integers. Received: {value!r}")
    return tuple(value)


def pairs_at(value: Any, known: Iterable[str], noun: str, where: str) -> tuple[tuple[str, str], ...]:
    """A list of different pairs of known names, none with itself; empty where nothing was written.

    Raises:
        ConfigError: it is no such list.

    Example:
        >>> pairs_at([["guided", "plain"]], ["plain", "guided"], "arm", "`comparisons` of plan.yaml")
        (('guided', 'plain'),)
    """
    known = list(known)
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{where} must be a list of pairs of {noun}s. Received: {value!r}")
    pairs = []
    for pair in value:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ConfigError(f"each of {where} must be two {noun}s, as in [guided, plain]. Received: {pair!r}")
        pairs.append((pair[0], pair[1]))
        names_at(pair, known, noun, where)
    if len(set(pairs)) < len(pairs):
        raise ConfigError(f"{where} must have every pair once. Received: {value!r}")
    return tuple(pairs)


def text_at(value: Any, otherwise: str, where: str) -> str:
    """A text, or `otherwise` where nothing was written.

    Raises:
        ConfigError: the value is something else.

    Example:
        >>> text_at(None, "a plan", "`title` of plan.yaml")
        'a plan'
    """
    if value is None:
        return otherwise
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where} must be text. Received: {value!r}")
    return value


def _check_name(name: Any, where: str) -> None:
    if not isinstance(name, str):
        raise ConfigError(
            f"a name in {where} must be text; yes, no, on, off and numbers are text in quotes. Received: {name!r}"
        )
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"a name in {where} must begin with a letter or a digit and have letters, digits and _ . + - only. "
            f"Received: {name!r}"
        )
