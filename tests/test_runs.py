from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

from egt_tf.config import ModelConfig, RunConfig
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError, RunError
from egt_tf.runs import RunFolder, has_run, newest_run
from egt_tf.weights import save_arrays, weight_arrays


def small_config() -> RunConfig:
    config = RunConfig()
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, image_size=16),
        model=ModelConfig({"name": "conv4", "width": 2}, {"name": "relation", "hidden": 3}),
    )


def finished(path, mtime: int) -> RunFolder:
    run = RunFolder(path)
    run.create(small_config())
    run.best_file.touch()
    os.utime(run.best_file, (mtime, mtime))
    return run


# === the folder ===


def test_the_object_touches_no_file(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert run.evaluation_file("sketch") == tmp_path / "run" / "evaluations" / "sketch.json"
    assert run.metrics() == []
    assert os.listdir(tmp_path) == []


def test_config_round_trip(tmp_path):
    run = RunFolder(tmp_path / "deep" / "run")
    run.create(small_config())
    assert run.config() == small_config()


def test_a_run_is_not_overwritten(tmp_path):
    run = RunFolder(tmp_path)
    run.create(small_config())
    before = run.config_file.read_bytes()
    with pytest.raises(RunError, match="already holds a run; go on with it by --resume"):
        run.create(RunConfig())
    assert run.config_file.read_bytes() == before


def test_what_is_new_in_a_folder_is_removed_and_the_rest_stays(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    here, gone = RunFolder(tmp_path), RunFolder(tmp_path / "gone")
    for run in (here, gone):
        before = run.entries()
        run.create(small_config())
        run.support_folder.mkdir()
        run.figure_file(1).parent.mkdir()
        run.figure_file(1).touch()
        run.remove_new(before)
        assert run.entries() == before
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(RunError, match=r"gone must exist. Received: no such folder"):
        RunFolder(tmp_path / "gone").config()
    with pytest.raises(RunError, match=r"no config.yaml in it"):
        RunFolder(tmp_path).config()


def test_a_damaged_configuration_is_named(tmp_path):
    run = RunFolder(tmp_path)
    run.config_file.write_text("traning: {epochs: 3}\n")
    with pytest.raises(ConfigError, match=r"'traning' in .*config.yaml"):
        run.config()


def test_metrics(tmp_path):
    run = RunFolder(tmp_path)
    run.metrics_file.write_text('{"epoch": 1, "loss": 0.5}\n{"epoch": 2, "loss": 0.25}\n')
    assert run.metrics() == [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]
    run.metrics_file.write_text('{"epoch": 1, "lo')
    with pytest.raises(RunError, match=r"metrics.jsonl must hold one JSON object a line"):
        run.metrics()


# === the model ===


def test_load_model(tmp_path):
    run, config = RunFolder(tmp_path), small_config()
    run.create(config)
    model = EpisodicModel.build_from(config.model.backbone, config.model.head, 16, seed=3)
    save_arrays(run.best_file, weight_arrays(model))
    loaded = run.load_model()
    assert loaded.image_size == 16
    assert loaded.head.hidden == 3
    for a, b in zip(model.get_weights(), loaded.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_a_run_without_a_finished_epoch_has_no_model(tmp_path):
    run = RunFolder(tmp_path)
    run.create(small_config())
    with pytest.raises(RunError, match=r"must have finished an epoch.*--resume"):
        run.load_model()


def test_weights_of_another_architecture_are_refused(tmp_path):
    run = RunFolder(tmp_path)
    run.create(small_config())
    other = EpisodicModel.build_from({"name": "conv4", "width": 3}, {"name": "relation", "hidden": 3}, 16)
    save_arrays(run.best_file, weight_arrays(other))
    with pytest.raises(RunError, match=r"best.npz must fit the architecture"):
        run.load_model()


# === the newest run ===


def test_newest_run_is_the_one_whose_weights_were_written_last(tmp_path):
    finished(tmp_path / "a", 2000)
    newest = finished(tmp_path / "b", 3000)
    finished(tmp_path / "c", 1000)
    RunFolder(tmp_path / "unfinished").create(small_config())
    assert newest_run(tmp_path) == newest
    assert has_run(tmp_path)
    os.utime(tmp_path / "a" / "best.npz", (4000, 4000))
    assert newest_run(tmp_path).path == tmp_path / "a"


def test_a_finished_run_is_preferred_to_a_newer_one_that_is_not(tmp_path):
    """One without metrics, as a converted one, has nothing left to do."""
    newer, done = finished(tmp_path / "newer", 3000), finished(tmp_path / "done", 2000)
    epochs = done.config().training.epochs
    for run, count in ((newer, epochs - 1), (done, epochs)):
        run.metrics_file.write_text('{"val_accuracy": 0.5}\n' * count)
    assert (newer.is_finished(), done.is_finished()) == (False, True)
    assert newest_run(tmp_path) == done
    converted = finished(tmp_path / "converted", 2500)
    assert newest_run(tmp_path) == converted
    for run in (done, converted):
        run.best_file.unlink()
    assert newest_run(tmp_path) == newer


@pytest.mark.parametrize("root", ["", "gone"])
def test_no_run_says_what_to_type(tmp_path, root):
    with pytest.raises(RunError, match=r"no trained run was found .* egt-tf train --config demo --run .*/demo"):
        newest_run(tmp_path / root)
    assert not has_run(tmp_path / root)
