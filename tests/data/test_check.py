from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from egt_tf.config import EpisodeConfig
from egt_tf.data.check import check_source, find_unreadable, pixel_digest
from egt_tf.data.sources import open_source


@pytest.fixture
def folder(tmp_path):
    """Eight classes of three different images."""
    rng = np.random.default_rng(0)
    for c in range(8):
        for i in range(3):
            path = tmp_path / "things" / f"class{c}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(path)
    return tmp_path / "things"


def episode_of(images_per_class):
    return EpisodeConfig(ways=2, shots=1, queries=images_per_class - 1)


def check(folder, images_per_class=3):
    return check_source(open_source(f"folder:{folder}"), episode_of(images_per_class))


def test_nothing_wrong(folder):
    report = check(folder)
    assert not report.wrong
    assert (report.images, report.classes) == (24, 8)
    assert report.unreadable == report.duplicates == report.few == report.notes == ()


def test_unreadable_images_are_found_with_path_and_reason(folder):
    (folder / "class2" / "1.png").write_bytes(b"")
    (folder / "class5" / "0.png").write_text("hello")
    source = open_source(f"folder:{folder}")
    found = find_unreadable(source)
    assert sorted(found) == [7, 15]
    assert all(source.describe(index) in reason for index, reason in found.items())
    assert [str(one) for one in check_source(source, episode_of(2)).unreadable] == [
        f"{folder}/class2/1.png: not a PNG, JPEG, BMP, GIF, WebP or HEIC image",
        f"{folder}/class5/0.png: not a PNG, JPEG, BMP, GIF, WebP or HEIC image",
    ]


def test_only_the_images_asked_for_are_decoded(folder):
    (folder / "class2" / "1.png").write_bytes(b"")
    source = open_source(f"folder:{folder}")
    seen, steps = [], []
    assert (
        find_unreadable(
            source,
            [0, 3],
            on_image=lambda i, image: seen.append((i, image.shape)),
            progress=lambda *step: steps.append(step),
        )
        == {}
    )
    assert seen == [(0, (20, 24, 3)), (3, (20, 24, 3))]
    assert steps == [(0, 2), (1, 2), (2, 2)]
    assert list(find_unreadable(source, iter([7]))) == [7]


def test_an_unreadable_image_does_not_count_for_its_class(folder):
    (folder / "class2" / "1.png").write_bytes(b"")
    (finding,) = check(folder).few
    assert str(finding) == "class 'class2': has 2 readable images, an episode takes 3 of a class"
    assert not check(folder, 2).few


def test_duplicates_across_splits_and_classes_are_wrong_and_within_one_are_notes(folder):
    # Base holds the even classes, val 1 and 5, novel 3 and 7. Another encoding of the same pixels counts too.
    Image.open(folder / "class0" / "0.png").save(folder / "class3" / "copy.bmp")
    Image.open(folder / "class4" / "1.png").save(folder / "class6" / "copy.png", compress_level=0)
    Image.open(folder / "class2" / "1.png").save(folder / "class2" / "copy.png", compress_level=0)
    report = check(folder)
    (across,), (within,), (labelled_twice,) = report.duplicates, report.notes, report.contradictions
    assert str(across) == (
        f"{folder}/class0/0.png: of class0 (base), has the same pixels as {folder}/class3/copy.bmp of class3 (novel)"
    )
    assert str(within) == (
        f"{folder}/class2/1.png: of class2 (base), has the same pixels as {folder}/class2/copy.png of class2 (base)"
    )
    assert str(labelled_twice) == (
        f"{folder}/class4/1.png: of class4 (base), has the same pixels as {folder}/class6/copy.png of class6 (base)"
    )
    assert report.wrong


def test_a_picture_of_two_classes_alone_is_wrong(folder):
    Image.open(folder / "class4" / "1.png").save(folder / "class6" / "copy.png", compress_level=0)
    report = check(folder)
    assert (report.wrong, len(report.contradictions), report.duplicates, report.notes) == (True, 1, (), ())


def test_odd_images_are_notes(folder):
    Image.new("CMYK", (40, 30)).save(folder / "class0" / "c.jpg")
    report = check(folder)
    assert [str(one) for one in report.notes] == [f"{folder}/class0/c.jpg: CMYK, converted to RGB"]
    assert not report.wrong


def test_files_that_are_passed_over_are_notes(folder):
    (folder / "class1" / "photo.tif").write_bytes(b"II*")
    report = check(folder)
    assert [one.where for one in report.notes] == [f"{folder}/class1/photo.tif"]
    assert not report.wrong


def test_drawn_images_have_no_files_to_be_odd():
    source = open_source("synthetic:shapes")
    assert source.encoded is None
    assert source.path is None
    assert find_unreadable(source, [0, 100]) == {}


def test_the_digest_is_of_size_and_pixels():
    flat = np.zeros((2, 8, 3), np.uint8)
    assert pixel_digest(flat) == pixel_digest(flat.copy(order="F")) != pixel_digest(flat.reshape(4, 4, 3))
    assert pixel_digest(flat) != pixel_digest(flat + 1)


def test_without_an_episode_one_readable_image_of_a_class_is_enough(folder):
    for name in ("0.png", "1.png"):
        (folder / "class2" / name).write_bytes(b"")
    assert check_source(open_source(f"folder:{folder}")).few == ()
    (folder / "class2" / "2.png").write_bytes(b"")
    assert [one.where for one in check_source(open_source(f"folder:{folder}")).few] == ["class 'class2'"]


@pytest.mark.parametrize("domain", ["cub", "cars"])
def test_real_photographs(benchmark_dir, domain):
    report = check_source(open_source(f"folder:{benchmark_dir}/{domain}"), episode_of(21))
    assert not report.wrong
    assert report.images > 3000


@pytest.mark.parametrize(
    ("ways", "shots", "queries", "remedy"),
    [
        (2, 1, 2, ""),
        (3, 1, 2, "--set episode.ways=2"),
        (2, 2, 5, "--set episode.queries=1"),
        (5, 5, 16, "--set episode.ways=2 --set episode.shots=2 --set episode.queries=1"),
    ],
)
def test_every_split_is_checked_against_the_episode(folder, ways, shots, queries, remedy):
    """8 classes of 3 images: 4 in base, 2 in val and 2 in novel."""
    found = check_source(open_source(f"folder:{folder}"), EpisodeConfig(ways, shots, queries))
    splits = [one.where for one in found.few if one.where.startswith("split")]
    sizes = {"split 'base'": 4, "split 'val'": 2, "split 'novel'": 2}
    assert splits == [where for where, size in sizes.items() if size < ways]
    assert found.wrong is bool(remedy)
    assert found.remedy == remedy


def test_an_unreadable_image_is_not_counted_by_the_remedy(folder):
    (folder / "class1" / "0.png").write_bytes(b"")
    found = check_source(open_source(f"folder:{folder}"), EpisodeConfig(2, 1, 2))
    assert found.remedy == "--set episode.queries=1"


def test_a_split_without_classes_is_noted(folder):
    (folder / "splits.json").write_text(json.dumps({"novel": [f"class{c}" for c in range(8)]}))
    found = check_source(open_source(f"folder:{folder}"), EpisodeConfig(5, 1, 2))
    assert not found.wrong
    assert [str(one) for one in found.notes] == ["split 'base': has no classes", "split 'val': has no classes"]
