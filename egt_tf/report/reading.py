"""Reads what a run folder holds; a damaged file is a problem of its part, and the rest is read all the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from egt_tf.errors import EgtError, RunError
from egt_tf.report.facts import (
    AttackedAccuracy,
    AttackResult,
    ClassCount,
    ConfusedClasses,
    ConfusedPair,
    Environment,
    Evaluation,
    JudgedMeasure,
    JudgedMethods,
    Part,
    Problem,
    ReliabilityPoint,
    RunFacts,
    RunKind,
)
from egt_tf.report.records import Record, is_number, read_record
from egt_tf.run_table import read_evaluation, weight_problems
from egt_tf.runs import RunFolder

_Found = TypeVar("_Found")
_PNG = b"\x89PNG\r\n\x1a\n"
# Of evaluate-explanations, with what they show.
_PICTURES = {
    "perturbation.png": "Perturbation curves",
    "randomization.png": "What is left of the maps while layers lose their weights",
}


def read_facts(run: RunFolder) -> RunFacts:
    """All that the files of a run say; its examples are not explained, see `egt_tf.report.examples`.

    Raises:
        RunError: the folder is missing or no run folder.
        ConfigError: its configuration is damaged; without one nothing of the run can be understood.

    Example:
        >>> read_facts(RunFolder(Path("no/such/run")))
        Traceback (most recent call last):
        egt_tf.errors.RunError: the run folder no/such/run must exist. Received: no such folder
    """
    config, problems = run.config(), _Problems()
    epochs = _read_epochs(run, problems)
    for text in weight_problems(run, bool(epochs)):
        problems.add(Part.TRAINING, text)
    environment = problems.tried(Part.ENVIRONMENT, run.environment_file, _read_environment)
    attack_files = sorted(run.attack_file("any").parent.glob("*.json"))
    return RunFacts(
        name=run.path.resolve().name,
        path=str(run.path),
        config=config,
        kind=_kind(run, environment),
        epochs=epochs,
        evaluations=sorted(problems.each(Part.EVALUATIONS, run.evaluation_files(), _read_evaluation), key=_order),
        judged=problems.tried(Part.EXPLANATIONS, run.path / "explanations" / "explanations.json", _read_judged),
        attacks=_different(problems.each(Part.ATTACKS, attack_files, _read_attacks)),
        environment=environment,
        problems=tuple(problems.found),
    )


class _Problems:
    """Collects what is damaged."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, part: Part, text: str) -> None:
        self.found.append(Problem(part, text))

    def tried(self, part: Part, path: Path, read: Callable[[Path], _Found]) -> _Found | None:
        """What `read` makes of a file; None where there is no such file, or it is damaged."""
        try:
            return read(path)
        except FileNotFoundError:
            return None
        except EgtError as error:
            self.add(part, str(error))
        except OSError as error:
            self.add(part, f"cannot read {path}: {error.strerror or error}")
        return None

    def each(self, part: Part, paths: Iterable[Path], read: Callable[[Path], _Found]) -> list[_Found]:
        """Of all files that are not damaged."""
        found = (self.tried(part, path, read) for path in paths)
        return [each for each in found if each is not None]


def _kind(run: RunFolder, environment: Environment | None) -> RunKind:
    if run.backbone_file.is_file():
        return RunKind.PRETRAINED
    return RunKind.CONVERTED if environment is not None and environment.checkpoint is not None else RunKind.TRAINED


# === Training ===


def _read_epochs(run: RunFolder, problems: _Problems) -> list[dict[str, float]]:
    """The epochs of all lines that are whole."""
    lines = problems.tried(Part.TRAINING, run.metrics_file, _lines) or []
    epochs = []
    for number, line in enumerate(lines, start=1):
        try:
            values = Record(json.loads(line), f"line {number}").values
        except (ValueError, RecursionError) as error:
            problems.add(Part.TRAINING, f"line {number} of {run.metrics_file} is damaged and left out: {error}")
            continue
        numbers = {str(key): float(value) for key, value in values.items() if is_number(value)}
        epochs.append({"epoch": float(number), **numbers})
    return epochs


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


# === Evaluations ===


def _read_evaluation(path: Path) -> Evaluation:
    row, record = read_evaluation(path), read_record(path)
    points = record.records("calibration_bins") if record.values.get("calibration_bins") else None
    return Evaluation(
        row=row,
        seed=record.count("seed"),
        tied=record.share_or_none("tied"),
        points=None if points is None else tuple(map(_point, points)),
        confusion=None if record.values.get("confusion") is None else _confusion(record.record("confusion")),
    )


def _point(record: Record) -> ReliabilityPoint:
    return ReliabilityPoint(record.count("queries"), record.share("confidence"), record.share("accuracy"))


def _confusion(record: Record) -> ConfusedClasses:
    classes = tuple(
        ClassCount(each.text("name"), each.count("queries"), each.count("right")) for each in record.records("classes")
    )
    pairs = tuple(_pair(each, len(classes)) for each in record.records("pairs"))
    return ConfusedClasses(classes, pairs)


def _pair(record: Record, classes: int) -> ConfusedPair:
    pair = ConfusedPair(*(record.count(key) for key in ("class", "taken_for", "queries", "of")))
    if max(pair.true, pair.taken_for) >= classes or not 0 < pair.queries <= pair.of:
        raise RunError(f"{record.what} must name two of {classes} classes, and a share. Received: {pair}")
    return pair


def _order(evaluation: Evaluation) -> tuple[str | int | float, ...]:
    row = evaluation.row
    return (row.source, row.split, row.ways, row.shots, row.inference, row.episodes, evaluation.seed, row.accuracy)


# === Explanations ===


def _read_judged(path: Path) -> JudgedMethods:
    record = read_record(path)
    measures = record.record("measures")
    found = tuple(_measure(measures, name) for name in measures.values)
    if not found:
        raise RunError(f"{path} must hold measures as `egt-tf evaluate-explanations` writes them. Received: none")
    pictures = {title: content for name, title in _PICTURES.items() if (content := _png(path.with_name(name)))}
    return JudgedMethods(
        source=record.text("data"),
        split=record.text("split"),
        ways=record.count("ways"),
        shots=record.count("shots"),
        queries=_query_count(measures.record(found[0].name).record("queries").values),
        quick=record.flag("quick"),
        measures=found,
        pictures=pictures,
    )


def _measure(measures: Record, name: str) -> JudgedMeasure:
    record = measures.record(name)
    means, intervals = record.numbers("mean"), record.numbers("interval")
    if not means or means.keys() != intervals.keys():
        raise RunError(f"{record.what} must have a mean and an interval of the same methods. Received: others")
    return JudgedMeasure(name, record.text("title"), record.text("better"), means, intervals)


def _query_count(queries: Mapping[str, object]) -> int:
    return max((len(values) for values in queries.values() if isinstance(values, list)), default=0)


def _png(path: Path) -> bytes | None:
    """The content of a picture, if it is one."""
    content = path.read_bytes() if path.is_file() else b""
    return content if content.startswith(_PNG) else None


# === Attacks ===


def _read_attacks(path: Path) -> list[AttackResult]:
    """A file holds one measurement, or several degrees of noise."""
    record = read_record(path)
    return list(map(_attack, record.records("results") if "results" in record.values else [record]))


def _attack(record: Record) -> AttackResult:
    attack = record.record("attack")
    return AttackResult(
        name=record.text("name"),
        source=record.text("source"),
        split=record.text("split"),
        ways=record.count("ways"),
        shots=record.count("shots"),
        episodes=record.count("episodes"),
        attack=attack.text("name"),
        epsilon=attack.share("epsilon"),
        steps=attack.count("steps"),
        support=record.flag("attack_support"),
        degree=record.number_or_none("degree"),
        clean=_accuracy(record.record("clean")),
        attacked=_accuracy(record.record("attacked")),
        success=record.share_or_none("success"),
        success_interval=record.share_or_none("success_interval"),
    )


def _accuracy(record: Record) -> AttackedAccuracy:
    return AttackedAccuracy(
        record.share("accuracy"), record.share_or_none("interval"), record.share_or_none("calibration_error")
    )


def _different(files: Iterable[list[AttackResult]]) -> list[AttackResult]:
    """Each once: those of a trend have files of their own, too."""
    by_name = {result.name: result for results in files for result in results}
    return [by_name[name] for name in sorted(by_name)]


# === Environment ===


def _read_environment(path: Path) -> Environment:
    record = read_record(path)
    packages = record.record("packages").values if "packages" in record.values else {}
    rows = {
        "started": record.values.get("started"),
        "seed": record.values.get("seed"),
        "Python": record.values.get("python"),
        "platform": record.values.get("platform"),
        **packages,
    }
    command = record.values.get("command")
    origin = record.values.get("origin")
    return Environment(
        rows={str(name): str(value) for name, value in rows.items() if value is not None},
        command=tuple(map(str, command)) if isinstance(command, list) else (),
        checkpoint=None if origin is None else _words(record.record("origin").values),
    )


def _words(values: Mapping[str, object]) -> dict[str, str]:
    return {str(key): value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
