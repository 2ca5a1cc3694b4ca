"""Commands started from the shell of a notebook, whose display is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import sys
from tests.helpers.commands import invoke

run, tiny, query = sys.argv[1:]
(short,) = [["--set", "training.epochs=1", "--set", "training.episodes_per_epoch=2"]]
for command in (
    ["predict", query],
    ["explain", query, "--run", run],
    ["explain", query, "--run", run, "--compare", "fsc,gradient"],
    ["export", run, "--portable"],
    ["train", "--config", tiny, *short, "--set", "training.figure_every=1", "--run", "again"],
    ["pretrain", "--config", tiny, *short, "--run", "pretraining"],
):
    result = invoke(*command)
    assert result.exit_code == 0, (command, result.output)
    assert "matplotlib" not in sys.modules or command[0] != "predict"
"""


@pytest.mark.slow
def test_no_command_needs_a_display(run, tiny, query, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, run, tiny, query],
        cwd=tmp_path,
        env={
            **os.environ,
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "again" / "figures").rglob("*.png"))
    assert list(tmp_path.glob("*-explained.png"))
