"""The pickles in files of torch.save, interpreted instruction by instruction.

A pickle is a program. Python's own interpreter of it imports and calls whatever the file names. This one builds plain
values and records of tensors, knows the few names that a state dict needs, and calls no name of a file at all.
"""

from __future__ import annotations

import dataclasses
import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO

# Of some 40,000 tensors; an instruction of one byte may make an object of a hundred.
_MOST_INSTRUCTIONS = 2_000_000
# Of marks within marks. Tuples of tuples need none: what walks the values has a limit of its own.
_MOST_MARKS = 100
# The magic number of torch.save has 80 bits.
_MOST_BITS = 128


class ContentError(Exception):
    """A weight file holds what it may not; the message is the end of "Received: ...".

    Example:
        >>> raise ContentError("an object of posix.system, which is not loaded")
        Traceback (most recent call last):
        egt_tf.weight_files.objects.ContentError: an object of posix.system, which is not loaded
    """


@dataclasses.dataclass(frozen=True)
class Name:
    """A name that a pickle uses and that is known: nothing is imported for it.

    Example:
        >>> Name("torch.float32").dotted
        'torch.float32'
    """

    dotted: str


@dataclasses.dataclass(frozen=True)
class StorageRecord:
    """Where the numbers of tensors are.

    Attributes:
        kind: of the numbers, such as "FloatStorage".
        key: its name in the file.
        count: of its numbers.

    Example:
        >>> StorageRecord("FloatStorage", "0", 6).count
        6
    """

    kind: str
    key: str
    count: int


@dataclasses.dataclass(frozen=True)
class TensorRecord:
    """A tensor as a part of a storage, as the file has it: nothing is checked yet.

    Example:
        >>> TensorRecord(StorageRecord("FloatStorage", "0", 6), offset=0, shape=(2, 3), strides=(3, 1)).shape
        (2, 3)
    """

    storage: StorageRecord
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Objects:
    """What one pickle holds.

    Attributes:
        value: numbers, texts, bytes, None, `Name`s, `StorageRecord`s, `TensorRecord`s, and lists, tuples and
            dictionaries of such. They may contain themselves.
        storages: every storage that it refers to, by its key.

    Example:
        >>> Objects({"epoch": 3}, {}).value
        {'epoch': 3}
    """

    value: Any
    storages: dict[str, StorageRecord]


def read_objects(file: BinaryIO) -> Objects:
    """What the pickle at the position of a file holds; the position moves behind it.

    Args:
        file: in memory; lengths that a pickle gives are not checked against the size of a file on disk.

    Raises:
        ContentError: a name or an instruction is not one of those that state dicts need, or its operands are not.
        ValueError: the bytes are no pickle.

    Example:
        >>> import io, pickle
        >>> read_objects(io.BytesIO(pickle.dumps({"epoch": 3}, protocol=2))).value
        {'epoch': 3}
    """
    interpreter = _Interpreter()
    value = interpreter.run(file)
    return Objects(value, interpreter.storages)


def printable(text: object) -> str:
    """A text of a file as it may be shown: short, and without what would move the cursor.

    Example:
        >>> printable("posix" + chr(10) + "system")
        'posix?system'
    """
    return "".join(letter if letter.isprintable() else "?" for letter in str(text)[:80])


# === What the known names stand for ===

STORAGES = frozenset(
    f"{kind}Storage"
    for kind in (
        *("Float", "Double", "Half", "BFloat16", "ComplexFloat", "ComplexDouble"),
        *("Long", "Int", "Short", "Char", "Byte", "Bool"),
    )
)
_TYPES = frozenset(
    f"torch.{name}"
    for name in (
        *("float16", "float32", "float64", "bfloat16", "complex64", "complex128"),
        *("int8", "int16", "int32", "int64", "uint8", "bool"),
    )
)


def _dictionary(pairs: Any = ()) -> dict:
    if not isinstance(pairs, (list, tuple)):
        raise ContentError(f"a dictionary made of a {type(pairs).__name__}")
    result: dict = {}
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ContentError("a dictionary that is not made of pairs")
        result[_key(pair[0])] = pair[1]
    return result


def _size(numbers: Any = ()) -> tuple[int, ...]:
    if not isinstance(numbers, (list, tuple)) or not all(type(number) is int for number in numbers):
        raise ContentError("a size that is not made of integers")
    return tuple(numbers)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> TensorRecord:
    # What follows says whether gradients are wanted, and by which hooks.
    if not isinstance(storage, StorageRecord) or type(offset) is not int:
        raise ContentError("a tensor without a storage")
    return TensorRecord(storage, offset, _size(shape), _size(strides))


def _parameter(tensor: Any, *_: Any) -> TensorRecord:
    if not isinstance(tensor, TensorRecord):
        raise ContentError("a parameter without a tensor")
    return tensor


# Each is ours, and makes plain values only.
_MADE_BY: dict[str, Callable] = {
    "collections.OrderedDict": _dictionary,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
}
_KNOWN = _TYPES | set(_MADE_BY) | {f"torch.{storage}" for storage in STORAGES}


def _known(module: object, name: object) -> Name:
    dotted = f"{module}.{name}"
    if not isinstance(module, str) or not isinstance(name, str) or dotted not in _KNOWN:
        raise ContentError(f"an object of {printable(dotted)}, which is not loaded")
    return Name(dotted)


def _key(key: Any) -> Any:
    # To hash a tuple of tuples can take for ever, as can numbers that were chosen to have one hash.
    if not isinstance(key, (str, int)) or (isinstance(key, int) and key.bit_length() > 64):
        raise ContentError(f"a dictionary with a {type(key).__name__} as a key")
    return key


# === The machine ===


def _next_instruction(file: BinaryIO) -> tuple[str, Any]:
    """The name and the argument of an instruction; no argument is read of one that is not carried out."""
    code = _CODES.get(file.read(1).decode("latin-1"))
    if code is None:
        raise ContentError("bytes that are no pickle, or not all of one")
    if code.name not in _CARRIED_OUT:
        raise ContentError(f"the pickle instruction {code.name}, which is not carried out")
    if code.name in ("GLOBAL", "INST"):
        return code.name, _two_lines(file)
    return code.name, None if code.arg is None else code.arg.reader(file)


def _two_lines(file: BinaryIO) -> str:
    """A module and a name. The reader of `pickletools` decodes escapes in them, which no pickle has."""
    lines = file.readline(), file.readline()
    if not all(line.endswith(b"\n") for line in lines):
        raise ContentError("a name without an end")
    return " ".join(line[:-1].decode("latin-1") for line in lines)


def _short(argument: Any) -> Any:
    if isinstance(argument, int) and argument.bit_length() > _MOST_BITS:
        raise ContentError(f"an integer of {argument.bit_length()} bits")
    return argument


class _Interpreter:
    """A stack of values, the stacks below the marks, and the values that are kept for later."""

    def __init__(self) -> None:
        self._stack: list = []
        self._below: list[list] = []
        self._memo: dict[int, Any] = {}
        self.storages: dict[str, StorageRecord] = {}

    def run(self, file: BinaryIO) -> Any:
        for _ in range(_MOST_INSTRUCTIONS):
            name, argument = _next_instruction(file)
            if name == "STOP":
                return self._pop()
            if name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name])
            elif name in _ARGUMENTS:
                self._stack.append(_short(argument))
            else:
                _INSTRUCTIONS[name](self, argument)
        raise ContentError(f"a pickle of more than {_MOST_INSTRUCTIONS:,} instructions")

    def _pop(self) -> Any:
        if not self._stack:
            raise ContentError("a pickle that takes more values than it has")
        return self._stack.pop()

    def _top(self, kind: type, instruction: str) -> Any:
        """The topmost value, which stays."""
        if not self._stack or not isinstance(self._stack[-1], kind):
            found = type(self._stack[-1]).__name__ if self._stack else "nothing"
            raise ContentError(f"the pickle instruction {instruction} on {found}")
        return self._stack[-1]

    def _nothing(self, argument: Any) -> None:
        """The protocol and the frames are for readers that stream."""

    # --- marks ---

    def _mark(self, argument: Any) -> None:
        if len(self._below) == _MOST_MARKS:
            raise ContentError(f"values nested more than {_MOST_MARKS} deep")
        self._below.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list:
        if not self._below:
            raise ContentError("a pickle without the mark it needs")
        values, self._stack = self._stack, self._below.pop()
        return values

    # --- containers ---

    def _list(self, argument: Any) -> None:
        self._stack.append([])

    def _dict(self, argument: Any) -> None:
        self._stack.append({})

    def _tuple(self, argument: Any) -> None:
        values = tuple(self._since_mark())
        self._stack.append(values)

    def _tuple1(self, argument: Any) -> None:
        self._stack.append((self._pop(),))

    def _tuple2(self, argument: Any) -> None:
        second = self._pop()
        self._stack.append((self._pop(), second))

    def _tuple3(self, argument: Any) -> None:
        third, second = self._pop(), self._pop()
        self._stack.append((self._pop(), second, third))

    def _append(self, argument: Any) -> None:
        value = self._pop()
        self._top(list, "APPEND").append(value)

    def _appends(self, argument: Any) -> None:
        values = self._since_mark()
        self._top(list, "APPENDS").extend(values)

    def _setitem(self, argument: Any) -> None:
        value, key = self._pop(), self._pop()
        self._top(dict, "SETITEM")[_key(key)] = value

    def _setitems(self, argument: Any) -> None:
        values = self._since_mark()
        if len(values) % 2:
            raise ContentError("a dictionary with a key that has no value")
        target = self._top(dict, "SETITEMS")
        target.update({_key(key): value for key, value in zip(values[::2], values[1::2], strict=True)})

    # --- memory ---

    def _put(self, argument: int) -> None:
        self._memo[argument] = self._top(object, "PUT")

    def _memoize(self, argument: Any) -> None:
        self._put(len(self._memo))

    def _get(self, argument: int) -> None:
        if argument not in self._memo:
            raise ContentError("a pickle that recalls what it has not kept")
        self._stack.append(self._memo[argument])

    # --- names and what is made of them ---

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(_known(module, name))

    def _inst(self, argument: str) -> None:
        raise ContentError(f"an object of {printable(argument).replace(' ', '.')}, which is not loaded")

    def _stack_global(self, argument: Any) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ContentError("the pickle instruction STACK_GLOBAL without texts")
        self._stack.append(_known(module, name))

    def _reduce(self, argument: Any) -> None:
        arguments, made_by = self._pop(), self._pop()
        if not isinstance(made_by, Name) or made_by.dotted not in _MADE_BY:
            found = made_by.dotted if isinstance(made_by, Name) else f"a {type(made_by).__name__}"
            raise ContentError(f"a call of {found}, which is not made")
        if not isinstance(arguments, tuple):
            raise ContentError(f"a call of {made_by.dotted} without a tuple of arguments")
        try:
            self._stack.append(_MADE_BY[made_by.dotted](*arguments))
        except TypeError as error:
            raise ContentError(f"a call of {made_by.dotted} with {len(arguments)} arguments") from error

    def _build(self, argument: Any) -> None:
        state = self._pop()
        self._top(dict, "BUILD")
        # A state dict notes the versions of its layers; nothing else has a state.
        if not isinstance(state, dict) or set(state) - {"_metadata"}:
            raise ContentError("an object with a state of its own, which is not set")

    def _persistent(self, argument: Any) -> None:
        parts = self._pop()
        if not isinstance(parts, tuple) or len(parts) not in (5, 6) or parts[0] != "storage" or parts[5:] not in _WHOLE:
            raise ContentError("a reference to something else than a storage")
        _, kind, key, _, count = parts[:5]
        if not isinstance(kind, Name) or kind.dotted.removeprefix("torch.") not in STORAGES:
            raise ContentError("a storage of an unknown kind")
        if not isinstance(key, str) or type(count) is not int or count < 0:
            raise ContentError("a storage without a name or a size")
        record = StorageRecord(kind.dotted.removeprefix("torch."), key, count)
        if self.storages.setdefault(key, record) != record:
            raise ContentError(f"two descriptions of the storage {printable(key)}")
        self._stack.append(record)


# The sixth part of a reference would make it a part of another storage.
_WHOLE = ((), (None,))
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_ARGUMENTS = frozenset(
    (
        *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    )
)
# Those of the protocols 2 to 5 that a state dict needs, and one that is refused by the name it brings.
_INSTRUCTIONS: dict[str, Callable[[_Interpreter, Any], None]] = {
    "PROTO": _Interpreter._nothing,
    "FRAME": _Interpreter._nothing,
    "MARK": _Interpreter._mark,
    "EMPTY_LIST": _Interpreter._list,
    "EMPTY_DICT": _Interpreter._dict,
    "TUPLE": _Interpreter._tuple,
    "TUPLE1": _Interpreter._tuple1,
    "TUPLE2": _Interpreter._tuple2,
    "TUPLE3": _Interpreter._tuple3,
    "APPEND": _Interpreter._append,
    "APPENDS": _Interpreter._appends,
    "SETITEM": _Interpreter._setitem,
    "SETITEMS": _Interpreter._setitems,
    "BINPUT": _Interpreter._put,
    "LONG_BINPUT": _Interpreter._put,
    "MEMOIZE": _Interpreter._memoize,
    "BINGET": _Interpreter._get,
    "LONG_BINGET": _Interpreter._get,
    "GLOBAL": _Interpreter._global,
    "INST": _Interpreter._inst,
    "STACK_GLOBAL": _Interpreter._stack_global,
    "REDUCE": _Interpreter._reduce,
    "BUILD": _Interpreter._build,
    "BINPERSID": _Interpreter._persistent,
}
_CARRIED_OUT = frozenset(("STOP", *_CONSTANTS, *_ARGUMENTS, *_INSTRUCTIONS))
_CODES = {code.code: code for code in pickletools.opcodes}
