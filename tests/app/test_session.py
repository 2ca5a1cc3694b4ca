"""What a visitor of the page does, without a page."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from PIL import Image

import egt_tf.app.session as session_module
from egt_tf.app.session import Session
from egt_tf.errors import DataError
from egt_tf.learning import FewShotClassifier
from egt_tf.serving.contract import LITE

SIZE = 16
LEVELS = {"dark": 30, "grey": 120, "light": 220}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with one sub-folder a class: noise around a level of its own."""
    random, folder = np.random.default_rng(1), tmp_path_factory.mktemp("photos")
    for name, level in LEVELS.items():
        (folder / name).mkdir()
        for number in range(3):
            noise = random.integers(-20, 20, (SIZE, SIZE, 3))
            Image.fromarray((level + noise).astype(np.uint8)).save(folder / name / f"{name}-{number}.png")
    return folder


@pytest.fixture(scope="module")
def photos(folder):
    """Class -> its files."""
    return {name: sorted((folder / name).iterdir()) for name in LEVELS}


@pytest.fixture(scope="module")
def start(photos):
    """Knows two of the classes."""
    classifier = FewShotClassifier({"name": "conv4", "width": 4}, image_size=SIZE)
    return classifier.fit([*photos["dark"], *photos["light"]], ["dark"] * 3 + ["light"] * 3)


@pytest.fixture
def taught(start):
    return Session(start)


def small_session() -> Session:
    return Session(FewShotClassifier({"name": "conv4", "width": 4}, image_size=SIZE))


def test_of_many_photos_only_the_models_own_method_is_offered(taught, photos, monkeypatch):
    assert len(taught.methods) == 4
    monkeypatch.setattr(session_module, "MAX_PHOTOS_OF_OTHERS", 8)
    taught.add("grey", photos["grey"])
    assert taught.methods == ("epsilon_plus",)


def test_the_first_class_waits_for_the_second(photos):
    session = small_session()
    session.add("  dark ", photos["dark"])
    assert session.classes == {"dark": 3}
    assert not session.is_ready
    assert session.report() == []
    session.show(photos["light"][0])
    with pytest.raises(DataError, match=r"takes two classes. Received: dark"):
        session.answer()
    session.add("light", photos["light"])
    assert session.classes == {"dark": 3, "light": 3}
    assert session.report()[0] == "learnt: 2 classes, 3 photos each, 6 in all"
    assert session.tested is not None
    assert session.tested[1] == 6


def test_an_answer_needs_a_photo(taught):
    with pytest.raises(DataError, match="takes a photo"):
        taught.answer()


@pytest.mark.parametrize("method", [pytest.param("epsilon_plus", marks=pytest.mark.slow), "input_times_gradient"])
def test_a_photo_is_named_and_explained(taught, photos, method):
    taught.show(photos["light"][0])
    answer = taught.answer()
    explanation = taught.explain(method)
    assert answer.known is not None
    assert list(taught.classes)[int(answer.probabilities.argmax())] == "light"
    np.testing.assert_allclose(explanation.probabilities, answer.probabilities, atol=1e-5)
    assert explanation.image_name == "light-0.png"
    assert explanation.method_name == method


def test_photos_are_added_to_a_class_that_is_there_and_keep_their_names(taught, photos):
    taught.add("light", photos["grey"])
    assert taught.classes == {"dark": 3, "light": 6}
    with pytest.raises(DataError, match=r"light-0.png: the same photo as light/light-0.png"):
        taught.add("light", photos["light"])
    assert taught.classes == {"dark": 3, "light": 6}


def test_a_folder_brings_its_classes(folder):
    session = small_session()
    session.add_folder(folder)
    assert session.classes == {name: 3 for name in LEVELS}
    assert [name for _, name in session.examples(2)] == ["dark", "dark", "grey", "grey", "light", "light"]


def test_removal_down_to_nothing_and_back(photos, taught):
    session = taught
    before = [pixels for pixels, name in session.examples(3) if name == "light"]
    session.remove("dark")
    assert session.classes == {"light": 3}
    assert not session.is_ready
    np.testing.assert_array_equal([pixels for pixels, _ in session.examples(3)], before)
    session.add("dark", photos["dark"])
    assert session.is_ready
    session.remove("dark")
    session.remove("light")
    assert session.classes == {}
    with pytest.raises(DataError, match=r"must be one of none. Received: 'light'"):
        session.remove("light")


def test_a_file_that_is_no_image_is_named_and_the_others_are_taken(photos, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    session = small_session()
    session.add("dark", [*photos["dark"], bad])
    assert session.classes == {"dark": 3}
    assert "dark/bad.jpg: cannot read image" in session.left_out[0]
    with pytest.raises(DataError, match="none in 'light'"):
        session.add("light", [bad])
    assert session.classes == {"dark": 3}
    with pytest.raises(DataError, match="cannot read image"):
        session.show(bad)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "must have a name of at most 60 characters. Received: ''"),
        ("x" * 61, "must have a name of at most 60"),
        ("Dark", "must not have the same name. Received: 'Dark' beside 'dark'"),
    ],
)
def test_names_that_are_refused(taught, photos, name, message):
    with pytest.raises(DataError, match=message):
        taught.add(name, photos["grey"])
    assert taught.classes == {"dark": 3, "light": 3}


def test_a_class_without_a_photo_is_refused(taught):
    with pytest.raises(DataError, match=r"must have a photo. Received: none for 'grey'"):
        taught.add("grey", [])


def test_too_many_photos_are_refused(taught, photos, monkeypatch):
    monkeypatch.setattr(session_module, "MAX_PHOTOS", 8)
    with pytest.raises(DataError, match=r"there may be 8 photos in all. Received: 6 and 3 more"):
        taught.add("grey", photos["grey"])


def test_two_visitors_start_from_one_model_and_do_not_see_each_other(start, photos):
    one, other = Session(start), Session(start)
    one.add("grey", photos["grey"])
    other.remove("dark")
    assert one.classes == {"dark": 3, "grey": 3, "light": 3}
    assert other.classes == {"light": 3}
    assert start.classes_.tolist() == ["dark", "light"]


@pytest.mark.slow
def test_a_model_without_photos_explains_by_its_own_method_only(start, tmp_path):
    start.save(tmp_path / "model", photos=False)
    session = Session(FewShotClassifier.load(tmp_path / "model"))
    assert session.methods == ("epsilon_plus",)
    assert session.examples(3) == []
    with pytest.raises(DataError, match="two classes must stay"):
        session.remove("dark")


@pytest.mark.slow
def test_the_zip_file_holds_a_model_that_can_be_loaded(taught, photos, tmp_path):
    path = taught.write(tmp_path, "two-levels", "saved_model")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "there")
    loaded = FewShotClassifier.load(tmp_path / "there" / "two-levels")
    assert path.name == "two-levels.zip"
    assert loaded.predict(photos["dark"]).tolist() == ["dark"] * 3
    assert loaded.has_photos


@pytest.mark.slow
def test_the_zip_file_for_telephones(taught, tmp_path):
    path = taught.write(tmp_path, "two-levels", "lite")
    with zipfile.ZipFile(path) as archive:
        assert set(archive.namelist()) == {LITE, "labels.txt", "model.json"}
        assert archive.read("labels.txt") == b"dark\nlight\n"


@pytest.mark.parametrize("name", ["", "../up", "a b", "x" * 41])
def test_a_name_that_is_no_file_is_refused(taught, tmp_path, name):
    with pytest.raises(DataError, match="the name of a model must be"):
        taught.write(tmp_path, name, "saved_model")
    assert not (tmp_path / "up.zip").exists()


def test_there_is_nothing_to_write_of_one_class(photos, tmp_path):
    session = small_session()
    session.add("dark", photos["dark"])
    with pytest.raises(DataError, match=r"a model takes two classes. Received: dark"):
        session.write(tmp_path, "one", "saved_model")
