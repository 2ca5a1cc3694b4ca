"""Requests as TensorFlow Serving documents them, to a process without this package; `saved_model_cli` too."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs" / "serving.md"


@pytest.fixture(scope="module")
def post(serve, folder):
    """Posts to the server: (path behind the host, JSON) -> (status, JSON)."""
    address = serve(folder)

    def send(path, request):
        posted = urllib.request.Request(address + path, json.dumps(request).encode())
        try:
            with urllib.request.urlopen(posted, timeout=120) as got:
                return got.status, json.load(got)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    return send


def b64(file: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(file).decode()}


def test_rows(post, model, query_files):
    status, answer = post("/v1/models/first:predict", {"instances": [b64(file) for file in query_files]})
    expected = model.ask("serving_default", {"images": query_files})
    assert status == 200
    assert len(answer["predictions"]) == len(query_files)
    for index, row in enumerate(answer["predictions"]):
        np.testing.assert_allclose(row["probabilities"], expected["probabilities"][index], atol=1e-5)
        assert row["class_names"] == ["ant", "bee", "cow"]
        assert row["top_class"] == row["class_names"][int(np.argmax(row["probabilities"]))]


def test_rows_of_explanations(post, model, query_files):
    rows = [{"images": b64(file), "targets": target} for file, target in zip(query_files, (-1, 0, 2))]
    status, answer = post("/v1/models/first/versions/1:predict", {"signature_name": "explain", "instances": rows})
    expected = model.ask("explain", {"images": query_files, "targets": [-1, 0, 2]})
    assert status == 200
    for index, row in enumerate(answer["predictions"]):
        np.testing.assert_allclose(row["relevance"], expected["relevance"][index], atol=1e-5)
        assert base64.b64decode(row["overlay_bytes"]["b64"]) == expected["overlay_bytes"][index]
    assert [row["explained_class"] for row in answer["predictions"]][1:] == ["ant", "cow"]


def test_columns_as_documented(post, model, query_files, support_files):
    (form,) = re.findall(r"```json\n(.*?)```", DOCUMENTATION.read_text(encoding="utf-8"), re.S)
    request = json.loads(form)
    files = iter([support_files[0], support_files[2], query_files[0]])
    for name in ("support_images", "query_images"):
        request["inputs"][name] = [b64(next(files)) for _ in request["inputs"][name]]
    status, answer = post("/v1/models/first:predict", request)
    expected = model.ask(
        "classify_episode",
        {
            "support_images": [support_files[0], support_files[2]],
            "support_labels": [0, 1],
            "query_images": query_files[:1],
        },
    )
    assert status == 200
    np.testing.assert_allclose(answer["outputs"]["probabilities"], expected["probabilities"], atol=1e-5)
    assert answer["outputs"]["predicted"] == expected["predicted"].tolist()


def test_numbers_in_place_of_files(post, model, query_files, prepared):
    images = np.stack([prepared(file) for file in query_files])
    status, answer = post(
        "/v1/models/first:predict", {"signature_name": "serving_default_floats", "instances": images.tolist()}
    )
    expected = model.ask("serving_default", {"images": query_files})["probabilities"]
    assert status == 200
    np.testing.assert_allclose([row["probabilities"] for row in answer["predictions"]], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("instances", "says"), [([{"b64": "anVuaw=="}], "JPEG or PNG"), ([{"b64": ""}], "JPEG or PNG")]
)
def test_bad_requests_are_answered_and_do_no_harm(post, query_files, instances, says):
    status, answer = post("/v1/models/first:predict", {"instances": instances})
    assert status == 400
    assert says in answer["error"]
    assert post("/v1/models/first:predict", {"instances": [b64(query_files[0])]})[0] == 200


@pytest.mark.slow
def test_saved_model_cli(folder, model, query_files, prepared, tmp_path):
    images = np.stack([prepared(file) for file in query_files]).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    program = (
        "import sys; sys.argv[0] = 'saved_model_cli'; "
        "from tensorflow.python.tools.saved_model_cli import main; sys.exit(main())"
    )
    environment = {
        **{key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [
        sys.executable,
        "-I",
        "-c",
        program,
        "run",
        "--dir",
        folder / "1",
        "--tag_set",
        "serve",
        "--signature_def",
        "serving_default_floats",
        "--inputs",
        f"images={tmp_path / 'images.npy'}",
        "--outdir",
        tmp_path,
    ]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = model.ask("serving_default", {"images": query_files})["probabilities"]
    np.testing.assert_allclose(np.load(tmp_path / "probabilities.npy"), expected, atol=1e-5)
