"""Exported models asked by programs other than this package's: TensorFlow's C interface, protocol buffers, OpenVINO."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from egt_tf.errors import ExportError
from egt_tf.export.saved_model import make_portable

NEWER_TENSORFLOW, OPENVINO = "tensorflow-cpu==2.21.0", "openvino==2026.4.0"
SERVING_API = "tensorflow-serving-api=={}.{}.*".format(*tf.__version__.split("."))
TARGETS = [-1, 2, 0]


def run(*command) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def compare(actual, expected):
    """Numbers to 1e-5 of the largest, bytes and names exactly."""
    assert set(actual) - {"version"} == set(expected)
    for key, wanted in expected.items():
        if wanted.dtype.kind in "fi":
            assert wanted.any(), key
            np.testing.assert_allclose(actual[key], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max(), err_msg=key)
        else:
            assert actual[key].tolist() == wanted.tolist(), key


def deviations(actual, expected) -> str:
    """The largest difference of each array of numbers, as a share of the largest value."""
    return ", ".join(
        f"{key} {np.abs(actual[key] - wanted).max() / max(np.abs(wanted).max(), 1e-30):.1e}"
        for key, wanted in expected.items()
        if wanted.dtype.kind == "f"
    )


# === TensorFlow's C interface ===


def ask_in_c(libraries: Path, version: Path, request: dict, folder: Path) -> dict[str, np.ndarray]:
    """Asks the signature `explain` in a process of C alone."""
    message = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    signature = message.meta_graphs[0].signature_def["explain"]
    names = {part: {key: info.name for key, info in getattr(signature, part).items()} for part in ("inputs", "outputs")}
    (folder / "names.json").write_text(json.dumps(names))
    np.savez(folder / "request.npz", **request)
    run(
        sys.executable,
        "-I",
        Path(__file__).with_name("c_api_reader.py"),
        libraries,
        version,
        folder / "request.npz",
        folder / "names.json",
        folder / "answer.npz",
    )
    with np.load(folder / "answer.npz", allow_pickle=False) as archive:
        return dict(archive)


def check_in_c(libraries, folder, model, query_files, tmp_path, version):
    request = {"images": np.array(query_files), "targets": np.array(TARGETS)}
    answer = ask_in_c(libraries, folder / "1", request, tmp_path)
    expected = model.ask("explain", {"images": query_files, "targets": TARGETS})
    compare(answer, expected)
    assert str(answer["version"]) == version
    print(f"TensorFlow {version} in C: {deviations(answer, expected)}")


@pytest.mark.slow
def test_the_c_interface(folder, model, query_files, tmp_path):
    check_in_c(Path(tf.__file__).parent, folder, model, query_files, tmp_path, tf.__version__)


@pytest.mark.slow
def test_the_c_interface_of_a_newer_release(folder, model, query_files, tmp_path):
    run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", tmp_path, NEWER_TENSORFLOW)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2"):
            archive.extract(f"tensorflow/{name}", tmp_path)
    check_in_c(tmp_path / "tensorflow", folder, model, query_files, tmp_path, NEWER_TENSORFLOW.partition("==")[2])


# === The messages of TensorFlow Serving ===

ANSWER_MESSAGE = """
    sys.path.extend(sys.argv[4:])
    from tensorflow_serving.apis import predict_pb2
    with open(sys.argv[3], "rb") as file:
        request = predict_pb2.PredictRequest.FromString(file.read())
    signature = tf.saved_model.load(sys.argv[2]).signatures[request.model_spec.signature_name]
    inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
    outputs = {name: tf.make_tensor_proto(value.numpy()) for name, value in signature(**inputs).items()}
    response = predict_pb2.PredictResponse(model_spec=request.model_spec, outputs=outputs)
    out = {"response": np.frombuffer(response.SerializeToString(), np.uint8)}
"""


def check_messages(folder, model, query_files, served_alone, tmp_path, *paths):
    from tensorflow_serving.apis import model_pb2, predict_pb2

    inputs = {"images": query_files, "targets": TARGETS}
    request = predict_pb2.PredictRequest(
        model_spec=model_pb2.ModelSpec(name="first", signature_name="explain"),
        inputs={"images": tf.make_tensor_proto(query_files), "targets": tf.make_tensor_proto(TARGETS, tf.int64)},
    )
    (tmp_path / "request.pb").write_bytes(request.SerializeToString())
    out = served_alone(ANSWER_MESSAGE, folder / "1", tmp_path / "request.pb", *paths)
    response = predict_pb2.PredictResponse.FromString(out["response"].tobytes())
    answer = {name: tf.make_ndarray(value) for name, value in response.outputs.items()}
    compare(answer, model.ask("explain", inputs))
    assert response.model_spec.signature_name == "explain"
    assert answer["overlay_bytes"][0].startswith(b"\x89PNG")


@pytest.mark.skipif(importlib.util.find_spec("tensorflow_serving") is None, reason="needs the extra `serving`")
def test_messages_of_the_server(folder, model, query_files, served_alone, tmp_path):
    check_messages(folder, model, query_files, served_alone, tmp_path)


@pytest.mark.slow
def test_messages_of_the_server_installed_for_the_test(folder, model, query_files, served_alone, tmp_path, monkeypatch):
    target = tmp_path / "packages"
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, SERVING_API, "grpcio")
    monkeypatch.syspath_prepend(target)
    check_messages(folder, model, query_files, served_alone, tmp_path, target)


# === Another engine ===


def portable_request(query_files, prepared) -> dict[str, np.ndarray]:
    images = np.stack([prepared(file) for file in query_files]).astype(np.float32)
    return {"images": images, "targets": np.array(TARGETS)}


def portable_answer(model, query_files) -> dict[str, np.ndarray]:
    """What the ordinary export says, in the numbers of the portable one."""
    answer = model.ask("explain", {"images": query_files, "targets": TARGETS})
    number = {name: index for index, name in enumerate(answer["class_names"][0])}
    predicted, explained = ([number[name] for name in answer[key]] for key in ("top_class", "explained_class"))
    return {
        "probabilities": answer["probabilities"],
        "relevance": answer["relevance"],
        "predicted": np.array(predicted),
        "explained": np.array(explained),
    }


def test_a_portable_model_answers_as_the_ordinary_one(portable, model, query_files, prepared):
    loaded = tf.saved_model.load(str(portable))
    assert set(loaded.signatures) == {"serving_default"}
    inputs = {key: tf.constant(value) for key, value in portable_request(query_files, prepared).items()}
    answer = {key: value.numpy() for key, value in loaded.signatures["serving_default"](**inputs).items()}
    compare(answer, portable_answer(model, query_files))
    assert (portable / "assets" / "class_names.txt").read_text().split() == ["ant", "bee", "cow"]


@pytest.mark.parametrize(
    ("head", "words"),
    [
        pytest.param(
            {"name": "graph", "ways": 3},
            r"do not have. .*StridedSliceGrad in the head Graph",
            marks=pytest.mark.slow,
        ),
        ("ridge", r"do not have. Received: .*MatrixSolve in the head Ridge"),
    ],
)
def test_heads_that_are_not_portable(head, words, build, support):
    with pytest.raises(ExportError, match=words):
        make_portable(build(head), support)


@pytest.mark.slow
def test_openvino(portable, model, query_files, prepared, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", OPENVINO)
    np.savez(tmp_path / "request.npz", **portable_request(query_files, prepared))
    run(
        python,
        "-I",
        Path(__file__).with_name("openvino_reader.py"),
        portable,
        tmp_path / "request.npz",
        tmp_path / "answer.npz",
    )
    with np.load(tmp_path / "answer.npz", allow_pickle=False) as archive:
        answer, expected = dict(archive), portable_answer(model, query_files)
    compare(answer, expected)
    print(f"OpenVINO {answer['version']}: {deviations(answer, expected)}")
