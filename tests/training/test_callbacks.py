"""Trainings that are interrupted at a step and resumed, against one that was left alone."""

from __future__ import annotations

import numpy as np
import pytest

from egt_tf.config import RunConfig, config_from_dict
from egt_tf.errors import ConfigError, RunError
from egt_tf.evaluation.accuracy import Evaluator
from egt_tf.keras_api import keras
from egt_tf.runs import RunFolder
from egt_tf.training.loop import train
from tests.helpers.trainings import Interrupt, expect_equal_states, without_seconds

EPOCHS, STEPS = 2, 5


def small_config(head="prototype", **changes) -> RunConfig:
    """Two epochs of five steps on augmented images of 16 pixels, with guidance and a checkpoint every second step."""
    parts = {
        "data": {"image_size": 16, "augmentation": "full"},
        "episode": {"ways": 2, "shots": 1, "queries": 1},
        "model": {"backbone": {"name": "conv4", "width": 2}, "head": head},
        "training": {
            "epochs": EPOCHS,
            "episodes_per_epoch": STEPS,
            "validation_episodes": 3,
            "checkpoint_every": 2,
            "learning_rate": 0.01,
        },
    }
    names = {**parts, **changes}
    return config_from_dict({name: {**parts.get(name, {}), **changes.get(name, {})} for name in names}, "the test")


def checkpoints(run: RunFolder) -> list[int]:
    return sorted(int(file.stem) for file in run.checkpoints_folder.iterdir())


def expect_equal(one: RunFolder, other: RunFolder) -> None:
    """All that the two runs leave, bit by bit, but the time that they took."""
    assert one.best_file.read_bytes() == other.best_file.read_bytes()
    assert without_seconds(one) == without_seconds(other)
    assert checkpoints(one)[-1] == checkpoints(other)[-1]
    expect_equal_states(one, other)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> RunFolder:
    """A run of `small_config()` that was left alone."""
    run = RunFolder(tmp_path_factory.mktemp("runs") / "alone")
    train(small_config(), run)
    return run


OPTIMIZERS = {
    "adam": {"optimizer": "adam", "schedule": "cosine"},
    "sgd": {"optimizer": {"name": "sgd", "weight_decay": 1e-3}, "clip_norm": 0.1},
}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_run_interrupted_at_several_steps_ends_with_the_same_numbers(tmp_path, optimizer):
    config = small_config(training=OPTIMIZERS[optimizer])
    alone, parts = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b")
    train(config, alone)
    assert checkpoints(alone) == [6, 8, 10]
    lines = []
    with pytest.raises(KeyboardInterrupt):
        train(config, parts, callbacks=[Interrupt(3)])
    assert checkpoints(parts) == [0, 2]
    # From step 2 on: the interruption is after the steps 3 to 7, the last of which are of the second epoch.
    with pytest.raises(KeyboardInterrupt):
        train(config, parts, resume=True, callbacks=[Interrupt(5)], report=lines.append)
    train(config, parts, resume=True, report=lines.append)
    assert lines == ["resuming in epoch 1, after step 2 of 5", "resuming in epoch 2, after step 1 of 5"]
    expect_equal(alone, parts)


@pytest.mark.slow
def test_damaged_checkpoints_cost_time_and_nothing_else(tmp_path, alone):
    config, parts = small_config(), RunFolder(tmp_path / "b")
    with pytest.raises(KeyboardInterrupt):
        train(config, parts, callbacks=[Interrupt(9)])
    for step, content in ((8, b"garbage"), (6, (parts.checkpoints_folder / "000006.npz").read_bytes()[:-9])):
        (parts.checkpoints_folder / f"{step:06d}.npz").write_bytes(content)
    (parts.path / ".metrics.jsonl.x.part").write_bytes(b"half")
    lines = []
    train(config, parts, resume=True, report=lines.append)
    assert [line.split()[0] for line in lines] == ["the", "the", "resuming"]
    assert "after epoch 1" in lines[-1]
    expect_equal(alone, parts)
    assert not list(parts.path.glob(".*"))


@pytest.mark.slow
def test_an_interrupted_validation_is_repeated(tmp_path, monkeypatch, alone):
    config, parts = small_config(), RunFolder(tmp_path / "b")

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Evaluator, "_score", interrupted)
        train(config, parts)
    assert checkpoints(parts) == [0, 2, 4]
    assert not parts.best_file.exists()
    train(config, parts, resume=True)
    expect_equal(alone, parts)


@pytest.mark.slow
def test_no_checkpoint_within_an_epoch_if_so_configured(tmp_path):
    run = RunFolder(tmp_path / "run")
    train(small_config(training={"checkpoint_every": 0, "keep_checkpoints": 9}), run)
    assert checkpoints(run) == [0, 5, 10]


@pytest.mark.slow
@pytest.mark.parametrize(("together", "expected"), [(1, [0, 2, 4, 6, 8, 10, 12]), (3, [0, 3, 6, 9, 12])])
def test_where_several_steps_are_one_call_a_checkpoint_waits_for_them(tmp_path, together, expected):
    run = RunFolder(tmp_path / "run")
    train(small_config(training={"keep_checkpoints": 9, "episodes_per_epoch": 6, "steps_per_execution": together}), run)
    assert checkpoints(run) == expected


@pytest.mark.slow
def test_an_epoch_that_became_shorter_cannot_go_on(tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        train(small_config(), run, callbacks=[Interrupt(4)])
    with pytest.raises(RunError, match="Received: an epoch of 3 steps, of which 4 are done"):
        train(small_config(training={"episodes_per_epoch": 3}), run, resume=True)


def test_two_ways_to_let_the_rate_drop_are_one_too_many(tmp_path):
    with pytest.raises(ConfigError, match=r"`training.schedule` must not both be given"):
        train(
            small_config(training={"learning_rate_drops": [[1, 0.1]], "schedule": "cosine"}),
            RunFolder(tmp_path / "run"),
        )


@pytest.mark.slow
def test_a_bad_step_keeps_the_checkpoint_before_it(tmp_path, alone):
    class Spoil(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if self.model.optimizer.iterations.numpy() == 6:
                kernel = self.model.classifier.trainable_variables[0]
                kernel.assign(kernel * np.nan)

    run = RunFolder(tmp_path / "run")
    message = (
        "Received: NaN or infinity in weight backbone/block1_conv/kernel, step 7; the state after step 6 is "
        "kept in .*000006.npz"
    )
    with pytest.raises(RunError, match=message):
        train(small_config(), run, callbacks=[Spoil()])
    train(run.config(), run, resume=True)
    expect_equal(run, alone)


@pytest.mark.slow
@pytest.mark.parametrize(("head", "many"), [({"name": "relation", "hidden": 1}, True), ("prototype", False)])
def test_many_ties_are_reported(tmp_path, head, many):
    """A single hidden unit that is silent leaves the bias of the last layer as the score of every class."""
    config = small_config(head, guidance={"mode": "none"}, training={"epochs": 1, "learning_rate": 1e-9})
    lines = []
    train(config, RunFolder(tmp_path / "run"), report=lines.append)
    tied = RunFolder(tmp_path / "run").metrics()[0].get("val_tied", 0.0)
    assert (tied >= 0.5) is many
    assert (f"warning: {100 * tied:.1f} % of the queries are ties" in " ".join(lines)) is many


@pytest.mark.slow
def test_validation_on_the_same_few_classes_is_said(tmp_path):
    """20 classes to validate on: 11 at a time are mostly the same."""
    for ways, said in (
        (11, "validation on synthetic:shapes (split val): every episode is of 11 of the same 20"),
        (2, ""),
    ):
        lines = []
        config = small_config(episode={"ways": ways}, guidance={"mode": "none"}, training={"epochs": 1})
        train(config, RunFolder(tmp_path / str(ways)), report=lines.append)
        assert [line for line in lines if line.startswith("validation on")][:1] == [
            f"{said} classes; the interval says nothing about others"
        ] * bool(said)
