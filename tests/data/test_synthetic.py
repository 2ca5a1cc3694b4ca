"""The synthetic domains: repeatable, with true masks, and beyond what raw pixels can tell apart."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from egt_tf.data.splits import published_split_rule
from egt_tf.data.synthetic import CLASS_NAMES, DRAWN_DOMAINS, IMAGES_PER_CLASS, check_domain, draw
from egt_tf.data.synthetic.rendering import RENDERERS, ObjectCanvas
from egt_tf.errors import DataError

PLACING = ("two", "three", "in", "above", "beside", "around")

every_domain = pytest.mark.parametrize("domain", DRAWN_DOMAINS)


def components(split: str) -> set[str]:
    """The singular names of the components that occur in the classes of a split."""
    names = [CLASS_NAMES[i] for i in published_split_rule(len(CLASS_NAMES))[split]]
    words = {word for name in names for word in (name.split("-")[-1], name.split("-")[-3])}
    return {"cross" if word.startswith("cross") else word.removesuffix("s") for word in words}


def arrangements(split: str) -> set[str]:
    return {
        "-".join(word for word in CLASS_NAMES[i].split("-") if word in PLACING)
        for i in published_split_rule(len(CLASS_NAMES))[split]
    }


def test_the_domains_are_the_source_and_its_targets():
    assert DRAWN_DOMAINS == ("shapes", "sketch", "texture", "negative", "fog")
    assert IMAGES_PER_CLASS >= 40


def test_class_names_are_many_and_unique():
    assert len(CLASS_NAMES) >= 64
    assert len(set(CLASS_NAMES)) == len(CLASS_NAMES)


@pytest.mark.parametrize("split", ["base", "val", "novel"])
def test_every_split_mixes_all_arrangements_and_common_components(split):
    assert arrangements(split) == {"in", "above", "beside", "two-beside", "three-around"}
    assert components("base") <= components(split)


def test_val_and_novel_have_components_that_base_has_not():
    assert components("val") - components("base") == {"drop"}
    assert components("novel") - components("base") == {"moon", "arrow"}


@every_domain
def test_the_same_arguments_give_the_same_pixels(domain):
    first, second = draw(domain, 7, 3, seed=5), draw(domain, 7, 3, seed=5)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


@pytest.mark.parametrize("other", [("sketch", 7, 3, 5), ("shapes", 9, 3, 5), ("shapes", 7, 4, 5), ("shapes", 7, 3, 6)])
def test_every_argument_changes_the_mask_and_the_image(other):
    image, mask = draw("shapes", 7, 3, 5)
    other_image, other_mask = draw(*other)
    assert (image != other_image).any()
    assert (mask != other_mask).any()


@every_domain
def test_drawing_leaves_the_global_generator_alone(domain):
    before = np.random.get_state()
    draw(domain, 0, 0)
    after = np.random.get_state()
    assert before[2:] == after[2:]
    np.testing.assert_array_equal(before[1], after[1])


@every_domain
@pytest.mark.parametrize("size", [16, 84, 130])
def test_size_and_types(domain, size):
    image, mask = draw(domain, 2, 1, size=size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert mask.shape == (size, size)
    assert mask.dtype == bool


@every_domain
def test_the_image_may_be_written_to(domain):
    image, _mask = draw(domain, 0, 0)
    image[0, 0] = 0
    assert image.flags.owndata


def test_an_object_keeps_its_place_at_another_size():
    small, large = draw("shapes", 30, 4, size=42)[1], draw("shapes", 30, 4, size=84)[1]
    assert (small == large[::2, ::2]).mean() > 0.95


@every_domain
def test_the_mask_is_an_object_of_a_fair_size_inside_the_image(domain):
    for class_index in range(len(CLASS_NAMES)):
        mask = draw(domain, class_index, 0)[1]
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        longest = max(np.ptp(rows), np.ptp(columns)) + 1
        assert 0.03 < mask.mean() < 0.6
        assert 0.5 * 84 < longest < 0.9 * 84
        assert not (mask[0].any())
        assert not (mask[-1].any())
        assert not (mask[:, 0].any())
        assert not (mask[:, -1].any())


def test_object_pixels_differ_from_the_background_of_shapes():
    for class_index in range(0, len(CLASS_NAMES), 5):
        image, mask = draw("shapes", class_index, 1)
        background = np.median(image[~mask], axis=0)
        distances = np.abs(image.astype(float) - background).max(-1)
        assert np.median(distances[mask]) > 60
        assert np.median(distances[~mask]) < 30


@every_domain
def test_clutter_is_drawn_but_is_not_in_the_mask(domain):
    corner = np.array([[5.0, 5], [25, 5], [25, 25], [5, 25]])
    picture, covered = RENDERERS[domain](ObjectCanvas(84, corner, [corner * 0.5 + 7]), np.random.default_rng(0))
    elsewhere = np.ones((84, 84), bool)
    elsewhere[:32, :32] = False
    assert not np.asarray(covered)[elsewhere].any()
    assert (np.asarray(covered)[8:22, 8:22] == 255).all()
    if domain == "shapes":
        pale = np.asarray(picture.convert("L"))[elsewhere]
        assert (pale < np.median(pale) - 30).any()


def test_colour_says_nothing_about_the_class():
    def mean_colours(class_index):
        drawn = [draw("shapes", class_index, i) for i in range(30)]
        return np.array([image[mask].mean(0) for image, mask in drawn])

    first, second = mean_colours(0), mean_colours(40)
    standard_error = np.sqrt((first.var(0) + second.var(0)) / 30)
    assert (np.abs(first.mean(0) - second.mean(0)) < 4 * standard_error).all()


@pytest.mark.parametrize(("name", "nearest"), [("shape", "shapes"), ("Sketch", "sketch"), ("foggy", "fog")])
def test_an_unknown_domain_lists_the_names_and_the_nearest(name, nearest):
    with pytest.raises(DataError, match=f"did you mean '{nearest}'.* Known: {', '.join(DRAWN_DOMAINS)}"):
        draw(name, 0, 0)


def test_an_unknown_domain_far_from_all_lists_the_names():
    with pytest.raises(DataError, match=r"unknown synthetic domain 'zzz'\. Known: shapes"):
        check_domain("zzz")


@pytest.mark.parametrize(
    "arguments", [{"class_index": -1}, {"class_index": 80}, {"instance": -1}, {"seed": -1}, {"size": 15}]
)
def test_numbers_out_of_range(arguments):
    name, value = next(iter(arguments.items()))
    with pytest.raises(DataError, match=f"`{name}` must be .*Received: {name}={value}"):
        draw("shapes", **{"class_index": 0, "instance": 0, **arguments})


@every_domain
def test_raw_pixels_do_not_solve_the_domain(domain):
    rng = np.random.default_rng(0)
    accuracies = [pixel_accuracy(domain, rng) for _ in range(6)]
    assert np.mean(accuracies) < 0.6


def pixel_accuracy(domain: str, rng: np.random.Generator) -> float:
    """Accuracy of the nearest of 5 x 5 support images on 5 x 4 queries of new classes."""
    classes = rng.choice(np.arange(3, len(CLASS_NAMES), 4), 5, replace=False)
    pixels = np.array([[draw(domain, c, i)[0].ravel() for i in range(9)] for c in classes], np.float32)
    support, query = pixels[:, :5].reshape(25, -1), pixels[:, 5:].reshape(20, -1)
    distances = ((query[:, None] - support[None]) ** 2).sum(-1)
    return float((distances.argmin(1) // 5 == np.arange(20) // 4).mean())


def test_tensorflow_is_not_imported():
    code = "import sys, egt_tf.data.synthetic; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
