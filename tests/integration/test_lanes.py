"""What one lane writes, the other reads: runs, checkpoints from within an epoch, exported models.

They need both lanes: EGT_TF_OTHER_PYTHON names the Python of an environment of the other one.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "helpers" / "lane_process.py"
CONFIG = {
    "data": {"train": "synthetic:shapes", "image_size": 32, "augmentation": "full"},
    "episode": {"ways": 3, "shots": 2, "queries": 2},
    "model": {"backbone": {"name": "conv4", "width": 4}, "head": {"name": "relation"}},
    "training": {
        "epochs": 2,
        "episodes_per_epoch": 4,
        "validation_episodes": 2,
        "checkpoint_every": 3,
        # The gradient of a bias before a normalisation is nothing but rounding, which a small epsilon blows up.
        "optimizer": {"name": "adam", "epsilon": 1e-3},
    },
}
# Between the numbers of one model in two versions of TensorFlow, whose kernels add in another order.
TOLERANCE = 1e-5
ASIDE = ("this lane writes", "the other lane writes")


@pytest.fixture(scope="module")
def other() -> str:
    """A Python of the other lane; the test is skipped without it."""
    python = os.environ.get("EGT_TF_OTHER_PYTHON")
    if not python:
        pytest.skip("EGT_TF_OTHER_PYTHON does not name a Python of the other lane")
    ours, theirs = (
        _output(each, "-c", "import egt_tf.keras_api as k; print(k.LANE)") for each in (sys.executable, python)
    )
    if ours == theirs:
        pytest.skip(f"EGT_TF_OTHER_PYTHON is of the same lane, {theirs}")
    return python


@dataclasses.dataclass(frozen=True)
class Written:
    """What one lane wrote, and the Pythons of the one that wrote it and of the other."""

    writer: str
    reader: str
    config: Path
    run: Path
    model: Path

    @property
    def image(self) -> Path:
        return sorted((self.run / "queries").glob("*.png"))[0]


@pytest.fixture(scope="module", params=[False, True], ids=ASIDE)
def written(request, other, tmp_path_factory) -> Written:
    folder = tmp_path_factory.mktemp("written")
    writer, reader = (other, sys.executable) if request.param else (sys.executable, other)
    one = Written(writer, reader, folder / "lanes.yaml", folder / "run", folder / "model")
    one.config.write_text(yaml.safe_dump(CONFIG))
    egt(writer, "train", "--config", one.config, "--run", one.run)
    egt(writer, "export", one.run, "--out", one.model)
    return one


def _run(python: str, *arguments: object) -> subprocess.CompletedProcess:
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [python, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=variables, check=False)


def _output(python: str, *arguments: object) -> str:
    done = _run(python, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def egt(python: str, *arguments: object) -> str:
    return _output(python, "-m", "egt_tf_cli", *arguments)


def explained(python: str, model: Path, image: Path, out: Path) -> dict[str, np.ndarray]:
    _output(python, SCRIPT, "explained", model, image, out)
    with np.load(out, allow_pickle=False) as arrays:
        return dict(arrays)


def assert_equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, values in one.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(
                values, other[name], atol=TOLERANCE * max(1.0, np.abs(values).max()), err_msg=name
            )


def newest(run: Path) -> Path:
    return sorted((run / "checkpoints").glob("*.npz"))[-1]


def weights(run: Path) -> dict[str, np.ndarray]:
    with np.load(newest(run), allow_pickle=False) as arrays:
        return dict(arrays)


def test_a_training_killed_within_an_epoch_goes_on(written, tmp_path):
    run = tmp_path / "run"
    killed = _run(written.writer, SCRIPT, "killed", written.config, run, 7)
    assert killed.returncode == 9, killed.stderr
    # The sixth step is the second of the second epoch.
    assert newest(run).stem == "000006"
    egt(written.reader, "train", "--run", run, "--resume")
    assert_equal(weights(run), weights(written.run))


def test_a_run_is_measured_and_explained(written, tmp_path):
    pythons, out = (written.writer, written.reader), tmp_path / "accuracy.json"
    lines = [egt(each, "evaluate", written.run, "--episodes", 10, "--queries", 5, "--out", out) for each in pythons]
    assert lines[0] == lines[1]
    assert_equal(*(explained(each, written.run, written.image, tmp_path / "e.npz") for each in pythons))


def test_an_exported_model_answers_and_explains(written, tmp_path):
    pythons = (written.writer, written.reader)
    assert_equal(*(explained(each, written.model, written.image, tmp_path / "e.npz") for each in pythons))


def test_the_bundled_model_explains_the_same(other, tmp_path):
    model = ROOT / "saved_models" / "shapes" / "1"
    image = sorted((ROOT / "saved_models" / "samples").glob("*.png"))[0]
    ours, theirs = (
        explained(each, model, image, tmp_path / f"{n}.npz") for n, each in enumerate((sys.executable, other))
    )
    assert_equal(ours, theirs)
