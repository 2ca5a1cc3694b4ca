"""Asks a portable SavedModel through OpenVINO, an engine that shares no code with TensorFlow.

python -I openvino_reader.py VERSION_FOLDER REQUEST.npz ANSWER.npz
"""

import importlib.util
import sys

import numpy as np
import openvino

MODEL, REQUEST, ANSWER = sys.argv[1:]
assert [name for name in ("tensorflow", "egt_tf") if importlib.util.find_spec(name)] == []
core = openvino.Core()
compiled = core.compile_model(core.read_model(MODEL), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
with np.load(REQUEST, allow_pickle=False) as request:
    answer = compiled({key: request[key] for key in request.files})
named = {min(found.get_names(), key=len): answer[found] for found in compiled.outputs}
np.savez(ANSWER, version=openvino.__version__, **named)
