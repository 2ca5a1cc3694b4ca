"""LiteRT files answer as the SavedModel that they are written with, by built-in operations only."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.data import synthetic
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ExportError
from egt_tf.export import lite
from egt_tf.export.lite import LiteModel, lite_files
from egt_tf.export.saved_model import ServableModel, make_servable, servable, write_version
from egt_tf.export.signatures import KnownRule, StoredSupport
from egt_tf.keras_api import keras
from egt_tf.registry import serializable
from egt_tf.serving.exported_model import ExportedModel

SIZE = 32


def classifier(model: EpisodicModel, support) -> ServableModel:
    """A model that is ready to be written."""
    return classifier_of(make_servable(model, support, "epsilon_plus"))


def classifier_of(ready: ServableModel) -> ServableModel:
    """The one signature that is compared; the others take longer to write."""
    return dataclasses.replace(ready, signatures={"serving_default_floats": ready.signatures["serving_default_floats"]})


@pytest.fixture(scope="module")
def ridge(build, support):
    return classifier(build("ridge"), support)


@pytest.fixture(scope="module")
def files(ridge):
    return lite_files(ridge)


def check_200_images(ready: ServableModel, files: dict[str, bytes], folder, delegates: bool) -> None:
    """Compares a file with the SavedModel that it lies in, on drawn images of all classes of a domain."""
    version = write_version(ready, folder, files=files)
    assert (version / "labels.txt").read_text().split() == ["ant", "bee", "cow"]
    images = [synthetic.draw("shapes", index % 80, index // 80, size=SIZE)[0] for index in range(200)]
    images = np.stack(images).astype(np.float32)
    expected = ExportedModel(version).ask("serving_default_floats", {"images": images})["probabilities"]
    of_file = LiteModel((version / "model.tflite").read_bytes(), delegates)
    np.testing.assert_allclose([of_file.ask(image)["probabilities"] for image in images], expected, atol=1e-5)
    # The images are told apart.
    assert np.ptp(expected, axis=0).max() > 0.01


def test_answers_on_200_images_are_those_of_the_saved_model(ridge, files, tmp_path):
    check_200_images(ridge, files, tmp_path / "model", delegates=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "head", ["prototype", "cosine", "cross_attention", "relation", {"name": "graph", "ways": 3}], ids=str
)
def test_other_heads(head, build, support, tmp_path):
    ready = classifier(build(head), support)
    check_200_images(ready, lite_files(ready), tmp_path / "model", delegates=True)


@pytest.mark.slow
def test_an_embedding_of_photographs(support, tmp_path):
    """Means of the map, their roots, and a ridge head; by the kernels that applications run."""
    backbone = {"name": "efficientnet_lite0", "weights": "none", "output": "pooled", "power": 0.5}
    ready = classifier(EpisodicModel.build_from(backbone, {"name": "ridge", "penalty": 0.1}, SIZE, seed=0), support)
    check_200_images(ready, lite_files(ready), tmp_path / "model", delegates=True)


def test_what_an_application_must_know(files):
    facts = json.loads(files["model.json"])
    assert facts["input"]["shape"] == [1, SIZE, SIZE, 3]
    assert (facts["resize_to"], facts["then_crop_the_centre"]) == ([36, 36], [SIZE, SIZE])
    assert facts["outputs"]["probabilities"] == {"type": "float32", "shape": [1, 3]}
    interpreter = tf.lite.Interpreter(model_content=files["model.tflite"])
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["image"], "outputs": sorted(facts["outputs"])}
    }


def test_what_tells_images_of_the_classes_from_others(ridge):
    """Whatever `serving_default` answers in numbers, the file answers too."""

    def score(query: tf.Tensor, support: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        return tf.reduce_max(tf.einsum("qhwc,shwc->qs", query, support), axis=-1)

    stored = ridge.support
    known = StoredSupport(stored.features, stored.labels, stored.class_names, KnownRule(score, 1.0))
    ready = classifier_of(servable(ridge.model, known))
    files = lite_files(ready)
    assert set(json.loads(files["model.json"])["outputs"]) == {"known", "known_score", "probabilities"}
    image = synthetic.draw("shapes", 3, 0, size=SIZE)[0].astype(np.float32)
    answer = LiteModel(files["model.tflite"]).ask(image)
    expected = ready.signatures["serving_default_floats"].concrete(tf.constant(image[None]))
    np.testing.assert_allclose(answer["known_score"], expected["known_score"][0], rtol=1e-5)
    assert answer["known"] == (answer["known_score"] >= 1.0)


def test_models_that_have_none(build, ridge):
    with pytest.raises(ExportError, match=r"a stored support set. Received: none; give one by --support"):
        lite_files(dataclasses.replace(ridge, support=None))
    with pytest.raises(ExportError, match=r"Received: a portable model"):
        lite_files(dataclasses.replace(ridge, signatures={"serving_default": None}))


@serializable
class IncompleteGamma(keras.layers.Layer):
    """An operation that LiteRT does not have built in."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.math.igamma(tf.ones_like(inputs), tf.abs(inputs))


def test_operations_that_are_not_built_in_are_named(build, support):
    model = build("cosine")
    images = keras.Input((SIZE, SIZE, 3))
    strange = EpisodicModel(keras.Model(images, IncompleteGamma()(model.backbone(images))), model.head)
    with pytest.raises(ExportError) as caught:
        lite_files(classifier(strange, support))
    assert "Received: Igamma in the head CosineHead or the backbone" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_answers_otherwise_is_not_written(build, support, files, monkeypatch):
    monkeypatch.setattr(lite, "_converted", lambda *_: files["model.tflite"])
    with pytest.raises(ExportError, match=r"within 0.001 of the model's. Received: a difference of 0\.\d"):
        lite_files(classifier(build("prototype"), support))
