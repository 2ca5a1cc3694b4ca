from __future__ import annotations

import numpy as np
import pytest

from egt_tf.data.sources import ImageSet
from egt_tf.data.unreadable import UnreadableImages
from egt_tf.errors import DataError


def finder(broken, error=DataError, reads=None):
    def read(index):
        if reads is not None:
            reads.append(index)
        if index in broken:
            raise error(f"cannot read image {index}.png: damaged")
        return np.zeros((4, 4, 3), np.uint8)

    return UnreadableImages(ImageSet("test", ("c",), (np.arange(9),), read, lambda index: f"{index}.png"))


def test_the_unreadable_among_the_given_each_tried_once():
    reads = []
    found = finder({2, 5, 6}, reads=reads)
    assert found.among(np.array([1, 2, 3, 5])) == [2, 5]
    assert found.among([5, 1, 6]) == [5, 6]
    assert found.among([]) == []
    assert sorted(reads) == [1, 2, 3, 5, 6]


def test_each_is_reported_once():
    found = finder({2, 5, 6, 7, 8})
    assert found.report() is None
    found.among([5])
    assert found.report() == "left out 1 unreadable image: 5.png"
    assert found.report() is None
    found.among(range(9))
    assert found.report(listed=2) == "left out 4 unreadable images: 2.png, 6.png and 2 more"
    assert found.report() is None


def test_other_errors_are_not_swallowed():
    with pytest.raises(MemoryError):
        finder({2}, MemoryError).among([1, 2])
