from __future__ import annotations

import io
import os
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest

from egt_tf.errors import RunError
from egt_tf.published.checkpoint import load_checkpoint


class Bomb:
    """Unpickling it runs a command."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def save(path, arrays):
    np.savez(path, **arrays)
    return path


# === names ===


def test_names_are_brought_to_one_form(tmp_path):
    kernel, bias = np.ones((2, 3)), np.zeros(2)
    path = save(
        tmp_path / "a.npz",
        {
            "module.feature.trunk.0.C.weight": kernel,
            "module.feature.trunk.0.trunk.0.weight": kernel,
            "relation_module.layer1.trunk.1.bias": bias,
            "feature.trunk.0.BN.num_batches_tracked": np.array(3),
            "feature.trunk.4.C1.weight": kernel,
        },
    )
    arrays = load_checkpoint(path)
    assert sorted(arrays) == ["feature.trunk.0.C.weight", "feature.trunk.4.C1.weight", "relation_module.layer1.BN.bias"]


def test_two_names_with_two_values_are_refused(tmp_path):
    path = save(tmp_path / "a.npz", {"layer1.C.weight": np.ones(2), "layer1.trunk.0.weight": np.zeros(2)})
    with pytest.raises(RunError, match=r"two for layer1.C.weight, one of them as layer1.trunk.0.weight"):
        load_checkpoint(path)


# === files ===


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RunError, match=r"gone.tar must be a file. Received: no such file"):
        load_checkpoint(tmp_path / "gone.tar")


def test_a_truncated_archive(tmp_path):
    path = save(tmp_path / "a.npz", {"layer1.C.weight": np.ones((40, 40))})
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(RunError, match=r"a.npz is damaged"):
        load_checkpoint(path)


def test_an_archive_of_objects_is_not_unpickled(tmp_path):
    marker = tmp_path / "marker"
    np.savez(tmp_path / "a.npz", x=np.array([Bomb(f"touch {marker}")], dtype=object))
    with pytest.raises(RunError, match=r"a.npz is damaged or no weight file"):
        load_checkpoint(tmp_path / "a.npz")
    assert not marker.exists()


def test_without_pytorch_the_message_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "a.pth").write_bytes(b"something")
    with pytest.raises(RunError, match=r"needs PyTorch, which is not installed: pip install 'egt-tf\[convert\]'"):
        load_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("version", ["1.13.1", "2.5.1+cu121", "2.9.1"])
def test_a_pytorch_that_is_not_safe_reads_nothing(tmp_path, monkeypatch, version):
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(__version__=version))
    (tmp_path / "a.pth").write_bytes(b"something")
    with pytest.raises(RunError, match=f"needs PyTorch >= 2.10.* Received: {version[:3]}"):
        load_checkpoint(tmp_path / "a.pth")


# === files of torch.save ===


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="the extra `convert` is not installed")


@pytest.fixture
def state(torch):
    return {
        "module.feature.trunk.0.weight": torch.arange(6.0).reshape(2, 3),
        "fc.0.bias": torch.ones(2, dtype=torch.bfloat16),
        "feature.trunk.1.num_batches_tracked": torch.tensor(5),
    }


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"epoch": 3, "state": state},
        lambda state: {"state_dict": state, "acc": 0.5, "epoch": 3},
        lambda state: {"epoch": 1, "model_state": state, "aux_classifier_state": dict(state), "model_optim_state": {}},
    ],
)
def test_files_of_torch(torch, state, tmp_path, wrap, new_format):
    torch.save(wrap(state), tmp_path / "a.tar", _use_new_zipfile_serialization=new_format)
    arrays = load_checkpoint(tmp_path / "a.tar")
    assert sorted(arrays) == ["fc.0.bias", "feature.trunk.0.weight"]
    np.testing.assert_array_equal(arrays["feature.trunk.0.weight"], [[0, 1, 2], [3, 4, 5]])
    assert arrays["fc.0.bias"].dtype == np.float32


@pytest.mark.parametrize("new_format", [True, False])
def test_a_truncated_file_of_torch(torch, state, tmp_path, new_format):
    path = tmp_path / "a.tar"
    torch.save({"state": state}, path, _use_new_zipfile_serialization=new_format)
    whole = path.read_bytes()
    for length in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(RunError, match=r"a.tar must be a whole file of torch.save"):
            load_checkpoint(path)


@pytest.mark.parametrize("content", [b"no checkpoint", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_other_files(torch, tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(RunError, match=r"a.tar must"):
        load_checkpoint(tmp_path / "a.tar")


@pytest.mark.parametrize("content", [[1, 2], 3.5, {"epoch": 3}, {"state": [1]}, {"state": {"a": 1}}])
def test_files_without_a_state_dict(torch, tmp_path, content):
    torch.save(content, tmp_path / "a.tar")
    with pytest.raises(RunError, match=r"a.tar must hold a state dict, by itself or under state, state_dict, mod"):
        load_checkpoint(tmp_path / "a.tar")


@pytest.mark.parametrize("new_format", [True, False])
def test_a_file_that_would_run_a_command_is_refused(torch, tmp_path, new_format):
    marker, path = tmp_path / "marker", tmp_path / "a.pth"
    torch.save({"state": Bomb(f"touch {marker}")}, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(RunError, match=r"numbers only. Received: an object of posix.system, which is not loaded"):
        load_checkpoint(path)
    assert not marker.exists()


def test_a_bare_pickle_is_refused(torch, tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "a.pth"
    path.write_bytes(pickle.dumps(Bomb(f"touch {marker}")))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a/data.pkl", path.read_bytes())
        file.writestr("a/version", "3\n")
    for content in (path.read_bytes(), archive.getvalue()):
        path.write_bytes(content)
        with pytest.raises(RunError, match=r"a.pth must be a whole file"):
            load_checkpoint(path)
        assert not marker.exists()
