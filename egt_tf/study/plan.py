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
from egt_tf.errors import ConfigError, check_integer
from egt_tf.study.plan_parts import (
    changes_at,
    check_known,
    integers_at,
    mapping_at,
    named_parts,
    names_at,
    pairs_at,
    text_at,
)
from egt_tf.study.results import DEFAULT_SETTING, CellName

# What stands for the folder of the data in the sources of a plan.
ROOT = "{root}"
KEYS = (
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

    Example:
        >>> StudyEvaluation(curve_on="flowers17").episodes
        300
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

    Example:
        >>> cell = Cell(CellName("default", "cosine", 5, "plain", 1), {"data": {"train": "folder:{root}/birds"}})
        >>> cell.config("photos").data.train
        'folder:photos/birds'
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
class _Head:
    changes: Mapping[str, Any]
    arms: tuple[str, ...]


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

    Example:
        >>> evaluation = StudyEvaluation(episodes=50)
        >>> study = Study("example", "An example", "", (), ("plain",), (), {"fog": "synthetic:fog"}, (), evaluation)
        >>> study.asked_of(Cell(CellName("default", "cosine", 5, "plain", 1), {}))["targets"]
        {'fog': 'synthetic:fog'}
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

    def test_episode(self, of_training: EpisodeConfig) -> EpisodeConfig:
        """The shape of the test episodes of a cell, from that of its training episodes."""
        return dataclasses.replace(of_training, queries=self.evaluation.queries)

    def asked_of(self, cell: Cell) -> dict[str, Any]:
        """What the result of a cell follows from, beside the images, as JSON types."""
        asked = {"settings": cell.settings, "targets": self.targets, "evaluation": dataclasses.asdict(self.evaluation)}
        # Tuples are lists in a file.
        return json.loads(json.dumps(asked))


def load_study(path: Path) -> Study:
    """Reads a plan.

    Raises:
        ConfigError: the file is no YAML mapping; a key, an arm, a target or a split is unknown, misspelt or missing; a
            cell's run has no valid configuration; or two cells are the same run.
        OSError: the file cannot be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "small.yaml"
        >>> _ = path.write_text(
        ...     "{run: {}, heads: {cosine: {set: {model.head: cosine}}}, arms: {plain: {}}, targets: {fog: synthetic:fog}}")
        >>> load_study(path).name
        'small'
    """
    return study_from_dict(read_mapping(path), path.stem, str(path))


def study_from_dict(plan: Any, name: str, origin: str) -> Study:
    """Checks a plan given as a nested mapping.

    Args:
        plan: what docs/studies.md describes.
        name: of the study.
        origin: where the plan comes from, for the messages ("plan.yaml").

    Raises:
        ConfigError: see `load_study`.

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
    plan = mapping_at(plan, origin)
    check_known(plan, KEYS, "key", origin)
    for key in _REQUIRED:
        if plan.get(key) is None:
            raise ConfigError(f"a study must have `{key}`. Received: none in {origin}")
    arms = {
        arm: changes_at(value, f"`arms.{arm}` of {origin}")
        for arm, value in named_parts(plan["arms"], f"`arms` of {origin}").items()
    }
    heads = {
        head: _read_head(value, arms, f"heads.{head}", origin)
        for head, value in named_parts(plan["heads"], f"`heads` of {origin}").items()
    }
    targets = {
        target: text_at("" if source is None else source, "", f"`targets.{target}` of {origin}")
        for target, source in named_parts(plan["targets"], f"`targets` of {origin}").items()
    }
    chosen_on = names_at(plan.get("chosen_on"), targets, "target", f"`chosen_on` of {origin}")
    comparisons = pairs_at(plan.get("comparisons"), arms, "arm", f"`comparisons` of {origin}")
    _check_used(arms, comparisons, heads, origin)
    cells = tuple(_cells(plan, heads, arms, origin))
    _check_different(cells)
    return Study(
        name=name,
        title=text_at(plan.get("title"), name, f"`title` of {origin}"),
        description=text_at(plan.get("description"), "", f"`description` of {origin}"),
        cells=cells,
        arms=tuple(arms),
        comparisons=comparisons,
        targets=targets,
        chosen_on=chosen_on,
        evaluation=_read_evaluation(plan.get("evaluation"), targets, chosen_on, origin),
    )


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


def _read_head(value: Any, arms: Mapping[str, Any], key: str, origin: str) -> _Head:
    value = mapping_at(value, f"`{key}` of {origin}")
    check_known(value, ("set", "arms"), "key", f"`{key}` of {origin}")
    used = names_at(value.get("arms"), arms, "arm", f"`{key}.arms` of {origin}")
    return _Head(changes_at(value.get("set"), f"`{key}.set` of {origin}"), used or tuple(arms))


def _read_evaluation(value: Any, targets: Mapping[str, str], chosen_on: Sequence[str], origin: str) -> StudyEvaluation:
    where = f"`evaluation` of {origin}"
    value = mapping_at(value, where)
    check_known(value, [field.name for field in dataclasses.fields(StudyEvaluation)], "key", where)
    evaluation = StudyEvaluation(**{"curve_on": (*chosen_on, *targets)[0], **value})
    check_known([evaluation.curve_on], targets, "target", where)
    check_known([evaluation.split], SPLIT_CHOICES, "split", where)
    for key, smallest in (("episodes", 1), ("queries", 1), ("seed", 0), ("curve_episodes", 0)):
        check_integer(f"evaluation.{key}", getattr(evaluation, key), smallest)
    return evaluation


def _cells(
    plan: Mapping[str, Any], heads: Mapping[str, _Head], arms: Mapping[str, Mapping[str, Any]], origin: str
) -> Iterator[Cell]:
    run = config_from_dict(mapping_at(plan["run"], f"`run` of {origin}"), origin=f"`run` of {origin}")
    given = plan.get("settings")
    settings = {
        setting: changes_at(value, f"`settings.{setting}` of {origin}")
        for setting, value in named_parts(
            {DEFAULT_SETTING: {}} if given is None else given, f"`settings` of {origin}"
        ).items()
    }
    shots = integers_at(plan.get("shots", [run.episode.shots]), 1, "shots", origin)
    seeds = integers_at(plan.get("seeds", [run.training.seed]), 0, "seeds", origin)
    for setting, head, shot, seed in itertools.product(settings, heads, shots, seeds):
        for arm in heads[head].arms:
            name = CellName(setting, head, shot, arm, seed)
            of_grid = {"episode.shots": shot, "training.seed": seed}
            changes = (settings[setting], heads[head].changes, arms[arm], of_grid)
            yield Cell(name, _changed(config_to_dict(run), changes, f"the cell {name.path} of {origin}"))


def _changed(base: Mapping[str, Any], changes: Sequence[Mapping[str, Any]], origin: str) -> dict[str, Any]:
    """The configuration of a run, complete and checked."""
    settings = json.loads(json.dumps(base))
    for key, value in itertools.chain.from_iterable(change.items() for change in changes):
        set_value(settings, key, value)
    return config_to_dict(config_from_dict(settings, origin))


def _check_used(
    arms: Mapping[str, Any], comparisons: Sequence[tuple[str, str]], heads: Mapping[str, _Head], origin: str
) -> None:
    """Checks that no arm and no comparison is there in vain."""
    for arm in arms:
        if not any(arm in head.arms for head in heads.values()):
            raise ConfigError(
                f"every arm of {origin} must be one of a head's `arms`. Received: {arm!r}, which no head has"
            )
    for pair in comparisons:
        if not any(set(pair) <= set(head.arms) for head in heads.values()):
            raise ConfigError(
                f"the arms of a comparison of {origin} must be ones that a head has both of. Received: {list(pair)}"
            )


def _check_different(cells: Sequence[Cell]) -> None:
    known: dict[str, str] = {}
    for cell in cells:
        same = known.setdefault(json.dumps(cell.settings, sort_keys=True), cell.name.path)
        if same != cell.name.path:
            raise ConfigError(
                f"every cell of a study must be another run. Received: {same} and {cell.name.path} with the same settings"
            )
