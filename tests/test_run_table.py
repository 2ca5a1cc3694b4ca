from __future__ import annotations

import dataclasses
import json
import os

import numpy as np
import pytest

from egt_tf.config import EpisodeConfig, RunConfig, config_to_yaml
from egt_tf.errors import RunError
from egt_tf.evaluation.accuracy import Accuracy
from egt_tf.evaluation.calibration import Calibration
from egt_tf.evaluation.report import evaluation_record, save_evaluation
from egt_tf.evaluation.transductive import Transduction
from egt_tf.run_table import list_runs, read_evaluation
from egt_tf.runs import RunFolder
from egt_tf.weights import save_arrays

CONFIG = RunConfig()


def run_of(path, accuracies, when: int = 1_700_000_000) -> RunFolder:
    """A run that has finished an epoch for each accuracy."""
    run = RunFolder(path)
    run.create(CONFIG)
    rows = [
        {"epoch": number, "val_accuracy": value, "val_interval": value / 10}
        for number, value in enumerate(accuracies, start=1)
    ]
    run.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for file in (run.best_file, run.checkpoints_folder / "000004.npz"):
        save_arrays(file, {"a": np.zeros(2, np.float32)})
    for file in run.path.rglob("*"):
        os.utime(file, (when, when))
    return run


def evaluated(run: RunFolder, source: str, transduction: Transduction | None = None) -> dict:
    accuracy = Accuracy(np.array([0.2, 0.4]), Calibration(0.05, 1.25))
    record = evaluation_record(run.path, source, "novel", EpisodeConfig(5, 1, 15), 0, accuracy, transduction)
    save_evaluation(record, run.evaluation_file(record["name"]))
    return record


def test_a_row(tmp_path):
    run = run_of(tmp_path / "first", [0.3, 0.5, 0.5, 0.4])
    evaluated(run, "folder:cub", Transduction())
    evaluated(run, "folder:cars")
    (row,) = list_runs(tmp_path)
    assert (row.name, row.path, row.head, row.backbone) == ("first", str(run.path), "relation", "conv4")
    assert (row.data, row.guidance, row.problems) == (("synthetic:shapes",), "guided", ())
    assert (row.epochs_done, row.epochs_planned) == (4, CONFIG.training.epochs)
    assert (row.accuracy, row.interval) == (0.5, 0.05)
    assert row.written.startswith("2023-11-1")
    assert [(one.source, one.inference) for one in row.evaluations] == [
        ("folder:cars", "inductive"),
        ("folder:cub", "transductive"),
    ]
    assert row.evaluations[0].accuracy == pytest.approx(0.3)
    assert row.evaluations[0].interval == pytest.approx(1.96 * 0.1 / 2**0.5)
    assert (row.evaluations[0].calibration_error, row.evaluations[0].negative_log_likelihood) == (0.05, 1.25)
    json.dumps(dataclasses.asdict(row), allow_nan=False)


def test_evaluations_of_older_versions_and_of_one_episode_stand_beside_others(tmp_path):
    run = run_of(tmp_path / "first", [0.3])
    record = evaluated(run, "folder:cub")
    older = {key: value for key, value in record.items() if key not in ("calibration_error", "negative_log_likelihood")}
    # As alike as can be: rows are sorted, and what is not known cannot be.
    save_evaluation(older, run.evaluation_file("older"))
    save_evaluation({**record, "interval": None}, run.evaluation_file("single"))
    (row,) = list_runs(tmp_path)
    assert row.problems == ()
    assert {(one.interval is None, one.calibration_error) for one in row.evaluations} == {
        (False, 0.05),
        (False, None),
        (True, 0.05),
    }


@pytest.mark.parametrize(
    "values",
    [
        {"interval": "wide"},
        {"calibration_error": 1.5},
        {"calibration_error": True},
        {"negative_log_likelihood": -0.5},
        {"negative_log_likelihood": float("inf")},
        {"negative_log_likelihood": float("nan")},
    ],
)
def test_an_evaluation_with_other_numbers_is_damaged(tmp_path, values):
    run = run_of(tmp_path / "first", [0.3])
    file = run.evaluation_file("changed")
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({**evaluated(run, "folder:cub"), **values}))
    with pytest.raises(RunError, match="Received: values of other kinds"):
        read_evaluation(file)


def test_validation_on_a_single_episode_has_no_interval(tmp_path):
    run = run_of(tmp_path / "first", [0.3])
    for row in ('{"epoch": 1, "val_accuracy": 0.25}', '{"epoch": 1, "val_accuracy": 0.25, "val_interval": null}'):
        run.metrics_file.write_text(row)
        (found,) = list_runs(tmp_path)
        assert (found.accuracy, found.interval, found.problems) == (0.25, None, ())


def test_a_pre_training_has_no_head_and_no_interval(tmp_path):
    run = run_of(tmp_path / "backbone", [0.3, 0.5])
    run.best_file.rename(run.backbone_file)
    run.metrics_file.write_text('{"epoch": 1, "val_accuracy": 0.25}\n')
    (row,) = list_runs(tmp_path)
    assert (row.head, row.guidance, row.backbone, row.problems) == (None, None, "conv4", ())
    assert (row.accuracy, row.interval, row.epochs_planned) == (0.25, None, CONFIG.pretrain.epochs)


def test_a_run_that_has_just_begun_is_not_damaged(tmp_path):
    RunFolder(tmp_path / "new").create(CONFIG)
    (row,) = list_runs(tmp_path)
    assert (row.epochs_done, row.accuracy, row.problems) == (0, None, ())


def test_where_runs_are_found(tmp_path):
    for name in ("a", "group/b", "group/deeper/too_deep", "a/evaluations/inside_a_run"):
        run_of(tmp_path / name, [0.3])
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert [row.name for row in list_runs(tmp_path)] == ["a", "group/b"]
    assert [row.name for row in list_runs(tmp_path / "group")] == ["b", "deeper/too_deep"]
    assert [row.name for row in list_runs(tmp_path / "a")] == ["a"]
    assert list_runs(tmp_path / "empty") == []


def test_orders(tmp_path):
    run_of(tmp_path / "a", [0.3, 0.3], when=1_700_000_000)
    run_of(tmp_path / "b", [0.6], when=1_700_200_000)
    run_of(tmp_path / "c", [0.4] * 3, when=1_700_100_000)
    (run_of(tmp_path / "d", [0.9]).metrics_file).write_text("{")
    names = {sort: "".join(row.name for row in list_runs(tmp_path, sort)) for sort in ("name", "accuracy", "epochs")}
    assert names == {"name": "abcd", "accuracy": "bcad", "epochs": "cabd"}
    assert [row.name for row in list_runs(tmp_path, "written") if row.name != "d"] == ["b", "c", "a"]


def damage(name):
    """A way to damage a run, and words of the problem."""
    return {
        "config": (lambda run: run.config_file.write_text("trainig: {}"), "trainig"),
        "no config": (lambda run: run.config_file.unlink(), "no config.yaml"),
        "truncated config": (lambda run: run.config_file.write_bytes(b"data: {train: \xff"), "UTF-8"),
        "metrics": (lambda run: run.metrics_file.write_text('{"epoch": 1, "val_'), "one JSON object a line"),
        "other metrics": (lambda run: run.metrics_file.write_text("[1]\n"), "another line 1"),
        "infinite metrics": (
            lambda run: run.metrics_file.write_text('{"val_accuracy": NaN, "val_interval": 0}'),
            "in [0, 1]",
        ),
        "best": (lambda run: run.best_file.write_bytes(run.best_file.read_bytes()[:-60]), "best.npz are damaged"),
        "checkpoint": (lambda run: (run.checkpoints_folder / "000004.npz").write_bytes(b""), "000004.npz are damaged"),
        "no best": (lambda run: run.best_file.unlink(), "best.npz is missing"),
        "evaluation": (
            lambda run: run.evaluation_file("x").write_text("{}"),
            "x.json must be a result as `egt-tf evaluate` writes it. Received: no source",
        ),
        "text evaluation": (lambda run: run.evaluation_file("x").write_text("no"), "x.json must be a result"),
        "other evaluation": (
            lambda run: run.evaluation_file("x").write_text(
                json.dumps(
                    dict.fromkeys(
                        (
                            "source",
                            "split",
                            "ways",
                            "shots",
                            "queries",
                            "episodes",
                            "inference",
                            "accuracy",
                            "interval",
                        ),
                        1,
                    )
                )
            ),
            "values of other kinds",
        ),
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        "config",
        "no config",
        "truncated config",
        "metrics",
        "other metrics",
        "infinite metrics",
        "best",
        "checkpoint",
        "no best",
        "evaluation",
        "text evaluation",
        "other evaluation",
    ],
)
def test_a_damaged_run_is_listed_with_what_is_wrong(tmp_path, name):
    run_of(tmp_path / "whole", [0.4])
    run = run_of(tmp_path / "broken", [0.5])
    evaluated(run, "folder:cub")
    change, words = damage(name)
    change(run)
    broken, whole = list_runs(tmp_path)
    assert (whole.problems, whole.accuracy) == ((), 0.4)
    (problem,) = broken.problems
    assert words in problem
    # What is not damaged is still told.
    assert broken.accuracy == (None if "metrics" in name else 0.5)
    assert broken.head == (None if "config" in name else "relation")
    assert [one.source for one in broken.evaluations] == ["folder:cub"]


def test_no_folder_and_no_such_order(tmp_path):
    with pytest.raises(RunError, match=r"must exist. Received: .*gone, no such folder"):
        list_runs(tmp_path / "gone")
    with pytest.raises(RunError, match=r"`sort` must be one of name, accuracy, epochs, written. Received: sort='size'"):
        list_runs(tmp_path, "size")


def test_a_configuration_written_out_is_read_as_it_is(tmp_path):
    config = dataclasses.replace(CONFIG, guidance=dataclasses.replace(CONFIG.guidance, mode="none"))
    run = run_of(tmp_path / "plain", [0.5])
    run.config_file.write_text(config_to_yaml(config))
    assert list_runs(tmp_path)[0].guidance == "none"
