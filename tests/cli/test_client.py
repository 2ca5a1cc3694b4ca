"""`egt-tf client` gives what `egt-tf predict` and the exported model give, and fails by one line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from egt_tf.serving.exported_model import ExportedModel


@pytest.fixture(scope="module")
def url(serve, exported):
    return serve(exported)


@pytest.fixture(scope="module")
def queries(trained):
    return sorted((trained / "queries").glob("*.png"))[:2]


@pytest.mark.slow
def test_as_predict(egt, exported, url, queries):
    result = egt("client", "--url", url, "--model", "tiny", *queries)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == egt("predict", *queries, "--model", exported).stdout


def test_explain_writes_the_overlay_of_the_server(egt, exported, url, queries, tmp_path):
    result = egt("client", "--url", url, "--model", "tiny", "--explain", *queries, queries[0])
    assert result.exit_code == 0, result.output
    expected = ExportedModel(exported).ask(
        "explain", {"images": [q.read_bytes() for q in queries], "targets": [-1, -1]}
    )["overlay_bytes"]
    names = [f"{queries[0].stem}-overlay.png", f"{queries[1].stem}-overlay.png", f"{queries[0].stem}-overlay-2.png"]
    assert [line.split("overlay: ")[1] for line in result.stdout.splitlines()] == names
    assert [(tmp_path / name).read_bytes() for name in names] == [*expected, expected[0]]
    assert len(list(tmp_path.iterdir())) == 3


def test_a_support_set_and_json(egt, trained, url, queries):
    command = ("client", "--url", url, "--model", "tiny", queries[0], "--json")
    stored, brought = (egt(*command, *more) for more in ((), ("--support", trained / "support")))
    assert (stored.exit_code, brought.exit_code) == (0, 0), brought.output
    first, second = json.loads(stored.stdout), json.loads(brought.stdout)
    assert first["image"] == str(queries[0])
    assert first["class"] == second["class"]
    assert list(first["probabilities"]) == sorted(p.name for p in (trained / "support").iterdir())
    for name, probability in first["probabilities"].items():
        np.testing.assert_allclose(second["probabilities"][name], probability, atol=1e-5)
    words = egt("client", "--url", url, "--model", "tiny", queries[0], "--support", trained / "support").stdout
    assert words.startswith(f"using the support set {trained / 'support'}: 3 classes, 2 images each\n")


def test_one_line_says_what_is_wrong(fails, url, queries, tmp_path):
    at = ("client", "--url", url, "--model")
    fails(*at, "nobody", queries[0], says=["'nobody'", "Servable not found"])
    fails(*at, "tiny", queries[0], "--version", 9, says=["version 9"])
    fails(*at, "tiny", queries[0], "nowhere.png", says=["nowhere.png"])
    fails(*at, "tiny", queries[0], "--support", "nowhere", says=["nowhere"])
    fails("client", "--model", "tiny", queries[0], "--url", "localhost:8501", says=["http://HOST:PORT"])
    fails("client", "--model", "tiny", queries[0], "--url", "http://127.0.0.1:1", says=["Connection refused"])
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    fails(*at, "tiny", "bad.jpg", says=["bad.jpg", "400 Bad Request", "Invalid JPEG"])
    fails(*at, "tiny", "bad.jpg", "--explain", says=["bad.jpg", "Invalid JPEG"])
