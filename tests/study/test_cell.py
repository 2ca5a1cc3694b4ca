"""A cell trained in this process. What happens to it when its process is killed: tests/cli/test_study.py."""

from __future__ import annotations

import json

import numpy as np
import pytest

from egt_tf.data.pipeline import StepPart
from egt_tf.errors import RunError
from egt_tf.study.cell import run_cell
from egt_tf.study.folders import StudyFolders
from egt_tf.study.plan import study_from_dict
from egt_tf.study.runner import finished_cells
from egt_tf.training.run_data import open_data, training_steps
from tests.helpers.tiny_studies import tiny_plan


def study(**changes):
    return study_from_dict(tiny_plan(**changes), "tiny", "plan.yaml")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folders of a study with one finished cell, and the lines that it reported."""
    folders, lines = StudyFolders(*(tmp_path_factory.mktemp("study") / name for name in ("out", "work"))), []
    plan = study()
    run_cell(plan, plan.cells[0], None, folders, lines.append)
    return folders, lines


def test_a_cell_leaves_its_result(trained):
    folders, lines = trained
    (result,) = finished_cells(study(), folders)
    assert result.episodes == 2
    assert len(result.targets["fog"].accuracies) == 4
    assert [episodes for episodes, _ in result.curve] == [2]
    assert result.seconds_per_step > 0
    assert lines[0].startswith("epoch 1 of 1: fog ")
    assert lines[-1].startswith("fog: ")


def test_a_cell_killed_before_its_tests_makes_up_for_them(trained):
    folders, _ = trained
    plan = study()
    name = plan.cells[0].name
    (before,) = finished_cells(plan, folders)
    folders.result_file(name).unlink()
    (folders.run_folder(name) / "curve.json").unlink()
    run_cell(plan, plan.cells[0], None, folders, lambda line: None)
    assert finished_cells(plan, folders) == [before]


def test_a_run_of_another_plan_is_not_gone_on_with(trained):
    folders, _ = trained
    plan = study(run={**tiny_plan()["run"], "training": {"epochs": 2, "episodes_per_epoch": 2}})
    with pytest.raises(RunError, match=r"must go on as its cell says\. Received: .*seed1 of another configuration"):
        run_cell(plan, plan.cells[0], None, folders, lambda line: None)


def test_a_damaged_curve_is_named(trained):
    folders, _ = trained
    plan = study()
    file = folders.run_folder(plan.cells[0].name) / "curve.json"
    text = file.read_text()
    file.write_text(text[:3])
    with pytest.raises(RunError, match=r"curve\.json must hold the points of a learning curve.*; remove it"):
        run_cell(plan, plan.cells[0], None, folders, lambda line: None)
    assert json.loads(text)
    file.write_text(text)


def test_arms_of_a_seed_see_the_same_training_episodes():
    run = tiny_plan()["run"]
    run["data"]["augmentation"] = "full"
    plan = study(
        run=run, arms={"plain": {"guidance.mode": "none"}, "noise": {"guidance.weights": "noise"}}, comparisons=None
    )
    steps = {}
    for cell in plan.cells:
        config = cell.config(None)
        parts = [
            np.asarray(x) for step in training_steps(config, open_data(config), 0, StepPart()) for x in _leaves(step)
        ]
        steps[cell.name.arm, cell.name.seed] = parts
    assert len(steps["plain", 1]) >= 2
    assert all(np.array_equal(a, b) for a, b in zip(steps["plain", 1], steps["noise", 1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(steps["plain", 1], steps["plain", 2], strict=True))


def _leaves(step):
    import tensorflow as tf

    return tf.nest.flatten(step)
