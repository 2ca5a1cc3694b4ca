"""Run folders that version 0.1 began, in `before/`, with what it measured where it went on to the end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from egt_tf.runs import RunFolder
from egt_tf.training.loop import train
from egt_tf.training.pretraining import pretrain

BEFORE = Path(__file__).with_name("before")


@pytest.mark.parametrize(
    ("name", "go_on", "message"),
    [
        # After a checkpoint within an epoch.
        ("train", train, "resuming in epoch 2, after step 3 of 5"),
        # Its state after the last whole epoch was one file, last.npz.
        ("pretrain", pretrain, "resuming after epoch 1"),
    ],
)
def test_a_run_of_the_version_before_goes_on(tmp_path, name, go_on, message):
    run, lines = RunFolder(shutil.copytree(BEFORE / name, tmp_path / name)), []
    state = go_on(run.config(), run, resume=True, report=lines.append)
    assert lines == [message]
    assert state.epochs == 2
    expected = [json.loads(line) for line in (BEFORE / f"{name}_to_the_end.jsonl").read_text().splitlines()]
    assert len(run.metrics()) == len(expected) == 2
    for row, before in zip(run.metrics(), expected):
        assert row.keys() == before.keys()
        for key in row.keys() - {"seconds"}:
            # Other processors round otherwise.
            assert row[key] == pytest.approx(before[key], rel=1e-3, abs=1e-3), key
