"""Support sets from folders."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from egt_tf.data.support import load_image, load_support
from egt_tf.errors import DataError


def _write(path, value, mode="RGB", size=(20, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def test_every_class_counts_with_as_many_images_as_the_smallest(tmp_path):
    for number in range(3):
        _write(tmp_path / "bee" / f"{number}.png", (255, 0, 0))
    for number in range(2):
        _write(tmp_path / "ant" / f"{number}.png", 0, mode="L")
    support = load_support(tmp_path, 16)
    assert support.class_names == ("ant", "bee")
    assert support.images.shape == (2, 2, 16, 16, 3)
    assert (support.ways, support.shots, support.left_out) == (2, 2, 1)
    # Black and red, normalised: the order of the classes is that of their names.
    assert support.images[0].max() < -1.5
    assert support.images[1, ..., 0].min() > 2.0


def test_unusable_folders_and_images_are_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        load_support(tmp_path / "nowhere", 16)
    _write(tmp_path / "alone" / "1.png", 0, mode="L")
    with pytest.raises(DataError, match="at least 2 classes"):
        load_support(tmp_path, 16)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"text.png"):
        load_image(tmp_path / "text.png", 16)


def test_images_are_prepared_as_for_evaluation(tmp_path):
    _write(tmp_path / "grey.jpg", 128, mode="L")
    image = load_image(tmp_path / "grey.jpg", 24)
    assert image.shape == (24, 24, 3)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image[..., 0], (128 / 255 - 0.485) / 0.229, atol=0.02)
