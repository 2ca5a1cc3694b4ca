from __future__ import annotations

import dataclasses
import inspect
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.backbones import conv4
from egt_tf.config import RunConfig, config_from_dict
from egt_tf.errors import ConfigError, DataError, RunError
from egt_tf.keras_api import keras
from egt_tf.runs import RunFolder, newest_run
from egt_tf.training.backbone_classifier import BackboneClassifier
from egt_tf.training.loop import train
from egt_tf.training.pretraining import pretrain
from egt_tf.weights import load_arrays, weight_arrays
from tests.helpers.commands import draw_classes


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    """16 classes of six images; 8 of them are base classes."""
    return f"folder:{draw_classes(tmp_path_factory.mktemp('drawn') / 'drawn', classes=16)}"


def small_config(source: str, **changes) -> RunConfig:
    parts = {
        "data": {"train": source, "image_size": 16},
        "episode": {"ways": 2, "shots": 1, "queries": 2},
        "model": {"backbone": {"name": "conv4", "width": 2, "feature_transformation": True}},
        "training": {"epochs": 1, "episodes_per_epoch": 1, "validation_episodes": 2, "learning_rate": 0.01},
        "pretrain": {"epochs": 3, "batch_size": 10, "validation_share": 0.2},
    }
    return config_from_dict({name: {**values, **changes.get(name, {})} for name, values in parts.items()}, "the test")


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("runs") / "backbone")
    pretrain(small_config(source), run)
    return run


class Interrupt(keras.callbacks.Callback):
    """Stops after a number of steps of the whole pre-training, as Ctrl-C does."""

    def __init__(self, after: int):
        super().__init__()
        self.left = after

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def newest(run: RunFolder) -> Path:
    return sorted(run.checkpoints_folder.glob("*.npz"))[-1]


def without_seconds(run: RunFolder) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in run.metrics()]


def expect_equal(a: RunFolder, b: RunFolder) -> None:
    """All that the two leave, bit by bit, but the time that they took."""
    assert without_seconds(a) == without_seconds(b)
    assert newest(a).name == newest(b).name
    for one, other in ((newest(a), newest(b)), (a.backbone_file, b.backbone_file)):
        first, second = load_arrays(one), load_arrays(other)
        assert first.keys() == second.keys()
        for key in first.keys() - {"progress"}:
            np.testing.assert_array_equal(first[key], second[key], err_msg=key)


def test_files(finished, source):
    assert set(os.listdir(finished.path)) == {
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "backbone.npz",
        "checkpoints",
        "tensorboard",
    }
    # Four steps an epoch; the three newest.
    assert sorted(os.listdir(finished.checkpoints_folder)) == ["000004.npz", "000008.npz", "000012.npz"]
    assert finished.config() == small_config(source)


def test_metrics(finished):
    rows = finished.metrics()
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert row["loss"] > 0
        assert row["val_loss"] > 0
        assert row["seconds"] > 0
        # One of the six images of each of the eight classes.
        assert row["val_accuracy"] * 8 == pytest.approx(round(row["val_accuracy"] * 8), abs=1e-5)


@pytest.mark.slow
def test_a_training_starts_from_its_backbone(finished, source, tmp_path):
    pretrained = {
        name: array for name, array in load_arrays(finished.backbone_file).items() if name.startswith("backbone/")
    }
    assert len(pretrained) == 4 * 6
    for origin in (finished.path, finished.backbone_file):
        run = RunFolder(tmp_path / origin.name)
        # So small a rate that the weights stay, in one step, what they were.
        options = {"warm_start": str(origin), "learning_rate": 1e-12}
        train(small_config(source, training=options, guidance={"mode": "none"}), run)
        trained = load_arrays(run.best_file)
        for name, array in pretrained.items():
            if not name.endswith(("moving_mean", "moving_variance")):
                np.testing.assert_allclose(trained[name], array, atol=1e-9, err_msg=name)


@pytest.mark.slow
def test_a_backbone_without_transformation_starts_from_one_with_it(finished, source, tmp_path):
    config = small_config(
        source,
        training={"warm_start": str(finished.path)},
        guidance={"mode": "none"},
        model={"backbone": {"name": "conv4", "width": 2}},
    )
    train(config, RunFolder(tmp_path / "run"))


@pytest.mark.parametrize(
    ("every", "message"),
    [(2, "resuming in epoch 2, after step 2 of 4"), pytest.param(0, "resuming after epoch 1", marks=pytest.mark.slow)],
)
def test_an_interrupted_pretraining_ends_with_the_same_numbers(finished, source, tmp_path, every, message):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        pretrain(small_config(source, training={"checkpoint_every": every}), run, callbacks=[Interrupt(7)])
    assert len(run.metrics()) == 1
    lines = []
    state = pretrain(run.config(), run, resume=True, report=lines.append)
    assert lines == [message]
    assert state.epochs == 3
    expect_equal(run, finished)
    # Nothing is left to do.
    pretrain(run.config(), run, resume=True, report=lines.append)
    assert "already complete: 3 epochs" in lines[-1]


@pytest.mark.slow
def test_the_single_state_of_an_older_version_is_gone_on_from(finished, source, tmp_path):
    run = RunFolder(tmp_path / "run")
    pretrain(small_config(source, pretrain={"epochs": 1}), run)
    newest(run).rename(run.last_file)
    shutil.rmtree(run.checkpoints_folder)
    lines = []
    pretrain(small_config(source), run, resume=True, report=lines.append)
    assert lines == ["resuming after epoch 1", "3 epochs in place of 1"]
    expect_equal(run, finished)


@pytest.mark.slow
def test_as_many_checkpoints_are_kept_as_configured(source, tmp_path):
    run = RunFolder(tmp_path / "run")
    pretrain(small_config(source, training={"keep_checkpoints": 2, "checkpoint_every": 3}), run)
    assert sorted(os.listdir(run.checkpoints_folder)) == ["000009.npz", "000012.npz"]


@pytest.mark.slow
def test_a_damaged_checkpoint_gives_way_to_the_one_before(finished, source, tmp_path):
    run = RunFolder(shutil.copytree(finished.path, tmp_path / "run"))
    newest(run).write_bytes(b"garbage")
    lines = []
    pretrain(run.config(), run, resume=True, report=lines.append)
    assert [line.split()[0] for line in lines] == ["the", "resuming"]
    expect_equal(run, finished)


def test_tensorboard_shows_what_was_measured(finished):
    (file,) = (finished.path / "tensorboard").iterdir()
    events = tf.compat.v1.train.summary_iterator(str(file))
    names = {(value.tag, event.step) for event in events for value in event.summary.value}
    assert {(name, epoch) for name in ("loss", "accuracy", "val_accuracy") for epoch in (1, 2, 3)} <= names


@pytest.mark.slow
def test_the_best_weights_are_those_of_the_best_epoch(source, tmp_path):
    run = RunFolder(tmp_path / "run")
    pretrain(small_config(source, pretrain={"epochs": 6}), run)
    accuracies = [row["val_accuracy"] for row in run.metrics()]
    last, best = load_arrays(newest(run)), load_arrays(run.backbone_file)
    same = all(np.array_equal(best[name], last[f"model/{name}"]) for name in best)
    assert same == (accuracies[-1] > max(accuracies[:-1]))


@pytest.mark.slow
def test_without_a_share_it_validates_on_the_training_images(source, tmp_path):
    run = RunFolder(tmp_path / "run")
    pretrain(small_config(source, pretrain={"epochs": 1, "validation_share": 0}), run)
    (row,) = run.metrics()
    assert row["val_accuracy"] * 48 == pytest.approx(round(row["val_accuracy"] * 48), abs=1e-4)


@pytest.mark.slow
def test_it_learns(source, tmp_path):
    run = RunFolder(tmp_path / "run")
    config = small_config(source, pretrain={"epochs": 12}, model={"backbone": {"name": "conv4", "width": 8}})
    pretrain(config, run)
    losses = [row["loss"] for row in run.metrics()]
    assert losses[-1] < 0.8 * losses[0]


def test_it_is_no_run_of_a_few_shot_model(finished):
    with pytest.raises(RunError, match=r"must hold a few-shot classifier.* --warm-start"):
        finished.load_model()
    with pytest.raises(RunError, match="no trained run was found"):
        newest_run(finished.path.parent)
    with pytest.raises(RunError, match="must hold the state of a training with this model"):
        train(finished.config(), finished, resume=True)
    with pytest.raises(RunError, match="already holds a run"):
        pretrain(finished.config(), finished)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"pretrain": {"batch_size": 99}}, ConfigError, "batch_size=99"),
        ({"model": {"backbone": {"name": "conv4", "image_size": 16}}}, ConfigError, "model.backbone.image_size"),
        ({"training": {"warm_start": "nowhere"}}, RunError, "nowhere must exist"),
        ({"data": {"train": "folder:missing"}}, DataError, "missing"),
    ],
)
def test_what_cannot_be_trained_writes_nothing(source, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        pretrain(small_config(source, **changes), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_loss_that_is_not_finite_keeps_the_state_before(source, tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(
        RunError, match=r"NaN or infinity in .*, step 2; the state after step 0 is kept .*learning_rate"
    ):
        pretrain(small_config(source, training={"learning_rate": 1e38}), run)
    assert not run.backbone_file.exists()
    assert all(np.isfinite(array).all() for name, array in load_arrays(newest(run)).items() if name != "progress")


@pytest.mark.slow
def test_an_unreadable_image_stops_it_or_is_left_out(tmp_path):
    folder = draw_classes(tmp_path / "drawn", classes=16)
    (folder / "class00" / "0.png").write_bytes(b"no image")
    run, lines = RunFolder(tmp_path / "run"), []
    with pytest.raises(DataError, match=r"class00/0.png"):
        pretrain(small_config(f"folder:{folder}", pretrain={"validation_share": 0}), run)
    assert not run.path.exists()
    config = small_config(f"folder:{folder}", data={"train": f"folder:{folder}", "unreadable": "skip"})
    pretrain(dataclasses.replace(config), run, report=lines.append)
    assert [line for line in lines if "class00/0.png" in line]


def test_classifier_config_round_trip():
    model = BackboneClassifier(conv4(16, width=2, seed=1), 5, seed=2)
    stored = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    copy = keras.saving.deserialize_keras_object(stored)
    arguments = set(inspect.signature(BackboneClassifier.__init__).parameters) - {"self", "kwargs"}
    assert arguments <= set(model.get_config())
    copy.set_weights(model.get_weights())
    x = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    np.testing.assert_array_equal(copy(x), model(x))
    assert model(x).shape == (2, 5)
    assert set(weight_arrays(model)) == {
        *(f"backbone/block{b}_conv/{w}" for b in range(1, 5) for w in ("kernel", "bias")),
        *(
            f"backbone/block{b}_bn/{w}"
            for b in range(1, 5)
            for w in ("gamma", "beta", "moving_mean", "moving_variance")
        ),
        "classifier/scores/kernel",
        "classifier/scores/bias",
    }
