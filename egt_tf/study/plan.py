"""The plan of a study: a grid of runs, what they are tested on, and which of them are compared."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from egt_tf.config import EpisodeConfig, RunConfig, config_from_dict, config_to_dict, read_mapping, set_value
from egt_tf.data.splits import SPLIT_CHOICES
from egt_tf.errors import ConfigError, check_integer, did_you_mean
from egt_tf.study.results import CellName

# What stands for the folder of the data in the sources of a plan.
ROOT = "{root}"
DEFAULT_SETTING = "default"
_KEYS = (
    "title",
    "description",
    "run",
    "heads",
    "arms",
    "settings",
    "shots",
    "seeds",
    "comparisons",
    "targets",
    "chosen_on",
    "evaluation",
)
_REQUIRED = ("run", "heads", "arms", "targets")


@dataclasses.dataclass(frozen=True)
class StudyEvaluation:
    """How every cell is tested.

    Attributes:
        split: of the targets: "base", "val", "novel" or "all".
        episodes: on each target.
        queries: query images a class; ways and shots are those of the training.
        seed: of the episodes.
        curve_on: the target of the learning curve.
        curve_episodes: episodes on it after every epoch; 0 draws no curve.
    """

    split: str = "all"
    episodes: int = 300
    queries: int = 15
    seed: int = 0
    curve_on: str = ""
    curve_episodes: int = 100


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Attributes:
        name: which.
        settings: the run's configuration as a nested mapping, with `ROOT` for the folder of the data.
    """

    name: CellName
    settings: dict[str, Any]

    def config(self, root: str | None) -> RunConfig:
        """The configuration to train with.

        Args:
            root: the folder of the data.

        Raises:
            ConfigError: the configuration is not as it must be, or it needs a root and there is none.
        """
        return config_from_dict(with_root(self.settings, root), origin=f"the cell {self.name.path}")


@dataclasses.dataclass(frozen=True)
class Study:
    """A plan, checked.

    Attributes:
        name: of its file, without the suffix.
        title, description: for the report.
        cells: in the order they are run in: of a head first all arms of one seed, so that pairs are complete early.
        arms: their names, in order.
        comparisons: pairs of an arm and what it is compared with.
        targets: source of each target by name, with `ROOT` for the folder of the data.
        chosen_on: targets that settings were chosen on; no verdict counts them.
        evaluation: how the cells are tested.
    """

    name: str
    title: str
    description: str
    cells: tuple[Cell, ...]
    arms: tuple[str, ...]
    comparisons: tuple[tuple[str, str], ...]
    targets: dict[str, str]
    chosen_on: tuple[str, ...]
    evaluation: StudyEvaluation

    def episode(self, shots: int, ways: int) -> EpisodeConfig:
        """The shape of the test episodes."""
        return EpisodeConfig(ways, shots, self.evaluation.queries)

    def asked_of(self, cell: Cell) -> dict[str, Any]:
        """What the result of a cell follows from, beside the images, as JSON types."""
        asked = {"settings": cell.settings, "targets": self.targets, "evaluation": dataclasses.asdict(self.evaluation)}
        # Tuples are lists in a file.
        return json.loads(json.dumps(asked))


def load_study(path: Path) -> Study:
    """Reads a plan.

    Raises:
        ConfigError: the file is no YAML mapping; an unknown, misspelt or missing key; an arm or a target that is not
            listed; a cell whose run has no valid configuration; or two cells that are the same run.
        OSError: the file cannot be read.
    """
    return study_from_dict(read_mapping(path), path.stem, str(path))


def study_from_dict(plan: Mapping[str, Any], name: str, origin: str) -> Study:
    """Checks a plan given as a nested mapping; see `load_study`.

    Example:
        >>> plan = {
        ...     "run": {"data": {"image_size": 32}},
        ...     "heads": {"cosine": {"set": {"model.head": "cosine"}}},
        ...     "arms": {"plain": {"guidance.mode": "none"}, "guided": {}},
        ...     "seeds": [1, 2],
        ...     "comparisons": [["guided", "plain"]],
        ...     "targets": {"fog": "synthetic:fog"},
        ... }
        >>> [cell.name.path for cell in study_from_dict(plan, "example", "an example").cells][:2]
        ['default/cosine/5shot/plain/seed1', 'default/cosine/5shot/guided/seed1']
    """
    plan = _mapping(plan, origin)
    _check_names(plan, _KEYS, "key", origin)
    for key in _REQUIRED:
        if not plan.get(key):
            raise ConfigError(f"a study must have `{key}`. Received: none in {origin}")
    heads = {head: _head(value, f"heads.{head}") for head, value in _mapping(plan["heads"], "heads").items()}
    arms = {str(arm): _mapping(value or {}, f"arms.{arm}") for arm, value in _mapping(plan["arms"], "arms").items()}
    for head in heads.values():
        _check_names(head["arms"], arms, "arm", origin)
    targets = {str(target): str(source) for target, source in _mapping(plan["targets"], "targets").items()}
    chosen_on = tuple(map(str, plan.get("chosen_on") or ()))
    _check_names(chosen_on, targets, "target", origin)
    comparisons = tuple((str(a), str(b)) for a, b in _pairs(plan.get("comparisons") or (), origin))
    _check_names(itertools.chain(*comparisons), arms, "arm", origin)
    study = Study(
        name=name,
        title=str(plan.get("title") or name),
        description=str(plan.get("description") or ""),
        cells=tuple(_cells(plan, heads, arms)),
        arms=tuple(arms),
        comparisons=comparisons,
        targets=targets,
        chosen_on=chosen_on,
        evaluation=_evaluation(plan.get("evaluation") or {}, targets, chosen_on, origin),
    )
    _check_different(study.cells)
    return study


def with_root(value: Any, root: str | None) -> Any:
    """A nested value with the folder of the data in the place of `ROOT`.

    Raises:
        ConfigError: it is needed and there is none.

    Example:
        >>> with_root({"train": "folder:{root}/birds"}, "photos")
        {'train': 'folder:photos/birds'}
    """
    if isinstance(value, Mapping):
        return {key: with_root(item, root) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [with_root(item, root) for item in value]
    if not isinstance(value, str) or ROOT not in value:
        return value
    if root is None:
        raise ConfigError(f"the folder of the data must be given with --root. Received: none, for {value!r}")
    return value.replace(ROOT, root)


def _cells(
    plan: Mapping[str, Any], heads: Mapping[str, Mapping[str, Any]], arms: Mapping[str, Mapping[str, Any]]
) -> Iterator[Cell]:
    base = config_to_dict(config_from_dict(_mapping(plan["run"], "run"), origin="`run` of the study"))
    settings = _mapping(plan.get("settings") or {DEFAULT_SETTING: {}}, "settings")
    shots, seeds = (_integers(plan.get(key, default), key) for key, default in (("shots", [5]), ("seeds", [1])))
    for setting, head, shot, seed in itertools.product(settings, heads, shots, seeds):
        for arm in heads[head]["arms"] or arms:
            changes = (
                _mapping(settings[setting] or {}, f"settings.{setting}"),
                heads[head]["set"],
                arms[arm],
                {"episode.shots": shot, "training.seed": seed},
            )
            name = CellName(str(setting), str(head), shot, arm, seed)
            yield Cell(name, _changed(base, changes, name))


def _changed(base: Mapping[str, Any], changes: Sequence[Mapping[str, Any]], name: CellName) -> dict[str, Any]:
    """The configuration of a run, complete and checked."""
    settings = json.loads(json.dumps(base))
    for key, value in itertools.chain.from_iterable(change.items() for change in changes):
        set_value(settings, str(key), value)
    return config_to_dict(config_from_dict(settings, origin=f"the cell {name.path}"))


def _check_different(cells: Sequence[Cell]) -> None:
    known: dict[str, str] = {}
    for cell in cells:
        same = known.setdefault(json.dumps(cell.settings, sort_keys=True), cell.name.path)
        if same != cell.name.path:
            raise ConfigError(
                f"every cell of a study must be another run. Received: {same} and {cell.name.path} with the same settings"
            )


def _head(value: Any, origin: str) -> dict[str, Any]:
    value = _mapping(value, origin)
    _check_names(value, ("set", "arms"), "key", origin)
    return {"set": _mapping(value.get("set") or {}, f"{origin}.set"), "arms": list(map(str, value.get("arms") or ()))}


def _evaluation(
    value: Any, targets: Mapping[str, str], chosen_on: Sequence[str], origin: str
) -> StudyEvaluation:
    value = _mapping(value, "evaluation")
    _check_names(value, [field.name for field in dataclasses.fields(StudyEvaluation)], "key", origin)
    evaluation = StudyEvaluation(**{"curve_on": (*chosen_on, *targets)[0], **value})
    _check_names([evaluation.curve_on], targets, "target", origin)
    _check_names([evaluation.split], SPLIT_CHOICES, "split", origin)
    for key, smallest in (("episodes", 1), ("queries", 1), ("seed", 0), ("curve_episodes", 0)):
        check_integer(f"evaluation.{key}", getattr(evaluation, key), smallest)
    return evaluation


def _check_names(names: Any, known: Any, noun: str, origin: str) -> None:
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ConfigError(
                f"{'an' if noun == 'arm' else 'a'} {noun} of {origin} must be one of {', '.join(known)}. "
                f"Received: {name!r}{hint}"
            )


def _mapping(value: Any, origin: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"`{origin}` must be a mapping. Received: {value!r}")
    return value


def _pairs(value: Any, origin: str) -> list[Sequence[Any]]:
    pairs = value if isinstance(value, (list, tuple)) else [value]
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ConfigError(f"each of the `comparisons` of {origin} must be two arms. Received: {pair!r}")
    return list(pairs)


def _integers(value: Any, key: str) -> list[int]:
    values = value if isinstance(value, (list, tuple)) else [value]
    for each in values:
        check_integer(key, each, 0 if key == "seeds" else 1)
    if not values or len(set(values)) < len(values):
        raise ConfigError(f"`{key}` must be different numbers, at least one. Received: {value!r}")
    return list(values)
