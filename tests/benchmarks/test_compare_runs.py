from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "compare_runs.py"
RECORD = {"source": "folder:birds", "split": "novel", "ways": 5, "shots": 5, "queries": 15}


def write(run: Path, **changes) -> None:
    (run / "evaluations").mkdir(parents=True)
    (run / "evaluations" / "birds.json").write_text(json.dumps({**RECORD, **changes}))


def compare(folder: Path, ours: dict, theirs: dict) -> subprocess.CompletedProcess:
    write(folder / "a", episode_accuracies=[0.5, 0.75], **ours)
    write(folder / "b", episode_accuracies=[0.75, 1.0], **theirs)
    command = [sys.executable, SCRIPT, folder / "a", folder / "b"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("both", [{"episodes_id": "0123456789ab"}, {"episodes_id": None}, {}])
def test_the_same_episodes_are_compared(tmp_path, both):
    done = compare(tmp_path, both, both)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "25.00 +- 0.00" in done.stdout.splitlines()[1]


@pytest.mark.parametrize("theirs", [{"episodes_id": "ba9876543210"}, {"episodes_id": None}, {}])
def test_other_episodes_are_refused(tmp_path, theirs):
    done = compare(tmp_path, {"episodes_id": "0123456789ab"}, theirs)
    assert done.returncode == 2
    assert done.stdout == ""
    received = f"episodes_id 0123456789ab and {theirs.get('episodes_id')}"
    assert f"birds.json: the episodes must be the same. Received: {received}" in done.stderr
