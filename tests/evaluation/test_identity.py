from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from egt_tf.config import EpisodeConfig, WeightedSource
from egt_tf.data.mixture import open_mixture
from egt_tf.data.sources import open_source
from egt_tf.errors import DataError
from egt_tf.evaluation.report import episodes_identity

EPISODE = EpisodeConfig(2, 1, 2)


def identity(
    source: str, split: str = "all", episode: EpisodeConfig = EPISODE, episodes: int = 5, seed: int = 0
) -> str:
    return episodes_identity(open_source(source).split(split), episode, episodes, seed)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for c in range(4):
        (tmp_path / "here" / f"class{c}").mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, 255, (8 + c, 8 + i, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "here" / f"class{c}" / f"{i}.png")
    return tmp_path / "here"


def test_twelve_hexadecimal_digits():
    found = identity("synthetic:shapes")
    assert len(found) == 12
    assert int(found, 16) >= 0
    # As it was when it was introduced: results of different versions are told apart by it.
    assert found == "fcc618aab8ee"


def test_everything_that_changes_the_episodes_changes_it():
    found = [
        identity("synthetic:shapes"),
        identity("synthetic:fog"),
        identity("synthetic:shapes", seed=1),
        identity("synthetic:shapes", episodes=6),
        identity("synthetic:shapes", split="novel"),
        identity("synthetic:shapes", episode=EpisodeConfig(2, 2, 1)),
        identity("synthetic:shapes", episode=EpisodeConfig(3, 1, 1)),
        *(
            episodes_identity(
                open_mixture([WeightedSource("synthetic:shapes", weight), WeightedSource("synthetic:fog")], "all"),
                EPISODE,
                5,
                0,
            )
            for weight in (1, 9)
        ),
    ]
    assert len(set(found)) == len(found)


def test_the_place_of_a_folder_does_not_matter(folder, tmp_path, monkeypatch):
    expected = identity(f"folder:{folder}")
    shutil.copytree(folder, tmp_path / "far" / "there")
    assert identity(f"folder:{tmp_path}/far/there") == expected
    monkeypatch.chdir(tmp_path / "far")
    assert identity("folder:there") == identity("folder:./there/") == expected


def test_other_images_of_the_same_names_do(folder):
    expected = identity(f"folder:{folder}")
    for file in folder.glob("class*/0.png"):
        Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(file)
    assert identity(f"folder:{folder}") != expected


def test_a_renamed_class_and_a_renamed_image_do(folder):
    found = [identity(f"folder:{folder}")]
    (folder / "class0").rename(folder / "class00")
    found.append(identity(f"folder:{folder}"))
    for file in list(folder.glob("class*/0.png")):
        file.rename(file.with_name("00.png"))
    found.append(identity(f"folder:{folder}"))
    assert len(set(found)) == 3


def test_too_few_classes_are_the_usual_error():
    with pytest.raises(DataError, match="90-way episode needs 90 classes"):
        identity("synthetic:shapes", episode=EpisodeConfig(90, 1, 1))


def test_a_missing_image_is_an_error(folder):
    images = open_source(f"folder:{folder}").split("all")
    for file in folder.glob("class*/*.png"):
        file.unlink()
    with pytest.raises(DataError, match=r"cannot read image .*png: No such file"):
        episodes_identity(images, EPISODE, 5, 0)
