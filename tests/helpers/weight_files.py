"""Writes files of torch.save, in both formats, and .safetensors, without PyTorch: what is in them is known exactly."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import struct
import zipfile
from collections import OrderedDict

import numpy as np

STORAGE_OF = {
    "float32": "Float",
    "float64": "Double",
    "float16": "Half",
    "complex64": "ComplexFloat",
    "complex128": "ComplexDouble",
    "int64": "Long",
    "int32": "Int",
    "int16": "Short",
    "int8": "Char",
    "uint8": "Byte",
    "bool": "Bool",
}


@dataclasses.dataclass(eq=False)
class Tensor:
    """A tensor of any strides, and of the kind BFloat16 if its numbers are the upper halves of floats."""

    numbers: np.ndarray
    shape: tuple
    strides: tuple
    offset: int = 0
    kind: str = ""
    count: int | None = None
    function: str = "torch._utils _rebuild_tensor_v2"


@dataclasses.dataclass
class Raw:
    """Instructions of a pickle as they are."""

    content: bytes


def contiguous(array: np.ndarray, kind: str = "") -> Tensor:
    strides = tuple(step // array.itemsize for step in array.copy(order="C").strides)
    return Tensor(array.ravel(), array.shape, strides, kind=kind)


def bfloat16(array: np.ndarray) -> Tensor:
    """The upper halves of floats."""
    return contiguous((np.asarray(array, np.float32).view(np.uint32) >> 16).astype(np.uint16), "BFloat16")


def torch_file(value: object, archive: bool = True) -> bytes:
    """The content of a file of torch.save; arrays and `Tensor`s in `value` become tensors."""
    pickler = _Pickler()
    program = pickler.program(value)
    return archive_of(program, pickler.storages.values()) if archive else legacy_of(program, pickler.storages.values())


def archive_of(program: bytes, storages=(), folder: str = "archive", **options) -> bytes:
    """The newer format around a pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as writer:
        writer.writestr(f"{folder}/data.pkl", program)
        writer.writestr(f"{folder}/byteorder", "little")
        for number, numbers in enumerate(storages):
            writer.writestr(f"{folder}/data/{number}", numbers.tobytes())
        writer.writestr(f"{folder}/version", "3\n")
    return file.getvalue()


def legacy_of(program: bytes, storages=()) -> bytes:
    """The older format around a pickle."""
    storages = list(storages)
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = b"".join(_Pickler().program(value) for value in (0x1950A86A20F9469CFC6C, 1001, machine))
    keys = _Pickler().program([str(number) for number in range(len(storages))])
    numbers = b"".join(struct.pack("<q", numbers.size) + numbers.tobytes() for numbers in storages)
    return head + program + keys + numbers


def safetensors_file(arrays: dict, kinds: dict | None = None) -> bytes:
    """The content of a .safetensors file; `kinds` names types that are not those of the arrays."""
    types = {"float": "F", "int": "I", "uint": "U"}
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, array in arrays.items():
        word = array.dtype.name.rstrip("0123456789")
        kind = "BOOL" if word == "bool" else f"{types[word]}{8 * array.itemsize}"
        header[name] = {
            "dtype": (kinds or {}).get(name, kind),
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    return safetensors_of(json.dumps(header).encode(), b"".join(array.tobytes() for array in arrays.values()))


def safetensors_of(header: bytes, numbers: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + numbers


class _Pickler:
    """As much of protocol 2 as a state dict needs."""

    def __init__(self):
        self.storages: dict[int, np.ndarray] = {}
        self._keys = itertools.count()
        self._key_of: dict[int, str] = {}

    def program(self, value: object) -> bytes:
        return b"\x80\x02" + self._of(value) + b"."

    def _of(self, value: object) -> bytes:
        if value is None or isinstance(value, bool):
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        if isinstance(value, Raw):
            return value.content
        if isinstance(value, np.ndarray):
            return self._tensor(contiguous(value))
        writer = {int: self._int, float: self._float, str: self._text, dict: self._dict, OrderedDict: self._ordered}
        writer |= {list: self._list, tuple: self._tuple, Tensor: self._tensor}
        return writer[type(value)](value)

    def _int(self, value):
        if -(2**31) <= value < 2**31:
            return b"J" + struct.pack("<i", value)
        content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(content)]) + content

    def _float(self, value):
        return b"G" + struct.pack(">d", value)

    def _text(self, value):
        content = value.encode()
        return b"X" + struct.pack("<I", len(content)) + content

    def _dict(self, value):
        return b"}(" + b"".join(self._of(key) + self._of(item) for key, item in value.items()) + b"u"

    def _ordered(self, value):
        # As state dicts are, with the versions of their layers.
        items = b"".join(self._of(key) + self._of(item) for key, item in value.items())
        return b"ccollections\nOrderedDict\n)R(" + items + b"u" + self._dict({"_metadata": {"": {"version": 1}}}) + b"b"

    def _list(self, value):
        return b"](" + b"".join(map(self._of, value)) + b"e"

    def _tuple(self, value):
        return b"(" + b"".join(map(self._of, value)) + b"t"

    def _tensor(self, value):
        key = self._key_of.setdefault(id(value.numbers), "")
        if not key:
            key = self._key_of[id(value.numbers)] = str(next(self._keys))
            # Kept, so that no later array has its identity.
            self.storages[int(key)] = value.numbers
        kind = value.kind or STORAGE_OF[value.numbers.dtype.name]
        count = value.numbers.size if value.count is None else value.count
        storage = Raw(f"ctorch\n{kind}Storage\n".encode())
        reference = self._of(("storage", storage, key, "cpu", count)) + b"Q"
        module, name = value.function.split()
        hooks = Raw(b"ccollections\nOrderedDict\n)R")
        arguments = (Raw(reference), value.offset, tuple(value.shape), tuple(value.strides), False, hooks)
        return f"c{module}\n{name}\n".encode() + self._of(arguments) + b"R"
