"""Which settings a run may go on with: those that it began with, or more epochs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from egt_tf.config.reading import config_to_dict
from egt_tf.config.sections import RunConfig
from egt_tf.errors import ConfigError

# A training fills these in where they are left out.
_FILLED_IN = frozenset({"model.head.ways", "model.head.base_classes"})
# The numbers stay the same with another one, up to rounding.
_FREE = frozenset({"training.strategy"})
_ABSENT = object()
_SHOWN = 3


def continued(stored: RunConfig, wanted: RunConfig, epochs: str = "training.epochs") -> RunConfig:
    """The configuration that a run goes on with when it is asked for by the same command as at first.

    Args:
        stored: of the run.
        wanted: what the command says now.
        epochs: the key of the epochs, which may have become more.

    Returns:
        `stored`, with the epochs of `wanted`.

    Raises:
        ConfigError: another setting differs, or the epochs have become fewer.

    Example:
        >>> stored = RunConfig()
        >>> more = dataclasses.replace(stored.training, epochs=20)
        >>> continued(stored, dataclasses.replace(stored, training=more)).training.epochs
        20
        >>> continued(stored, dataclasses.replace(stored, training=dataclasses.replace(more, learning_rate=0.5)))
        Traceback (most recent call last):
        egt_tf.errors.ConfigError: a run must go on with the settings it began with, but for more `training.epochs`. ...
    """
    before, now = (dict(_flat(config_to_dict(config))) for config in (stored, wanted))
    differing = [
        key
        for key in {**before, **now}
        if before.get(key, _ABSENT) != now.get(key, _ABSENT)
        and key not in _FREE
        and not (key in _FILLED_IN and key not in now)
        and not (key == epochs and now[key] > before[key])
    ]
    if differing:
        told = [f"{key}={_text(now, key)} in place of {_text(before, key)}" for key in differing[:_SHOWN]]
        more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        raise ConfigError(
            f"a run must go on with the settings it began with, but for more `{epochs}`. Received: "
            f"{', '.join(told)}{more}; leave them out, or name another folder"
        )
    section, name = epochs.split(".")
    return dataclasses.replace(
        stored, **{section: dataclasses.replace(getattr(stored, section), **{name: now[epochs]})}
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(values: Mapping[str, Any], key: str) -> str:
    return "nothing" if key not in values else str(values[key])
