"""What every test shares: a quiet TensorFlow of one thread, seeded weights, and the folders of reference data."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Before anybody imports TensorFlow, and for the processes that tests start: one thread each. The nets of the tests are
# too small for several, and `make test` runs a process for each core.
for _threads in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

# Files that take half a minute and more of one process, with their slow tests at least. Handed out first, and in this order: one that is left for the
# end keeps the other processes waiting.
LONG_FILES = (
    "integration/test_lanes.py",
    "heads/test_graph.py",
    "cli/test_train.py",
    "training/test_loop.py",
    "training/test_strategy.py",
    "cli/test_export.py",
    "integration/test_readme.py",
    "cli/test_heads.py",
    "export/test_requests.py",
    "lrp/test_presets.py",
    "training/test_callbacks.py",
    "heads/test_lrp_rules_graph.py",
    "heads/test_combinations.py",
    "cli/test_evaluate.py",
)


def pytest_collection_finish():
    """What was imported stays: full collections of garbage need not go through all of TensorFlow each time."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    """Long files first where processes share the tests; all others in their order."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = {Path(__file__).parent / name: number for number, name in enumerate(LONG_FILES)}
        items.sort(key=lambda item: place.get(item.path, len(LONG_FILES)))


@pytest.fixture(scope="module", autouse=True)
def settled():
    """What a file leaves behind, traced functions above all, is not gone through again.

    A command that fails collects all garbage, which took seconds of a process that had run many files.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def seeded_file():
    """Seeds everything, but does not import TensorFlow for tests that do without."""
    if "tensorflow" in sys.modules:
        from egt_tf.keras_api import keras

        keras.utils.set_random_seed(1)


@pytest.fixture(autouse=True)
def seeded(seeded_file):
    """Seeds Python, NumPy and what Keras draws first weights from.

    TensorFlow itself is seeded once a file: it then drops every kernel and compiled graph, which would have to be made
    again for each test. Hardly anything draws from its own numbers.
    """
    if "tensorflow" in sys.modules:
        import tensorflow.compat.v2 as behind_keras

        from egt_tf.keras_api import keras

        with mock.patch.object(behind_keras.random, "set_seed"):
            keras.utils.set_random_seed(1)


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """The folder of reference values; the test is skipped without it."""
    return _named_folder("EGT_TF_GOLDEN_DIR", "reference values")


@pytest.fixture(scope="session")
def benchmark_dir() -> Path:
    """The folder of image domains, one sub-folder a domain; the test is skipped without it."""
    return _named_folder("EGT_TF_BENCHMARK_DIR", "image domains")


@pytest.fixture(scope="session")
def serve():
    """Starts a server of exported models, in a process without this package: (folder, ...) -> its address."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    program = Path(__file__).with_name("serving") / "rest_server.py"
    started = []

    def start(*folders: Path) -> str:
        started.append(
            subprocess.Popen(
                [sys.executable, "-I", program, *folders],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
        )
        port = started[-1].stdout.readline().strip()
        assert port, "the server did not start"
        return f"http://127.0.0.1:{port}"

    yield start
    for process in started:
        process.communicate()


def _named_folder(variable: str, content: str) -> Path:
    if not os.environ.get(variable):
        pytest.skip(f"{variable} does not name a folder of {content}")
    folder = Path(os.environ[variable])
    # A name that leads nowhere is a mistake, and skipping would hide it.
    assert folder.is_dir(), f"{variable} must name a folder of {content}. Received: {folder}"
    return folder


@pytest.fixture
def no_network(monkeypatch):
    """Any attempt to look up a host or to connect to one fails the test at once."""

    def refuse(*arguments, **keywords):
        raise AssertionError(f"a test may not use the network. Received: {arguments[:2]}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)


@pytest.fixture
def float64():
    """Keras in double precision for one test."""
    from egt_tf.keras_api import keras

    before = keras.backend.floatx()
    keras.backend.set_floatx("float64")
    yield
    keras.backend.set_floatx(before)
