"""Names of files and classes in other scripts, in bytes that are no UTF-8, and in a shell that knows ASCII only."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from egt_tf.data.sources import open_source
from egt_tf.files import write_text
from tests.helpers.commands import draw_classes
from tests.helpers.learnt_models import write_quickly

NAMES = (b"caf\xe9", "猫".encode(), "Käfer \N{FLAMINGO}".encode())
CLASSES = ["Käfer \N{FLAMINGO}", "caf\\xe9", "猫"]
# No environment but this one turns UTF-8 off.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LEARN = ("learn", "photos", "--embedding", "{name: conv4, width: 4}", "--image-size", 32, "--out", "model")
_PROGRAM = """
import json, sys
import pytest
from tests.helpers.learnt_models import write_quickly
from egt_tf_cli.main import cli
write_quickly(pytest.MonkeyPatch())
for command in json.loads(sys.argv[1]):
    # As the system would have handed them over.
    cli([part.encode().decode("ascii", "surrogateescape") for part in command], standalone_mode=False)
"""


def draw(folder: Path, classes: int = 3, images: int = 3) -> Path:
    """Classes of which the first three have such a name, and a photo whose name is no UTF-8."""
    draw_classes(folder, classes, images)
    for index, name in enumerate(NAMES):
        os.rename(folder / f"class{index:02d}" / "0.png", os.fsencode(folder / f"class{index:02d}") + b"/\xff.png")
        os.rename(folder / f"class{index:02d}", os.fsencode(folder) + b"/" + name)
    return folder


@pytest.fixture
def photos(tmp_path) -> Path:
    return draw(tmp_path / "photos")


def test_a_class_is_called_by_its_bytes(photos):
    assert list(open_source(f"folder:{photos}").class_names) == CLASSES


def test_names_go_all_the_way(egt, monkeypatch, photos):
    write_quickly(monkeypatch)
    result = egt(*LEARN)
    assert (result.exit_code, result.stderr) == (0, "")
    assert Path("model/1/assets/class_names.txt").read_text(encoding="utf-8").splitlines() == CLASSES
    result = egt("predict", "photos", "--model", "model", "--csv", "t.csv")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = list(csv.DictReader(Path("t.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["nearest_class"] for row in rows} <= set(CLASSES)
    assert "photos/caf\\udce9/\\udcff.png" in {row["image"] for row in rows}


@pytest.mark.slow
def test_a_run_explains_and_exports_such_classes(egt, monkeypatch, tiny, tmp_path):
    write_quickly(monkeypatch)
    settings = ("--set", "data.train=folder:photos", "--set", "training.epochs=1", "--set", "episode.queries=1")
    draw(tmp_path / "photos", classes=9, images=8)
    others = {split: [f"class{n:02d}" for n in range(first, first + 3)] for split, first in (("base", 3), ("val", 6))}
    Path("photos/splits.json").write_text(json.dumps({**others, "novel": CLASSES}))
    result = egt("train", "--config", tiny, *settings, "--run", "run")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in Path("run/support").iterdir()) == CLASSES
    query = os.fsdecode(b"photos/caf\xe9/\xff.png")
    result = egt("explain", query, "--run", "run", "--target", os.fsdecode(NAMES[0]))
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(Path(os.fsdecode(b"\xff-explained.json")).read_text())["image"] == os.fsdecode(b"\xff.png")
    assert egt("export", "run").exit_code == 0


@pytest.mark.slow
def test_a_shell_that_knows_ascii_only(photos, tmp_path):
    query = next(path for path in (photos / "猫").iterdir() if path.name.isascii())
    commands = [
        LEARN,
        ("data", "stats", "folder:photos"),
        ("predict", query, "--model", "model", "--csv", "t.csv"),
        ("learn", "model", "--rename", "猫=猫 2"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, json.dumps([[str(part) for part in command] for command in commands])],
        cwd=tmp_path,
        env={**os.environ, **ASCII, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, b"Error" in done.stderr) == (0, False), done.stderr
    assert (tmp_path / "model/1/assets/class_names.txt").read_text(encoding="utf-8").splitlines() == CLASSES
    assert (tmp_path / "model/2/assets/class_names.txt").read_text(encoding="utf-8").splitlines()[2] == "猫 2"
    assert (tmp_path / "t.csv").read_text(encoding="utf-8").count("\n") == 2


@pytest.mark.slow
def test_a_path_that_tensorflow_cannot_write(fails, run):
    fails("export", run, "--out", os.fsdecode(b"caf\xe9"), says=["names of files and folders must be utf-8 here"])


def test_text_with_a_name_of_any_bytes_is_written(tmp_path):
    write_text(tmp_path / "a.txt", "caf\udce9 猫")
    assert (tmp_path / "a.txt").read_bytes() == b"caf\\udce9 " + "猫".encode()
