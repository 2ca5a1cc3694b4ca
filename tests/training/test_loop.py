from __future__ import annotations

import contextlib
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from egt_tf.config import EpisodeConfig, RunConfig, WeightedSource, config_from_dict
from egt_tf.data.mixture import open_mixture
from egt_tf.data.sources import open_source
from egt_tf.errors import ConfigError, DataError, RunError
from egt_tf.evaluation.accuracy import Accuracy, Evaluator, evaluate
from egt_tf.keras_api import keras
from egt_tf.runs import RunFolder
from egt_tf.training.loop import train
from egt_tf.training.run_data import VALIDATION_STREAM, store_support_set
from egt_tf.weights import load_arrays
from tests.helpers.trainings import Interrupt, expect_equal_states, state, without_seconds


def small_config(**changes) -> RunConfig:
    """Seconds: three epochs of two steps on images of 16 pixels."""
    parts = {
        "data": {"image_size": 16},
        "episode": {"ways": 3, "shots": 2, "queries": 2},
        "model": {"backbone": {"name": "conv4", "width": 2}},
        "guidance": {"mode": "none"},
        "training": {"epochs": 3, "episodes_per_epoch": 2, "validation_episodes": 5, "learning_rate": 0.01},
    }
    return config_from_dict({name: {**values, **changes.get(name, {})} for name, values in parts.items()}, "the test")


def newest(run: RunFolder):
    return sorted(run.checkpoints_folder.glob("*.npz"))[-1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> RunFolder:
    """A run that was left alone."""
    run = RunFolder(tmp_path_factory.mktemp("runs") / "demo")
    train(small_config(guidance={"mode": "guided"}), run)
    return run


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> RunFolder:
    """A run without guidance that was left alone; its images are augmented."""
    run = RunFolder(tmp_path_factory.mktemp("runs") / "alone")
    train(augmented_config(), run)
    return run


def augmented_config(**training) -> RunConfig:
    return small_config(data={"augmentation": "full"}, training=training)


# === what a run leaves behind ===


def test_files(finished):
    assert {
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "tensorboard",
        "best.npz",
        "checkpoints",
        "support",
        "queries",
    } == set(os.listdir(finished.path))
    assert finished.config() == small_config(guidance={"mode": "guided"})
    environment = json.loads((finished.path / "environment.json").read_text())
    assert environment["seed"] == 1
    assert environment["packages"]["numpy"] == np.__version__
    assert os.listdir(finished.path / "tensorboard")


@pytest.mark.slow
def test_one_validation_episode_has_no_interval(tmp_path):
    run = RunFolder(tmp_path / "one")
    train(small_config(training={"epochs": 1, "validation_episodes": 1}), run)
    (row,) = run.metrics()
    assert 0 <= row["val_accuracy"] <= 1
    assert "val_interval" not in row


def test_metrics(finished):
    rows = finished.metrics()
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert row["loss"] == pytest.approx(row["plain_loss"] + row["guided_loss"], rel=1e-5)
        assert row["guided_loss"] > 0
        assert row["seconds"] > 0
        assert 0 <= row["val_accuracy"] <= 1
        assert row["val_interval"] >= 0


def test_the_best_weights_are_those_of_the_best_epoch(finished):
    model, config = finished.load_model(), finished.config()
    validation = open_source(config.data.train).split("val")
    accuracy = evaluate(model, validation, EpisodeConfig(3, 2, 2), 5, config.training.seed + VALIDATION_STREAM)
    assert accuracy.mean == pytest.approx(max(row["val_accuracy"] for row in finished.metrics()), abs=1e-6)


@pytest.mark.slow
def test_the_first_of_equally_good_epochs_is_kept(tmp_path, monkeypatch):
    def accuracies(*values):
        given = iter(values)
        monkeypatch.setattr(Evaluator, "__call__", lambda *args, **kwargs: Accuracy(np.array([next(given)])))

    runs = [RunFolder(tmp_path / name) for name in "ab"]
    accuracies(0.2, 0.5)
    train(small_config(training={"epochs": 2}), runs[0])
    accuracies(0.2, 0.5, 0.5)
    progress = train(small_config(training={"epochs": 3}), runs[1])
    assert progress.best_accuracy == 0.5
    expected, best, last = load_arrays(runs[0].best_file), load_arrays(runs[1].best_file), state(runs[1])
    for name in expected:
        np.testing.assert_array_equal(best[name], expected[name])
        np.testing.assert_array_equal(best[name], state(runs[0])[f"model/{name}"])
    assert any(np.any(best[name] != last[f"model/{name}"]) for name in best)


def test_the_last_state_holds_the_weights_of_the_last_epoch(finished):
    last, best = state(finished), load_arrays(finished.best_file)
    assert {f"model/{name}" for name in best} == {name for name in last if name.startswith("model/")}
    assert int(last["optimizer/0000"]) == 6


def test_support_set_and_queries_are_of_classes_that_were_not_trained_on(finished):
    source = open_source("synthetic:shapes")
    classes = sorted(os.listdir(finished.support_folder))
    novel = [source.class_names[c] for c in source.splits["novel"]]
    assert len(classes) == 3
    assert set(classes) <= set(novel)
    assert all(sorted(os.listdir(finished.support_folder / c)) == ["01.png", "02.png"] for c in classes)
    assert sorted(os.listdir(finished.queries_folder)) == [f"{c}-{n:02d}.png" for c in classes for n in (1, 2)]


# === the same numbers again ===


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "other"), [(1, 2), (2**32, 2**70)])
def test_two_runs_are_equal_and_another_seed_is_not(tmp_path, seed, other):
    runs = [RunFolder(tmp_path / name) for name in "abc"]
    for run, each in zip(runs, (seed, seed, other)):
        train(small_config(training={"epochs": 1, "seed": each}, guidance={"weights": "noise"}), run)
    expect_equal_states(*runs[:2])
    first, other = state(runs[0]), state(runs[2])
    assert any(np.any(first[name] != other[name]) for name in first)
    assert without_seconds(runs[0]) == without_seconds(runs[1])


@pytest.mark.parametrize("epoch", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_an_interrupted_run_ends_with_the_same_numbers(alone, tmp_path, epoch):
    resumed, config = RunFolder(tmp_path / "resumed"), augmented_config()
    with pytest.raises(KeyboardInterrupt):
        train(config, resumed, callbacks=[Interrupt(epoch=epoch)])
    assert len(resumed.metrics()) == epoch - 1
    lines = []
    progress = train(config, resumed, resume=True, report=lines.append)
    resumed_lines = [line for line in lines if not line.startswith("warning: ")]
    assert resumed_lines == ([f"resuming after epoch {epoch - 1}"] if epoch > 1 else [])
    assert progress.epochs == 3
    assert without_seconds(resumed) == without_seconds(alone)
    expect_equal_states(resumed, alone)
    best_a, best_b = load_arrays(alone.best_file), load_arrays(resumed.best_file)
    for name in best_a:
        np.testing.assert_array_equal(best_a[name], best_b[name])


def test_a_complete_run_is_left_alone(finished):
    before = {file: file.stat().st_mtime_ns for file in finished.path.rglob("*")}
    lines = []
    progress = train(finished.config(), finished, resume=True, report=lines.append)
    assert progress.epochs == 3
    assert len(lines) == 1
    assert lines[0].startswith("already complete: 3 epochs, best validation accuracy ")
    assert {file: file.stat().st_mtime_ns for file in finished.path.rglob("*")} == before


@pytest.mark.slow
def test_more_epochs_go_on_from_the_last(alone, tmp_path):
    run = RunFolder(tmp_path / "grown")
    train(augmented_config(epochs=1), run)
    train(augmented_config(), run, resume=True)
    expect_equal_states(run, alone)


# === what cannot be done ===


@contextlib.contextmanager
def refused(error, message, run: RunFolder):
    """Expects the error, and that nothing was written."""
    with pytest.raises(error, match=message):
        yield
    assert not run.path.exists()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"training": {"episodes_per_epoch": 3, "episodes_per_step": 2}},
            ConfigError,
            "`training.episodes_per_epoch` must be a multiple of `training.episodes_per_step`. Received: 3 and 2",
        ),
        ({"data": {"train": "synthetic:shape"}}, DataError, "shape"),
        ({"data": {"validation": "folder:/gone"}}, DataError, "/gone"),
        ({"episode": {"ways": 40}}, DataError, "40-way episode needs 40 classes"),
        ({"model": {"backbone": {"name": "conv5"}}}, ConfigError, "unknown backbone 'conv5'"),
        ({"model": {"head": {"name": "relation", "los": "mse"}}}, ConfigError, "did you mean 'loss'"),
        ({"guidance": {"mode": "guided", "composite": "fcs"}}, ConfigError, "unknown composite 'fcs'"),
        ({"guidance": {"mode": "guided_only", "guided_weight": 0.0}}, ConfigError, "not both 0"),
    ],
)
def test_a_configuration_that_cannot_be_trained_writes_nothing(tmp_path, changes, error, message):
    run = RunFolder(tmp_path / "run")
    with refused(error, message, run):
        train(small_config(**changes), run)


def test_a_run_is_not_overwritten(finished):
    before = newest(finished).read_bytes()
    with pytest.raises(RunError, match="already holds a run; go on with it by --resume"):
        train(small_config(), finished)
    assert newest(finished).read_bytes() == before


def test_resuming_nothing_is_an_error(tmp_path):
    run = RunFolder(tmp_path / "run")
    with refused(RunError, "checkpoints must hold a checkpoint to go on from. Received: none", run):
        train(small_config(), run, resume=True)


def test_another_architecture_cannot_go_on(finished):
    config = small_config(model={"backbone": {"name": "conv4", "width": 3}})
    with pytest.raises(RunError, match="must hold the state of a training with this model"):
        train(config, finished, resume=True)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_state_before(tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(
        RunError, match=r"NaN or infinity in .*, step 2; the state after step 0 is kept .*learning_rate"
    ):
        train(small_config(training={"learning_rate": 1e38}), run)
    assert run.metrics() == []
    assert all(np.isfinite(array).all() for array in state(run).values())
    assert not run.best_file.exists()


# === store_support_set ===


def test_stored_images_are_those_of_the_source(tmp_path):
    images = open_source("synthetic:shapes").split("val")
    run = RunFolder(tmp_path)
    store_support_set(run, images, EpisodeConfig(2, 3, 1), seed=4)
    stored = sorted(run.support_folder.rglob("*.png"))
    assert len(stored) == 6
    with Image.open(stored[0]) as image:
        assert np.asarray(image).shape == images.read(int(images.members[0][0])).shape
    drawn = [np.asarray(Image.open(path)).tobytes() for path in stored]
    assert len(set(drawn)) == 6
    class_of = {
        images.class_names[c]: {images.read(int(i)).tobytes() for i in images.members[c]}
        for c, name in enumerate(images.class_names)
        if (run.support_folder / name).is_dir()
    }
    for path, content in zip(stored, drawn):
        assert content in class_of[path.parent.name]


def test_the_stored_set_depends_on_the_seed_alone(tmp_path):
    images = open_source("synthetic:shapes").split("val")
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        store_support_set(RunFolder(tmp_path / name), images, EpisodeConfig(2, 2, 1), seed)
    contents = [sorted(path.read_bytes() for path in (tmp_path / name).rglob("*.png")) for name in "abc"]
    assert contents[0] == contents[1] != contents[2]


# === Schedule and warm start ===


class Rates(keras.callbacks.Callback):
    """Notes the learning rate that each epoch ran with."""

    def __init__(self):
        super().__init__()
        self.rates = []

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate.numpy()))


@pytest.mark.slow
def test_the_learning_rate_drops_and_a_resumed_run_keeps_to_it(tmp_path):
    training = {"optimizer": {"name": "sgd", "weight_decay": 1e-3}, "learning_rate_drops": [[1, 0.005], [2, 0.001]]}
    config, rates = small_config(training=training), Rates()
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    train(config, whole, callbacks=[rates])
    np.testing.assert_allclose(rates.rates, [0.01] * 2 + [0.005] * 2 + [0.001] * 2, rtol=1e-6)
    with pytest.raises(KeyboardInterrupt):
        train(config, parts, callbacks=[Interrupt(epoch=3)])
    train(config, parts, resume=True)
    assert state(whole).keys() == state(parts).keys()
    for name, array in state(whole).items():
        np.testing.assert_array_equal(state(parts)[name], array)


# Weights that do not move, but for the statistics.
STANDING = {"epochs": 1, "learning_rate": 1e-12, "optimizer": {"name": "sgd", "momentum": 0.0, "nesterov": False}}


@pytest.fixture(scope="module")
def cold(tmp_path_factory) -> RunFolder:
    """A run whose weights are as they were drawn."""
    run = RunFolder(tmp_path_factory.mktemp("runs") / "cold")
    train(small_config(training=STANDING), run)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("as_file", [False, True])
def test_a_warm_start_takes_the_backbone_alone(tmp_path, finished, cold, as_file):
    origin = finished.best_file if as_file else finished.path
    run = RunFolder(tmp_path / "warm")
    train(small_config(training={**STANDING, "warm_start": str(origin)}), run)
    warm, source, random = (load_arrays(r.best_file) for r in (run, finished, cold))
    for name in warm:
        if "moving" not in name:
            expected = source if name.startswith("backbone/") else random
            np.testing.assert_allclose(warm[name], expected[name], atol=1e-6)


def test_a_warm_start_from_another_backbone_is_refused_and_leaves_nothing(tmp_path, finished):
    config = small_config(
        model={"backbone": {"name": "conv4", "width": 3}}, training={"warm_start": str(finished.path)}
    )
    with pytest.raises(RunError, match="backbone/block1_conv/kernel is"):
        train(config, RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    with pytest.raises(RunError, match="must exist"):
        train(small_config(training={"warm_start": str(tmp_path / "none.npz")}), RunFolder(tmp_path / "run"))


# === Several sources ===

DOMAINS = [{"source": "synthetic:shapes", "weight": 1}, {"source": "synthetic:fog", "weight": 2}]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> RunFolder:
    """A run on several sources that was left alone."""
    config = small_config(
        data={"train": DOMAINS, "augmentation": "full"},
        model={"head": "cross_attention"},
        episode={"queries": 1},
        training={"episodes_per_epoch": 4, "episodes_per_step": 2},
    )
    run = RunFolder(tmp_path_factory.mktemp("runs") / "mixed")
    train(config, run)
    assert run.config().data == config.data
    return run


@pytest.mark.slow
def test_several_sources_train_one_model_and_resume_exactly(mixed, tmp_path):
    parts = RunFolder(tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        train(mixed.config(), parts, callbacks=[Interrupt(epoch=2)])
    train(parts.config(), parts, resume=True)
    expect_equal_states(mixed, parts)
    assert without_seconds(mixed) == without_seconds(parts)
    # The loss over the base classes sees those of both.
    model = mixed.load_model()
    assert model.head.get_config()["base_classes"] == 2 * len(open_source("synthetic:shapes").splits["base"])


@pytest.mark.slow
def test_validation_is_on_the_val_splits_of_all_sources(mixed):
    expected = evaluate(
        mixed.load_model(),
        open_mixture([WeightedSource("synthetic:shapes"), WeightedSource("synthetic:fog", 2)], "val"),
        EpisodeConfig(3, 2, 1),
        5,
        mixed.config().training.seed + VALIDATION_STREAM,
    )
    # The stored weights are those of the best epoch.
    assert max(row["val_accuracy"] for row in mixed.metrics()) == pytest.approx(expected.mean, abs=1e-6)


@pytest.mark.slow
def test_validation_sources_may_be_others(tmp_path):
    run = RunFolder(tmp_path / "run")
    config = small_config(
        data={"train": DOMAINS, "validation": ["synthetic:sketch", "synthetic:texture"]}, training={"epochs": 1}
    )
    train(config, run)
    seed = config.training.seed + VALIDATION_STREAM
    expected = evaluate(
        run.load_model(),
        open_mixture([WeightedSource("synthetic:sketch"), WeightedSource("synthetic:texture")], "val"),
        EpisodeConfig(3, 2, 2),
        5,
        seed,
    )
    assert run.metrics()[0]["val_accuracy"] == pytest.approx(expected.mean, abs=1e-6)


@pytest.mark.slow
def test_the_stored_support_set_is_of_the_first_source_with_enough_classes(tmp_path):
    small = photos(tmp_path / "small", classes=7)  # 4 base classes, and fewer than 4 for validation and testing
    train(
        small_config(
            data={"train": ["synthetic:fog", f"folder:{small}"], "validation": "synthetic:fog"}, training={"epochs": 1}
        ),
        RunFolder(tmp_path / "a"),
    )
    fog = open_source("synthetic:fog")
    assert set(os.listdir(tmp_path / "a" / "support")) <= {fog.class_names[c] for c in fog.splits["novel"]}
    train(
        small_config(
            data={"train": [f"folder:{small}", "synthetic:fog"], "validation": "synthetic:fog"}, training={"epochs": 1}
        ),
        RunFolder(tmp_path / "b"),
    )
    assert set(os.listdir(tmp_path / "b" / "support")) <= {f"class{c}" for c in (0, 2, 4, 6)}


# === Unreadable images ===


def photos(folder, classes=12, images=8):
    rng = np.random.default_rng(2)
    for c in range(classes):
        (folder / f"class{c}").mkdir(parents=True)
        for i in range(images):
            Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(folder / f"class{c}" / f"{i}.png")
    return folder


def photo_config(folder, **changes):
    data = {"train": f"folder:{folder}", **changes.pop("data", {})}
    training = {"epochs": 2, "episodes_per_epoch": 6, **changes.pop("training", {})}
    return small_config(data=data, training=training, **changes)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """Twelve classes: 6 for training, 3 for validation, 3 for testing; some images of each are no images."""
    folder = photos(tmp_path_factory.mktemp("damaged") / "photos")
    for name in ("class0/1", "class0/5", "class2/3", "class1/4", "class3/0"):
        (folder / f"{name}.png").write_bytes(b"no image")
    return folder


@pytest.mark.slow
def test_an_unreadable_image_stops_training_by_default(tmp_path, damaged):
    run = RunFolder(tmp_path / "run")
    with refused(DataError, "cannot read image .*png: not a PNG", run):
        train(photo_config(damaged), run)


@pytest.fixture(scope="module")
def skipping(tmp_path_factory, damaged):
    """A run that left images out, and what it reported."""
    run, lines = RunFolder(tmp_path_factory.mktemp("runs") / "skipping"), []
    train(photo_config(damaged, data={"unreadable": "skip", "augmentation": "full"}), run, report=lines.append)
    return run, lines


def test_unreadable_images_are_left_out_on_request_and_reported_once(skipping):
    _, lines = skipping
    first, *lines = [line for line in lines if not line.startswith("warning: ")]
    assert first.startswith("validation on ")
    assert all(line.startswith("left out ") for line in lines)
    text = " ".join(lines)
    # Every class of the validation is in every episode; those of training come when they are drawn.
    for name in ("class0/1", "class0/5", "class2/3"):
        assert text.count(f"{name}.png") <= 1
    assert sum(int(line.split()[2]) for line in lines) >= 3
    assert "png" in text


@pytest.mark.slow
def test_the_same_images_are_left_out_again_also_by_a_resumed_training(skipping, tmp_path):
    whole, _ = skipping
    parts = RunFolder(tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        train(whole.config(), parts, callbacks=[Interrupt(epoch=2)])
    train(whole.config(), parts, resume=True)
    expect_equal_states(whole, parts)
    assert without_seconds(whole) == without_seconds(parts)


@pytest.mark.slow
def test_the_stored_support_set_has_readable_images_only(tmp_path, damaged):
    folder = shutil.copytree(damaged, tmp_path / "photos")
    for file in folder.glob("class*/[0-2].png"):
        if file.parent.name in ("class3", "class7", "class11"):
            file.write_bytes(b"no image")
    run = RunFolder(tmp_path / "run")
    train(photo_config(folder, data={"unreadable": "skip"}, training={"epochs": 1}), run)
    assert len(list(run.support_folder.rglob("*.png"))) == 6
    assert len(os.listdir(run.queries_folder)) == 6


@pytest.mark.slow
def test_too_few_readable_images_are_the_usual_error(tmp_path, damaged):
    run = RunFolder(tmp_path / "run")
    with refused(DataError, "Received: class 'class[0-9]+' of folder:.*photos .split base. has [67]; take fewer", run):
        train(photo_config(damaged, data={"unreadable": "skip"}, episode={"queries": 6}), run)


# === feature-wise transformation ===


TRANSFORMED = {"model": {"backbone": {"name": "conv4", "width": 2, "feature_transformation": True}}}


@pytest.mark.slow
@pytest.mark.parametrize("learned", [False, True])
def test_the_transformation_resumes_exactly(tmp_path, learned):
    config = small_config(
        data={"train": ["synthetic:shapes", "synthetic:fog"]}, **TRANSFORMED, training={"learn_transformation": learned}
    )
    alone, resumed = RunFolder(tmp_path / "alone"), RunFolder(tmp_path / "resumed")
    train(config, alone)
    with contextlib.suppress(KeyboardInterrupt):
        train(config, resumed, callbacks=[Interrupt(epoch=2)])
    assert len(resumed.metrics()) == 1
    train(config, resumed, resume=True)
    expect_equal_states(alone, resumed)
    found = state(alone)
    assert found["model/transformation/block1_transformation/calls"] == 6
    moved = np.any(found["model/transformation/block1_transformation/theta_gamma"] != np.float32(0.3))
    assert moved == learned == any(name.startswith("optimizer/theta/") for name in found)
    assert all(("unseen_loss" in row) == learned for row in alone.metrics())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "at least two sources"),
        (
            {
                "data": {"train": ["synthetic:shapes", "synthetic:fog"]},
                "model": {"backbone": {"name": "conv4", "width": 2}},
            },
            "the backbone must have one",
        ),
        (
            {"training": {"learn_transformation": True, "episodes_per_step": 2}},
            "`training.episodes_per_step` must be 1",
        ),
    ],
)
def test_a_transformation_that_cannot_be_learned_writes_nothing(tmp_path, changes, message):
    parts = {**TRANSFORMED, "training": {"learn_transformation": True}, **changes}
    with pytest.raises(ConfigError, match=message):
        train(small_config(**parts), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
