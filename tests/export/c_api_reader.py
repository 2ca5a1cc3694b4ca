"""Asks a SavedModel through TensorFlow's C interface: no Python of TensorFlow is imported.

    python -I c_api_reader.py FOLDER_OF_THE_LIBRARIES VERSION_FOLDER REQUEST.npz REQUEST.json ANSWER.npz

REQUEST.json: {"inputs": {key in REQUEST.npz: tensor}, "outputs": {key in ANSWER.npz: tensor}}, a tensor as
"operation:index". Strings are arrays of type S, in both directions.
"""

import ctypes
import json
import os
import sys
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_void_p

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np

LIBRARIES, MODEL, REQUEST, NAMES, ANSWER = sys.argv[1:]
TYPES = {1: np.float32, 3: np.int32, 9: np.int64}
STRING, STRING_SIZE = 7, 24
POINTERS = (
    "TF_NewStatus",
    "TF_NewGraph",
    "TF_NewSessionOptions",
    "TF_LoadSessionFromSavedModel",
    "TF_AllocateTensor",
    "TF_TensorData",
    "TF_GraphOperationByName",
    "TF_StringGetDataPointer",
)

ctypes.CDLL(os.path.join(LIBRARIES, "libtensorflow_framework.so.2"), mode=ctypes.RTLD_GLOBAL)
TF = ctypes.CDLL(os.path.join(LIBRARIES, "libtensorflow_cc.so.2"), mode=ctypes.RTLD_GLOBAL)
for function in POINTERS:
    getattr(TF, function).restype = c_void_p
for function in ("TF_Message", "TF_Version"):
    getattr(TF, function).restype = c_char_p
for function in ("TF_Dim", "TF_StringGetSize", "TF_TensorByteSize"):
    getattr(TF, function).restype = c_size_t


class Output(ctypes.Structure):
    _fields_ = [("operation", c_void_p), ("index", c_int)]


def checked(status):
    if TF.TF_GetCode(c_void_p(status)):
        sys.exit(TF.TF_Message(c_void_p(status)).decode(errors="replace"))


def output(graph, tensor):
    name, index = tensor.rsplit(":", 1)
    operation = TF.TF_GraphOperationByName(c_void_p(graph), name.encode())
    return Output(operation, int(index)) if operation else sys.exit(f"no operation {name}")


def to_tensor(array):
    sides = (c_int64 * array.ndim)(*array.shape)
    if array.dtype.kind == "S":
        tensor = TF.TF_AllocateTensor(STRING, sides, array.ndim, c_size_t(STRING_SIZE * array.size))
        data = TF.TF_TensorData(c_void_p(tensor))
        for index, value in enumerate(array.ravel().tolist()):
            place = c_void_p(data + STRING_SIZE * index)
            TF.TF_StringInit(place)
            TF.TF_StringCopy(place, c_char_p(value), c_size_t(len(value)))
        return tensor
    (number,) = [number for number, kind in TYPES.items() if kind == array.dtype]
    tensor = TF.TF_AllocateTensor(number, sides, array.ndim, c_size_t(array.nbytes))
    ctypes.memmove(TF.TF_TensorData(c_void_p(tensor)), np.ascontiguousarray(array).ctypes.data, array.nbytes)
    return tensor


def to_array(tensor):
    tensor = c_void_p(tensor)
    shape = [TF.TF_Dim(tensor, axis) for axis in range(TF.TF_NumDims(tensor))]
    data, number = TF.TF_TensorData(tensor), TF.TF_TensorType(tensor)
    if number == STRING:
        places = [c_void_p(data + STRING_SIZE * index) for index in range(int(np.prod(shape)))]
        values = [ctypes.string_at(TF.TF_StringGetDataPointer(place), TF.TF_StringGetSize(place)) for place in places]
        return np.array(values, dtype="S").reshape(shape)
    return np.frombuffer(ctypes.string_at(data, TF.TF_TensorByteSize(tensor)), TYPES[number]).reshape(shape)


assert "tensorflow" not in sys.modules
assert "egt_tf" not in sys.modules
status, graph = TF.TF_NewStatus(), TF.TF_NewGraph()
tags = (c_char_p * 1)(b"serve")
session = TF.TF_LoadSessionFromSavedModel(
    c_void_p(TF.TF_NewSessionOptions()), None, MODEL.encode(), tags, 1, c_void_p(graph), None, c_void_p(status)
)
checked(status)
with open(NAMES, encoding="utf-8") as file:
    names = json.load(file)
with np.load(REQUEST, allow_pickle=False) as request:
    tensors = [to_tensor(request[key]) for key in names["inputs"]]
feeds = (Output * len(tensors))(*(output(graph, name) for name in names["inputs"].values()))
fetches = (Output * len(names["outputs"]))(*(output(graph, name) for name in names["outputs"].values()))
given, got = (c_void_p * len(feeds))(*tensors), (c_void_p * len(fetches))()
TF.TF_SessionRun(
    c_void_p(session), None, feeds, given, len(feeds), fetches, got, len(fetches), None, 0, None, c_void_p(status)
)
checked(status)
answer = {key: to_array(value) for key, value in zip(names["outputs"], got)}
np.savez(ANSWER, version=TF.TF_Version().decode(), **answer)
