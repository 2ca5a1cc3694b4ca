"""Exported models, loaded where this package is not installed, answer as the model does in this process."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from egt_tf.explain.methods import get_method
from egt_tf.explain.query import query_inputs, relevance_of_query
from egt_tf.export.saved_model import make_servable, write_version
from egt_tf.figures.colormap import overlay
from egt_tf.figures.explanation import display_maps

ASK = """
    model = tf.saved_model.load(sys.argv[2])
    files = np.load(sys.argv[3], allow_pickle=False)
    strings = lambda name: tf.constant([files[key].tobytes() for key in files.files if key.startswith(name)])
    query, support, labels = strings("query"), strings("support"), tf.constant(files["labels"])
    targets = tf.constant([-1, 2, 0], tf.int64)
    asked = {"serving_default": {"images": query}, "explain": {"images": query, "targets": targets},
             "embed": {"images": query},
             "classify_episode": {"support_images": support, "support_labels": labels, "query_images": query},
             "explain_episode": {"support_images": support, "support_labels": labels, "query_images": query,
                                 "targets": targets}}
    out = {}
    for name, inputs in asked.items():
        for key, value in model.signatures[name](**inputs).items():
            value = value.numpy()
            out[f"{name}.{key}"] = np.frombuffer(value[0], np.uint8) if key == "overlay_bytes" else value
    out = {key: value.astype("U") if value.dtype == object else value for key, value in out.items()}
"""
HEADS = [
    "relation",
    *(
        pytest.param(head, marks=pytest.mark.slow)
        for head in (
            {"name": "relation", "batch_statistics": False},
            {"name": "graph", "ways": 3},
            "cross_attention",
            "prototype",
        )
    ),
]


@pytest.fixture
def requests(tmp_path, query_files, support_files):
    """The images of a request as a file."""
    arrays = {
        f"{part}{index}": np.frombuffer(file, np.uint8)
        for part, files in (("query", query_files), ("support", support_files))
        for index, file in enumerate(files)
    }
    np.savez(tmp_path / "files.npz", labels=np.array([0, 0, 1, 1, 2, 2]), **arrays)
    return tmp_path / "files.npz"


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_answers_alone_are_those_of_the_model(
    head, build, support, query_files, requests, prepared, served_alone, relation, folder, tmp_path
):
    if head == "relation":
        model, folder = relation, folder / "1"
    else:
        model = build(head)
        folder = write_version(make_servable(model, support), tmp_path / "models" / "m")
    out = served_alone(ASK, folder, requests)
    method = get_method("fsc")
    targets = [-1, 2, 0]
    for index, file in enumerate(query_files):
        image = prepared(file)
        inputs = query_inputs(model, support, image)
        scores = model(dict(zip(model.input_names, inputs)), training=False)
        probabilities = model.head.probabilities(scores)[0, 0].numpy()
        for name in ("serving_default", "explain", "classify_episode", "explain_episode"):
            np.testing.assert_allclose(out[f"{name}.probabilities"][index], probabilities, atol=1e-5)
        top = int(np.argmax(probabilities))
        assert out["serving_default.top_class"][index] == support.class_names[top]
        assert out["classify_episode.predicted"][index] == top
        assert tuple(out["serving_default.class_names"][index]) == support.class_names
        target = top if targets[index] == -1 else targets[index]
        assert out["explain.explained_class"][index] == support.class_names[target]
        expected = relevance_of_query(model, support, inputs, [target], method)
        for name in ("explain.relevance", "explain_episode.relevance"):
            close(out[name][index], expected.query[0].sum(-1))
        close(
            out["explain_episode.support_relevance"][index], expected.support[0].sum(-1).reshape(-1, *image.shape[:2])
        )
        if index == 0:
            check_picture(out["explain.overlay_bytes"], image, expected.query[0].sum(-1))


def close(actual, expected):
    """Equal to 1e-5; where a probability is at chance the whole map is small, and equal to a share of its maximum."""
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=min(1e-5, 1e-3 * np.abs(expected).max()))


def check_picture(encoded, image, relevance):
    drawn = np.asarray(Image.open(io.BytesIO(encoded.tobytes())), int)
    expected = overlay(image, display_maps(relevance[None])[0]).astype(int)
    assert np.abs(drawn - expected).max() <= 1
