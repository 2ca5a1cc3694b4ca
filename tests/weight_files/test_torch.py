from __future__ import annotations

import builtins
import io
import os
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from egt_tf.errors import RunError
from egt_tf.weight_files import read_torch
from tests.helpers.weight_files import (
    Raw,
    Tensor,
    archive_of,
    bfloat16,
    contiguous,
    legacy_of,
    torch_file,
)

FORMATS = pytest.mark.parametrize("archive", [True, False], ids=["archive", "legacy"])


@pytest.fixture
def read(tmp_path):
    """Reads a content as a file."""

    def of(content):
        (tmp_path / "a.pth").write_bytes(content)
        return read_torch(tmp_path / "a.pth")

    return of


class Calls:
    def __init__(self, function, *arguments):
        self.result = (function, arguments)

    def __reduce__(self):
        return self.result


# === tensors ===


@FORMATS
@pytest.mark.parametrize(
    "kind", ["float32", "float64", "complex64", "complex128", "int64", "int32", "int16", "int8", "uint8", "bool"]
)
def test_numbers_of_every_kind(read, kind, archive):
    numbers = (np.arange(24).reshape(2, 3, 4) % 2 if kind == "bool" else np.arange(24).reshape(2, 3, 4)).astype(kind)
    (got,) = read(torch_file([numbers], archive))
    assert (got.dtype, got.shape) == (numbers.dtype, numbers.shape)
    np.testing.assert_array_equal(got, numbers)
    got += got
    assert got.flags.c_contiguous


@FORMATS
def test_halves_become_floats(read, archive):
    numbers = np.array([[1.5, -2, 0], [np.inf, 2**-14, 1e-7]], np.float32)
    half, brain = read(torch_file([numbers.astype(np.float16), bfloat16(numbers)], archive))
    assert half.dtype == brain.dtype == np.float32
    np.testing.assert_array_equal(half, numbers.astype(np.float16).astype(np.float32))
    # 8 bits of mantissa are left of 24.
    np.testing.assert_allclose(brain, numbers, rtol=2**-7)
    np.testing.assert_array_equal(brain[0], numbers[0])


@FORMATS
def test_parts_of_a_storage(read, archive):
    numbers = np.arange(24, dtype=np.float32)
    parts = {
        "transposed": Tensor(numbers, (4, 3), (1, 4)),
        "column": Tensor(numbers, (6,), (4,), offset=2),
        "one": Tensor(numbers, (), (), offset=23),
        "one of three axes": Tensor(numbers, (1, 1, 1), (99, 10**15, 0), offset=5),
        "nothing": Tensor(numbers, (0, 7), (7, 1), offset=24),
        "all": Tensor(numbers, (24,), (1,)),
        "moved window": Tensor(numbers, (3, 4), (2, 1)),
    }
    got = read(torch_file(parts, archive))
    assert {name: part.shape for name, part in got.items()} == {name: part.shape for name, part in parts.items()}
    np.testing.assert_array_equal(got["transposed"], numbers[:12].reshape(3, 4).T)
    np.testing.assert_array_equal(got["column"], [2, 6, 10, 14, 18, 22])
    assert (got["one"], got["one of three axes"]) == (23, 5)
    np.testing.assert_array_equal(got["all"], numbers)
    np.testing.assert_array_equal(got["moved window"], [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]])
    got["all"] += 1
    assert got["one"] == 23


@FORMATS
def test_everything_around_the_tensors(read, archive):
    array = np.ones(2, np.float32)
    value = {
        "epoch": 3,
        "state": OrderedDict(weight=array),
        "optimizer": {"state": {0: {"step": 5, "exp_avg": array}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]},
        "type": Raw(b"ctorch\nbfloat16\n"),
        "size": Raw(b"ctorch\nSize\n(K\x02K\x03t\x85R"),
        "nothing": None,
    }
    got = read(torch_file(value, archive))
    assert list(got) == list(value)
    np.testing.assert_array_equal(got["state"]["weight"], array)
    np.testing.assert_array_equal(got["optimizer"]["state"][0]["exp_avg"], array)
    assert got["optimizer"]["param_groups"] == [{"lr": 0.1, "betas": (0.9, 0.99)}]
    assert (got["epoch"], got["type"], got["size"], got["nothing"]) == (3, "torch.bfloat16", (2, 3), None)


def test_a_big_endian_archive(read):
    content = torch_file([np.arange(3, dtype=np.float32).view(">f4")], archive=True)
    numbers, big = np.arange(3, dtype="<f4").tobytes(), np.arange(3, dtype=">f4").tobytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries["archive/byteorder"], entries["archive/data/0"] = b"big", big
    (got,) = read(zipped(entries))
    np.testing.assert_array_equal(got, np.frombuffer(numbers, "<f4"))
    entries["archive/byteorder"] = b"middle"
    with pytest.raises(RunError, match="Received: an unknown order of bytes"):
        read(zipped(entries))


def zipped(entries, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


def test_pytorch_is_not_imported(read, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert read(torch_file([1]))[0] == 1


# === what does not fit ===


@FORMATS
@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (Tensor(np.zeros(6, "f4"), (7,), (1,)), "a tensor that does not fit into its storage of 6 numbers"),
        (Tensor(np.zeros(6, "f4"), (2, 3), (4, 1)), "does not fit into its storage of 6 numbers"),
        (Tensor(np.zeros(6, "f4"), (6,), (1,), offset=1), "does not fit into its storage of 6 numbers"),
        (Tensor(np.zeros(6, "f4"), (), (), offset=6), "does not fit into its storage of 6 numbers"),
        (Tensor(np.zeros(6, "f4"), (10**12,), (0,)), "does not fit into its storage of 6 numbers"),
        (Tensor(np.zeros(6, "f4"), (2**40, 2**40), (0, 0)), "does not fit into its storage of 6 numbers"),
        (Tensor(np.zeros(6, "f4"), (2,), (2**62,)), "does not fit into its storage of 6 numbers"),
        (Tensor(np.zeros(6, "f4"), (3,), (-1,), offset=3), "a tensor of negative sizes"),
        (Tensor(np.zeros(6, "f4"), (-3,), (1,)), "a tensor of negative sizes"),
        (Tensor(np.zeros(6, "f4"), (3,), (1,), offset=-1), "a tensor of negative sizes"),
        (Tensor(np.zeros(6, "f4"), (2, 3), (1,)), "a tensor of 2 axes with 1 strides"),
        (Tensor(np.zeros(6, "f4"), (1,) * 40, (1,) * 40), "a tensor of 40 axes"),
        (Tensor(np.zeros(6, "f4"), (0, 2**62, 2**62), (1, 1, 1)), r"a damaged file \(ValueError\)"),
    ],
)
def test_tensors_outside_of_their_storage(read, tensor, reason, archive):
    with pytest.raises(RunError, match=rf"a.pth must be a whole file of torch.save .* Received: .*{reason}"):
        read(torch_file({"a": tensor}, archive))


@FORMATS
def test_arrays_that_are_much_larger_than_the_file(read, archive):
    numbers = np.zeros(10_000, np.float32)
    with pytest.raises(RunError, match="arrays that take more than 8 times the size of the file"):
        read(torch_file([contiguous(numbers)] * 20, archive))


def test_values_of_values(read):
    # Each of 40 tuples holds the one before twice: two to the 40 values.
    doubled = Raw(b")" + b"q\x00h\x00\x86" * 40)
    with pytest.raises(RunError, match="more than 500,000 values"):
        read(torch_file(doubled))
    with pytest.raises(RunError, match="nested more than 50 deep"):
        read(torch_file(Raw(b")" + b"\x85" * 100_000)))
    with pytest.raises(RunError, match="nested more than 50 deep"):
        read(torch_file(Raw(b"]q\x00h\x00a")))


def test_storages_of_the_older_format(read):
    whole = torch_file([np.arange(6, dtype=np.float32)], archive=False)
    assert read(whole)[0].size == 6
    at = len(whole) - 24 - 8
    for count in (7, 2**40, 2**62, -1, 5):
        with pytest.raises(RunError, match=r"a storage of"):
            read(whole[:at] + struct.pack("<q", count) + whole[at + 8 :])
    with pytest.raises(RunError, match="a list of other storages than those of its tensors"):
        read(whole.replace(b"\x80\x02](X\x01\x00\x00\x000e.", b"\x80\x02](X\x01\x00\x00\x001e."))
    with pytest.raises(RunError, match="no list of storages"):
        read(whole.replace(b"\x80\x02](X\x01\x00\x00\x000e.", b"\x80\x02}."))
    with pytest.raises(RunError, match="neither an archive nor the magic number"):
        read(pickle.dumps({"state": 1}, protocol=2) * 5)


def test_entries_of_the_archive(read):
    numbers = np.zeros(6, np.float32)
    with zipfile.ZipFile(io.BytesIO(torch_file([numbers]))) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    assert read(zipped(entries))[0].size == 6
    program = entries["archive/data.pkl"]
    for changed, reason in (
        ({**entries, "archive/data/0": b"\0" * 23}, "a storage of 23 bytes for 6 numbers"),
        ({**entries, "archive/data/0": b"\0" * 28}, "a storage of 28 bytes for 6 numbers"),
        ({"archive/data.pkl": program}, "no storage 0"),
        ({"archive/data.pkl": program, "other/data/0": b"\0" * 24}, "no storage 0"),
        ({"archive/data/0": b""}, "an archive with 0 entries data.pkl"),
        ({**entries, "other/data.pkl": program}, "an archive with 2 entries data.pkl"),
        ({"archive/data.pkl": program.replace(b"\x01\x00\x00\x000", b"\x03\x00\x00\x00../")}, "no storage ../"),
    ):
        with pytest.raises(RunError, match=f"Received: {reason}"):
            read(zipped(changed))


def test_archives_that_grow(read, tmp_path):
    bomb = zipped({"archive/data.pkl": b"\x80\x02N.", "archive/data/0": bytes(10_000_000)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(RunError, match=r"a compressed entry archive/data.pkl"):
        read(bomb)
    # Two entries of the table that are one of the file.
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02N.")
        archive.writestr("archive/data/0", bytes(1_000))
        archive.filelist.append(archive.getinfo("archive/data/0"))
        archive.filelist.append(archive.getinfo("archive/data/0"))
    with pytest.raises(RunError, match="an archive whose entries are larger than itself"):
        read((tmp_path / "twice.zip").read_bytes())


# === what would run ===


@FORMATS
@pytest.mark.parametrize(
    ("wrap", "name"),
    [
        (lambda command: Calls(os.system, command), "posix.system"),
        (lambda command: {"state": {"a": [Calls(os.system, command)]}}, "posix.system"),
        (lambda command: Calls(builtins.eval, f"__import__('os').system({command!r})"), "__builtin__.eval"),
        (lambda command: Calls(getattr, Calls(__import__, "os"), "system"), "__builtin__.getattr"),
    ],
)
def test_a_file_that_would_run_a_command_is_refused(read, tmp_path, wrap, name, archive):
    command = f"touch {tmp_path / 'marker'}"
    program = pickle.dumps(wrap(command), protocol=2)
    pickle.loads(pickle.dumps(Calls(os.system, command), protocol=2))
    assert (tmp_path / "marker").exists()
    (tmp_path / "marker").unlink()
    with pytest.raises(RunError, match=f"numbers only. Received: an object of {name}, which is not loaded"):
        read(archive_of(program) if archive else legacy_of(program))
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("position", range(4))
def test_every_pickle_of_the_older_format_is_interpreted(read, position):
    plain = [pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, {}, {}, [])]
    assert read(b"".join(plain)) == {}
    plain[position] = pickle.dumps(Calls(os.system, "true"), protocol=2)
    with pytest.raises(RunError, match=r"an object of posix.system, which is not loaded"):
        read(b"".join(plain))


@FORMATS
def test_files_that_are_cut_off(read, archive):
    whole = torch_file({"a": np.arange(6, dtype=np.float32), "b": np.ones(3, np.int64)}, archive)
    for length in (*range(0, len(whole), 7), len(whole) - 1):
        with pytest.raises(RunError, match=r"must be a whole file of torch.save"):
            read(whole[:length])


@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint", b"PK\x03\x04", b"\x80\x02}q\x00.", b"PK\x05\x06" + bytes(18)]
)
def test_other_files(read, content):
    with pytest.raises(RunError, match=r"must be a whole file of torch.save"):
        read(content)


def test_a_folder(tmp_path):
    with pytest.raises(RunError, match=r"must be a file. Received: no such file"):
        read_torch(tmp_path)


# === PyTorch itself ===

KINDS = "float16", "bfloat16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool", "complex64", "complex128"


@pytest.mark.slow
@FORMATS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_pytorch_writes_is_read_as_it_reads_it(tmp_path, protocol, archive):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.Adam(network.parameters())
    network[2](torch.ones(1, 4)).sum().backward()
    optimizer.step()
    numbers = torch.arange(24.0)
    value = {
        "epoch": 3,
        "state": network.state_dict(),
        "parameters": list(network.parameters()),
        "optimizer": optimizer.state_dict(),
        "parts": (numbers[3:9], numbers.reshape(4, 6).T, numbers[::5], numbers[2], numbers[:0]),
        "kinds": [numbers.to(getattr(torch, kind)) for kind in KINDS],
        "size": numbers.shape,
        "type": torch.float32,
    }
    path = tmp_path / "a.pth"
    torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=archive)
    compare(torch, read_torch(path), torch.load(path, weights_only=False))


def compare(torch, got, expected):
    if isinstance(expected, torch.Tensor):
        expected = expected.detach()
        expected = (expected.float() if expected.dtype in (torch.float16, torch.bfloat16) else expected).numpy()
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(got, expected)
    elif isinstance(expected, dict):
        assert list(got) == list(expected)
        for key, value in expected.items():
            compare(torch, got[key], value)
    elif isinstance(expected, (list, tuple)):
        for each, value in zip(got, expected, strict=True):
            compare(torch, each, value)
    else:
        assert got == (str(expected) if isinstance(expected, torch.dtype) else expected)
