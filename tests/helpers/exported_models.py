"""Fixtures: a small model, its support set, its exports, and processes that know TensorFlow but not this package."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

from egt_tf.data import synthetic
from egt_tf.data.images import decode_image
from egt_tf.data.preprocessing import resized_centre
from egt_tf.data.support import SupportSet
from egt_tf.episodic_model import EpisodicModel
from egt_tf.export.saved_model import make_portable, make_servable, write_version
from egt_tf.serving.exported_model import ExportedModel
from tests.helpers.image_files import encode
from tests.helpers.shared import shared_folder

# What a conftest takes.
__all__ = [
    "build",
    "folder",
    "model",
    "portable",
    "prepared",
    "query_files",
    "relation",
    "served_alone",
    "support",
    "support_files",
]

SIZE, WAYS, SHOTS = 32, 3, 2
NAMES = ("ant", "bee", "cow")

# Nothing of this package, its tests or its tools may be importable where a model is served.
_CLEAN = """
import importlib.util, json, os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# An editable installation finds the package by a hook.
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path = [p for p in sys.path if not os.path.isdir(os.path.join(p, "egt_tf"))]
assert [n for n in ("egt_tf", "egt_tf_cli") if importlib.util.find_spec(n)] == []
import numpy as np
import tensorflow as tf
"""


def png(class_index: int, instance: int) -> bytes:
    """A drawn image as a PNG file."""
    return encode(Image.fromarray(synthetic.draw("shapes", class_index, instance, size=40)[0]), "PNG")


def _prepared(encoded: bytes) -> np.ndarray:
    return resized_centre(decode_image(encoded), SIZE).numpy()


@pytest.fixture(scope="session")
def prepared():
    """What the package makes of an image file, as a function of its bytes."""
    return _prepared


@pytest.fixture(scope="session")
def support_files() -> list[bytes]:
    """PNG files of the support set, class by class."""
    return [png(k, n) for k in range(WAYS) for n in range(SHOTS)]


@pytest.fixture(scope="session")
def support(support_files) -> SupportSet:
    """The support set as a model takes it."""
    images = np.stack([_prepared(file) for file in support_files])
    return SupportSet(NAMES, images.reshape(WAYS, SHOTS, SIZE, SIZE, 3))


@pytest.fixture(scope="session")
def query_files() -> list[bytes]:
    """PNG files of three queries."""
    return [png(k, 10 + k) for k in range(WAYS)]


@pytest.fixture(scope="session")
def build():
    """Makes a small model with a given head."""

    def build_model(head) -> EpisodicModel:
        return EpisodicModel.build_from({"name": "conv4", "width": 4}, head, SIZE, seed=3)

    return build_model


@pytest.fixture(scope="session")
def relation(build):
    """The model of `folder` and `portable`: a relation head whose queries would depend on each other as published."""
    return build("relation")


@pytest.fixture(scope="session")
def folder(relation, support, tmp_path_factory):
    """An exported model. Not to be written to."""
    return shared_folder(
        tmp_path_factory, "models/first", lambda folder: write_version(make_servable(relation, support), folder)
    )


@pytest.fixture(scope="session")
def model(folder):
    """What is in `folder`, loaded."""
    return ExportedModel(folder)


@pytest.fixture(scope="session")
def portable(relation, support, tmp_path_factory):
    """The same model for other engines: the folder of a version. Not to be written to."""
    folder = shared_folder(
        tmp_path_factory, "models/portable", lambda folder: write_version(make_portable(relation, support), folder)
    )
    return folder / "1"


@pytest.fixture
def served_alone(tmp_path):
    """Runs code in a process that cannot import this package; the code puts its results into a dictionary `out`."""

    def run(code: str, *arguments) -> dict[str, np.ndarray]:
        program = _CLEAN + textwrap.dedent(code) + "\nnp.savez(sys.argv[1], **out)\n"
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        result = tmp_path / "out.npz"
        done = subprocess.run(
            [sys.executable, "-I", "-c", program, str(result), *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        with np.load(result) as archive:
            return dict(archive)

    return run
