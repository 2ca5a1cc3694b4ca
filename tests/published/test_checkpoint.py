from __future__ import annotations

import io
import os
import pickle
import sys
import zipfile

import numpy as np
import pytest

from egt_tf.errors import RunError
from egt_tf.published.checkpoint import load_checkpoint
from tests.helpers.weight_files import archive_of, bfloat16, legacy_of, safetensors_file, torch_file


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


# === files of torch.save ===

STATE = {
    "module.feature.trunk.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fc.0.bias": bfloat16(np.ones(2)),
    "feature.trunk.1.num_batches_tracked": np.array(5),
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
def test_files_of_torch(tmp_path, monkeypatch, wrap, new_format):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "a.tar").write_bytes(torch_file(wrap(STATE), new_format))
    arrays = load_checkpoint(tmp_path / "a.tar")
    assert sorted(arrays) == ["fc.0.bias", "feature.trunk.0.weight"]
    np.testing.assert_array_equal(arrays["feature.trunk.0.weight"], [[0, 1, 2], [3, 4, 5]])
    assert arrays["fc.0.bias"].dtype == np.float32


@pytest.mark.parametrize("new_format", [True, False])
def test_a_truncated_file_of_torch(tmp_path, new_format):
    path = tmp_path / "a.tar"
    whole = torch_file({"state": STATE}, new_format)
    for length in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(RunError, match=r"a.tar must be a whole file of torch.save"):
            load_checkpoint(path)


@pytest.mark.parametrize("content", [b"no checkpoint", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_other_files(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(RunError, match=r"a.tar must"):
        load_checkpoint(tmp_path / "a.tar")


@pytest.mark.parametrize("content", [[1, 2], 3.5, {"epoch": 3}, {"state": [1]}, {"state": {"a": 1}}])
def test_files_without_a_state_dict(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(torch_file(content))
    with pytest.raises(RunError, match=r"a.tar must hold a state dict, by itself or under state, state_dict, mod"):
        load_checkpoint(tmp_path / "a.tar")


@pytest.mark.parametrize("new_format", [True, False])
def test_a_file_that_would_run_a_command_is_refused(tmp_path, new_format):
    marker, path = tmp_path / "marker", tmp_path / "a.pth"
    program = pickle.dumps({"state": Bomb(f"touch {marker}")}, protocol=2)
    path.write_bytes(archive_of(program) if new_format else legacy_of(program))
    with pytest.raises(RunError, match=r"numbers only. Received: an object of posix.system, which is not loaded"):
        load_checkpoint(path)
    assert not marker.exists()


def test_a_bare_pickle_is_refused(tmp_path):
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


def test_a_file_of_safetensors(tmp_path):
    arrays = {name: array for name, array in STATE.items() if isinstance(array, np.ndarray)}
    (tmp_path / "a.safetensors").write_bytes(safetensors_file(arrays))
    (name,) = arrays = load_checkpoint(tmp_path / "a.safetensors")
    assert name == "feature.trunk.0.weight"
    np.testing.assert_array_equal(arrays[name], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    "name",
    [
        "module.feature.trunk.0.C.weight",
        "_orig_mod.feature.trunk.0.C.weight",
        "module._orig_mod.feature.trunk.0.C.weight",
        "feature.module.trunk.0.C.weight",
        "feature._orig_mod.trunk.0.C.weight",
        "feature.trunk.0._orig_mod.C.weight",
        "_fsdp_wrapped_module.feature.trunk.0._checkpoint_wrapped_module.C.weight",
    ],
)
def test_names_of_wrappers_are_dropped_wherever_they_are(tmp_path, name):
    np.savez(tmp_path / "model.npz", **{name: np.ones(3, np.float32)})
    assert list(load_checkpoint(tmp_path / "model.npz")) == ["feature.trunk.0.C.weight"]


def test_a_name_that_only_looks_like_a_wrapper_stays(tmp_path):
    np.savez(tmp_path / "model.npz", **{"relation_module.fc1.bias": np.ones(3, np.float32)})
    assert list(load_checkpoint(tmp_path / "model.npz")) == ["relation_module.fc1.bias"]
