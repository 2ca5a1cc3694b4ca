"""Which photos an explanation shows, and that only those that counted are taken to their pixels."""

from __future__ import annotations

import numpy as np

from egt_tf.data.support import padded_support
from egt_tf.explain.stored_photos import StoredAnswer, StoredRelevance, explain_by_stored_photos

SIZE = 8


class Fake:
    """Knows how much each photo counted; relevance of pixels is the photo's grey level, and a call is remembered."""

    def __init__(self, sums: np.ndarray, ways: int, from_margin: bool = False):
        self.sums, self.ways, self.from_margin, self.asked = sums, ways, from_margin, []
        self.image = np.random.default_rng(0).normal(size=(ways, SIZE, SIZE))

    def answer(self, image):
        return StoredAnswer(np.linspace(1, 0, self.ways) / np.linspace(1, 0, self.ways).sum(), known=False)

    def relevance(self, image, targets):
        return StoredRelevance(self.image[targets], self.sums[targets])

    def photo_relevance(self, image, targets, photos, positions):
        self.asked += positions.tolist()
        return np.stack([(target + 1) * photos[..., 0].astype(float) for target in targets])


def support_of(counts):
    """Photos whose grey level is their position."""
    levels = iter(range(sum(counts)))
    photos = [
        np.stack([np.full((SIZE, SIZE, 3), next(levels), np.uint8) for _ in range(count)])
        if count
        else np.zeros((0, SIZE, SIZE, 3), np.uint8)
        for count in counts
    ]
    return padded_support([f"class{k}" for k in range(len(counts))], photos)


IMAGE = np.zeros((SIZE, SIZE, 3), np.uint8)


def test_those_that_counted_most_are_shown_first_and_others_cost_nothing():
    sums = np.zeros((3, 9))
    # The photos of class 0, and of class 1, counted for their own class alone.
    sums[0, :7] = [1, -7, 2, 6, 3, 0, 4]
    sums[1, 7] = 2
    model = Fake(sums, 3)
    found = explain_by_stored_photos(model, IMAGE, support_of((7, 1, 1)))
    assert found.explained == (0, 1)
    assert found.support_sizes == (5, 1, 1)
    assert found.support_images[0, :, 0, 0, 0].tolist() == [1, 3, 6, 4, 2]
    assert found.support_images[1, 1:].min() == 255  # blank
    assert sorted(model.asked) == [1, 2, 3, 4, 6, 7]
    np.testing.assert_array_equal(found.support_relevance[:, 0, :, 0, 0], [[1, 3, 6, 4, 2], [0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(found.support_relevance[:, 1, 0, 0, 0], [0, 2 * 7])
    np.testing.assert_array_equal(found.support_relevance[:, 2], 0)


def test_from_the_margin_what_speaks_against_the_rival_is_walked_once():
    sums = np.array([[3.0, -2.0, 0.0], [7.0, 7.0, 7.0], [7.0, 7.0, 7.0]])
    model = Fake(sums, 3, from_margin=True)
    found = explain_by_stored_photos(model, IMAGE, support_of((1, 1, 1)))
    assert (found.explained, found.known) == ((0, 1), False)
    assert model.asked == [0, 1]
    np.testing.assert_allclose(found.query_relevance[0], model.image[0], rtol=1e-6)
    np.testing.assert_array_equal(found.query_relevance[1], -found.query_relevance[0])
    np.testing.assert_array_equal(found.support_relevance[1], -found.support_relevance[0])
    assert found.support_relevance[0, 1].max() == 1


def test_from_the_margin_the_less_probable_of_two_rivals_can_be_asked_for():
    model = Fake(np.array([[3.0, -2.0, 0.0], [-3.0, 2.0, 0.0], [7.0, 7.0, 7.0]]), 3, from_margin=True)
    found = explain_by_stored_photos(model, IMAGE, support_of((1, 1, 1)), target="class1")
    assert found.explained == (1, 0)
    np.testing.assert_allclose(found.query_relevance, [model.image[1], -model.image[1]], rtol=1e-6)


def test_from_the_margin_a_class_that_is_nobodys_rival_is_walked_by_itself():
    model = Fake(np.ones((3, 3)), 3, from_margin=True)
    found = explain_by_stored_photos(model, IMAGE, support_of((1, 1, 1)), target="class2")
    assert found.explained == (2, 0)
    np.testing.assert_allclose(found.query_relevance, model.image[[2, 0]], rtol=1e-6)


def test_where_every_photo_counts_only_the_classes_explained_are_shown():
    model = Fake(np.ones((8, 48)), 8)
    found = explain_by_stored_photos(model, IMAGE, support_of(8 * (6,)), target="class5")
    assert found.explained == (5, 0)
    assert found.support_sizes == (5, 0, 0, 0, 0, 5, 0, 0)
    assert len(model.asked) == 2 * 10


def test_without_photos_the_image_alone_is_explained():
    model = Fake(np.ones((2, 5)), 2)
    found = explain_by_stored_photos(model, IMAGE, support_of((0, 0)))
    assert found.support_sizes == (0, 0)
    assert model.asked == []
    assert found.query_relevance.shape == (2, SIZE, SIZE)
