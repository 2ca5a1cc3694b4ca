from __future__ import annotations

import builtins
import collections
import copyreg
import importlib
import io
import os
import pickle
import struct
import sys

import pytest

from egt_tf.weight_files.objects import ContentError, Name, StorageRecord, TensorRecord, read_objects


def read(program):
    return read_objects(io.BytesIO(program)).value


class Calls:
    """Unpickled by Python, it calls a function."""

    def __init__(self, function, *arguments):
        self.result = (function, arguments)

    def __reduce__(self):
        return self.result


@pytest.fixture(autouse=True)
def nothing_is_called_or_imported(monkeypatch):
    def forbidden(*arguments):
        raise AssertionError("a pickle called something")

    for name in ("system", "popen", "execv"):
        monkeypatch.setattr(os, name, forbidden)
    before = set(sys.modules)
    yield
    assert set(sys.modules) == before


# === values ===


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values(protocol):
    shared = [1]
    value = {
        "text": "é",
        "long text": "x" * 300,
        "bytes": [True, False, None],
        3: (1, 2, 3, 4),
        "tuples": ((), (1,), (1, 2), (1, 2, 3)),
        "numbers": [0, 255, 256, 65536, -1, 2**40, -(2**70), 1.5, float("inf")],
        "twice": [shared, shared],
        "order": collections.OrderedDict(a=1, b=collections.OrderedDict()),
    }
    got = read(pickle.dumps(value, protocol=protocol))
    assert got == value
    assert list(got) == list(value)
    assert got["twice"][0] is got["twice"][1]


def test_texts_of_python_2():
    assert read(b"\x80\x02}U\x05epochK\x03s.") == {"epoch": 3}
    pairs = b"\x80\x02ccollections\nOrderedDict\n](](U\x01aK\x01e](U\x01bK\x02ee\x85R."
    assert read(pairs) == {"a": 1, "b": 2}


def test_several_pickles_one_behind_another():
    file = io.BytesIO(pickle.dumps(1, protocol=2) + pickle.dumps([2], protocol=4) + b"rest")
    assert [read_objects(file).value, read_objects(file).value] == [1, [2]]
    assert file.read() == b"rest"


def test_records():
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x007X\x03\x00\x00\x00cpuK\x06tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor\n(" + storage + b"K\x01K\x02\x85K\x03\x85tR"
    objects = read_objects(io.BytesIO(b"\x80\x02" + tensor + b"."))
    record = StorageRecord("FloatStorage", "7", 6)
    assert objects.value == TensorRecord(record, 1, (2,), (3,))
    assert objects.storages == {"7": record}
    parameter = b"\x80\x02ctorch._utils\n_rebuild_parameter\n(" + tensor + b"\x88NtR."
    assert read(parameter) == objects.value
    assert read(b"\x80\x02(ctorch\nfloat32\nctorch\nSize\n(K\x01K\x02t\x85Rt.") == (Name("torch.float32"), (1, 2))


# === what is refused, by name ===


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("malicious", "name"),
    [
        (Calls(os.getcwd), "posix.getcwd"),
        (Calls(builtins.eval, "1"), r"(__builtin__|builtins).eval"),
        (Calls(builtins.getattr, "", "join"), r"(__builtin__|builtins).getattr"),
        (Calls(importlib.import_module, "this"), "importlib.import_module"),
        (Calls(io.open, "/etc/passwd"), r"_?io.open"),
        (Calls(pickle.loads, b"N."), r"_?c?[pP]ickle.loads"),
        (Calls(copyreg._reconstructor, object, object, None), r"(copyreg|copy_reg)._reconstructor"),
        ({"state": [("a", Calls(os.getcwd))]}, "posix.getcwd"),
        (collections.OrderedDict(a=Calls(os.getcwd)), "posix.getcwd"),
        ({Calls(os.getcwd): 1}, "posix.getcwd"),
        (collections.defaultdict(list), "collections.defaultdict"),
        (os.getcwd, "posix.getcwd"),
    ],
)
def test_names_that_are_not_known(malicious, name, protocol):
    program = pickle.dumps(malicious, protocol=protocol)
    with pytest.raises(ContentError, match=rf"^an object of {name}, which is not loaded$"):
        read(program)


TEXT = b"\x8c\x05posix\x8c\x06system"
STORAGE = b"ctorch\nFloatStorage\n"


@pytest.mark.parametrize(
    ("instructions", "reason"),
    [
        # Names, in each way that a pickle can say them.
        (b"cposix\nsystem\n(X\x02\x00\x00\x00lstR", "an object of posix.system, which is not loaded"),
        (TEXT + b"\x93", "an object of posix.system, which is not loaded"),
        (b"\x8c\x05posix\x94\x8c\x06system\x940h\x00h\x01\x93", "the pickle instruction POP, "),
        (b"\x8c\x05posix\x94\x8c\x06system\x94\x93", "an object of posix.system, which is not loaded"),
        (b"(X\x02\x00\x00\x00lsiposix\nsystem\n", "an object of posix.system, which is not loaded"),
        (b"(icollections\nOrderedDict\n", "an object of collections.OrderedDict, which is not loaded"),
        (b"(cposix\nsystem\nX\x02\x00\x00\x00lso", "an object of posix.system, which is not loaded"),
        (b"ccolle\\x63tions\nOrderedDict\n", r"an object of colle\\x63tions.OrderedDict, which is not loaded"),
        (b"ctorch\\\nload\n", r"an object of torch\\.load, which is not loaded"),
        (b"ctorch\nload\n", "an object of torch.load, which is not loaded"),
        (b"ctorch\nSize.__class__\n", "an object of torch.Size.__class__, which is not loaded"),
        (b"\x8c\x0bcollections\x8c\x15OrderedDict.__class__\x93", "an object of collections.OrderedDict.__class__, "),
        (b"\x8c\x00\x8c\x17collections.OrderedDict\x93", "an object of .collections.OrderedDict, which is not loaded"),
        (b"ctorch\x1b[2J\nsystem\n", r"an object of torch\?\[2J.system, which is not loaded"),
        (b"c" + b"a" * 5000 + b"\nb\n", "^an object of a{80}, which is not loaded$"),
        (b"\x82\x01", "the pickle instruction EXT1, which is not carried out"),
        (b"\x83\x01\x00", "the pickle instruction EXT2, which is not carried out"),
        (b"\x84\x01\x00\x00\x00", "the pickle instruction EXT4, which is not carried out"),
        (b"K\x01K\x02\x93", "the pickle instruction STACK_GLOBAL without texts"),
        # Calls of what is no function that is known.
        (b"X\x02\x00\x00\x00ls)R", "a call of a str, which is not made"),
        (b"])R", "a call of a list, which is not made"),
        (STORAGE + b")R", "a call of torch.FloatStorage, which is not made"),
        (b"ctorch\nfloat32\n)R", "a call of torch.float32, which is not made"),
        (b"ccollections\nOrderedDict\n)R)R", "a call of a dict, which is not made"),
        (b"ccollections\nOrderedDict\n]R", "a call of collections.OrderedDict without a tuple of arguments"),
        (b"ccollections\nOrderedDict\nNNN\x87R", "a call of collections.OrderedDict with 3 arguments"),
        (b"ccollections\nOrderedDict\nN\x85R", "a dictionary made of a NoneType"),
        (b"ccollections\nOrderedDict\n]K\x01a\x85R", "a dictionary that is not made of pairs"),
        (b"ctorch\nSize\n](X\x01\x00\x00\x00ae\x85R", "a size that is not made of integers"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))tR", "a tensor without a storage"),
        (
            b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00)tR",
            "a call of torch._utils._rebuild_tensor_v2 with 3 arguments",
        ),
        (b"ctorch._utils\n_rebuild_parameter\n(]\x88NtR", "a parameter without a tensor"),
        (b"ccollections\nOrderedDict\n)\x81", "the pickle instruction NEWOBJ, which is not carried out"),
        (b"ccollections\nOrderedDict\n)}\x92", "the pickle instruction NEWOBJ_EX, which is not carried out"),
        # States.
        (b"ccollections\nOrderedDict\n)R}X\x0c\x00\x00\x00__setstate__K\x01sb", "an object with a state of its own"),
        (b"}}X\x01\x00\x00\x00aK\x01sb", "an object with a state of its own"),
        (b"ccollections\nOrderedDict\n)RK\x01b", "an object with a state of its own"),
        (b"]}b", "the pickle instruction BUILD on list"),
        (b"ccollections\nOrderedDict\n}b", "the pickle instruction BUILD on Name"),
        # References.
        (b"X\x07\x00\x00\x00storageQ", "a reference to something else than a storage"),
        (b"(X\x06\x00\x00\x00moduleNNNNtQ", "a reference to something else than a storage"),
        (b"P1\n", "the pickle instruction PERSID, which is not carried out"),
        (b"(X\x07\x00\x00\x00storageNX\x01\x00\x00\x000NK\x01tQ", "a storage of an unknown kind"),
        (b"(X\x07\x00\x00\x00storagectorch\nSize\nX\x01\x00\x00\x000NK\x01tQ", "a storage of an unknown kind"),
        (b"(X\x07\x00\x00\x00storage" + STORAGE + b"K\x01NK\x01tQ", "a storage without a name or a size"),
        (b"(X\x07\x00\x00\x00storage" + STORAGE + b"X\x01\x00\x00\x000NJ\xff\xff\xff\xfftQ", "a storage without a"),
        (
            b"]" + b"".join(b"(X\x07\x00\x00\x00storage" + STORAGE + b"X\x01\x00\x00\x000NK%ctQa" % n for n in (1, 2)),
            "two descriptions of the storage 0",
        ),
        # Keys that take for ever to compare.
        (b"})K\x01s", "a dictionary with a tuple as a key"),
        (b"}(NK\x01u", "a dictionary with a NoneType as a key"),
        (b"}\x8a\x0a" + b"\x7f" * 10 + b"K\x01s", "a dictionary with a int as a key"),
        (b"ccollections\nOrderedDict\n](]K\x01\x86e\x85R", "a dictionary with a list as a key"),
        # Too much.
        (b"\x8b" + struct.pack("<i", 100_000) + b"\x7f" * 100_000, "an integer of 799999 bits"),
        (b"\x8a\x20" + b"\x7f" * 32, "an integer of 255 bits"),
        (b"(" * 101, "values nested more than 100 deep"),
        (b"(" * 1_000_000, "values nested more than 100 deep"),
        # Stacks that are not as they must be.
        (b"", "a pickle that takes more values than it has"),
        (b"(", "a pickle that takes more values than it has"),
        (b"t", "a pickle without the mark it needs"),
        (b"K\x01a", "the pickle instruction APPEND on nothing"),
        (b")K\x01a", "the pickle instruction APPEND on tuple"),
        (b"](K\x01u", "a dictionary with a key that has no value"),
        (b"](K\x01K\x01u", "the pickle instruction SETITEMS on list"),
        (b"h\x07", "a pickle that recalls what it has not kept"),
        (b"j\xff\xff\xff\xff", "a pickle that recalls what it has not kept"),
        (b"q\x00", "the pickle instruction PUT on nothing"),
        (b"\x8f", "the pickle instruction EMPTY_SET, which is not carried out"),
        (b"\x97", "the pickle instruction NEXT_BUFFER, which is not carried out"),
        (b"I1\n", "the pickle instruction INT, which is not carried out"),
    ],
)
def test_instructions_that_are_not_carried_out(instructions, reason):
    with pytest.raises(ContentError, match=reason):
        read(b"\x80\x02" + instructions + b".")


def test_a_pickle_of_too_many_instructions():
    with pytest.raises(ContentError, match="a pickle of more than 2,000,000 instructions"):
        read(b"\x80\x02](" + b"N" * 2_000_000 + b"e.")


def test_a_memo_of_any_number_takes_no_room():
    assert read(b"\x80\x02K\x05r\xff\xff\xff\xff\x85j\xff\xff\xff\xff\x86.") == ((5,), 5)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80",
        b"\x80\x02",
        b"no pickle",
        b"\x80\x02\xff.",
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"\x80\x04\x8d" + b"\xff" * 8 + b"abc.",
        b"\x80\x02\x8b\xff\xff\xff\xff.",
        b"\x80\x02X\x01\x00\x00\x00\xff.",
        b"\x80\x02cposix",
    ],
)
def test_bytes_that_are_no_pickle(content):
    with pytest.raises((ValueError, ContentError)):
        read(content)
