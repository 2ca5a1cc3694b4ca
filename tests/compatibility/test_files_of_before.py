"""What the version before the engine became a room of its own wrote still loads, goes on and explains as it did then.

`before/` was written by that version (0.1.0 too, which was never released): a training (`run`), the same one
interrupted after the first step of its second epoch (`interrupted`), a pre-training interrupted after its first epoch
(`pretraining`, which kept its state in `last.npz`) and the backbone of one that was not (`pretrained_backbone.npz`), an
exported model, and the relevance of the stored query for all classes.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from egt_tf.config import load_config
from egt_tf_cli.main import cli

WRITTEN = Path(__file__).with_name("before")


@pytest.fixture
def egt(monkeypatch, tmp_path):
    """Runs `egt-tf` beside a copy of what was written."""
    shutil.copytree(WRITTEN, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    return run


def arrays(path):
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files if archive[name].dtype.kind != "U"}


def expect_close(found, expected):
    """Equal to rounding: another processor adds in another order.

    Left out are the biases that batch normalisation takes away again: their gradients are rounding errors, which Adam
    makes as large as any. So is the state of the optimizer, which has no names; the weights after its steps show it.
    """
    assert found.keys() == expected.keys()
    for name in (name for name in expected if not name.endswith("conv/bias") and not name.startswith("optimizer/")):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-4, err_msg=name)


def epochs(metrics):
    return [json.loads(line)["epoch"] for line in Path(metrics).read_text().splitlines()]


def test_a_configuration_has_the_values_that_it_was_resolved_to():
    assert load_config(WRITTEN / "configuration.yaml") == load_config(WRITTEN / "run" / "config.yaml")


@pytest.mark.slow
def test_a_run_is_evaluated_as_then(egt):
    before = json.loads(next(Path("run/evaluations").glob("*.json")).read_text())
    egt("evaluate", "run", "--data", "synthetic:sketch", "--episodes", "20", "--out", "again.json")
    after = json.loads(Path("again.json").read_text())
    assert after["episodes_id"] == before["episodes_id"]
    assert after["episode_accuracies"] == pytest.approx(before["episode_accuracies"])


def test_a_run_is_explained_as_then(egt):
    egt("explain", "run/queries/dome-above-disc-01.png", "--run", "run", "--target", "all", "--out", "figure.png")
    np.testing.assert_allclose(np.load("figure.npy"), np.load("explained.npy"), rtol=1e-4, atol=1e-6)


def test_a_run_is_listed(egt):
    assert "20.83 % +- 7.07" in egt("runs", ".")


def test_an_interrupted_training_ends_with_the_same_weights(egt):
    assert "resuming in epoch 2, after step 1 of 4" in egt("train", "--run", "interrupted", "--resume")
    assert epochs("interrupted/metrics.jsonl") == [1, 2]
    expect_close(arrays("interrupted/best.npz"), arrays("run/best.npz"))
    expect_close(arrays("interrupted/checkpoints/000008.npz"), arrays("run/checkpoints/000008.npz"))
    after, expected = (
        json.loads(Path(f"{run}/metrics.jsonl").read_text().splitlines()[1]) for run in ("interrupted", "run")
    )
    assert after["loss"] == pytest.approx(expected["loss"], rel=1e-4)


@pytest.mark.slow
def test_an_interrupted_pretraining_ends_with_the_same_weights(egt):
    assert "resuming after epoch 1" in egt("pretrain", "--run", "pretraining", "--resume")
    assert epochs("pretraining/metrics.jsonl") == [1, 2]
    expect_close(arrays("pretraining/backbone.npz"), arrays("pretrained_backbone.npz"))


@pytest.mark.slow
def test_an_exported_model_explains_as_then(egt):
    with tarfile.open("exported.tar.xz") as archive:
        archive.extractall("exported", filter="data")
    egt(
        "explain", "run/queries/dome-above-disc-01.png", "--model", "exported", "--target", "all", "--out", "figure.png"
    )
    np.testing.assert_allclose(np.load("figure.npy"), np.load("explained.npy"), rtol=1e-4, atol=1e-6)
