"""Files of the library safetensors: a table in JSON, and the numbers behind it."""

from __future__ import annotations

import itertools
import json
import math
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from egt_tf.weight_files.objects import ContentError, printable
from egt_tf.weight_files.reading import reading, widened

_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "u1",
}
# That of the library.
_MOST_BYTES_OF_HEADER = 100_000_000
_MOST_AXES = 16


def read_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the arrays of a .safetensors file by name; halves and bfloat16 become float32.

    Raises:
        RunError: the file is missing, damaged or something else.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.safetensors"
        >>> header = b'{"bias": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
        >>> _ = path.write_bytes(len(header).to_bytes(8, "little") + header + np.ones(2, "<f4").tobytes())
        >>> read_safetensors(path)
        {'bias': array([1., 1.], dtype=float32)}
    """
    with reading(Path(path), "a whole .safetensors file") as content:
        (length,) = struct.unpack("<Q", content[:8])
        if length > min(len(content) - 8, _MOST_BYTES_OF_HEADER):
            raise ContentError(f"a header of {length} bytes in a file of {len(content)}")
        header = json.loads(content[8 : 8 + length].decode(), object_pairs_hook=_unique)
        if not isinstance(header, dict):
            raise ContentError("a header that is no table")
        entries = {name: _Entry(name, value) for name, value in header.items() if name != "__metadata__"}
        _check_places(list(entries.values()), len(content) - 8 - length)
        return {name: entry.array(content, 8 + length) for name, entry in entries.items()}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ContentError("a header with a name twice")
    return table


class _Entry:
    """A line of the table: type, shape, and where the numbers begin and end."""

    def __init__(self, name: str, value: Any):
        if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
            raise ContentError(f"an entry {printable(name)} without type, shape and place")
        self.name, self.type, self.shape, offsets = name, value["dtype"], value["shape"], value["data_offsets"]
        if not _are_sizes(self.shape) or not _are_sizes(offsets) or len(offsets) != 2 or len(self.shape) > _MOST_AXES:
            raise ContentError(f"an entry {printable(name)} whose shape or place is none")
        if not isinstance(self.type, str) or self.type not in _TYPES:
            raise ContentError(f"an array {printable(name)} of the type {printable(self.type)}, which is not read")
        self.start, self.end = offsets
        if self.end - self.start != math.prod(self.shape) * np.dtype(_TYPES[self.type]).itemsize:
            raise ContentError(f"an array {printable(name)} that does not fill its place")

    def array(self, content: bytes, start: int) -> np.ndarray:
        """The numbers, copied; `start` is where those of the file begin."""
        numbers = np.frombuffer(content[start + self.start : start + self.end], _TYPES[self.type]).reshape(self.shape)
        if self.type == "BF16":
            return widened(numbers)
        if self.type == "BOOL":
            return numbers != 0
        return numbers.astype("f4" if self.type == "F16" else numbers.dtype.newbyteorder("="))


def _are_sizes(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(type(number) is int and number >= 0 for number in numbers)


def _check_places(entries: list[_Entry], size: int) -> None:
    """Raises an error unless the arrays lie one behind another, without gaps, to the end of the file."""
    entries = sorted(entries, key=lambda entry: (entry.start, entry.end))
    ends = [0, *(entry.end for entry in entries)]
    starts = [*(entry.start for entry in entries), size]
    for (end, start), entry in zip(zip(ends, starts, strict=True), itertools.chain(entries, [None]), strict=True):
        if end != start:
            where = "the end of the file" if entry is None else printable(entry.name)
            raise ContentError(f"a gap or an overlap before {where}")
