from __future__ import annotations

import numpy as np
import pytest

from egt_tf.config import ImagePreparation
from egt_tf.data.image_set import ImageSet
from egt_tf.data.preprocessing import evaluation_image, training_image
from egt_tf.data.views import Views, draw_views
from egt_tf.errors import DataError, original_error


def image_set(unreadable: int | None = None) -> ImageSet:
    def read(index: int) -> np.ndarray:
        if index == unreadable:
            raise DataError(f"cannot read {index}")
        return np.random.default_rng(index).integers(0, 256, (20, 24, 3)).astype(np.uint8)

    members = (np.arange(0, 5), np.arange(5, 10))
    return ImageSet("noise", ("a", "b"), members, read, describe=str)


def views(images: ImageSet, augmentation: str, count: int, indices, seed=1) -> np.ndarray:
    found = Views(images, ImagePreparation(16, augmentation, seed=seed), count)
    return np.concatenate([batch.numpy() for batch in found.batches(np.array(indices))])


def test_without_augmentation_the_view_is_the_evaluation_image():
    found = views(image_set(), "none", 1, [3, 7])
    expected = [evaluation_image(image_set().read(index), 16) for index in (3, 7)]
    np.testing.assert_array_equal(found[:, 0], expected)


def test_both_views_of_a_flip_are_there_whatever_the_seed():
    for seed in range(4):
        found = views(image_set(), "flip", 2, [3], seed)[0]
        plain = evaluation_image(image_set().read(3), 16).numpy()
        assert {array.tobytes() for array in found} == {plain.tobytes(), np.ascontiguousarray(plain[:, ::-1]).tobytes()}


def test_each_view_is_the_training_image_of_its_random_numbers():
    found = views(image_set(), "full_erasing", 4, [2, 9])
    for row, index in zip(found, (2, 9), strict=True):
        seeds, mirrored = draw_views(1, index, 4)
        for view in range(4):
            expected = training_image(image_set().read(index), 16, "full_erasing", seeds[view], mirrored[view])
            np.testing.assert_allclose(row[view], expected, atol=1e-5)
    assert len({view.tobytes() for view in found.reshape(8, -1)}) == 8


def test_views_depend_on_seed_and_image_alone():
    together, alone = views(image_set(), "full", 2, np.arange(10)), views(image_set(), "full", 2, [6])
    np.testing.assert_array_equal(together[6], alone[0])
    assert np.any(views(image_set(), "full", 2, [6], seed=2) != alone)


def test_an_unreadable_image_stops_or_is_remembered():
    with pytest.raises(DataError, match="cannot read 4"), original_error():
        views(image_set(unreadable=4), "none", 1, [3, 4])
    skipping = image_set(unreadable=4).skipping_unreadable()
    found = Views(skipping, ImagePreparation(16), 1)
    assert sum(len(batch) for batch in found.batches(np.arange(10))) == 10
    assert found.unreadable == {4}
