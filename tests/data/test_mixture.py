from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from egt_tf.config import EpisodeConfig, WeightedSource
from egt_tf.data.image_set import ImageSet
from egt_tf.data.mixture import Mixture, counterpart, domains, mix, open_mixture
from egt_tf.data.sampling import check_feasible, draw_domain, draw_episode, episode_generator, sample_episode
from egt_tf.errors import ConfigError, DataError


def image_set(name: str, classes: int = 4, per_class: int = 6, first: int = 0, mask=None) -> ImageSet:
    """`first`: a split's images need not begin at 0."""
    return ImageSet(
        name=name,
        class_names=tuple(f"{name}{c}" for c in range(classes)),
        members=tuple(np.arange(first + c * per_class, first + (c + 1) * per_class) for c in range(classes)),
        read=lambda index: np.full((4, 4, 3), index, np.uint8),
        describe=lambda index: f"{name}/{index}",
        mask=mask,
    )


SETS = [image_set("a"), image_set("b", classes=5, first=30), image_set("c", classes=3, first=7)]
EPISODE = EpisodeConfig(3, 2, 3)


def test_classes_and_images_are_numbered_one_after_the_other():
    images = mix(SETS)
    assert images.class_names == (*SETS[0].class_names, *SETS[1].class_names, *SETS[2].class_names)
    assert list(domains(images)) == [("a", range(0, 4)), ("b", range(4, 9)), ("c", range(9, 12))]
    everything = np.concatenate(images.members)
    assert len(set(everything)) == len(everything) == 12 * 6
    described = {name for name in map(images.describe, everything)}
    assert described == {each.describe(i) for each in SETS for i in np.concatenate(each.members)}
    for position, members in enumerate(images.members):
        for index in members:
            assert images.describe(np.int64(index)).startswith(images.class_names[position][0])
            assert images.read(np.int64(index))[0, 0, 0] == int(images.describe(index).split("/")[1])


def test_one_image_set_stays_as_it_is():
    assert mix(SETS[:1], [3]) is SETS[0]
    assert list(domains(SETS[0])) == [("a", range(0, 4))]


def test_masks_are_there_if_every_set_has_them():
    with_masks = [image_set(name, mask=lambda index, name=name: f"{name}{index}") for name in "ab"]
    assert mix(with_masks).mask(24 + 3) == "b3"
    assert mix([*with_masks, image_set("c")]).mask is None


@pytest.mark.parametrize(
    ("sets", "weights"),
    [
        ([], None),
        (SETS, [1, 2]),
        (SETS, [1, 0, 2]),
        (SETS, [1, -1, 2]),
        (SETS, [1, float("nan"), 2]),
        (SETS[:1], [0]),
        (SETS, [1, float("inf"), 1]),
    ],
)
def test_weights_that_do_not_fit(sets, weights):
    with pytest.raises(ConfigError, match="a weight > 0 for each of at least one image set"):
        mix(sets, weights)


def test_an_episode_comes_from_one_domain_as_if_it_were_alone():
    images = mix(SETS, [1, 2, 3])
    firsts = [0, 24, 24 + 60]
    for number in range(40):
        episode, rng = draw_episode(images, EPISODE, 3, number)
        domain = draw_domain(images.weights, 3, number)
        alone = sample_episode(SETS[domain].members, EPISODE, episode_generator(3, number))
        np.testing.assert_array_equal(episode.classes, alone.classes + images.domain_classes[domain].start)
        np.testing.assert_array_equal(episode.images, alone.images + firsts[domain])
        again, same = draw_episode(images, EPISODE, 3, number)
        np.testing.assert_array_equal(again.images, episode.images)
        assert rng.integers(2**62) == same.integers(2**62)


def test_domains_come_as_often_as_their_weights_say():
    weights = np.array([1.0, 2.0, 5.0])
    drawn = np.array([draw_domain(weights, 11, number) for number in range(4000)])
    shares = np.bincount(drawn, minlength=3) / len(drawn)
    # Four standard deviations of a share.
    np.testing.assert_allclose(shares, weights / 8, atol=4 * 0.5 / np.sqrt(len(drawn)))
    assert [draw_domain(10 * weights, 11, n) for n in range(50)] == drawn[:50].tolist()
    assert [draw_domain(weights, 12, n) for n in range(50)] != drawn[:50].tolist()
    # One domain after another must not be told by the last.
    after_last = drawn[1:][drawn[:-1] == 2]
    np.testing.assert_allclose(np.bincount(after_last, minlength=3) / len(after_last), weights / 8, atol=0.04)


def test_every_domain_must_have_enough_classes_and_images():
    check_feasible(mix(SETS), EPISODE)
    with pytest.raises(DataError, match=r"needs 4 classes. Received: c has 3"):
        check_feasible(mix(SETS), EpisodeConfig(4, 1, 1))
    with pytest.raises(DataError, match="Received: class 'b0' of b has 4"):
        check_feasible(mix([SETS[0], image_set("b", per_class=4)]), EPISODE)


class Finder:
    """Knows which images are broken, and remembers what it was asked."""

    def __init__(self, broken):
        self.broken, self.asked = broken, []

    def among(self, indices):
        self.asked.append(set(indices.tolist()))
        return sorted(self.broken & self.asked[-1])


def test_unreadable_images_are_left_out_of_their_domain():
    images, broken = mix(SETS), {0, 1, 30, 31, 90}
    for number in range(60):
        whole, _ = draw_episode(images, EPISODE, 3, number)
        finder = Finder(broken)
        damaged = dataclasses.replace(images, unreadable=finder)
        episode, _ = draw_episode(damaged, EpisodeConfig(3, 2, 2), 3, number)
        assert not broken & set(episode.images.tolist())
        # The images of one attempt that cannot be read are not in the next.
        assert all(not (broken & before) & after for before, after in itertools.pairwise(finder.asked))
        domain = draw_domain(images.weights, 3, number)
        assert set(episode.classes) <= set(images.domain_classes[domain])
        assert set(whole.classes) <= set(images.domain_classes[domain])


def test_a_mixture_skips_unreadable_images_if_all_of_its_sets_do():
    def broken(index):
        raise DataError(f"cannot read image {index}")

    sets = [dataclasses.replace(each, read=broken) for each in SETS]
    assert mix([sets[0].skipping_unreadable(), sets[1]]).unreadable is None
    images = mix([each.skipping_unreadable() for each in sets])
    assert images.unreadable_among([0, 24]) == [0, 24]
    assert images.report_unreadable() == "left out 2 unreadable images: a/0, b/0"


def test_open_mixture():
    images = open_mixture([WeightedSource("synthetic:shapes"), WeightedSource("synthetic:fog", 3)], "val")
    assert isinstance(images, Mixture)
    assert images.weights == (1.0, 3.0)
    assert images.domain_names == ("synthetic:shapes (split val)", "synthetic:fog (split val)")
    assert images.describe(images.members[0][0]).startswith("synthetic:shapes/")
    assert images.describe(images.members[-1][-1]).startswith("synthetic:fog/")


# === pairs of domains ===


def domain_of(images, episode) -> int:
    return next(d for d, classes in enumerate(images.domain_classes) if episode.classes[0] in classes)


def test_a_counterpart_comes_from_another_domain():
    images = mix(SETS, [1, 2, 5])
    others = counterpart(images, 3)
    pairs = np.array(
        [
            [
                domain_of(images, draw_episode(images, EPISODE, 3, number)[0]),
                domain_of(images, draw_episode(others, EPISODE, 4, number)[0]),
            ]
            for number in range(900)
        ]
    )
    assert np.all(pairs[:, 0] != pairs[:, 1])
    # Beside domain 0 the others come with weights 2 and 5; four standard deviations of a share.
    beside = pairs[pairs[:, 0] == 0, 1]
    assert np.mean(beside == 1) == pytest.approx(2 / 7, abs=4 * 0.5 / np.sqrt(len(beside)))


def test_a_counterpart_is_a_function_of_the_seeds():
    others = [counterpart(mix(SETS), seed) for seed in (3, 3, 8)]
    drawn = [[draw_episode(each, EPISODE, 4, number)[0].images.tolist() for number in range(20)] for each in others]
    assert drawn[0] == drawn[1] != drawn[2]


def test_one_domain_has_no_counterpart():
    with pytest.raises(ConfigError, match=r"at least two sources .* Received: one, a; list several in data.train"):
        counterpart(SETS[0], 3)
