from __future__ import annotations

import numpy as np
import pytest

from egt_tf.config import EpisodeConfig
from egt_tf.data.image_set import ImageSet
from egt_tf.data.sampling import check_feasible, episode_generator, sample_episode
from egt_tf.errors import ConfigError, DataError


def image_set(*sizes: int) -> ImageSet:
    ends = np.cumsum(sizes)
    return ImageSet(
        name="folder:x (split base)",
        class_names=tuple(f"class{i}" for i in range(len(sizes))),
        members=tuple(np.arange(end - size, end) for end, size in zip(ends, sizes)),
        read=lambda index: np.zeros((4, 4, 3), np.uint8),
        describe=str,
    )


def drawn(members, episode, seed, index):
    indices = sample_episode(members, episode, episode_generator(seed, index))
    return np.concatenate([indices.classes, indices.support.ravel(), indices.query.ravel()])


def test_shapes_and_classes_fit_together():
    members = image_set(9, 12, 10, 30).members
    for index in range(50):
        episode = sample_episode(members, EpisodeConfig(3, 2, 7), episode_generator(0, index))
        assert episode.support.shape == (3, 2)
        assert episode.query.shape == (3, 7)
        for c, support, query in zip(episode.classes, episode.support, episode.query):
            assert set(support) | set(query) <= set(members[c])


def test_no_image_or_class_twice():
    members = image_set(*[9] * 6).members
    for index in range(200):
        episode = sample_episode(members, EpisodeConfig(4, 4, 5), episode_generator(3, index))
        used = np.concatenate([episode.support.ravel(), episode.query.ravel()])
        assert len(set(used)) == len(used) == 36
        assert len(set(episode.classes)) == 4


def test_depends_on_seed_and_index_only():
    members, episode = image_set(*[20] * 8).members, EpisodeConfig(5, 1, 3)
    first = [drawn(members, episode, 7, i) for i in range(10)]
    again = [drawn(members, episode, 7, i) for i in reversed(range(10))][::-1]
    np.testing.assert_array_equal(first, again)
    assert any((a != drawn(members, episode, 8, i)).any() for i, a in enumerate(first))
    assert len({tuple(a) for a in first}) == 10


def test_streams_do_not_meet_where_numbers_are_large():
    streams = [(0, 1), (1, 0), (2**32, 0), (0, 2**32), (1, 1), (2**32 + 1, 0)]
    assert len({tuple(episode_generator(*s).integers(2**62, size=3)) for s in streams}) == len(streams)


def test_classes_and_images_are_drawn_uniformly():
    members, episode, n = image_set(*[6] * 10).members, EpisodeConfig(5, 1, 2), 2000
    episodes = [sample_episode(members, episode, episode_generator(11, i)) for i in range(n)]
    classes = np.bincount(np.concatenate([e.classes for e in episodes]), minlength=10)
    support = np.bincount(np.concatenate([e.support.ravel() for e in episodes]), minlength=60)
    first = np.bincount([e.classes[0] for e in episodes], minlength=10)
    # Five standard deviations of the binomial counts.
    assert np.abs(classes - n / 2).max() < 5 * np.sqrt(n * 0.25)
    assert np.abs(support - n / 12).max() < 5 * np.sqrt(n / 12)
    assert np.abs(first - n / 10).max() < 5 * np.sqrt(n / 10)


def test_negative_numbers_are_refused():
    with pytest.raises(ConfigError, match="Received: seed=-1, index=0"):
        episode_generator(-1, 0)


def test_feasible_up_to_the_last_image():
    check_feasible(image_set(5, 5, 5), EpisodeConfig(3, 2, 3))


def test_too_few_images_names_class_and_counts():
    with pytest.raises(DataError) as caught:
        check_feasible(image_set(21, 12, 21, 21, 21), EpisodeConfig(5, 5, 16))
    assert str(caught.value) == (
        "5 shots + 16 queries need 21 images a class. Received: class 'class1' of folder:x (split base) "
        "has 12; take fewer shots or queries"
    )


def test_too_few_images_with_one_of_each():
    with pytest.raises(DataError, match=r"^1 shot \+ 1 query need 2 images a class"):
        check_feasible(image_set(1, 2), EpisodeConfig(2, 1, 1))


def test_too_few_classes_names_both_counts():
    with pytest.raises(DataError, match=r"needs 5 classes. Received: folder:x \(split base\) has 3"):
        check_feasible(image_set(30, 30, 30), EpisodeConfig(5, 1, 1))
