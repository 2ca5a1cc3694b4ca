from __future__ import annotations

import signal

import pytest
import yaml

from egt_tf.config import load_config


@pytest.mark.slow
def test_pretrain_then_train_from_it(egt, tiny, drawn, tmp_path):
    own = yaml.safe_load(tiny.read_text())
    own["data"] = {"train": f"folder:{drawn}", "image_size": 16}
    own["pretrain"] = {"epochs": 2, "batch_size": 8}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    result = egt("pretrain", "--config", "own.yaml")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("training: 2 epochs of ")
    assert lines[1].startswith("epoch 1/2  loss ")
    assert lines[1].endswith(" left")
    assert "images/s" in lines[2]
    assert lines[-1] == "train from it with: egt-tf train --config NAME --warm-start runs/own_pretrained"
    result = egt("train", "--config", "own.yaml", "--warm-start", "runs/own_pretrained", "--set", "training.epochs=1")
    assert result.exit_code == 0, result.output
    assert load_config(tmp_path / "runs" / "own" / "config.yaml").training.warm_start == "runs/own_pretrained"
    result = egt("pretrain", "--run", "runs/own_pretrained", "--resume")
    assert result.exit_code == 0
    assert "already complete: 2 epochs" in result.stdout
    more = ("pretrain", "--config", "own.yaml", "--resume", "--set")
    result = egt(*more, "training.epochs=9")
    assert (result.exit_code, "but for more `pretrain.epochs`" in result.stderr) == (2, True)
    result = egt(*more, "pretrain.epochs=3")
    assert (result.exit_code, "3 epochs in place of 2\n" in result.stdout) == (0, True), result.output


def test_a_warm_start_of_any_name(fails, tiny):
    fails("train", "--config", tiny, "--warm-start", "a: [b", says=["the weight file a: [b must exist"])


def test_a_warm_start_of_a_resumed_run(egt, run):
    result = egt("train", "--run", "runs/tiny", "--resume", "--warm-start", "elsewhere")
    assert result.exit_code == 2
    assert "training.warm_start=elsewhere in place of None" in result.stderr


def test_bad_values_are_named(fails, egt, tiny):
    for override, words in [
        ("pretrain.epohcs=3", ["did you mean 'pretrain.epochs'"]),
        ("pretrain.batch_size=1", ["`pretrain.batch_size`", ">= 2"]),
        ("pretrain.validation_share=1", ["`pretrain.validation_share`", "< 1"]),
        ("data.train=folder:missing", ["cannot read the folder missing"]),
        ("pretrain.challenger.manipulaton=noise", ["did you mean 'pretrain.challenger.manipulation'"]),
        ("pretrain.challenger.share=0", ["`pretrain.challenger.share`", "> 0 and <= 1"]),
        ("pretrain.challenger=noise", ["`pretrain.challenger`", "must be a mapping of keys"]),
        ("pretrain.challenger.composite=fscc", ["did you mean 'fsc'"]),
    ]:
        fails("pretrain", "--config", tiny, "--set", override, says=words)
    assert egt("pretrain").exit_code == 2


@pytest.mark.slow
def test_ctrl_c(process, tiny, tmp_path):
    started = process(
        "pretrain",
        "--config",
        tiny,
        "--set",
        "pretrain.epochs=50",
        "--set",
        "data.image_size=16",
        "--run",
        tmp_path / "run",
    )
    assert started.stdout.readline().startswith("training: 50 epochs")
    assert started.stdout.readline().startswith("epoch  1/50")
    started.send_signal(signal.SIGINT)
    _, stderr = started.communicate(timeout=60)
    command = f"egt-tf pretrain --run {tmp_path}/run --resume"
    assert started.returncode == 130
    assert stderr == f"Error: interrupted; the newest state is kept. Go on with: {command}\n"
