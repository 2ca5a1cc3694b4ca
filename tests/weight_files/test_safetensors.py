from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from egt_tf.errors import RunError
from egt_tf.weight_files import read_safetensors
from tests.helpers.weight_files import safetensors_file, safetensors_of


@pytest.fixture
def read(tmp_path):
    def of(content):
        (tmp_path / "a.safetensors").write_bytes(content)
        return read_safetensors(tmp_path / "a.safetensors")

    return of


def test_numbers_of_every_kind(read):
    kinds = ["float64", "float32", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool"]
    arrays = {kind: (np.arange(6).reshape(2, 3) % 2).astype(kind) for kind in kinds}
    arrays |= {"scalar": np.float32(2.5).reshape(()), "nothing": np.zeros((0, 4), np.float32)}
    got = read(safetensors_file(arrays))
    assert list(got) == list(arrays)
    for name, array in arrays.items():
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(got[name], array)
    got["float32"] += 1


def test_halves_become_floats(read):
    numbers = np.array([[1.5, -2, 0], [np.inf, 0.25, 3]], np.float32)
    brain = (numbers.view(np.uint32) >> 16).astype(np.uint16)
    got = read(safetensors_file({"half": numbers.astype(np.float16), "brain": brain}, {"brain": "BF16"}))
    for array in got.values():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, numbers)


def entry(start=0, end=8, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"a": entry(0, 4)}, "an array a that does not fill its place"),
        ({"a": entry(shape=(2**62, 4))}, "an array a that does not fill its place"),
        ({"a": entry(8, 0)}, "an array a that does not fill its place"),
        ({"a": entry(4, 12)}, "a gap or an overlap before a"),
        ({"a": entry(), "b": entry()}, "a gap or an overlap before b"),
        ({"a": entry(), "b": entry(12, 20)}, "a gap or an overlap before b"),
        ({"a": entry(0, 16, (4,))}, "a gap or an overlap before the end of the file"),
        ({"a": entry(0, 4, (1,))}, "a gap or an overlap before the end of the file"),
        ({}, "a gap or an overlap before the end of the file"),
        ({"a": entry(0, 2**63, (2**61,))}, "a gap or an overlap before the end of the file"),
        ({"a": entry(dtype="F8_E5M2")}, "an array a of the type F8_E5M2, which is not read"),
        ({"a": entry(dtype=["F32"])}, r"an array a of the type \['F32'\], which is not read"),
        ({"a": entry(shape=(-2,))}, "an entry a whose shape or place is none"),
        ({"a": entry(shape=(2.0,))}, "an entry a whose shape or place is none"),
        ({"a": entry(shape=(True, 2))}, "an entry a whose shape or place is none"),
        ({"a": entry(shape=(1,) * 40)}, "an entry a whose shape or place is none"),
        ({"a": {**entry(), "data_offsets": [0, 4, 8]}}, "an entry a whose shape or place is none"),
        ({"a": {**entry(), "data_offsets": "08"}}, "an entry a whose shape or place is none"),
        ({"a\n": {**entry(), "more": 1}}, r"an entry a\? without type, shape and place"),
        ({"a": [1]}, "an entry a without type, shape and place"),
        ([entry()], "a header that is no table"),
        ("a", "a header that is no table"),
    ],
)
def test_headers_that_do_not_fit(read, header, reason):
    with pytest.raises(RunError, match=rf"must be a whole .safetensors file. Received: {reason}"):
        read(safetensors_of(json.dumps(header).encode(), bytes(8)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "a damaged file"),
        (b"\1\0\0", "a damaged file"),
        (struct.pack("<Q", 2**63) + b"{}", "a header of 9223372036854775808 bytes in a file of 10"),
        (struct.pack("<Q", 3) + b"{}", "a header of 3 bytes in a file of 10"),
        (safetensors_of(b"{" * 10), "a damaged file"),
        (safetensors_of(b'{"a":' * 100_000), "a damaged file"),
        (safetensors_of(b"[" * 100_000), "a damaged file"),
        (safetensors_of(b'{"a": 1' + b"0" * 5000 + b"}"), "a damaged file|an entry a"),
        (safetensors_of(b"\xff\xfe"), "a damaged file"),
        (safetensors_of(b'{"a": {}, "a": {}}'), "a header with a name twice"),
    ],
)
def test_bytes_that_are_no_file_of_safetensors(read, content, reason):
    with pytest.raises(RunError, match=f"Received: ({reason})"):
        read(content)


def test_files_that_are_cut_off(read):
    whole = safetensors_file({"a": np.ones(3, np.float32), "b": np.ones((2, 2), np.int64)})
    assert len(read(whole)) == 2
    for length in range(len(whole)):
        with pytest.raises(RunError, match=r"must be a whole .safetensors file"):
            read(whole[:length])


@pytest.mark.slow
def test_what_the_library_writes_is_read_as_it_reads_it(tmp_path):
    library = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    rng = np.random.default_rng(0)
    kinds = ["float64", "float32", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"]
    arrays = {f"layer.{kind}": (9 * rng.normal(size=(3, 1, 4))).astype(kind) for kind in kinds}
    library.save_file(arrays, tmp_path / "a.safetensors", metadata={"format": "np"})
    got = read_safetensors(tmp_path / "a.safetensors")
    assert sorted(got) == sorted(arrays)
    for name, array in arrays.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array)
