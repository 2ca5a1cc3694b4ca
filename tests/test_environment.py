"""Packages that do not fit each other are refused by their versions, in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from egt_tf.environment import check_environment, environment, lane, made_by
from egt_tf.keras_api import LANE

ROOT = Path(__file__).resolve().parents[1]
CLASSIC = {"tensorflow": "2.14.1", "keras": "2.14.0", "numpy": "1.26.4"}
CURRENT = {"tensorflow": "2.21.0", "keras": "3.15.1", "tf-keras": "2.21.0", "numpy": "2.5.5"}


@pytest.mark.parametrize(
    "versions",
    [
        CLASSIC,
        {**CLASSIC, "tf-keras": "2.14.1"},
        CURRENT,
        {**CURRENT, "tensorflow": "2.16.2", "tf-keras": "2.16.0", "numpy": "1.26.4"},
        {"tensorflow-cpu": "2.21.0", "tf-keras": "2.21.0"},
        {"tensorflow": "2.21.0rc1", "tf-keras": "2.21.0rc0"},
        {"numpy": "2.5.5"},
        {},
    ],
)
def test_what_fits_passes(versions):
    check_environment(versions.get)


MISFITS = [
    (
        {**CURRENT, "tensorflow": "2.18.1", "tf-keras": "2.16.0"},
        "tf-keras 2.16.0 with tensorflow 2.18.1; pip install 'tf-keras>=2.18,<2.19'",
    ),
    (
        {"tensorflow": "2.21.0", "keras": "3.15.1", "numpy": "2.5.5"},
        "tensorflow 2.21.0, whose Keras is Keras 3, without tf-keras; pip install 'tf-keras>=2.21,<2.22'",
    ),
    (
        {**CLASSIC, "numpy": "2.0.2"},
        "numpy 2.0.2 with tensorflow 2.14.1, which is built for NumPy 1; pip install 'numpy<2'",
    ),
    (
        {**CURRENT, "tensorflow": "2.17.0", "tf-keras": "2.17.0"},
        "numpy 2.5.5 with tensorflow 2.17.0, which is built for NumPy 1; pip install 'numpy<2'",
    ),
    (
        {**CLASSIC, "keras": "3.3.0", "numpy": "2.0.2"},
        "keras 3.3.0 with tensorflow 2.14.1, numpy 2.0.2 with tensorflow 2.14.1, which is built for NumPy 1; "
        "pip install 'keras>=2.14,<2.15' 'numpy<2'",
    ),
    ({"tensorflow": "2.13.0"}, "tensorflow 2.13.0, older than 2.14; pip install 'tensorflow>=2.14,<2.15'"),
]


@pytest.mark.parametrize(("versions", "told"), MISFITS)
def test_what_does_not_fit_says_what_mends_it(versions, told):
    with pytest.raises(ImportError) as caught:
        check_environment(versions.get)
    assert str(caught.value).endswith(f"Received: {told}")
    assert "\n" not in str(caught.value)
    assert caught.value.name == "egt_tf"


def test_a_python_without_tensorflow():
    with pytest.raises(ImportError, match=r"Python 3.10 to 3.13, for which .* Received: Python 3.14; make") as caught:
        check_environment({}.get, python=(3, 14))
    assert caught.value.name == "egt_tf"
    check_environment({"tensorflow": "2.30.0", "tf-keras": "2.30.0"}.get, python=(3, 14))
    check_environment({}.get, python=(3, 13))


@pytest.fixture(params=MISFITS[:3], ids=["tf-keras", "no tf-keras", "numpy"])
def misfit(request, tmp_path):
    """Installed versions, as pip leaves them, that come before the real ones; and what is told of them."""
    versions, told = request.param
    if "tf-keras" not in versions and LANE == "current" and "2.14" not in versions["tensorflow"]:
        pytest.skip("tf-keras is installed")
    for name, version in versions.items():
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path}, told


@pytest.mark.parametrize("command", [["--help"], ["doctor"], ["train", "--config", "demo"]])
def test_a_command_says_it_in_one_line(misfit, command, tmp_path):
    variables, told = misfit
    done = subprocess.run(
        [sys.executable, "-m", "egt_tf_cli", *command], capture_output=True, text=True, env=variables, cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: TensorFlow, Keras and NumPy must be of versions that fit each other.")
    assert done.stderr.strip().endswith(told)


def test_an_import_says_it_at_its_end(misfit, tmp_path):
    variables, told = misfit
    done = subprocess.run(
        [sys.executable, "-c", "import egt_tf"], capture_output=True, text=True, env=variables, cwd=tmp_path
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: TensorFlow, Keras and NumPy must be")
    assert last.endswith(told)
    assert "tensorflow/" not in done.stderr, "TensorFlow was imported"


def test_the_lane_is_that_of_the_version():
    assert [lane(version) for version in ("2.14.1", "2.15.0", "2.16.1", "2.21.0")] == 2 * ["classic"] + 2 * ["current"]


def test_a_run_and_a_card_name_the_keras_in_use():
    packages = environment()["packages"]
    used = "keras" if LANE == "classic" else "tf-keras"
    assert packages[used]
    assert made_by() == f"egt-tf {packages['egt-tf']}, tensorflow {packages['tensorflow']}, {used} {packages[used]}"


# What TensorFlow 2.21 writes before it knows of any level, and what must not be lost.
LOGGING = """
import os
os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\\n")
os.write(2, b"I0000 00:00:1795740992.913723   30799 port.cc:153] oneDNN custom operations are on.\\n")
os.write(2, b"a plain line\\n")
if os.environ.get("BROKEN"):
    raise RuntimeError("a broken library")
"""


@pytest.mark.parametrize(
    ("variables", "kept"),
    [
        ({}, ["a plain line"]),
        ({"BROKEN": "1"}, ["a plain line", "RuntimeError: a broken library"]),
        ({"TF_CPP_MIN_LOG_LEVEL": "0"}, ["WARNING: All", "I0000 00:00", "a plain line"]),
    ],
)
def test_tensorflows_import_leaves_out_what_it_logs(variables, kept, tmp_path):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text(LOGGING)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    done = subprocess.run(
        [sys.executable, "-c", "import egt_tf, tensorflow"],
        capture_output=True,
        text=True,
        env={**inherited, **variables, "PYTHONPATH": path},
    )
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("Traceback", "  "))]
    assert len(lines) == len(kept)
    assert all(line.startswith(begin) for line, begin in zip(lines, kept, strict=True)), lines


def test_without_room_for_temporary_files_nothing_is_left_out(tmp_path):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text(LOGGING)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    code = "import tempfile, egt_tf; tempfile.tempdir = '/no/such/folder'; import tensorflow; print('imported')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**inherited, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
    )
    assert (done.returncode, done.stdout) == (0, "imported\n")
    assert done.stderr.count("\n") == 3


@pytest.mark.parametrize(
    "legacy", [pytest.param(None, marks=pytest.mark.slow), "0", pytest.param("1", marks=pytest.mark.slow)]
)
def test_the_choice_of_tensorflows_keras_does_no_harm(legacy):
    variables = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    code = (
        "import egt_tf, numpy as np\n"
        "keras = egt_tf.keras\n"
        "dense = keras.layers.Dense(1, kernel_initializer='ones')\n"
        "print(egt_tf.LRP(keras.Sequential([keras.Input((2,)), dense]), 'lrp.z').analyze(np.array([[1.0, 2.0]])))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**variables, **({} if legacy is None else {"TF_USE_LEGACY_KERAS": legacy}), "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[[1. 2.]]"), done.stderr
