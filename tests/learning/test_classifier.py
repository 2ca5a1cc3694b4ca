"""The classifier: against its head's own scores, after changes, and read back from its files."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from egt_tf.errors import ConfigError, DataError, ExplainError, ExportError, RunError
from egt_tf.heads import HEADS
from egt_tf.learning import FewShotClassifier
from egt_tf.learning.embedding import Embedding
from egt_tf.serving import ExportedExplainer, ExportedModel
from egt_tf.serving.learned import LEARNED, LEARNED_ARRAYS
from tests.helpers.learnt_models import COUNTS, SIZE, SPEC, labelled, learnt, learnt_model, photos_of, write_quickly

QUERIES = [photo for k in range(3) for photo in photos_of(7 * k, 2, first=20)]


@pytest.fixture(scope="module")
def classifier() -> FewShotClassifier:
    """Not to be changed."""
    return learnt(head="cosine")


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """Not to be written to."""
    return learnt_model(tmp_path_factory)


@pytest.fixture(scope="module")
def model(saved):
    """What is in `saved`, loaded."""
    return ExportedModel(saved)


@pytest.fixture
def quick(monkeypatch):
    """Models are written with one signature."""
    write_quickly(monkeypatch)


# The others are compared in closed form.
@pytest.mark.parametrize(
    "head", ["ridge", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cosine", "prototype"))]
)
def test_probabilities_are_those_of_the_head(head):
    """All photos count, though classes have different numbers of them."""
    found = learnt(head=head)
    photos, names = labelled()
    support = Embedding(SPEC, SIZE, "epsilon_plus").features(np.stack(photos))
    labels = np.eye(3, dtype=np.float32)[[list(COUNTS).index(name) for name in names]]
    query = Embedding(SPEC, SIZE, "epsilon_plus").features(np.stack(QUERIES))
    own = HEADS.get(found.fit_.head_spec, feature_shape=(1, 1, 4))
    scores = own([support[None, :, None, None], labels[None], query[None, :, None, None]])
    np.testing.assert_allclose(found.predict_proba(QUERIES), own.probabilities(scores)[0], atol=1e-4)
    assert found.counts_ == (4, 2, 7)


def test_the_manner_of_scikit_learn(classifier):
    shares = classifier.predict_proba(QUERIES)
    assert classifier.classes_.tolist() == ["ant", "bee", "cow"]
    assert classifier.predict(QUERIES).tolist() == classifier.classes_[shares.argmax(axis=1)].tolist()
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    assert classifier.predict_proba([]).shape == (0, 3)
    known = classifier.known_scores(QUERIES) >= classifier.fit_.threshold.value
    assert classifier.known(QUERIES).tolist() == known.tolist()
    truth = ["ant", "ant", "bee", "bee", "cow", "cow"]
    assert classifier.score(QUERIES, truth) == np.mean(classifier.predict(QUERIES) == np.array(truth))
    twin = FewShotClassifier(**classifier.get_params())
    assert twin.set_params(head="ridge").get_params()["head"] == "ridge"
    with pytest.raises(DataError, match="did you mean 'head'"):
        twin.set_params(haed="ridge")
    with pytest.raises(RunError, match="must be fitted before"):
        twin.predict(QUERIES)


def test_one_photo_a_class_names_a_class_always():
    found = FewShotClassifier(SPEC, image_size=SIZE).fit([*photos_of(0, 1), *photos_of(7, 1)], ["ant", "bee"])
    assert found.fit_.threshold is None
    assert found.known(QUERIES).all()
    assert set(found.predict(QUERIES)) <= {"ant", "bee"}


def test_adding_is_learning_all_together(classifier):
    """The order in which photos came makes no difference."""
    photos, names = labelled()
    grown = (
        FewShotClassifier(SPEC, head="cosine", image_size=SIZE).fit(photos[:9], names[:9]).add(photos[9:], names[9:])
    )
    assert grown.counts_ == classifier.counts_
    np.testing.assert_allclose(grown.predict_proba(QUERIES), classifier.predict_proba(QUERIES), atol=1e-5)
    assert grown.fit_.threshold.value == pytest.approx(classifier.fit_.threshold.value, abs=1e-6)
    with pytest.raises(DataError, match=r"can be read and is new. Received: none \(.*the same photo as"):
        grown.add(photos[:2], names[:2])
    grown.add([*photos[:1], *photos_of(30, 2)], [names[0], "dog", "dog"])
    assert grown.counts_ == (4, 2, 7, 2)
    assert len(grown.left_out_) == 1


def test_removing_and_renaming():
    found = learnt().rename("bee", "wasp")
    assert found.classes_.tolist() == ["ant", "cow", "wasp"]
    assert found.counts_ == (4, 7, 2)
    assert found.photo_names_[-1].startswith("wasp/")
    found.remove("cow")
    photos, names = labelled()
    rest = [index for index, name in enumerate(names) if name != "cow"]
    twin = FewShotClassifier(SPEC, image_size=SIZE).fit([photos[i] for i in rest], [names[i] for i in rest])
    np.testing.assert_allclose(found.predict_proba(QUERIES), twin.predict_proba(QUERIES), atol=1e-5)
    for change, words in (
        (lambda: found.remove("wsp"), "did you mean 'wasp'"),
        (lambda: found.remove("ant"), "two classes must stay"),
        (lambda: found.rename("ant", "wasp"), "that no class has. Received: 'wasp'"),
        (lambda: found.rename("ant", "a\nb"), "one line"),
        (lambda: found.rename("cow", "x"), "must be one of ant, wasp"),
    ):
        with pytest.raises(DataError, match=words):
            change()
    assert found.classes_.tolist() == ["ant", "wasp"]


def test_what_is_refused():
    photos, names = labelled()
    with pytest.raises(DataError, match=r"at least two classes. Received: ant"):
        FewShotClassifier(SPEC, image_size=SIZE).fit(photos[:2], ["ant", "ant"])
    with pytest.raises(DataError, match="needs `labels`"):
        FewShotClassifier(SPEC, image_size=SIZE).fit(photos)
    with pytest.raises(ConfigError, match="unknown backbone 'conv5'"):
        FewShotClassifier("conv5", image_size=SIZE).fit(photos, names)
    with pytest.raises(ConfigError, match="`head` must be auto"):
        FewShotClassifier(SPEC, head="relation", image_size=SIZE).fit(photos, names)


# === Explanations ===


def test_an_explanation_is_that_of_the_whole_model(classifier):
    """By the features of the photos, and photo by photo, against all images through the network at once."""
    found = classifier.explain(QUERIES[0])
    whole = classifier.explain(QUERIES[0], method="epsilon_plus")
    assert found.explained == whole.explained
    assert found.support_sizes == (4, 2, 5)
    np.testing.assert_allclose(found.probabilities, whole.probabilities, atol=1e-5)
    np.testing.assert_allclose(found.query_relevance, whole.query_relevance, atol=1e-4)
    by_pixels = {photo.tobytes(): (k, s) for k in range(3) for s, photo in enumerate(whole.support_images[k])}
    for k, size in enumerate(found.support_sizes):
        for shot in range(size):
            place = by_pixels[found.support_images[k, shot].tobytes()]
            expected = whole.support_relevance[(slice(None), *place)]
            np.testing.assert_allclose(found.support_relevance[:, k, shot], expected, atol=1e-4)
    assert np.abs(found.support_relevance).max() > 0
    # What is shown of a class counted more than what is not.
    shown, all_sums = np.abs(found.support_sums).max(axis=0)[2], np.abs(whole.support_sums).max(axis=0)[2]
    assert np.sort(shown)[0] >= np.sort(all_sums)[-5] - 1e-4


def test_other_ways_to_explain(classifier):
    margin = classifier.explain(QUERIES[0], start="margin", target="cow")
    assert margin.class_names[margin.explained[0]] == "cow"
    with pytest.raises(ExplainError, match="the target must be"):
        classifier.explain(QUERIES[0], target="dog")


# === Files ===


def test_the_saved_model_says_the_same(classifier, model):
    answer = model.ask("serving_default_floats", {"images": np.stack(QUERIES).astype(np.float32)})
    np.testing.assert_allclose(answer["probabilities"], classifier.predict_proba(QUERIES), atol=1e-5)
    np.testing.assert_allclose(answer["known_score"], classifier.known_scores(QUERIES), atol=1e-5)
    assert answer["known"].tolist() == classifier.known(QUERIES).tolist()
    assert [name.decode() for name in answer["top_class"]] == classifier.predict(QUERIES).tolist()


def test_the_saved_model_explains_the_same(classifier, model):
    explainer = ExportedExplainer(model)
    assert explainer.support.sizes == (4, 2, 7)
    found, expected = explainer.explain(QUERIES[2]), classifier.explain(QUERIES[2])
    assert found.support_sizes == expected.support_sizes
    np.testing.assert_array_equal(found.support_images, expected.support_images)
    np.testing.assert_allclose(found.query_relevance, expected.query_relevance, atol=1e-5)
    np.testing.assert_allclose(found.support_relevance, expected.support_relevance, atol=1e-5)


def test_classes_can_be_added_by_request(model):
    """As with any exported model: the prototypes of a request."""
    images = np.stack([*photos_of(30, 1), *photos_of(40, 2)]).astype(np.float32)
    made = model.ask("prototypes_floats", {"support_images": images, "support_labels": [0, 1, 1]})["prototypes"]
    inputs = {"prototypes": made, "query_images": images}
    assert model.ask("classify_with_prototypes_floats", inputs)["probabilities"].shape == (3, 2)


def test_a_photo_that_is_not_stored_cannot_be_explained(model):
    images = np.stack(QUERIES[:1]).astype(np.float32)
    inputs = {"images": images, "targets": [0], "photos": images, "positions": [13]}
    with pytest.raises(ExportError, match=r"must be that of a stored photo. Received: 13 for 13 photos"):
        model.ask("explain_photos_floats", inputs)


def test_what_is_written_is_read_back(classifier, saved):
    found = FewShotClassifier.load(saved)
    np.testing.assert_array_equal(found.predict_proba(QUERIES), classifier.predict_proba(QUERIES))
    assert found.fit_ == classifier.fit_
    assert found.photo_names_ == classifier.photo_names_
    np.testing.assert_array_equal(found.support.images, classifier.support.images)
    assert found.get_params() == classifier.get_params()


def test_the_weights_are_those_of_the_file(quick, tmp_path):
    """Not those that the embedding would be made with: a package of weights may change, or be gone."""
    found = FewShotClassifier(SPEC, image_size=SIZE)
    found.fit(*labelled())
    for variable in found._embedding.backbone.variables:
        variable.assign(1.5 * variable)
    found.fit_features = found._embedding.features(np.stack(QUERIES))
    found.save(tmp_path / "m")
    read = FewShotClassifier.load(tmp_path / "m")
    np.testing.assert_array_equal(read._embedding.features(np.stack(QUERIES)), found.fit_features)


def test_without_photos(classifier, quick, tmp_path):
    version = classifier.save(tmp_path / "m", photos=False)
    with np.load(version / LEARNED_ARRAYS) as arrays:
        assert arrays.files == ["features"]
    assert "photos inside | no" in (version / "README.md").read_text()
    assert json.loads((version / LEARNED).read_text())["photos"][:2] == ["ant/1", "ant/2"]
    found = FewShotClassifier.load(version)
    np.testing.assert_array_equal(found.predict_proba(QUERIES), classifier.predict_proba(QUERIES))
    explanation = found.explain(QUERIES[0])
    assert explanation.support_sizes == (0, 0, 0)
    np.testing.assert_allclose(explanation.query_relevance, classifier.explain(QUERIES[0]).query_relevance, atol=1e-5)
    with pytest.raises(DataError, match="without photos explains by its own composite only"):
        found.explain(QUERIES[0], method="gradient")
    found.add(photos_of(30, 2), ["dog", "dog"])
    assert not found.has_photos
    assert found.counts_ == (4, 2, 7, 2)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (LEARNED, b"{"),
        (LEARNED, b"[1]"),
        (LEARNED, b'{"format": 2}'),
        (LEARNED_ARRAYS, b"no archive"),
        (LEARNED_ARRAYS, None),
        ("variables/variables.index", None),
    ],
)
def test_a_damaged_model(saved, tmp_path, name, content):
    version = shutil.copytree(saved / "1", tmp_path / "1")
    (version / name).unlink()
    if content is not None:
        (version / name).write_bytes(content)
    with pytest.raises(ExportError, match="damaged"):
        FewShotClassifier.load(version)


def test_labels_and_photos_that_do_not_fit_together(saved, tmp_path):
    version = shutil.copytree(saved / "1", tmp_path / "1")
    text = json.loads((version / LEARNED).read_text())
    for key, value in (("labels", text["labels"][::-1]), ("classes", ["ant"]), ("labels", text["labels"][:-1])):
        (version / LEARNED).write_text(json.dumps({**text, key: value}))
        with pytest.raises(ExportError):
            FewShotClassifier.load(version)
    with pytest.raises(ExportError, match=r"must be a model of `egt-tf learn`. Received: no"):
        (version / LEARNED).unlink()
        FewShotClassifier.load(version)
