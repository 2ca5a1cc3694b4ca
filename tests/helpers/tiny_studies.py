"""A plan whose cells train in no time, and results without a training."""

from __future__ import annotations

import copy
from pathlib import Path

import yaml

from egt_tf.files import write_json
from egt_tf.study.folders import StudyFolders
from egt_tf.study.plan import Study
from egt_tf.study.results import CellName, CellResult, TargetResult, cell_to_dict

_PLAN = {
    "title": "Tiny",
    "run": {
        "data": {"train": "synthetic:shapes", "image_size": 16, "augmentation": "none"},
        "episode": {"ways": 2, "shots": 1, "queries": 1},
        "model": {"backbone": {"name": "conv4", "width": 2}, "head": "prototype"},
        "training": {"epochs": 1, "episodes_per_epoch": 2, "validation_episodes": 1, "figure_every": 0},
    },
    "heads": {"prototype": {}},
    "arms": {"plain": {"guidance.mode": "none"}, "guided": {}},
    "seeds": [1, 2],
    "comparisons": [["guided", "plain"]],
    "targets": {"fog": "synthetic:fog"},
    "evaluation": {"episodes": 4, "queries": 2, "curve_episodes": 2},
}


def tiny_plan(**changes) -> dict:
    """The plan with other values of its keys; None leaves a key out."""
    plan = copy.deepcopy({**_PLAN, **changes})
    return {key: value for key, value in plan.items() if value is not None}


def write_plan(folder: Path, **changes) -> Path:
    """The plan as a file, see `tiny_plan`."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_plan(**changes), sort_keys=False))
    return path


def write_result(study: Study, folders: StudyFolders, name: CellName, accuracy: float = 0.5) -> None:
    """The result of a cell that nobody trained."""
    cell = next(cell for cell in study.cells if cell.name == name)
    targets = {target: TargetResult((accuracy, accuracy), f"{target}-id", 0.1, 1.0) for target in study.targets}
    result = CellResult(name, 2, ((2, accuracy),), 0.1, targets)
    write_json(folders.result_file(name), {**study.asked_of(cell), "result": cell_to_dict(result)})
