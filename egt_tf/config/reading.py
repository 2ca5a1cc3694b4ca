"""Configurations as YAML: reading with overrides, checking each key, and writing."""

from __future__ import annotations

import dataclasses
import itertools
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import yaml

from egt_tf.config.sections import RunConfig, WeightedSource
from egt_tf.errors import ConfigError, as_number, nearest_name

# Unicode's own line breaks.
_LINE_BREAKS = frozenset("\x85\u2028\u2029")


def load_config(path: str | os.PathLike, overrides: Iterable[str] = ()) -> RunConfig:
    """Reads a YAML file; keys it leaves out have their default values.

    Args:
        path: the file.
        overrides: "section.key=value" strings that win over the file.

    Raises:
        ConfigError: no YAML mapping, a key given twice or unknown, a value of the wrong type or range. The message
            names the file, or the overrides where one of them gives the value.
        OSError: the file cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.yaml"
        >>> _ = path.write_text("episode: {ways: 3}")
        >>> load_config(path, ["episode.shots=1"]).episode
        EpisodeConfig(ways=3, shots=1, queries=16)
    """
    overrides = list(overrides)
    mapping = read_mapping(Path(path))
    if not overrides:
        return config_from_dict(mapping, origin=str(path))
    keys = [override.partition("=")[0] for override in overrides]

    def origin_of(key: str) -> str:
        return "the overrides" if any(_overlap(key, each) for each in keys) else str(path)

    return _build(RunConfig, apply_overrides(_completed(mapping, str(path)), overrides), origin_of, prefix="")


def config_from_dict(data: Mapping[str, Any], origin: str) -> RunConfig:
    """Checks a nested mapping and turns it into a `RunConfig`.

    Args:
        data: sections and keys named as the attributes of `RunConfig`; what is left out has its default.
        origin: where the mapping comes from, for the messages ("run.yaml").

    Raises:
        ConfigError: an unknown key, or a value of the wrong type or range.

    Example:
        >>> config_from_dict({"model": {"backbone": "resnet10"}}, origin="an example").model.backbone
        {'name': 'resnet10'}
    """
    return _build(RunConfig, data, lambda key: origin, prefix="")


def apply_overrides(mapping: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Returns a copy of `mapping` with every "section.key=value" set; values are read as YAML.

    Raises:
        ConfigError: an override without "=", with a value that is no YAML, or below a key that is no section.

    Example:
        >>> apply_overrides({"training": {"epochs": 3}}, ["training.epochs=4", "training.seed=2"])
        {'training': {'epochs': 4, 'seed': 2}}
    """
    result = _copied(mapping)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"an override must be written section.key=value. Received: {override!r}")
        set_value(result, key, _parse_yaml(text, origin=f"the override {override!r}"))
    return result


def config_to_dict(config: RunConfig) -> dict[str, Any]:
    """The nested dictionary that `config_from_dict` turns into an equal configuration.

    Example:
        >>> config_to_dict(RunConfig())["episode"]
        {'ways': 5, 'shots': 5, 'queries': 16}
    """
    return _as_yaml(dataclasses.asdict(config))


def config_to_yaml(config: RunConfig) -> str:
    """YAML text that `load_config` turns into an equal configuration; every key is written out.

    Example:
        >>> config_to_yaml(RunConfig()).splitlines()[0]
        'data:'
    """
    text = yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=True)
    if _LINE_BREAKS.isdisjoint(text):
        return text
    # Written as they are, they would be read as line breaks of the YAML, and folded.
    return yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=False)


# === YAML ===


def _as_yaml(value: Any) -> Any:
    """Lists for tuples, which YAML does not have."""
    if isinstance(value, dict):
        return {key: _as_yaml(item) for key, item in value.items()}
    return [_as_yaml(item) for item in value] if isinstance(value, (list, tuple)) else value


def read_mapping(path: Path) -> Mapping[str, Any]:
    """The content of a YAML file, which should be a mapping; empty for an empty file.

    Raises:
        ConfigError: the file is no UTF-8 or no YAML, or a key is given twice.
        OSError: the file cannot be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "plan.yaml"
        >>> _ = path.write_text("seeds: [1, 2]")
        >>> read_mapping(path)
        {'seeds': [1, 2]}
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} must be UTF-8. Received: {error.reason} at byte {error.start}") from error
    content = _parse_yaml(text, origin=str(path))
    return {} if content is None else content


def _parse_yaml(text: str, origin: str) -> Any:
    try:
        _refuse_repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader), origin)
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{origin} must be YAML. Received: {' '.join(str(error).split())}") from error


def _refuse_repeated_keys(node: yaml.Node | None, origin: str, depth: int = 3) -> None:
    """YAML readers keep the last of two equal keys in silence, which would drop half a configuration."""
    if not isinstance(node, yaml.MappingNode) or depth == 0:
        return
    seen = set()
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value in seen:
            raise ConfigError(
                f"a key must be given once. Received: {key.value!r} again in {origin}, line {key.start_mark.line + 1}"
            )
        seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        _refuse_repeated_keys(value, origin, depth - 1)


# === Overrides ===


def _overlap(key: str, other: str) -> bool:
    """Whether two dotted keys are the same, or one is below the other."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def _completed(mapping: Any, origin: str) -> dict[str, Any]:
    """The mapping of a file with every key written out, so that an override reaches into what the file leaves out."""
    completed = dict(_checked_mapping(mapping, origin, prefix=""))
    for section, defaults in config_to_dict(RunConfig()).items():
        values = completed.get(section)
        given = _checked_mapping({} if values is None else values, origin, prefix=f"{section}.")
        completed[section] = {
            **defaults,
            **{key: _as_default(value, defaults.get(key)) for key, value in given.items()},
        }
    return completed


def _as_default(value: Any, default: Any) -> Any:
    """A bare name as the mapping that it stands for."""
    return {"name": value} if isinstance(default, dict) and isinstance(value, str) else value


def _copied(value: Any) -> Any:
    return {key: _copied(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def set_value(mapping: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key of a nested mapping, in place.

    Raises:
        ConfigError: the key leads through a value that is no section.

    Example:
        >>> mapping = {"training": {"epochs": 3}}
        >>> set_value(mapping, "training.epochs", 4)
        >>> mapping
        {'training': {'epochs': 4}}
    """
    *sections, last = key.split(".")
    for section in sections:
        # What is off is turned on by a key below it.
        if mapping.get(section) is None:
            mapping[section] = {}
        mapping = mapping[section]
        if not isinstance(mapping, dict):
            raise ConfigError(
                f"an override must name a key of a section. Received: {key!r}, where {section!r} is no section"
            )
    mapping[last] = value


# === Checking ===


def _checked_mapping(data: Any, origin: str, prefix: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        where = f"`{prefix[:-1]}` in {origin}" if prefix else origin
        raise ConfigError(f"{where} must be a mapping of keys. Received: {data!r}")
    return data


def _build(cls: type, data: Any, origin_of: Callable[[str], str], prefix: str) -> Any:
    """Makes an object of the class, section by section; `origin_of` says where the value of a dotted key comes from."""
    data = _checked_mapping(data, origin_of(prefix[:-1]), prefix)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for key in data:
        if key not in fields:
            hint = _suggestion(str(key), fields, prefix)
            raise ConfigError(f"unknown key {prefix + str(key)!r} in {origin_of(prefix + str(key))}; {hint}")
    return cls(**{key: _checked(fields[key], hints[key], data[key], origin_of, prefix) for key in data})


def _checked(field: dataclasses.Field, hint: Any, value: Any, origin_of: Callable[[str], str], prefix: str) -> Any:
    hints = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and types.NoneType in hints:
        return None
    if dataclasses.is_dataclass(hints[0]):
        return _build(cast(type, hints[0]), {} if value is None else value, origin_of, f"{prefix}{field.name}.")
    noun, convert = _READERS[field.metadata.get("read_as", typing.get_origin(hints[0]) or hints[0])]
    result = convert(value)
    if result is None or not field.metadata.get("accepts", lambda _: True)(result):
        rule = noun + field.metadata.get("rule", "") + (", or null" if types.NoneType in hints else "")
        key = f"{prefix}{field.name}"
        raise ConfigError(f"`{key}` in {origin_of(key)} must be {rule}. Received: {value!r}")
    return result


def _suggestion(key: str, known: Iterable[str], prefix: str) -> str:
    sections = typing.get_type_hints(RunConfig)
    elsewhere = [
        f"{section}.{key}"
        for section, cls in sections.items()
        if key in {field.name for field in dataclasses.fields(cls)}
    ]
    near = nearest_name(key, known)
    meant = elsewhere[0] if elsewhere else near and prefix + near
    return f"did you mean {meant!r}?" if meant else f"known: {', '.join(prefix + name for name in known)}"


def _as_string(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _as_integer(value: Any) -> int | None:
    # True is an int in Python, but `epochs: yes` is a mistake.
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _as_boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _as_named(value: Any) -> dict[str, Any] | None:
    value = {"name": value} if isinstance(value, str) else value
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return None
    return dict(value) if _as_string(value.get("name")) else None


def _as_drops(value: Any) -> tuple[tuple[int, float], ...] | None:
    if not isinstance(value, (list, tuple)) or not all(isinstance(p, (list, tuple)) and len(p) == 2 for p in value):
        return None
    drops = []
    for epochs, rate in ((_as_integer(epochs), as_number(rate)) for epochs, rate in value):
        if epochs is None or epochs < 1 or rate is None or rate <= 0:
            return None
        drops.append((epochs, rate))
    ascending = all(first < second for (first, _), (second, _) in itertools.pairwise(drops))
    return tuple(drops) if ascending else None


def _as_sources(value: Any) -> str | tuple[WeightedSource, ...] | None:
    if not isinstance(value, (list, tuple)):
        return _as_string(value)
    sources = [source for source in map(_as_weighted, value) if source is not None]
    distinct = len({each.source for each in sources}) == len(value) > 0
    return tuple(sources) if distinct else None


def _as_weighted(value: Any) -> WeightedSource | None:
    value = {"source": value} if isinstance(value, str) else value
    if not isinstance(value, Mapping) or not {"source"} <= set(value) <= {"source", "weight"}:
        return None
    source, weight = _as_string(value["source"]), as_number(value.get("weight", 1.0))
    return WeightedSource(source, weight) if source and weight is not None and weight > 0 else None


# Type of a field, or what its metadata say to read it as -> how a message calls it, and the conversion, which gives
# None for what it does not accept.
_READERS: Mapping[type, tuple[str, Callable[[Any], Any]]] = types.MappingProxyType(
    {
        str: ("a string", _as_string),
        int: ("an integer", _as_integer),
        float: ("a number", as_number),
        bool: ("true or false", _as_boolean),
        tuple: ("a list of [epochs >= 1, rate > 0] pairs, epochs ascending", _as_drops),
        dict: ("a name or a mapping with a `name`", _as_named),
        WeightedSource: (
            "a string, or a list of different sources, each a string or {source: ..., weight: > 0}",
            _as_sources,
        ),
    }
)
