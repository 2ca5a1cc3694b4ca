"""A tiny configuration, a run really trained by it, and how commands are run and failures judged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.helpers.commands import draw_classes, invoke
from tests.helpers.shared import shared_folder

TINY = {
    "data": {"train": "synthetic:shapes", "image_size": 32},
    "episode": {"ways": 3, "shots": 2, "queries": 2},
    "model": {"backbone": {"name": "conv4", "width": 4}, "head": {"name": "relation"}},
    "training": {"epochs": 2, "episodes_per_epoch": 2, "validation_episodes": 2},
}


def files_below(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of change of every file, by its relative path; folders have an empty content."""
    return {
        str(path.relative_to(folder)): (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


def newest_checkpoint(run: Path) -> Path:
    """The state that a run would be resumed from."""
    return sorted((run / "checkpoints").glob("*.npz"))[-1]


# A test run in the background ignores Ctrl-C, and its children would inherit that.
_PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from egt_tf_cli.main import cli
cli()
"""


@pytest.fixture
def egt(monkeypatch, tmp_path):
    """Runs `egt-tf` in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    # A command sets it, and the tests behind this one are to be as they would be alone.
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    return invoke


@pytest.fixture
def fails(egt, tmp_path):
    """Runs `egt-tf` and checks that it fails by one line that says everything in `says`.

    With `writes=False` nothing in the current folder may have changed; there are never temporary files.
    """

    def check(*arguments, says=(), writes=False):
        before = files_below(tmp_path)
        result = egt(*arguments)
        assert result.exit_code == 2, result.output
        lines = result.stderr.splitlines()
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("Error: "), result.stderr
        assert [words for words in says if words not in lines[0]] == [], lines[0]
        assert not list(tmp_path.rglob("*.part"))
        assert writes or files_below(tmp_path) == before
        return result

    return check


@pytest.fixture
def process():
    """Starts `egt-tf` as a process of its own, with keywords of `subprocess.Popen`."""
    started = []

    def start(*arguments, **keywords):
        environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
        environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
        command = [sys.executable, "-c", _PROGRAM, *map(str, arguments)]
        started.append(
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **keywords
            )
        )
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A configuration that trains in a second."""
    path = tmp_path_factory.mktemp("configuration") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture(scope="session")
def trained(tiny, tmp_path_factory) -> Path:
    """A run folder trained by `tiny`. Not to be written to: see `run`."""

    def train(folder):
        result = invoke("train", "--config", tiny, "--run", folder)
        assert result.exit_code == 0, result.output

    return shared_folder(tmp_path_factory, "trained/tiny", train)


@pytest.fixture(scope="session")
def exported(trained, tmp_path_factory) -> Path:
    """The run `trained` as an exported model with one version. Not to be written to."""

    def export(folder):
        result = invoke("export", trained, "--out", folder)
        assert result.exit_code == 0, result.output

    return shared_folder(tmp_path_factory, "exported/tiny", export)


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of the trained run: runs/tiny in the current folder of `egt`."""
    return shutil.copytree(trained, tmp_path / "runs" / "tiny")


@pytest.fixture
def query(run) -> Path:
    """An image of one of the classes of the stored support set."""
    return sorted((run / "queries").glob("*.png"))[0]


@pytest.fixture(scope="session")
def drawn(tmp_path_factory) -> Path:
    """A folder of 12 classes with 6 drawn images each. Not to be written to."""
    return draw_classes(tmp_path_factory.mktemp("drawn") / "drawn")


@pytest.fixture(scope="session")
def arrays():
    """Reads an .npz file as a dictionary."""

    def read(path):
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    return read


@pytest.fixture(scope="session")
def equal_weights(arrays):
    """Whether two run folders hold the same weights and optimizer state, bit by bit."""

    def compare(first, second):
        for find in (lambda folder: folder / "best.npz", newest_checkpoint):
            one, other = (
                {key: value for key, value in arrays(find(folder)).items() if value.dtype.kind == "f"}
                for folder in (first, second)
            )
            assert one.keys() == other.keys()
            assert one
            if not all(np.array_equal(one[key], other[key]) for key in one):
                return False
        return True

    return compare


@pytest.fixture(scope="session")
def checkpoint():
    """See `newest_checkpoint`."""
    return newest_checkpoint


@pytest.fixture(scope="session")
def snapshot():
    """See `files_below`."""
    return files_below
