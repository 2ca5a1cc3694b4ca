"""Support sets from folders."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from egt_tf.data.preprocessing import evaluation_image, normalize
from egt_tf.data.support import SupportSet, as_image, as_support, load_image, load_support, padded_support
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
    # Black and red: the order of the classes is that of their names.
    assert support.images.dtype == np.uint8
    assert support.images[0].max() == 0
    assert support.images[1].reshape(-1, 3).tolist() == 2 * 16 * 16 * [[255, 0, 0]]


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
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image, 128, atol=1)


def test_normalised_they_are_what_a_model_is_measured_on(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (30, 45, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    np.testing.assert_array_equal(
        normalize(load_image(tmp_path / "image.png", 16)), evaluation_image(tf.constant(pixels), 16)
    )


def test_pixels_and_support_sets_of_another_size_are_refused():
    with pytest.raises(DataError, match=r"must be uint8 \(16, 16, 3\), as load_image gives it.*float32"):
        as_image(np.zeros((16, 16, 3), np.float32), 16)
    with pytest.raises(DataError, match=r"Received: uint8 \(8, 16, 3\)"):
        as_image(np.zeros((8, 16, 3), np.uint8), 16)
    support = SupportSet(("ant", "bee"), np.zeros((2, 1, 8, 8, 3), np.uint8))
    assert as_support(support, 8) is support
    with pytest.raises(DataError, match="must be 16 x 16 pixels"):
        as_support(support, 16)


def test_what_is_no_support_set():
    with pytest.raises(DataError, match="must be uint8"):
        SupportSet(("ant", "bee"), np.zeros((2, 1, 8, 8, 3), np.float32))
    with pytest.raises(DataError, match="a name for each of the 2 classes"):
        SupportSet(("ant",), np.zeros((2, 1, 8, 8, 3), np.uint8))
    with pytest.raises(DataError, match=r"`counts` must hold a number from 0 to 2 for each of the 2 classes"):
        SupportSet(("ant", "bee"), np.zeros((2, 2, 8, 8, 3), np.uint8), counts=(1, 3))


def test_classes_with_different_numbers_of_images():
    images = [np.full((count, 8, 8, 3), 10 * count, np.uint8) for count in (1, 0, 3)]
    support = padded_support(("ant", "bee", "cow"), images)
    assert (support.ways, support.shots, support.sizes) == (3, 3, (1, 0, 3))
    assert support.images[:, :, 0, 0, 0].tolist() == [[10, 255, 255], [255, 255, 255], [30, 30, 30]]
    np.testing.assert_array_equal(support.flat_images, np.concatenate(images))
    assert support.flat_labels.tolist() == [0, 2, 2, 2]
    assert support.placed(np.arange(1, 5)).tolist() == [[1, 0, 0], [0, 0, 0], [2, 3, 4]]


def test_classes_with_as_many_images_each_are_flat_in_their_order():
    support = SupportSet(("ant", "bee"), np.arange(2 * 2 * 48, dtype=np.uint8).reshape(2, 2, 4, 4, 3))
    np.testing.assert_array_equal(support.flat_images, support.images.reshape(4, 4, 4, 3))
    np.testing.assert_array_equal(support.placed(support.flat_images), support.images)
