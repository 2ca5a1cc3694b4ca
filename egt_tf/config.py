"""The typed configuration of a run: YAML to frozen objects and back; errors name the key and the file."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from egt_tf.errors import ConfigError, check_integer, nearest_name

STRATEGIES = ("auto", "default", "mirrored", "multiworker")


def _at_least(minimum: float, default: Any) -> Any:
    return dataclasses.field(
        default=default, metadata={"accepts": lambda value: value >= minimum, "rule": f" >= {minimum}"}
    )


def _above(bound: float, default: Any) -> Any:
    return dataclasses.field(default=default, metadata={"accepts": lambda value: value > bound, "rule": f" > {bound}"})


def _share(default: float) -> Any:
    return dataclasses.field(
        default=default, metadata={"accepts": lambda value: 0 <= value < 1, "rule": " >= 0 and < 1"}
    )


def _one_of(choices: tuple[str, ...], default: str) -> Any:
    return dataclasses.field(
        default=default, metadata={"accepts": choices.__contains__, "rule": f", one of {', '.join(choices)}"}
    )


def _named(name: str) -> Any:
    return dataclasses.field(default_factory=lambda: {"name": name})


@dataclasses.dataclass(frozen=True)
class WeightedSource:
    """One of several sources.

    Attributes:
        source: as `egt_tf.data.sources.open_source` takes it ("folder:DIR").
        weight: how often an episode comes from it, relative to the weights of the others.
    """

    source: str
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images a run sees and how they are prepared.

    Attributes:
        train: the training source, as `egt_tf.data.sources.open_source` takes it ("folder:DIR"), or several; each
            episode then comes from one of them.
        validation: the validation source or sources; None means the "val" splits of `train`, with its weights.
        image_size: side of the square network input, in pixels.
        augmentation: "none", "flip", "full" (random resized crop, colour jitter, flip) or "full_erasing" (the same, and
            a random rectangle erased).
        cache_mb: images are kept in memory up to this many MiB, for training and for validation each; 0
            keeps none.
        unreadable: what training and its validation do with an image that cannot be read: "stop", or "skip", which
            draws an episode again without such images and reports them.
    """

    train: str | tuple[WeightedSource, ...] = dataclasses.field(
        default="synthetic:shapes", metadata={"kind": WeightedSource}
    )
    validation: str | tuple[WeightedSource, ...] | None = dataclasses.field(
        default=None, metadata={"kind": WeightedSource}
    )
    image_size: int = _at_least(16, 84)
    augmentation: str = _one_of(("none", "flip", "full", "full_erasing"), "flip")
    cache_mb: int = _at_least(0, 1024)
    unreadable: str = _one_of(("stop", "skip"), "stop")

    @property
    def train_sources(self) -> tuple[WeightedSource, ...]:
        """`train` as a sequence of at least one source."""
        return _sequence(self.train)

    @property
    def validation_sources(self) -> tuple[WeightedSource, ...]:
        """The sources whose "val" splits training validates on."""
        return _sequence(self.train if self.validation is None else self.validation)


def _sequence(sources: str | tuple[WeightedSource, ...]) -> tuple[WeightedSource, ...]:
    return (WeightedSource(sources),) if isinstance(sources, str) else sources


@dataclasses.dataclass(frozen=True)
class EpisodeConfig:
    """The shape of an episode.

    Args:
        ways: classes of the episode, >= 2.
        shots: support images of each class, >= 1.
        queries: query images of each class (not of the whole episode), >= 1.

    Raises:
        ConfigError: a value is no integer or too small.

    Example:
        >>> EpisodeConfig(ways=5, shots=1, queries=16).query_size
        80
    """

    ways: int = _at_least(2, 5)
    shots: int = _at_least(1, 5)
    queries: int = _at_least(1, 16)

    def __post_init__(self) -> None:
        for name, smallest in (("ways", 2), ("shots", 1), ("queries", 1)):
            check_integer(name, getattr(self, name), smallest)

    @property
    def support_size(self) -> int:
        """Support images of the episode, `ways * shots`."""
        return self.ways * self.shots

    @property
    def query_size(self) -> int:
        """Query images of the episode, `ways * queries`."""
        return self.ways * self.queries


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The two parts of the model: each a mapping of its registered `name` and its keyword arguments.

    A bare string stands for a name without arguments. The arguments are checked when the model is built.
    """

    backbone: dict[str, Any] = _named("conv4")
    head: dict[str, Any] = _named("relation")


@dataclasses.dataclass(frozen=True)
class GuidanceConfig:
    """How the relevance of a prediction guides training.

    Attributes:
        mode: "none" (plain training), "guided" (plain and guided loss) or "guided_only".
        plain_weight: xi, the weight of the loss on the plain scores.
        guided_weight: lambda, the weight of the loss on the guided scores; None means 0.5 at one shot,
            else 1.0.
        composite: the registered name of the composite that explains the head, and its arguments.
        detach: whether the weights are constants for the gradient; false as the published CAN trains.
    """

    mode: str = _one_of(("none", "guided", "guided_only"), "guided")
    plain_weight: float = _at_least(0, 1.0)
    guided_weight: float | None = _at_least(0, None)
    composite: dict[str, Any] = _named("fsc")
    detach: bool = True


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast to train.

    Attributes:
        epochs: number of epochs.
        episodes_per_epoch: training episodes between two validations.
        episodes_per_step: episodes that share one update of the weights.
        optimizer: the registered name of the optimizer, and its arguments.
        learning_rate: of the optimizer, from the first epoch on; a schedule starts from it, or climbs to it.
        learning_rate_drops: pairs of the number of finished epochs and the rate from there on, epochs ascending;
            another way to write the schedule "drops".
        schedule: the registered name of the learning rate's schedule, and its arguments.
        clip_norm: largest norm of all gradients together, to which a larger one is scaled down; None for no limit.
        warm_start: a run folder or a weight file (.npz) whose backbone the training starts from; the head starts from
            random weights. None starts both so.
        learn_transformation: learn the strength of the backbone's feature-wise transformation from a second episode
            a step, of another of the sources of `data.train`.
        transformation_learning_rate: of that strength.
        validation_episodes: episodes the model is validated on after every epoch.
        checkpoint_every: steps between two checkpoints, which a training resumes from; there is one after every epoch
            too, and with 0 no others.
        keep_checkpoints: number of the newest checkpoints that are kept.
        figure_every: epochs from one picture of explained validation queries to the next; 0 draws none.
        seed: fixes the initial weights, the episodes and the augmentation.
        strategy: "default" (one device), "mirrored" (all GPUs of this machine), "multiworker" (several machines, which
            TF_CONFIG names) or "auto" (the one of them that the GPUs and TF_CONFIG suggest).
        batch_statistics: which images a normalisation that does not tell episodes apart takes its statistics from, in
            training: those of all episodes of a "step", or of the episodes that a "replica" has of it.
        precision: "float32", "mixed_float16" or "mixed_bfloat16": of the layers' outputs, in training alone.
        xla: whether XLA compiles the training step.
        steps_per_execution: steps that TensorFlow runs without coming back to Python; it must divide those of an epoch.
    """

    epochs: int = _at_least(1, 15)
    episodes_per_epoch: int = _at_least(1, 100)
    episodes_per_step: int = _at_least(1, 1)
    optimizer: dict[str, Any] = _named("adam")
    learning_rate: float = _above(0, 1e-3)
    learning_rate_drops: tuple[tuple[int, float], ...] = ()
    schedule: dict[str, Any] = _named("constant")
    clip_norm: float | None = _above(0, None)
    warm_start: str | None = None
    learn_transformation: bool = False
    transformation_learning_rate: float = _above(0, 1e-3)
    validation_episodes: int = _at_least(1, 100)
    checkpoint_every: int = _at_least(0, 500)
    keep_checkpoints: int = _at_least(1, 3)
    figure_every: int = _at_least(0, 5)
    seed: int = _at_least(0, 1)
    strategy: str = _one_of(STRATEGIES, "auto")
    batch_statistics: str = _one_of(("step", "replica"), "step")
    precision: str = _one_of(("float32", "mixed_float16", "mixed_bfloat16"), "float32")
    xla: bool = False
    steps_per_execution: int = _at_least(1, 1)


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """How a backbone is pre-trained; the optimizer, its rate, the seed and the checkpoints are those of `training`.

    Attributes:
        epochs: number of passes over the training images.
        batch_size: images that share one update of the weights.
        validation_share: part of the images of each class that is held out for validation, below 1; 0 validates on
            the training images.
    """

    epochs: int = _at_least(1, 10)
    batch_size: int = _at_least(2, 16)
    validation_share: float = _share(0.1)


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that, beside the images themselves, determines a training run."""

    data: DataConfig = DataConfig()
    episode: EpisodeConfig = EpisodeConfig()
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    guidance: GuidanceConfig = dataclasses.field(default_factory=GuidanceConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    pretrain: PretrainConfig = PretrainConfig()


def load_config(path: str | os.PathLike, overrides: Iterable[str] = ()) -> RunConfig:
    """Reads a YAML file; keys it leaves out have their default values.

    Args:
        path: the file.
        overrides: "section.key=value" strings that win over the file.

    Raises:
        ConfigError: no YAML mapping, a key given twice or unknown, a value of the wrong type or range.
        OSError: the file cannot be read.
    """
    config = config_from_dict(_read_yaml(Path(path)), origin=str(path))
    overrides = list(overrides)
    if not overrides:
        return config
    return config_from_dict(apply_overrides(config_to_dict(config), overrides), origin="the overrides")


def config_from_dict(data: Mapping[str, Any], origin: str) -> RunConfig:
    """Checks a nested mapping and turns it into a `RunConfig`.

    Args:
        data: sections and keys named as the attributes of `RunConfig`; what is left out has its default.
        origin: where the mapping comes from, for the messages ("run.yaml").

    Raises:
        ConfigError: an unknown key, or a value of the wrong type or range.
    """
    return _build(RunConfig, data, origin, prefix="")


def apply_overrides(mapping: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Returns a copy of `mapping` with every "section.key=value" set; values are read as YAML.

    Raises:
        ConfigError: an override without "=", with a value that is no YAML, or below a key that is no section.
    """
    result = _copied(mapping)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"an override must be written section.key=value. Received: {override!r}")
        _set(result, key, _parse_yaml(text, origin=f"the override {override!r}"))
    return result


def config_to_dict(config: RunConfig) -> dict[str, Any]:
    """The nested dictionary that `config_from_dict` turns into an equal configuration."""
    return _as_yaml(dataclasses.asdict(config))


# Unicode's own line breaks.
_LINE_BREAKS = frozenset("\x85\u2028\u2029")


def _as_yaml(value: Any) -> Any:
    """Lists for tuples, which YAML does not have."""
    if isinstance(value, dict):
        return {key: _as_yaml(item) for key, item in value.items()}
    return [_as_yaml(item) for item in value] if isinstance(value, (list, tuple)) else value


def config_to_yaml(config: RunConfig) -> str:
    """YAML text that `load_config` turns into an equal configuration; every key is written out."""
    text = yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=True)
    if _LINE_BREAKS.isdisjoint(text):
        return text
    # Written as they are, they would be read as line breaks of the YAML, and folded.
    return yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=False)


# === Reading ===


def _read_yaml(path: Path) -> Mapping[str, Any]:
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


def _copied(value: Any) -> Any:
    return {key: _copied(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _set(mapping: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        mapping = mapping.setdefault(section, {})
        if not isinstance(mapping, dict):
            raise ConfigError(
                f"an override must name a key of a section. Received: {key!r}, where {section!r} is no section"
            )
    mapping[last] = value


# === Checking ===


def _build(cls: type, data: Any, origin: str, prefix: str) -> Any:
    if not isinstance(data, Mapping):
        where = f"`{prefix[:-1]}` in {origin}" if prefix else origin
        raise ConfigError(f"{where} must be a mapping of keys. Received: {data!r}")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for key in data:
        if key not in fields:
            hint = _suggestion(str(key), fields, prefix)
            raise ConfigError(f"unknown key {prefix + str(key)!r} in {origin}; {hint}")
    return cls(**{key: _checked(fields[key], hints[key], data[key], origin, prefix) for key in data})


def _checked(field: dataclasses.Field, hint: Any, value: Any, origin: str, prefix: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(hint, {} if value is None else value, origin, f"{prefix}{field.name}.")
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and types.NoneType in kinds:
        return None
    noun, convert = _KINDS[field.metadata.get("kind", typing.get_origin(kinds[0]) or kinds[0])]
    result = convert(value)
    if result is None or not field.metadata.get("accepts", lambda _: True)(result):
        rule = noun + field.metadata.get("rule", "") + (", or null" if types.NoneType in kinds else "")
        raise ConfigError(f"`{prefix}{field.name}` in {origin} must be {rule}. Received: {value!r}")
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


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        # YAML 1.1 reads `3e-4`, which has no dot, as a string.
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _as_named(value: Any) -> dict[str, Any] | None:
    value = {"name": value} if isinstance(value, str) else value
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return None
    return dict(value) if _as_string(value.get("name")) else None


def _as_drops(value: Any) -> tuple[tuple[int, float], ...] | None:
    if not isinstance(value, (list, tuple)) or not all(isinstance(p, (list, tuple)) and len(p) == 2 for p in value):
        return None
    drops = tuple((_as_integer(epochs), _as_number(rate)) for epochs, rate in value)
    if any(epochs is None or epochs < 1 or rate is None or rate <= 0 for epochs, rate in drops):
        return None
    ascending = all(first < second for (first, _), (second, _) in itertools.pairwise(drops))
    return drops if ascending else None


def _as_sources(value: Any) -> str | tuple[WeightedSource, ...] | None:
    if not isinstance(value, (list, tuple)):
        return _as_string(value)
    sources = tuple(map(_as_weighted, value))
    distinct = None not in sources and len({each.source for each in sources}) == len(sources) > 0
    return sources if distinct else None


def _as_weighted(value: Any) -> WeightedSource | None:
    value = {"source": value} if isinstance(value, str) else value
    if not isinstance(value, Mapping) or not {"source"} <= set(value) <= {"source", "weight"}:
        return None
    source, weight = _as_string(value["source"]), _as_number(value.get("weight", 1.0))
    return WeightedSource(source, weight) if source and weight is not None and weight > 0 else None


# Type of a field, or what its metadata name as its kind -> how a message calls it, and the conversion, which gives None
# for what it does not accept.
_KINDS: Mapping[type, tuple[str, Callable[[Any], Any]]] = types.MappingProxyType(
    {
        str: ("a string", _as_string),
        int: ("an integer", _as_integer),
        float: ("a number", _as_number),
        bool: ("true or false", _as_boolean),
        tuple: ("a list of [epochs >= 1, rate > 0] pairs, epochs ascending", _as_drops),
        dict: ("a name or a mapping with a `name`", _as_named),
        WeightedSource: (
            "a string, or a list of different sources, each a string or {source: ..., weight: > 0}",
            _as_sources,
        ),
    }
)
