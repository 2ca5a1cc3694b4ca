"""The client against the stub of TensorFlow Serving with real exported models, and against servers that misbehave."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from egt_tf.errors import DataError, RequestRefusedError, ServerError
from egt_tf.export.saved_model import make_servable, write_version
from egt_tf.serving.client import ModelServer, RemoteClassifier, b64, read_support_files
from egt_tf.serving.exported_model import ExportedModel

ASKED = {"serving_default", "explain", "classify_episode", "explain_episode"}


def write_support(folder: Path, files: list[bytes]) -> Path:
    """The images of the stored support set, one sub-folder a class."""
    for index, file in enumerate(files):
        path = folder / ("ant", "bee", "cow")[index // 2] / f"{index % 2 + 1}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(file)
    return folder


@pytest.fixture(scope="module")
def bare(build, tmp_path_factory):
    """An exported model without a stored support set."""
    ready = make_servable(build("relation"), None)
    # The client asks no others, and writing them takes long.
    asked = {key: ready.signatures[key] for key in ASKED & set(ready.signatures)}
    folder = tmp_path_factory.mktemp("models") / "bare"
    write_version(dataclasses.replace(ready, signatures=asked), folder)
    return folder


@pytest.fixture(scope="module")
def url(serve, folder, bare):
    """A server of "first", a model with a stored support set, and of "bare"."""
    return serve(folder, bare)


@pytest.fixture(scope="module")
def brought(support_files, tmp_path_factory):
    return write_support(tmp_path_factory.mktemp("support"), support_files)


def test_the_stored_support_set(url, model, query_files):
    classifier = RemoteClassifier(ModelServer(url, "first"))
    expected = model.ask("serving_default", {"images": query_files})
    for index, file in enumerate(query_files):
        answer = classifier.classify(file)
        assert answer.class_names == ("ant", "bee", "cow")
        np.testing.assert_allclose(answer.probabilities, expected["probabilities"][index], atol=1e-5)
        assert answer.class_names[answer.predicted] == expected["top_class"][index].decode()


def test_an_explanation(url, model, query_files):
    answer = RemoteClassifier(ModelServer(url + "/", "first", version=1)).explain(query_files[1])
    expected = model.ask("explain", {"images": query_files[1:2], "targets": [-1]})
    assert answer.overlay == expected["overlay_bytes"][0]
    np.testing.assert_allclose(answer.probabilities, expected["probabilities"][0], atol=1e-5)


@pytest.mark.parametrize("name", ["first", pytest.param("bare", marks=pytest.mark.slow)])
def test_a_support_set_in_the_request(url, folder, bare, brought, query_files, support_files, name):
    classifier = RemoteClassifier(ModelServer(url, name), read_support_files(brought))
    expected = ExportedModel({"first": folder, "bare": bare}[name]).ask(
        "explain_episode",
        {
            "support_images": support_files,
            "support_labels": [0, 0, 1, 1, 2, 2],
            "query_images": query_files[:1],
            "targets": [-1],
        },
    )
    for answer in (classifier.classify(query_files[0]), classifier.explain(query_files[0])):
        assert answer.class_names == ("ant", "bee", "cow")
        np.testing.assert_allclose(answer.probabilities, expected["probabilities"][0], atol=1e-5)
    assert answer.overlay == expected["overlay_bytes"][0]


def test_a_support_folder_is_read_as_for_a_run(brought, support_files, tmp_path):
    found = read_support_files(brought)
    assert (found.class_names, found.shots, found.left_out) == (("ant", "bee", "cow"), 2, 0)
    assert found.files == tuple(support_files)
    uneven = write_support(tmp_path, support_files)
    (uneven / "ant" / "2.png").unlink()
    found = read_support_files(uneven)
    assert (found.files, found.shots, found.left_out) == (tuple(support_files[::2]), 1, 2)
    with pytest.raises(DataError, match="nowhere"):
        read_support_files(tmp_path / "nowhere")


def test_without_a_stored_support_set(url, query_files):
    classifier = RemoteClassifier(ModelServer(url, "bare"))
    for ask in (classifier.classify, classifier.explain):
        with pytest.raises(ServerError, match=r"'bare' at .* has no stored support set; bring one: --support FOLDER"):
            ask(query_files[0])


def test_signatures(url, model):
    server = ModelServer(url, "first")
    assert server.signatures() == model.signatures
    with pytest.raises(ServerError, match=r"must have the signature 'other', .* Received: classify_episode, "):
        server.ask("other", {})


@pytest.mark.parametrize(
    ("name", "version", "says"),
    [
        ("nobody", None, "must have the model 'nobody'. It answers: Servable not found for request: Latest"),
        ("first", 7, "must have the model 'first' in version 7. It answers: Servable not found"),
        ("../first", None, "must have the model '../first'. It answers: Servable not found"),
    ],
)
def test_no_such_model(url, query_files, name, version, says):
    with pytest.raises(ServerError, match=says.replace(".", r"\.").replace("(", r"\(")):
        RemoteClassifier(ModelServer(url, name, version)).classify(query_files[0])


def test_a_refused_request_has_the_words_of_the_graph(url, support_files):
    server = ModelServer(url, "first")
    with pytest.raises(
        RequestRefusedError,
        match=r"\(400 Bad Request\): an image must be the bytes of a JPEG or PNG "
        r"file. Received: 4 bytes of something else$",
    ):
        RemoteClassifier(server).classify(b"junk")
    with pytest.raises(RequestRefusedError, match=r"one label. Received: 1 images and 2 labels$"):
        server.ask(
            "classify_episode",
            {
                "support_images": [b64(support_files[0])],
                "support_labels": [0, 1],
                "query_images": [b64(support_files[0])],
            },
        )


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8501",
        "ftp://localhost",
        "file:///etc/passwd",
        "http://",
        "http://host:port",
        "http://host:99999",
        "http://localhost:8501/v1/models/first",
        "http://localhost:8501?x=1",
        "http://local host:8501",
        "http://[::1",
    ],
)
def test_an_address_that_is_none(url):
    with pytest.raises(ServerError, match="must be http://HOST:PORT"):
        ModelServer(url, "first")


# === Servers that are none ===


@contextlib.contextmanager
def misbehaving(status: int = 200, content: bytes = b"", seconds: float = 0.0, length: int | None = None):
    """The address of a server that answers everything with `content`, after some seconds."""
    go_on = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            go_on.wait(seconds)
            with contextlib.suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Length", str(len(content) if length is None else length))
                self.end_headers()
                self.wfile.write(content)

        do_GET = do_POST

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        go_on.set()
        server.shutdown()
        thread.join()


def overlay(file: bytes) -> bytes:
    return json.dumps(
        {
            "outputs": {
                "probabilities": [[1.0]],
                "class_names": [["ant"]],
                "overlay_bytes": [{"b64": base64.b64encode(file).decode()}],
            }
        }
    ).encode()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"content": b"<html>"}, "must answer with a JSON object, .* Received: 200 OK, 6 bytes of something else"),
        ({"content": b"[1]"}, "must answer with a JSON object"),
        ({"content": b"\xff\xfe{"}, "must answer with a JSON object"),
        ({"content": b"{}"}, "the outputs by name, .* Received: nothing"),
        ({"content": b'{"outputs": [[1.0]]}'}, "the outputs by name, .* Received: outputs"),
        ({"content": b'{"outputs": {"y": [1]}}'}, "a probability for each class, .* Received: y"),
        (
            {"content": b'{"outputs": {"probabilities": [[1.0, 0.0]], "class_names": [["ant"]]}}'},
            "a probability for each",
        ),
        ({"content": b'{"outputs": {"probabilities": [[]], "class_names": [[]]}}'}, "a probability for each"),
        ({"content": b'{"outputs": {"probabilities": [["x"]], "class_names": [["ant"]]}}'}, "a probability for each"),
        (
            {"content": b'{"outputs": {"probabilities": [[NaN, 0.5]], "class_names": [["ant", "bee"]]}}'},
            "the probabilities of 'first' at http.* must be finite. Received: nan, 0.5; the weights",
        ),
        (
            {"content": b'{"outputs": {"probabilities": [[Infinity]], "class_names": [["ant"]]}}'},
            "must be finite. Received: inf;",
        ),
        ({"content": overlay(b"GIF89a")}, "a PNG file as overlay_bytes"),
        ({"status": 404, "content": b"<html>"}, "a JSON object, .* Received: 404 Not Found"),
        ({"status": 503, "content": b'{"error": "busy"}'}, r"failed \(503 Service Unavailable\): busy"),
        ({"status": 400, "content": b'{"error": "strange"}'}, r"refuses the request \(400 Bad Request\): strange"),
        ({"content": b"{", "length": 5}, "cannot ask"),
    ],
)
def test_answers_of_another_server(answer, says):
    with misbehaving(**answer) as url, pytest.raises(ServerError, match=says) as found:
        RemoteClassifier(ModelServer(url, "first", timeout=30)).explain(b"")
    assert len(str(found.value).splitlines()) == 1


def test_a_server_that_takes_too_long():
    with misbehaving(content=b"{}", seconds=30) as url, pytest.raises(ServerError, match=r"within 0.2 s; .* --timeout"):
        RemoteClassifier(ModelServer(url, "first", timeout=0.2)).classify(b"")


def test_nobody_there():
    with misbehaving() as url:
        pass
    with pytest.raises(ServerError, match="Connection refused; is TensorFlow Serving"):
        RemoteClassifier(ModelServer(url, "first")).classify(b"")


def test_asking_does_not_import_tensorflow(url, brought, query_files, tmp_path):
    (tmp_path / "query.png").write_bytes(query_files[0])
    code = (
        "import sys\nfrom egt_tf_cli.main import cli\n"
        "try:\n    cli()\nfinally:\n    assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    for more in ([], ["--explain", "--json"], ["--support", str(brought)]):
        command = [sys.executable, "-c", code, "client", "--url", url, "--model", "first", "query.png", *more]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])},
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "query-overlay.png").read_bytes().startswith(b"\x89PNG")
