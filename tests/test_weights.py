from __future__ import annotations

import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import RunError
from egt_tf.weights import assign_weights, load_arrays, named_weights, save_arrays, weight_arrays
from tests.helpers.quick import quick_ones


def build(width: int = 2, seed: int = 0, **head) -> EpisodicModel:
    return EpisodicModel.build_from({"name": "conv4", "width": width}, {"name": "relation", **head}, 16, seed=seed)


class Trap:
    """Unpickling it would leave a trace."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


# === names ===


@pytest.mark.parametrize("backbone", [{"name": "conv4", "width": 2}, {"name": "resnet10", "widths": [2, 2, 3, 3]}])
def test_every_weight_has_a_name_of_its_own(backbone):
    model = EpisodicModel.build_from(backbone, {"name": "relation", "batch_statistics": False}, 32)
    weights = named_weights(model)
    assert {id(w) for w in weights.values()} == {id(w) for w in model.weights}
    assert len(weights) == len(model.weights)


def test_names_say_part_layer_and_weight():
    names = named_weights(build(batch_statistics=False))
    assert {
        "backbone/block1_conv/kernel",
        "backbone/block4_bn/moving_variance",
        "score/fc2/bias",
        "score/block1_bn/moving_mean",
    } <= set(names)


def test_names_do_not_depend_on_how_many_models_were_made():
    assert list(named_weights(build())) == list(named_weights(build()))


# === files ===


def test_round_trip(tmp_path):
    model, other = build(seed=0), build(seed=1)
    save_arrays(tmp_path / "w.npz", weight_arrays(model))
    assign_weights(other, load_arrays(tmp_path / "w.npz"), "w.npz")
    for a, b in zip(model.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert os.listdir(tmp_path) == ["w.npz"]


def test_a_failed_save_leaves_the_old_file(tmp_path):
    class Broken:
        def __array__(self):
            raise OSError("disk full")

    save_arrays(tmp_path / "w.npz", {"a": np.ones(2)})
    with pytest.raises(OSError, match="disk full"):
        save_arrays(tmp_path / "w.npz", {"a": np.zeros(2), "b": Broken()})
    np.testing.assert_array_equal(load_arrays(tmp_path / "w.npz")["a"], np.ones(2))
    assert os.listdir(tmp_path) == ["w.npz"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RunError, match=r"w.npz must exist. Received: no such file"):
        load_arrays(tmp_path / "w.npz")


def not_archives() -> dict[str, bytes]:
    array, text = io.BytesIO(), io.BytesIO()
    np.save(array, np.ones(3))
    with zipfile.ZipFile(text, "w") as archive:
        archive.writestr("readme.txt", "no array")
    return {
        "empty": b"",
        "text": b"hello",
        "array": array.getvalue(),
        "zip of text": text.getvalue(),
        "zip magic": b"PK\x03\x04" + b"\0" * 40,
    }


@pytest.mark.parametrize(("name", "content"), not_archives().items())
def test_other_files_are_refused(tmp_path, name, content):
    (tmp_path / "w.npz").write_bytes(content)
    with pytest.raises(RunError, match=r"w.npz is damaged or no weight file"):
        load_arrays(tmp_path / "w.npz")


def test_pickles_are_refused_and_not_run(tmp_path):
    np.savez(tmp_path / "objects.npz", a=np.array([Trap(tmp_path / "trapped")], dtype=object))
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Trap(tmp_path / "trapped")))
    for name in ("objects.npz", "pickle.npz"):
        with pytest.raises(RunError, match="damaged or no weight file"):
            load_arrays(tmp_path / name)
    assert not (tmp_path / "trapped").exists()


def test_every_damaged_byte_is_noticed_or_harmless(tmp_path):
    arrays = {"backbone/a": np.arange(3, dtype=np.float32), "score/b": np.ones((1, 2), np.float32)}
    path = tmp_path / "w.npz"
    save_arrays(path, arrays)
    content = path.read_bytes()
    refused = 0
    for position in range(len(content)):
        for change in (0x01, 0x80):
            damaged = bytearray(content)
            damaged[position] ^= change
            path.write_bytes(damaged)
            try:
                loaded = load_arrays(path)
            except RunError:
                refused += 1
                continue
            # Names are outside the checksum; `assign_weights` refuses wrong ones.
            for name in set(loaded) & set(arrays):
                np.testing.assert_array_equal(loaded[name], arrays[name])
    assert refused > len(content)


def test_every_truncation_is_noticed(tmp_path):
    path = tmp_path / "w.npz"
    save_arrays(path, {"a": np.arange(3, dtype=np.float32)})
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(RunError):
            load_arrays(path)


# === architecture ===


def expect_refusal(model, arrays, message):
    before = model.get_weights()
    with pytest.raises(RunError, match=message):
        assign_weights(model, arrays, "runs/a/best.npz")
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_another_architecture_changes_nothing_and_is_named():
    expect_refusal(
        build(2),
        weight_arrays(build(3)),
        "runs/a/best.npz must fit .* backbone/block1_conv/kernel is "
        r"\(3, 3, 3, 3\), not \(3, 3, 3, 2\).* and \d+ more",
    )


def test_missing_and_unknown_names_are_named():
    arrays = weight_arrays(build())
    del arrays["score/fc2/bias"]
    expect_refusal(
        build(seed=1), {**arrays, "score/fc3/bias": np.ones(1)}, "missing score/fc2/bias; unknown score/fc3/bias$"
    )


def test_a_file_without_averages_does_not_fit_a_head_with_them():
    expect_refusal(build(batch_statistics=False), weight_arrays(build()), "missing score/block1_bn/moving_mean")


@pytest.mark.parametrize("dtype", quick_ones(["U8", "complex64", "bool", "int32", "datetime64[s]"], {"U8", "int32"}))
def test_what_is_no_floating_point_number_is_refused(dtype):
    arrays = weight_arrays(build())
    arrays["score/fc2/bias"] = np.zeros(1, dtype)
    expect_refusal(build(seed=1), arrays, "score/fc2/bias")


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_precisions_are_converted(dtype):
    model = build()
    arrays = {name: np.ones(array.shape, dtype) for name, array in weight_arrays(model).items()}
    assign_weights(model, arrays, "w.npz")
    assert all((w.numpy() == 1).all() for w in model.weights)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value):
    model = build()
    arrays = weight_arrays(model)
    arrays["score/fc2/bias"] = np.full_like(arrays["score/fc2/bias"], value)
    with pytest.raises(RunError, match="score/fc2/bias holds values that are not finite"):
        assign_weights(model, arrays, "best.npz")
