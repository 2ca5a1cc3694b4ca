from __future__ import annotations

import hashlib
import json
import os

import numpy as np
import pytest

from egt_tf.config import EpisodeConfig
from egt_tf.evaluation.accuracy import Accuracy
from egt_tf.evaluation.calibration import Calibration
from egt_tf.evaluation.report import evaluation_record, save_evaluation
from egt_tf.evaluation.transductive import Transduction
from egt_tf.run_table import read_evaluation

ACCURACY = Accuracy(np.array([0.5, 0.75, 1.0], np.float32))


def record(
    source: str = "synthetic:sketch", split: str = "novel", seed: int = 7, transduction: Transduction | None = None
) -> dict:
    return evaluation_record("runs/demo", source, split, EpisodeConfig(5, 1, 15), seed, ACCURACY, transduction)


DIGEST = hashlib.sha256(b"synthetic:sketch-novel-5way-1shot-15query-3episodes-seed7").hexdigest()[:8]


def test_record():
    assert record() == {
        "name": "synthetic_sketch-novel-5way-1shot-15query-3episodes-seed7-" + DIGEST,
        "run": "runs/demo",
        "source": "synthetic:sketch",
        "split": "novel",
        "ways": 5,
        "shots": 1,
        "queries": 15,
        "seed": 7,
        "episodes": 3,
        "episodes_id": None,
        "inference": "inductive",
        "transduction": None,
        "accuracy": 0.75,
        "interval": pytest.approx(1.96 * np.sqrt(1 / 24) / np.sqrt(3)),
        "calibration_error": None,
        "negative_log_likelihood": None,
        "calibration_bins": None,
        "confusion": None,
        "tied": None,
        "episode_accuracies": [0.5, 0.75, 1.0],
    }


@pytest.mark.parametrize(("likelihood", "written"), [(0.75, 0.75), (np.inf, None)])
def test_calibration_of_a_single_episode(tmp_path, likelihood, written):
    accuracy = Accuracy(np.array([0.5]), Calibration(0.25, likelihood))
    one = evaluation_record("runs/demo", "synthetic:fog", "novel", EpisodeConfig(5, 1, 15), 0, accuracy)
    loaded = json.loads(save_evaluation(one, tmp_path / "one.json").read_text())
    assert (loaded["accuracy"], loaded["interval"]) == (0.5, None)
    assert (loaded["calibration_error"], loaded["negative_log_likelihood"]) == (0.25, written)
    found = read_evaluation(tmp_path / "one.json")
    assert (found.interval, found.calibration_error, found.negative_log_likelihood) == (None, 0.25, written)


@pytest.mark.parametrize("source", ["folder:/home/a b/../birds", "folder:Vögel", "filelist:C:\\lists\\base.json"])
def test_the_name_is_fit_for_a_file(source, tmp_path):
    name = record(source)["name"]
    assert os.sep not in name
    assert "\\" not in name
    assert ":" not in name
    (tmp_path / f"{name}.json").touch()


def test_other_episodes_have_another_name():
    names = {record()["name"], record(seed=8)["name"], record(split="val")["name"], record("synthetic:fog")["name"]}
    assert len(names) == 4


def test_transductive_inference_has_a_name_of_its_own_and_says_how():
    options = (None, Transduction(), Transduction(rounds=1), Transduction(candidates=5), Transduction(duplicates=False))
    records = [record(transduction=each) for each in options]
    assert len({each["name"] for each in records}) == 5
    assert all(len(each["name"]) < 120 for each in records)
    assert (records[1]["inference"], records[1]["transduction"]) == (
        "transductive",
        {"rounds": 2, "candidates": 35, "duplicates": True},
    )
    assert not records[4]["transduction"]["duplicates"]
    assert "without_duplicates" in records[4]["name"]
    json.dumps(records)


def test_save(tmp_path):
    path = save_evaluation(record(), tmp_path / "evaluations" / "a.json")
    assert path == tmp_path / "evaluations" / "a.json"
    loaded = json.loads(path.read_text())
    assert loaded == record()
    # Runs are compared episode by episode; nothing is rounded on the way.
    assert np.float32(loaded["episode_accuracies"]).tolist() == ACCURACY.episodes.tolist()


def test_different_sources_have_different_names():
    names = {record(source)["name"] for source in ("folder:花", "folder:鸟", "folder:a/b", "folder:a_b")}
    assert len(names) == 4
    assert len(record("folder:" + 300 * "x")["name"]) < 120
