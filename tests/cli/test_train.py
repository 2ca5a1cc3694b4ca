from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import tempfile

import numpy as np
import pytest
import yaml

from egt_tf.config import load_config
from tests.helpers.quick import all_but_slow, quick_ones


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


# === What a run leaves ===


def test_the_configuration_is_stored_with_every_value(trained, tiny):
    assert load_config(trained / "config.yaml") == load_config(tiny)
    assert yaml.safe_load((trained / "config.yaml").read_text())["training"]["learning_rate"] == 1e-3


def test_the_environment_is_stored(trained):
    environment = json.loads((trained / "environment.json").read_text())
    assert environment["seed"] == 1
    assert {"egt-tf", "tensorflow", "innvestigate", "numpy"} <= environment["packages"].keys()
    assert environment["packages"]["numpy"] == np.__version__


def test_every_epoch_has_a_line_of_metrics(trained):
    rows = metrics(trained)
    assert [row["epoch"] for row in rows] == [1, 2]
    for row in rows:
        assert {"loss", "plain_loss", "guided_loss", "accuracy", "val_accuracy", "val_interval"} <= row.keys()
        assert np.isfinite(list(row.values())).all()
        assert row["loss"] == pytest.approx(row["plain_loss"] + row["guided_loss"], rel=1e-5)


def test_the_images_to_explain_are_stored(trained):
    classes = sorted(path.name for path in (trained / "support").iterdir())
    assert len(classes) == 3
    assert all(
        sorted(p.name for p in (trained / "support" / name).iterdir()) == ["01.png", "02.png"] for name in classes
    )
    stored = {path.name for path in (trained / "queries").iterdir()}
    assert stored == {f"{name}-{number}.png" for name in classes for number in ("01", "02")}


def test_tensorboard_has_every_metric(trained):
    from tensorflow.core.util import event_pb2
    from tensorflow.python.lib.io import tf_record

    steps = {}
    for file in (trained / "tensorboard").rglob("events.*"):
        for record in tf_record.tf_record_iterator(str(file)):
            event = event_pb2.Event.FromString(record)
            for value in event.summary.value:
                steps.setdefault(value.tag, []).append(event.step)
    assert steps["val_accuracy"] == steps["plain_loss"] == [1, 2]


def test_the_best_weights_are_those_of_an_epoch(trained, arrays, checkpoint):
    best, last = arrays(trained / "best.npz"), arrays(checkpoint(trained))
    assert {f"model/{name}" for name in best} == {name for name in last if name.startswith("model/")}
    accuracies = [row["val_accuracy"] for row in metrics(trained)]
    if accuracies[-1] > max(accuracies[:-1]):
        assert all(np.array_equal(best[name], last[f"model/{name}"]) for name in best)
    assert json.loads(str(last["progress"]))["best_accuracy"] == max(accuracies)


def test_no_temporary_file_is_left(trained):
    assert not list(trained.rglob("*.part"))


# === Choices ===


@pytest.mark.parametrize(
    ("mode", "plain", "guided"),
    all_but_slow([("none", True, False), ("guided_only", True, True)], {("none", True, False)}),
)
def test_guidance_modes(egt, tiny, tmp_path, mode, plain, guided):
    result = egt("train", "--config", tiny, "--set", f"guidance.mode={mode}", "--set", "training.epochs=1")
    assert result.exit_code == 0, result.output
    (row,) = metrics(tmp_path / "runs" / "tiny")
    assert (row["plain_loss"] > 0, row["guided_loss"] > 0) == (plain, guided)
    assert row["loss"] == pytest.approx(row["guided_loss"] if mode == "guided_only" else row["plain_loss"])


@pytest.mark.slow
def test_values_can_be_set(egt, tiny, tmp_path):
    result = egt(
        "train",
        "--config",
        tiny,
        "--set",
        "training.epochs=1",
        "--set",
        "episode.shots=1",
        "--set",
        "data.image_size=16",
        "--run",
        "here",
    )
    assert result.exit_code == 0, result.output
    assert "epoch 1/1" in result.stdout
    assert "run folder: here" in result.stdout
    config = load_config(tmp_path / "here" / "config.yaml")
    assert (config.training.epochs, config.episode.shots, config.data.image_size) == (1, 1, 16)
    assert len(list((tmp_path / "here" / "support").glob("*/*.png"))) == 3


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(egt, tiny, trained, tmp_path, equal_weights):
    # That --resume starts what does not exist is checked on the way.
    assert egt("train", "--config", tiny, "--resume").exit_code == 0
    assert equal_weights(trained, tmp_path / "runs" / "tiny")


@pytest.mark.slow
def test_own_images(egt, tiny, drawn, tmp_path):
    result = egt(
        "train",
        "--config",
        tiny,
        "--set",
        f"data.train=folder:{drawn}",
        "--set",
        "training.epochs=1",
        "--set",
        "data.augmentation=full",
    )
    assert result.exit_code == 0, result.output
    # The novel classes of 12 are 3, 7 and 11.
    stored = sorted(path.name for path in (tmp_path / "runs" / "tiny" / "support").iterdir())
    assert stored == ["class03", "class07", "class11"]


# === Starting and going on ===


def test_an_existing_run_is_not_overwritten(fails, run, tiny):
    fails("train", "--config", tiny, says=["runs/tiny", "already holds a run", "--resume"])


def test_a_complete_run_says_so(egt, run, snapshot):
    before = snapshot(run)
    result = egt("train", "--run", "runs/tiny", "--resume")
    assert result.exit_code == 0
    assert "already complete: 2 epochs" in result.stdout
    assert snapshot(run) == before


def test_what_is_missing_on_the_command_line(egt, run):
    for arguments, words in [
        ((), "--config"),
        (("--run", "new"), "--config"),
        (("--run", "nwe", "--resume"), "nwe holds no run"),
    ]:
        result = egt("train", *arguments)
        assert (result.exit_code, words in result.stderr) == (2, True), result.stderr


@pytest.mark.slow
def test_ctrl_c_and_resume_end_with_the_weights_of_an_undisturbed_run(process, tiny, tmp_path, equal_weights):
    longer = ("train", "--config", tiny, "--set", "training.epochs=6", "--set", "training.episodes_per_epoch=10")
    undisturbed = process(*longer, "--run", tmp_path / "undisturbed")
    first = process(*longer, "--run", tmp_path / "a run")
    assert first.stdout.readline().startswith("training: 6 epochs")
    assert first.stdout.readline().startswith("epoch 1/6")
    first.send_signal(signal.SIGINT)
    _, stderr = first.communicate(timeout=60)
    command = f"egt-tf train --run '{tmp_path}/a run' --resume"
    assert (first.returncode, stderr) == (130, f"Error: interrupted; the newest state is kept. Go on with: {command}\n")
    assert 1 <= len(metrics(tmp_path / "a run")) < 6

    second = process("train", "--run", tmp_path / "a run", "--resume")
    stdout, stderr = second.communicate(timeout=120)
    assert (second.returncode, stderr) == (0, "")
    assert "resuming after epoch" in stdout
    stdout, stderr = undisturbed.communicate(timeout=120)
    # TensorFlow has nothing to say about seven validations either.
    assert (undisturbed.returncode, stderr) == (0, "")
    assert stdout.count("epoch ") == 6
    assert equal_weights(tmp_path / "undisturbed", tmp_path / "a run")
    keys = ("epoch", "loss", "accuracy", "val_accuracy")
    one, other = ([[row[key] for key in keys] for row in metrics(tmp_path / name)] for name in ("undisturbed", "a run"))
    assert one == other


def test_ctrl_c_before_the_run_exists(egt, tiny, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("egt_tf.training.run_data.store_support_set", interrupt)
    result = egt("train", "--config", tiny)
    assert (result.exit_code, result.stderr.count("\n")) == (130, 1)
    assert "nothing was written" in result.stderr
    assert not (tmp_path / "runs" / "tiny").exists()


# === Bad configurations ===


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epohcs=3", ["'training.epohcs'", "did you mean 'training.epochs'"]),
        ("trainnig.epochs=3", ["'trainnig'", "did you mean 'training'"]),
        ("training.epochs=ten", ["training.epochs", "'ten'"]),
        ("training.epochs", ["section.key=value", "'training.epochs'"]),
        ("guidance.mode=guidde", ["guidance.mode", "guided_only", "'guidde'"]),
        ("guidance.composite=fcs", ["unknown composite 'fcs'", "did you mean 'fsc'"]),
        ("model.head=relatoin", ["unknown head 'relatoin'", "did you mean 'relation'"]),
        ("model.backbone=conv5", ["unknown backbone 'conv5'", "did you mean 'conv4'"]),
        ("model.backbone.wdith=8", ["'wdith'", "did you mean 'width'"]),
        ("model.backbone.width=ten", ["width", "'ten'"]),
        ("model.backbone.image_size=48", ["model.backbone.image_size", "data.image_size", "48"]),
        ("model.head.feature_shape=[1,1,8]", ["model.head.feature_shape", "[1, 1, 8]"]),
        ("training.episodes_per_step=3", ["episodes_per_epoch", "multiple", "2 and 3"]),
        ("data.train=synthetic:shpaes", ["'shpaes'"]),
        ("data.train=folder:missing", ["cannot read the folder missing"]),
        ("data.train=[synthetic:shapes,folder:missing]", ["cannot read the folder missing"]),
        ("data.train=[synthetic:shapes,synthetic:shapes]", ["`data.train`", "list of different sources"]),
        ("data.train=[{source: synthetic:shapes, weight: 0}]", ["`data.train`", "weight: > 0", "0"]),
        ("training.schedule=cosin", ["unknown schedule 'cosin'", "did you mean 'cosine'"]),
        ("training.schedule.factr=2", ["takes no argument 'factr'"]),
        ("training.schedule.total_steps=9", ["training.schedule.total_steps", "left out", "9"]),
        ("training.schedule={name: warmup_cosine, warmup_epochs: 2}", ["warmup_epochs", "2 of 2 epochs"]),
        ("training.clip_norm=0", ["training.clip_norm", "> 0, or null"]),
        ("training.checkpoint_every=-1", ["training.checkpoint_every", ">= 0"]),
        ("training.keep_checkpoints=0", ["training.keep_checkpoints", ">= 1"]),
        ("data.unreadable=black", ["`data.unreadable`", "stop, skip", "'black'"]),
        ("episode.ways=60", ["60-way", "synthetic:shapes", "fewer ways"]),
        ("episode.shots=500", ["500 shots", "class '", "fewer shots"]),
    ],
)
def test_a_bad_value_is_named(fails, tiny, override, words):
    fails("train", "--config", tiny, "--set", override, says=words)


def test_a_bad_key_in_the_file_is_named(fails, tmp_path):
    (tmp_path / "own.yaml").write_text("training: {epoch: 3}\n")
    fails("train", "--config", "own.yaml", says=["own.yaml", "'training.epoch'", "did you mean 'training.epochs'"])


def test_a_configuration_that_does_not_exist(fails):
    fails("train", "--config", "dmeo", says=["'dmeo'", "did you mean 'demo'"])


def test_a_folder_of_one_class(fails, tiny, drawn, tmp_path):
    shutil.copytree(drawn / "class00", tmp_path / "one" / "class00")
    fails("train", "--config", tiny, "--set", "data.train=folder:one", says=["folder:one", "at least 2 classes"])


# === Failures on the way ===


def test_a_run_folder_that_is_or_lies_in_a_file(fails, tiny, tmp_path):
    (tmp_path / "file").write_text("")
    fails("train", "--config", tiny, "--run", "file", says=["the run folder file must be a folder"])
    fails("train", "--config", tiny, "--run", "file/run", says=["Not a directory: file/run"])


def test_a_run_folder_that_may_not_be_written(fails, tiny, tmp_path, monkeypatch):
    def refuses(*arguments, **keywords):
        raise PermissionError(errno.EACCES, "Permission denied", str(keywords["dir"]))

    # Permissions do not bind the superuser, whom tests may run as.
    monkeypatch.setattr(tempfile, "mkstemp", refuses)
    fails("train", "--config", tiny, "--run", "run", says=["Permission denied: run"])


@pytest.mark.slow
def test_the_same_line_goes_on_again_and_again(egt, fails, tiny, tmp_path):
    """As a queue runs it, whatever became of the run before."""
    line = ("train", "--config", tiny, "--run", "again", "--resume", "--set", "episode.shots=1")
    assert egt(*line, "--strategy", "mirrored").exit_code == 0
    before = (tmp_path / "again" / "config.yaml").read_bytes()
    result = egt(*line)
    assert (result.exit_code, "already complete: 2 epochs" in result.stdout) == (0, True), result.output
    assert (tmp_path / "again" / "config.yaml").read_bytes() == before
    rule = "a run must go on with the settings it began with, but for more `training.epochs`. Received: "
    for other, says in [
        ("episode.shots=2", "episode.shots=2 in place of 1; leave them out"),
        ("training.epochs=1", "training.epochs=1 in place of 2;"),
        ("model.head.hidden=4", "model.head.hidden=4 in place of nothing;"),
    ]:
        fails(*line, "--set", other, says=[rule, says])
    fails("train", "--config", "demo", "--run", "again", "--resume", says=[rule, " more; leave them out"])
    # Without a configuration, single values are compared with the run's own.
    fails("train", "--run", "again", "--resume", "--set", "training.seed=2", says=[rule, "training.seed=2"])
    assert egt("train", "--run", "again", "--resume", "--set", "training.seed=1").exit_code == 0


@pytest.mark.slow
def test_a_line_that_leaves_out_what_the_training_fills_in(egt, tiny):
    line = ("train", "--config", tiny, "--set", "model.head=graph", "--run", "again", "--resume")
    assert egt(*line).exit_code == 0
    assert "already complete" in egt(*line).stdout


@pytest.mark.slow
def test_a_finished_run_takes_more_epochs(egt, tiny, run, tmp_path, equal_weights):
    """A constant rate knows nothing of the end: the weights are those of a run that had as many from the start."""
    more = ("--set", "training.epochs=3")
    result = egt("train", "--config", tiny, "--run", run, "--resume", *more)
    assert (result.exit_code, "3 epochs in place of 2\n" in result.stdout) == (0, True), result.output
    assert "the schedule" not in result.stdout
    assert load_config(run / "config.yaml").training.epochs == 3
    assert "already complete: 3 epochs" in egt("train", "--run", run, "--resume").stdout
    assert egt("train", "--config", tiny, "--run", "three", *more).exit_code == 0
    assert equal_weights(run, tmp_path / "three")


@pytest.mark.slow
def test_more_epochs_of_a_cosine_schedule_say_what_becomes_of_the_rate(egt, tiny):
    line = ("train", "--config", tiny, "--run", "again", "--resume", "--set", "training.schedule=cosine")
    assert egt(*line, "--set", "training.learning_rate=0.01").exit_code == 0
    result = egt(*line, "--set", "training.learning_rate=0.01", "--set", "training.epochs=4")
    assert result.exit_code == 0, result.output
    # Half of a half wave.
    assert (
        "the schedule cosine is that of all 4 epochs now: the learning rate goes on at 0.005, where that of 2 epochs is at 0\n"
        in result.stdout
    )


def break_writing_of(monkeypatch, name):
    """A disk that is full as soon as the file `name` is to be written."""
    fsync = os.fsync

    def full(descriptor):
        if f".{name}." in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)


@pytest.mark.parametrize("name", quick_ones(["environment.json", "02.png", "000000.npz", "config.yaml"], {"02.png"}))
def test_a_full_disk_at_the_start_leaves_no_run(fails, tiny, tmp_path, monkeypatch, name):
    break_writing_of(monkeypatch, name)
    fails("train", "--config", tiny, "--run", "run", says=["No space left on device: run/", name])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("kept")
    fails("train", "--config", tiny, "--run", "run", says=[name], writes=True)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


@pytest.mark.slow
def test_a_full_disk_after_an_epoch_can_be_made_up_for(fails, egt, tiny, trained, tmp_path, monkeypatch, equal_weights):
    with monkeypatch.context() as patch:
        break_writing_of(patch, "metrics.jsonl")
        fails("train", "--config", tiny, writes=True, says=["No space left on device: runs/tiny/metrics.jsonl"])
    assert egt("train", "--run", "runs/tiny", "--resume").exit_code == 0
    assert equal_weights(trained, tmp_path / "runs" / "tiny")


@pytest.mark.slow
def test_a_disk_that_really_refuses(process, tiny, tmp_path):
    limit = 4096
    trial = process(
        "train",
        "--config",
        tiny,
        "--run",
        tmp_path / "run",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    _, stderr = trial.communicate(timeout=60)
    assert (trial.returncode, stderr) == (2, f"Error: File too large: {tmp_path}/run/checkpoints/000000.npz\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_tensorboard_files_that_cannot_be_written(fails, egt, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("egt_tf.training.loop.TensorBoardScalars", _failing_tensorboard())
    fails("train", "--config", tiny, writes=True, says=["TensorBoard", "runs/tiny/tensorboard", "disk is full"])


def _failing_tensorboard():
    import tensorflow as tf

    from egt_tf.training.tensorboard import TensorBoardScalars

    class Failing(TensorBoardScalars):
        def on_epoch_end(self, epoch, logs=None):
            with self._errors():
                raise tf.errors.ResourceExhaustedError(None, None, "the disk is full\nmore text")

    return Failing


@pytest.mark.slow
def test_a_tensorboard_folder_that_is_a_file(fails, tiny, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("")
    fails(
        "train", "--config", tiny, "--run", "run", writes=True, says=["TensorBoard", "run/tensorboard", "File exists"]
    )


@pytest.fixture
def damaged(drawn, tmp_path):
    """Copies `drawn` to images/, beside what `egt` writes, and spoils what a pattern names: -> options of train."""

    def damage(pattern, *overrides):
        shutil.copytree(drawn, tmp_path / "images")
        for image in (tmp_path / "images").glob(pattern):
            image.write_bytes(image.read_bytes()[:150])
        settings = [part for value in ("data.train=folder:images", *overrides) for part in ("--set", value)]
        return (*settings, "--run", "run")

    return damage


@pytest.mark.slow
def test_a_damaged_training_image_is_named(fails, tiny, damaged):
    # Nothing is left behind: no epoch was done that one could go on from.
    options = damaged("class02/*", "training.episodes_per_epoch=8")
    fails("train", "--config", tiny, *options, says=["cannot read image images/class02/"])


def test_a_damaged_support_image_is_named_and_nothing_written(fails, tiny, damaged):
    fails("train", "--config", tiny, *damaged("class07/*"), says=["cannot read image images/class07/"])


@pytest.mark.slow
def test_a_damaged_validation_image_is_named(fails, tiny, damaged):
    options = damaged("class0[159]/*")
    fails("train", "--config", tiny, *options, writes=True, says=["cannot read image images/class0"])


@pytest.mark.slow
def test_damaged_images_are_left_out_on_request(egt, tiny, damaged):
    options = damaged("class*/0.png", "data.unreadable=skip", "training.episodes_per_epoch=8")
    result = egt("train", "--config", tiny, *options)
    assert result.exit_code == 0, result.output
    found = [line for line in result.stdout.splitlines() if line.startswith("left out ")]
    # All six classes of the training and all three of the validation, each image once.
    assert sum(int(line.split()[2]) for line in found) == 9
    assert "images/class" in found[0]


@pytest.mark.slow
def test_several_sources_but_one(egt, tiny, tmp_path):
    result = egt(
        "train",
        "--config",
        tiny,
        "--set",
        "data.train=[synthetic:shapes,{source: synthetic:fog, weight: 2}]",
        "--run",
        "run",
    )
    assert result.exit_code == 0, result.output
    assert [each.source for each in load_config(tmp_path / "run" / "config.yaml").data.train_sources] == [
        "synthetic:shapes",
        "synthetic:fog",
    ]
    result = egt("evaluate", "run", "--data", "synthetic:sketch", "--episodes", 2)
    assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_a_step_that_is_not_finite_keeps_the_last_good_state(fails, tiny, tmp_path, arrays):
    fails(
        "train",
        "--config",
        tiny,
        "--set",
        "training.learning_rate=1e30",
        writes=True,
        says=[
            "must be finite",
            ", step 2;",
            "after step 0 is kept in runs/tiny/checkpoints/000000.npz",
            "training.learning_rate",
        ],
    )
    run = tmp_path / "runs" / "tiny"
    state = arrays(run / "checkpoints" / "000000.npz")
    assert all(np.isfinite(value).all() for value in state.values() if value.dtype.kind == "f")
    assert json.loads(str(state["progress"]))["metrics"] == []
    assert not (run / "best.npz").exists()
    assert not (run / "metrics.jsonl").exists()


@pytest.mark.slow
def test_weights_spoilt_by_the_last_step_of_an_epoch_are_not_stored(fails, tiny, tmp_path):
    # One step: its loss is that of the first weights, which are finite.
    fails(
        "train",
        "--config",
        tiny,
        "--set",
        "training.learning_rate=1e39",
        "--set",
        "training.episodes_per_epoch=1",
        writes=True,
        says=["must be finite. Received: NaN or infinity in weight backbone/", ", step 1;", "000000.npz"],
    )
    assert not (tmp_path / "runs" / "tiny" / "best.npz").exists()


def test_a_layer_without_a_rule_is_named(fails, tiny, monkeypatch):
    from egt_tf.lrp import COMPOSITES, Composite

    gappy = Composite([entry for entry in COMPOSITES.get("fsc").entries if entry.layer_type != "dense"], "gappy")
    monkeypatch.setitem(COMPOSITES._table, "gappy", lambda: gappy)
    result = fails(
        "train",
        "--config",
        tiny,
        "--set",
        "guidance.composite=gappy",
        writes=True,
        says=["no rule of composite 'gappy' fits layer 'fc2' of class Dense"],
    )
    assert "in user code" not in result.stderr


# === Damaged states ===


def test_a_truncated_checkpoint_is_passed_over(egt, run, trained, checkpoint, equal_weights):
    path = checkpoint(run)
    path.write_bytes(path.read_bytes()[:-100])
    for _ in range(2):
        # The second time there is nothing left to do.
        result = egt("train", "--run", "runs/tiny", "--resume")
        assert result.exit_code == 0, result.output
    assert equal_weights(run, trained)


def test_damaged_checkpoints_alone_cannot_be_resumed(fails, run):
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(b"garbage")
    message = fails("train", "--run", "runs/tiny", "--resume", says=["runs/tiny/checkpoints", "damaged ones only"])
    assert "is damaged (its checksum is wrong)" in message.stdout


def test_a_state_of_another_architecture_cannot_be_resumed(fails, run):
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("width: 4", "width: 8"))
    fails("train", "--run", "runs/tiny", "--resume", says=["runs/tiny/checkpoints/000004.npz", "this model"])


def test_a_state_of_an_older_version_is_resumed(egt, run, arrays, checkpoint):
    np.savez(run / "last.npz", **arrays(checkpoint(run)))
    shutil.rmtree(run / "checkpoints")
    result = egt("train", "--run", "runs/tiny", "--resume")
    assert (result.exit_code, "already complete: 2 epochs" in result.stdout) == (0, True), result.output


def test_a_state_with_a_forged_progress_cannot_be_resumed(fails, run, arrays, checkpoint):
    state = {**arrays(checkpoint(run)), "progress": np.array("{'metrics': __import__('os')}")}
    np.savez(run / "last.npz", **state)
    shutil.rmtree(run / "checkpoints")
    fails("train", "--run", "runs/tiny", "--resume", says=["runs/tiny/last.npz", "how far"])


def test_a_damaged_configuration_cannot_be_resumed(fails, run):
    (run / "config.yaml").write_text("training: [")
    fails("train", "--run", "runs/tiny", "--resume", says=["runs/tiny/config.yaml", "YAML"])
