"""Our numbers are those of the published code; see check_golden.py for the comparison itself."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from egt_tf.keras_api import keras
from tests.parity import check_golden

HERE = Path(__file__).parent / "data"
PREFIXES = tuple(check_golden.VALUES_OF)
IN_DOUBLE = ("rn_", "gnn_", "can_", "backbone_can_", "zennit_")


def _files() -> list[Path]:
    """The files of this folder and, where EGT_TF_GOLDEN_DIR is set, the others of the same kinds."""
    folders = [HERE, *filter(Path.is_dir, [Path(os.environ.get("EGT_TF_GOLDEN_DIR", "-"))])]
    found = {
        file.name: file for folder in folders for file in sorted(folder.glob("*.npz")) if file.name.startswith(PREFIXES)
    }
    return list(found.values())


def _marked(files, slow):
    """The files as parameters; those of graph networks that take long and have faster siblings are slow."""
    return [pytest.param(file, marks=[pytest.mark.slow] * (file.stem in slow)) for file in files]


@pytest.fixture
def precision():
    before = keras.backend.floatx()
    yield keras.backend.set_floatx
    keras.backend.set_floatx(before)


@pytest.mark.parametrize(
    "file",
    _marked(_files(), ("gnn_5w5s_f64", "gnn_5w1s_f512", "gnn_3w1s_f64_offsets_generalised")),
    ids=lambda file: file.stem,
)
def test_published_numbers(file, capsys):
    assert check_golden.check(file), capsys.readouterr().out


@pytest.mark.parametrize(
    "file",
    _marked(
        [file for file in _files() if file.name.startswith(IN_DOUBLE)],
        ("gnn_5w5s_f64", "gnn_5w1s_f64", "gnn_5w1s_f512", "backbone_can_resnet12_84"),
    ),
    ids=lambda file: file.stem,
)
def test_published_numbers_in_float64(file, precision, capsys):
    precision("float64")
    assert check_golden.check(file), capsys.readouterr().out


def _changed(tmp_path: Path, **changes: np.ndarray) -> Path:
    arrays = {**np.load(HERE / "backbone_conv4np_84.npz"), **changes}
    path = tmp_path / "backbone_conv4np_changed.npz"
    np.savez(path, **arrays)
    return path


def test_a_wrong_number_fails(tmp_path, capsys):
    features = np.load(HERE / "backbone_conv4np_84.npz")["features_eval"].copy()
    features[0, 0, 0, 0] += 1e-3 * np.abs(features).max()
    assert not check_golden.check(_changed(tmp_path, features_eval=features))
    assert [line for line in capsys.readouterr().out.splitlines() if "FAIL" in line and "features_eval" in line]


def test_an_unknown_array_fails(tmp_path, capsys):
    assert not check_golden.check(_changed(tmp_path, surprise=np.zeros(3, np.float32)))
    assert "surprise" in capsys.readouterr().out
