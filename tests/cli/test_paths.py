from __future__ import annotations

import subprocess
import sys

import pytest

_CODE = """
import sys
from egt_tf_cli.main import cli
try:
    cli(sys.argv[1:])
except SystemExit as end:
    print(end.code, 'tensorflow' in sys.modules)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain", "gone.jpg"],
        ["explain", "here.jpg", "--run", "gone"],
        ["explain", "here.jpg", "--model", "gone"],
        ["explain", "here.jpg", "--support", "gone"],
        ["predict", "gone.jpg"],
        ["predict", "here.jpg", "--model", "gone"],
        ["evaluate", "gone"],
        ["convert", "gone.pth", "--to", "run"],
        ["export", "gone"],
        ["learn", "gone"],
        ["train", "--config", "demo", "--set", "data.train=folder:gone"],
        ["train", "--config", "demo", "--set", "data.validation=filelist:gone.json"],
        ["train", "--config", "demo", "--warm-start", "gone"],
        ["pretrain", "--config", "demo", "--set", "data.train=folder:gone"],
    ],
    ids=" ".join,
)
def test_a_missing_file_is_named_before_tensorflow_is_imported(tmp_path, arguments):
    (tmp_path / "here.jpg").write_bytes(b"never read")
    done = subprocess.run(
        [sys.executable, "-c", _CODE, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "2 False\n"
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert "gone" in line
    assert [path.name for path in tmp_path.iterdir()] == ["here.jpg"]
