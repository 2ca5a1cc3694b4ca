"""The commands' work by `import egt_tf`, with the same results."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import egt_tf
from egt_tf.errors import DataError, ExplainError, RunError

# As the README has it, with the names of its files.
README = """
import egt_tf
model = egt_tf.load_model("runs/first")
support = egt_tf.load_support("runs/first/support", model.image_size)
explanation = egt_tf.explain_image(model, support, "photo.png")
egt_tf.save_figure(explanation, "explanation.png")
short = egt_tf.open_explainer("runs/first").explain("photo.png")
"""


@pytest.fixture
def first(egt, run, query):
    """A run runs/first and an image photo.png in the current folder of `egt`."""
    shutil.copy(query, "photo.png")
    return run.rename(run.with_name("first"))


@pytest.fixture
def written(egt, first):
    """What `egt-tf explain` writes for the image."""
    assert egt("explain", "photo.png", "--out", "figure.png").exit_code == 0
    return np.load("figure.npy"), np.load("figure.support.npy"), json.loads(Path("figure.json").read_text())


def expect_equal(explanation, written):
    relevance, support_relevance, numbers = written
    np.testing.assert_array_equal(explanation.query_relevance, relevance)
    np.testing.assert_array_equal(explanation.support_relevance, support_relevance)
    assert list(explanation.class_names) == numbers["class_names"]
    assert explanation.image_name == numbers["image"] == "photo.png"


def test_an_image_is_explained_in_five_lines_or_in_one(written):
    names: dict = {}
    exec(README, names)
    expect_equal(names["explanation"], written)
    expect_equal(names["short"], written)
    assert Path("explanation.png").read_bytes().startswith(b"\x89PNG")
    np.testing.assert_array_equal(np.load("explanation.npy"), written[0])


@pytest.mark.slow
def test_explainers_of_a_run_and_of_its_exported_model_are_asked_alike(written, first):
    version = egt_tf.export_model("runs/first", "models/first")
    assert version == Path("models/first/1")
    explainers = [egt_tf.open_explainer(path) for path in ("runs/first", "models/first", version)]
    assert [each.description for each in explainers] == [
        "the run runs/first",
        "the model models/first/1",
        "the model models/first/1",
    ]
    pixels = egt_tf.load_image("photo.png", 32)
    for explainer in explainers:
        assert explainer.image_size == 32
        assert (explainer.support.ways, explainer.support.shots) == (3, 2)
        np.testing.assert_allclose(explainer.explain("photo.png").query_relevance, written[0], rtol=1e-5, atol=1e-5)
        by_pixels = explainer.explain(pixels, first / "support", target="all", method="fsc", image_name="photo.png")
        assert len(by_pixels.explained) == 3
        with pytest.raises(DataError, match="load_image"):
            explainer.explain(pixels.astype(np.float32))
    assert explainers[0].explain("photo.png", method="gradient").method_name == "gradient"
    with pytest.raises(ExplainError, match=r"the method in its graph, 'fsc'. Received: 'gradient'"):
        explainers[1].explain("photo.png", method="gradient")


def test_a_folding_method_folds_once(first, monkeypatch):
    from egt_tf.explain import methods

    folded, fold = [], methods.fold_batch_norm
    monkeypatch.setattr(methods, "fold_batch_norm", lambda model: folded.append(1) or fold(model))
    explainer = egt_tf.open_explainer("runs/first")
    for method in ("epsilon_plus", "epsilon", "fsc"):
        explainer.explain("photo.png", method=method)
    assert folded == [1]


def test_what_cannot_be_opened(egt, first, tmp_path):
    with pytest.raises(RunError, match=r"nowhere must be a run folder or an exported model. Received: no such folder"):
        egt_tf.open_explainer("nowhere")
    with pytest.raises(RunError, match=r"without config.yaml or saved_model.pb"):
        egt_tf.open_explainer(tmp_path)
    with pytest.raises(RunError, match="no such folder"):
        egt_tf.load_model("nowhere")
    shutil.rmtree(first / "support")
    with pytest.raises(ExplainError, match="the run runs/first has no stored support set; give one: --support FOLDER"):
        egt_tf.open_explainer("runs/first").explain("photo.png")


@pytest.mark.slow
def test_training_and_measuring(egt, tiny, tmp_path):
    config = egt_tf.load_config(tiny)
    run = egt_tf.RunFolder(Path("runs/trained"))
    egt_tf.train(config, run)
    images = egt_tf.open_source("synthetic:sketch").split("novel")
    accuracy = egt_tf.evaluate(egt_tf.load_model(run.path), images, config.episode, 2, 0)
    assert accuracy.episodes.shape == (2,)
