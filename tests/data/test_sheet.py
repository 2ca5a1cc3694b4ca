from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from egt_tf.data.sheet import contact_sheet
from egt_tf.data.sources import open_source
from egt_tf.errors import ConfigError, DataError


@pytest.fixture
def images(tmp_path):
    """Four classes with 3 images of their own colour, twice as wide as high."""
    for c in range(4):
        for i in range(3):
            path = tmp_path / "things" / f"a class with a long name, number_{c} é" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((10, 20, 3), (60 * c, 0, 9), np.uint8)).save(path)
    return open_source(f"folder:{tmp_path}/things").split("all")


def test_columns_are_classes_and_rows_images(images):
    sheet = np.asarray(contact_sheet(images, classes=9, images_per_class=2, tile=40))
    assert sheet.shape == (47 + 2 * 48, 8 + 4 * 48, 3)
    for c in range(4):
        for row in range(2):
            top, left = 47 + 48 * row, 8 + 48 * c
            # In its own proportions: a band of half the height.
            assert (sheet[top + 10 : top + 30, left : left + 40] == (60 * c, 0, 9)).all()
            assert not (sheet[top + 8, left : left + 40] == (60 * c, 0, 9)).all(axis=-1).any()
    header = sheet[:47, 8:48]
    assert (header < 128).any(), "the class has no name"


def test_the_seed_chooses(images):
    def drawn(seed):
        return np.asarray(contact_sheet(images, classes=2, images_per_class=1, seed=seed)).tobytes()

    assert drawn(0) == drawn(0)
    assert len({drawn(seed) for seed in range(12)}) > 1


def test_a_class_with_few_images_leaves_the_rest_empty(images):
    sheet = np.asarray(contact_sheet(images, classes=1, images_per_class=5, tile=40))
    assert (sheet[-48:] == 255).all()
    assert not (sheet[-48 * 3 : -48 * 2] == 255).all()


def test_errors(images):
    with pytest.raises(ConfigError, match="`tile` must be an integer >= 32"):
        contact_sheet(images, tile=8)
    with pytest.raises(ConfigError, match="at most 16384 pixels a side"):
        contact_sheet(images, images_per_class=1000)
    for members in images.members:
        for index in members:
            open(images.describe(index), "w").close()
    with pytest.raises(DataError, match="cannot read image"):
        contact_sheet(images)
