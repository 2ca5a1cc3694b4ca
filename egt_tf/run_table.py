"""What the runs below a folder are and how far they got, read from their files alone; a damaged run is a row too."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import operator
import os
import time
import types
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from egt_tf.config import RunConfig
from egt_tf.errors import EgtError, RunError
from egt_tf.runs import RunFolder

# Folders below the one that is searched: runs/NAME and runs/GROUP/NAME.
DEPTH = 2


@dataclasses.dataclass(frozen=True)
class EvaluationRow:
    """One evaluation of a run.

    Attributes:
        source, split: which classes.
        ways, shots, queries, episodes: of what episodes; queries a class.
        inference: "inductive" or "transductive".
        accuracy: mean over the episodes, in [0, 1].
        interval: half the width of its 95 % interval; None for a single episode.
        calibration_error: expected calibration error with 15 bins, in [0, 1]; None where it is not known, as in the
            files of older versions.
        negative_log_likelihood: mean of the true class, in nats, >= 0; None where it is not known.
    """

    source: str
    split: str
    ways: int
    shots: int
    queries: int
    episodes: int
    inference: str
    accuracy: float
    interval: float | None
    calibration_error: float | None = None
    negative_log_likelihood: float | None = None


@dataclasses.dataclass(frozen=True)
class RunRow:
    """One run. What is not known, because its file is missing or damaged, is None.

    Attributes:
        name: path of the folder, relative to the one that was searched.
        path: of the folder.
        head, backbone: registered names.
        data: training sources.
        guidance: mode.
        epochs_done, epochs_planned: of the training; a converted run has done 0.
        accuracy, interval: the best validation accuracy in [0, 1] and half its 95 % interval.
        chance: the accuracy of guessing in validation, in [0, 1]; None for a pre-training.
        evaluations: by source, split and shape.
        written: when the training last wrote, in local time, "2026-11-24T15:47:06+0000".
        problems: what is wrong, a sentence each.
    """

    name: str
    path: str
    head: str | None
    backbone: str | None
    data: tuple[str, ...] | None
    guidance: str | None
    epochs_done: int | None
    epochs_planned: int | None
    accuracy: float | None
    interval: float | None
    chance: float | None
    evaluations: tuple[EvaluationRow, ...]
    written: str | None
    problems: tuple[str, ...]


# By what rows are sorted, the largest first.
ORDERS: Mapping[str, Callable[[RunRow], Any]] = types.MappingProxyType(
    {
        "accuracy": lambda row: row.accuracy,
        "epochs": lambda row: row.epochs_done,
        "written": lambda row: row.written,
    }
)
SORTS = ("name", *ORDERS)
# Of evaluations: none of these may be unknown.
_ORDER = operator.attrgetter("source", "split", "ways", "shots", "queries", "episodes", "inference", "accuracy")


def list_runs(root: str | os.PathLike, sort: str = "name") -> list[RunRow]:
    """The runs in a folder and in the folders below it; a run folder itself is a list of one.

    Args:
        root: the folder.
        sort: "name", "accuracy" (best first), "epochs" (most first) or "written" (newest first); rows without the value
            come last.

    Raises:
        RunError: `root` is no folder, or `sort` is unknown.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     RunFolder(Path(folder) / "demo").create(RunConfig())
        ...     [(row.name, row.head, row.epochs_done) for row in list_runs(folder)]
        [('demo', 'relation', 0)]
    """
    root = Path(root)
    if sort not in SORTS:
        raise RunError(f"`sort` must be one of {', '.join(SORTS)}. Received: sort={sort!r}")
    if not root.is_dir():
        raise RunError(
            f"the folder of runs must exist. Received: {root}, no such folder; the first training makes it: "
            f"egt-tf train --config demo --run {root}/demo"
        )
    rows = sorted((_row(RunFolder(path), root) for path in _run_folders(root, DEPTH)), key=lambda row: row.name)
    if sort == "name":
        return rows
    value = ORDERS[sort]
    known = sorted((row for row in rows if value(row) is not None), key=value, reverse=True)
    return known + [row for row in rows if value(row) is None]


def read_evaluation(path: Path) -> EvaluationRow:
    """Reads an evaluation of a run.

    Raises:
        RunError: the file is damaged.
        OSError: it cannot be read.

    Example:
        >>> read_evaluation(Path("configs/demo.yaml"))
        Traceback (most recent call last):
        egt_tf.errors.RunError: configs/demo.yaml must be a result as `egt-tf evaluate` writes it. Received: ...
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        # Those with a default are younger than the rest.
        fields = [each for each in dataclasses.fields(EvaluationRow) if each.default is MISSING or each.name in record]
        row = EvaluationRow(**{field.name: record[field.name] for field in fields})
    except (ValueError, KeyError, TypeError) as error:
        reason = f"no {error.args[0]}" if isinstance(error, KeyError) else error
        raise RunError(f"{path} must be a result as `egt-tf evaluate` writes it. Received: {reason}") from error
    texts, counts = (row.source, row.split, row.inference), (row.ways, row.shots, row.queries, row.episodes)
    if not (
        all(isinstance(text, str) for text in texts)
        and all(type(count) is int for count in counts)
        and _is_share(row.accuracy)
        and (row.interval is None or _is_share(row.interval))
        and (row.calibration_error is None or _is_share(row.calibration_error))
        and (row.negative_log_likelihood is None or _is_loss(row.negative_log_likelihood))
    ):
        raise RunError(f"{path} must be a result as `egt-tf evaluate` writes it. Received: values of other kinds")
    return row


def _run_folders(folder: Path, depth: int) -> Iterator[Path]:
    """Folders that hold what a training writes, even if the rest is lost; nothing inside a run is searched."""
    run = RunFolder(folder)
    # Unlike the method of a path, it is False for what lies in a folder that may not be read.
    if any(map(os.path.isfile, (run.config_file, run.metrics_file, *_weight_files(run)))):
        yield folder
    elif depth:
        try:
            below = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())
        except OSError:
            return
        for path in below:
            yield from _run_folders(Path(path), depth - 1)


def _row(run: RunFolder, root: Path) -> RunRow:
    problems: list[str] = []
    config = _tried(run.config, problems)
    epochs = _tried(lambda: _epochs(run), problems)
    best = max(epochs or [], key=lambda row: row["val_accuracy"], default=None)
    problems += weight_problems(run, bool(epochs))
    evaluations = [_tried(functools.partial(read_evaluation, file), problems) for file in run.evaluation_files()]
    name = str(run.path.relative_to(root)) if run.path != root else run.path.resolve().name
    return RunRow(
        name=name,
        path=str(run.path),
        **_described(config, run.backbone_file.is_file()),
        epochs_done=None if epochs is None else len(epochs),
        accuracy=best and float(best["val_accuracy"]),
        interval=None if best is None else best.get("val_interval"),
        evaluations=tuple(sorted(filter(None, evaluations), key=_ORDER)),
        written=_written(run),
        problems=tuple(problems),
    )


def _described(config: RunConfig | None, pretraining: bool) -> dict[str, Any]:
    if config is None:
        return dict.fromkeys(("head", "backbone", "data", "guidance", "epochs_planned", "chance"))
    described = {
        "backbone": config.model.backbone["name"],
        "data": tuple(each.source for each in config.data.train_sources),
    }
    if pretraining:
        return {**described, "head": None, "guidance": None, "epochs_planned": config.pretrain.epochs, "chance": None}
    return {
        **described,
        "head": config.model.head["name"],
        "guidance": config.guidance.mode,
        "epochs_planned": config.training.epochs,
        "chance": 1 / config.episode.ways,
    }


def _tried(read: Callable[[], Any], problems: list[str]) -> Any:
    """What `read` gives, or None and its error among the problems."""
    try:
        return read()
    except EgtError as error:
        problems.append(str(error))
    except OSError as error:
        problems.append(f"cannot read {error.filename}: {error.strerror}")
    return None


def _epochs(run: RunFolder) -> list[dict[str, Any]]:
    rows = run.metrics()
    for number, row in enumerate(rows, start=1):
        # A pre-training measures no episodes and has no interval, nor has a single episode.
        if not (
            isinstance(row, dict)
            and _is_share(row.get("val_accuracy"))
            and (row.get("val_interval") is None or _is_share(row["val_interval"]))
        ):
            raise RunError(
                f"each line of {run.metrics_file} must hold a `val_accuracy`, and a `val_interval` if any, "
                f"in [0, 1]. Received: another line {number}"
            )
    return rows


def _weight_files(run: RunFolder) -> list[Path]:
    try:
        checkpoints = sorted(run.checkpoints_folder.glob("*.npz"))
    except OSError:
        checkpoints = []
    return [run.best_file, run.backbone_file, run.last_file, *checkpoints]


def weight_problems(run: RunFolder, trained: bool) -> list[str]:
    """What is wrong with the weight files of a run, a sentence each; the arrays in them are not looked at.

    Args:
        run: its folder.
        trained: whether it has finished an epoch.

    Example:
        >>> weight_problems(RunFolder(Path("no/such/run")), trained=False)
        []
    """
    problems = [
        # An archive of arrays ends with its table of contents, so that a shortened one has none.
        f"the weights {file} are damaged: no .npz archive"
        for file in _weight_files(run)
        if file.is_file() and not zipfile.is_zipfile(file)
    ]
    if trained and not run.best_file.is_file() and not run.backbone_file.is_file():
        problems.append(f"the run has finished an epoch but {run.best_file} is missing")
    return problems


def _is_share(value: Any) -> bool:
    return _is_loss(value) and value <= 1


def _is_loss(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def _written(run: RunFolder) -> str | None:
    files = (run.metrics_file, *_weight_files(run), run.config_file)
    times = [file.stat().st_mtime for file in files if file.is_file()]
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(max(times))) if times else None
