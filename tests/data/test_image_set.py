from __future__ import annotations

import numpy as np
import pytest

from egt_tf.config import EpisodeConfig
from egt_tf.data.image_set import ImageSet, first_images
from egt_tf.data.sampling import draw_episode
from egt_tf.errors import DataError


def image_set(broken, error=DataError, reads=None) -> ImageSet:
    def read(index):
        if reads is not None:
            reads.append(index)
        if index in broken:
            raise error(f"cannot read image {index}.png: damaged")
        return np.zeros((4, 4, 3), np.uint8)

    members = (np.arange(9), np.arange(9, 18))
    return ImageSet("test", ("c", "d"), members, read, lambda index: f"{index}.png")


def test_the_unreadable_among_the_given_each_tried_once():
    reads = []
    images = image_set({2, 5, 6}, reads=reads).skipping_unreadable()
    assert images.unreadable_among(np.array([1, 2, 3, 5])) == [2, 5]
    assert images.unreadable_among([5, 1, 6]) == [5, 6]
    assert images.unreadable_among([]) == []
    assert sorted(reads) == [1, 2, 3, 5, 6]


def test_each_is_reported_once():
    images = image_set({2, 5, 6, 7, 8}).skipping_unreadable()
    assert images.report_unreadable() is None
    images.unreadable_among([5])
    assert images.report_unreadable() == "left out 1 unreadable image: 5.png"
    assert images.report_unreadable() is None
    images.unreadable_among(range(9))
    assert images.report_unreadable(listed=2) == "left out 4 unreadable images: 2.png, 6.png and 2 more"
    assert images.report_unreadable() is None


def test_a_set_that_stops_looks_for_none():
    reads = []
    images = image_set({2}, reads=reads)
    for each in (images, images.skipping_unreadable().stopping_at_unreadable()):
        assert each.unreadable_among([1, 2]) == []
        assert each.report_unreadable() is None
    assert reads == []


def test_episodes_are_drawn_without_the_unreadable_and_report_them():
    episode, images = EpisodeConfig(2, 2, 3), image_set({2, 11}).skipping_unreadable()
    drawn = np.concatenate([draw_episode(images, episode, 1, number)[0].images for number in range(30)])
    assert set(drawn.tolist()) == set(range(18)) - {2, 11}
    assert images.report_unreadable() == "left out 2 unreadable images: 2.png, 11.png"


def test_other_errors_are_not_swallowed():
    with pytest.raises(MemoryError):
        image_set({2}, MemoryError).skipping_unreadable().unreadable_among([1, 2])


def test_every_class_gives_as_many_images_as_the_smallest_has():
    chosen, left_out = first_images([np.array([4, 2, 9]), np.array([7, 1]), np.array([3, 5, 6, 8])])
    assert chosen.tolist() == [[4, 2], [7, 1], [3, 5]]
    assert left_out == 3
