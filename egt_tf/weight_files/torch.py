"""Files of torch.save, in both of its formats, read without PyTorch."""

from __future__ import annotations

import dataclasses
import io
import math
import os
import struct
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from egt_tf.weight_files.objects import ContentError, Name, StorageRecord, TensorRecord, printable, read_objects
from egt_tf.weight_files.reading import reading, widened

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_ZIP = b"PK\x03\x04"
_TYPES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    # NumPy has no bfloat16: the upper half of a float32.
    "BFloat16Storage": "u2",
    "ComplexFloatStorage": "c8",
    "ComplexDoubleStorage": "c16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "u1",
}
_ORDERS = {b"little": "<", b"big": ">"}
_DEEPEST, _MOST_VALUES, _MOST_AXES = 50, 500_000, 16
# One storage may be that of several arrays, and halves become whole floats.
_MOST_BYTES_PER_BYTE = 8


def read_torch(path: str | os.PathLike) -> Any:
    """Reads what `torch.save` wrote, without PyTorch, and without running code of the file.

    Both formats are read: the archive, and the one before PyTorch 1.6.

    Returns:
        The saved object: arrays for tensors and parameters (float32 for halves and bfloat16), dictionaries, lists,
        tuples, numbers, texts; `torch.float32` and its like as a text.

    Raises:
        RunError: the file is missing, damaged or something else, or needs Python objects beside these.

    Example:
        >>> read_torch("gone.pth")
        Traceback (most recent call last):
        egt_tf.errors.RunError: the weight file gone.pth must be a file. Received: no such file
    """
    with reading(Path(path), "a whole file of torch.save that holds arrays and numbers only") as content:
        saved = _archive(content) if content.startswith(_ZIP) else _legacy(content)
        return _Values(saved, len(content)).of(saved.value)


@dataclasses.dataclass(frozen=True)
class _Saved:
    """A value with records in place of its tensors, the bytes of a storage by its key, and their order ("<", ">")."""

    value: Any
    storage: Callable[[str], bytes]
    order: str = "<"


# === The archive: one pickle, and an entry for each storage ===


def _archive(content: bytes) -> _Saved:
    archive = zipfile.ZipFile(io.BytesIO(content))
    entries = {entry.filename: entry for entry in archive.infolist()}
    _check_sizes(archive.infolist(), len(content))
    pickles = [name for name in entries if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ContentError(f"an archive with {len(pickles)} entries data.pkl")
    folder = pickles[0].removesuffix("data.pkl")

    def storage(key: str) -> bytes:
        name = f"{folder}data/{key}"
        if name not in entries:
            raise ContentError(f"no storage {printable(key)}")
        return archive.read(name)

    order = archive.read(f"{folder}byteorder") if f"{folder}byteorder" in entries else b"little"
    if order not in _ORDERS:
        raise ContentError("an unknown order of bytes")
    return _Saved(read_objects(io.BytesIO(archive.read(pickles[0]))).value, storage, _ORDERS[order])


def _check_sizes(entries: Iterable[zipfile.ZipInfo], size: int) -> None:
    """Entries can not be larger than their file, as `torch.save` compresses nothing."""
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ContentError(f"a compressed entry {printable(entry.filename)}")
    if sum(entry.file_size for entry in entries) > size:
        raise ContentError("an archive whose entries are larger than itself")


# === The format before: pickles, and the storages one behind another ===


def _legacy(content: bytes) -> _Saved:
    file = io.BytesIO(content)
    if read_objects(file).value != _MAGIC or read_objects(file).value != _PROTOCOL:
        raise ContentError("neither an archive nor the magic number of torch.save")
    # Of the machine that wrote the file; storages are little-endian on any.
    read_objects(file)
    objects, keys = read_objects(file), read_objects(file).value
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ContentError("no list of storages")
    if sorted(keys) != sorted(objects.storages):
        raise ContentError("a list of other storages than those of its tensors")
    storages = {key: _next_storage(file, objects.storages[key], len(content)) for key in keys}
    return _Saved(objects.value, storages.__getitem__)


def _next_storage(file: io.BytesIO, record: StorageRecord, size: int) -> bytes:
    (count,) = struct.unpack("<q", file.read(8))
    length = count * np.dtype(_TYPES[record.kind]).itemsize
    if not 0 <= length <= size - file.tell():
        raise ContentError(f"a storage of {count} numbers in a file of {size} bytes")
    return file.read(length)


# === From records to arrays ===


class _Values:
    """Makes the values of one file, as many and as large as such a file may hold."""

    def __init__(self, saved: _Saved, size: int):
        self._saved = saved
        self._storages: dict[str, np.ndarray] = {}
        self._values_left, self._bytes_left = _MOST_VALUES, _MOST_BYTES_PER_BYTE * size

    def of(self, value: Any, depth: int = 0) -> Any:
        """A value with arrays in place of its records."""
        self._values_left -= 1
        if depth > _DEEPEST or self._values_left < 0:
            raise ContentError(f"more than {_MOST_VALUES:,} values, or values nested more than {_DEEPEST} deep")
        if isinstance(value, dict):
            return {key: self.of(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.of(item, depth + 1) for item in value)
        if isinstance(value, TensorRecord):
            return self._array(value)
        if isinstance(value, StorageRecord):
            return self._numbers(value)
        return value.dotted if isinstance(value, Name) else value

    def _array(self, record: TensorRecord) -> np.ndarray:
        numbers = self._numbers(record.storage)
        _check_inside(record, len(numbers))
        self._bytes_left -= math.prod(record.shape) * numbers.itemsize
        if self._bytes_left < 0:
            raise ContentError(f"arrays that take more than {_MOST_BYTES_PER_BYTE} times the size of the file")
        # An axis of one element is never stepped along.
        steps = [
            0 if length == 1 else step * numbers.itemsize
            for length, step in zip(record.shape, record.strides, strict=True)
        ]
        if not math.prod(record.shape):
            return np.zeros(record.shape, numbers.dtype)
        return np.lib.stride_tricks.as_strided(numbers[record.offset :], record.shape, steps).copy()

    def _numbers(self, record: StorageRecord) -> np.ndarray:
        """All of a storage, as it is used by this and other tensors."""
        if record.key not in self._storages:
            content = self._saved.storage(record.key)
            kind = np.dtype(self._saved.order + _TYPES[record.kind])
            if len(content) != record.count * kind.itemsize:
                raise ContentError(f"a storage of {len(content)} bytes for {record.count} numbers")
            self._storages[record.key] = _native(np.frombuffer(content, kind), record.kind)
        return self._storages[record.key]


def _native(numbers: np.ndarray, kind: str) -> np.ndarray:
    if kind == "BFloat16Storage":
        return widened(numbers)
    if kind == "BoolStorage":
        return numbers != 0
    return numbers.astype("f4" if kind == "HalfStorage" else numbers.dtype.newbyteorder("="))


def _check_inside(record: TensorRecord, count: int) -> None:
    """Raises an error if a tensor steps out of its storage, or repeats its numbers."""
    axes = len(record.shape)
    if axes != len(record.strides) or axes > _MOST_AXES:
        raise ContentError(f"a tensor of {axes} axes with {len(record.strides)} strides")
    if min((record.offset, *record.shape, *record.strides)) < 0:
        raise ContentError("a tensor of negative sizes")
    last = sum((length - 1) * step for length, step in zip(record.shape, record.strides, strict=True))
    inside = record.offset + last < count and math.prod(record.shape) <= count
    if math.prod(record.shape) and not inside:
        raise ContentError(f"a tensor that does not fit into its storage of {count} numbers")
