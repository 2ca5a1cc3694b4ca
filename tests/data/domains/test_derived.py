"""CUB, Cars, Places and Plantae, made from small stand-ins for the sets they come from."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from egt_tf.data.domains import DOMAINS, domain_builder, find_domain, is_prepared, prepared_folder
from egt_tf.data.domains import prepare as prepare_module
from egt_tf.data.domains.plantae import largest_classes
from egt_tf.data.domains.prepare import prepare_domain
from egt_tf.data.sources import open_source
from egt_tf.errors import DataError


def levels(source, split) -> dict[str, list[int]]:
    """Class name -> grey level of each image, sorted."""
    images = source.split(split)
    return {
        name: sorted(int(images.read(i)[0, 0, 0]) for i in members)
        for name, members in zip(images.class_names, images.members)
    }


def birds(pixels, classes=8):
    """One training and one test image of each of the first birds."""

    def example(c, number):
        box = tfds.features.BBox(0.0, 0.0, 1.0, 1.0)
        return {
            "image": pixels(10 * c + number),
            "image/filename": f"CUB/{c + 1:03d}.Bird{c}/{number}.jpg",
            "label": c,
            "label_name": f"bird{c}",
            "bbox": box,
            "segmentation_mask": np.zeros((20, 20, 1), np.uint8),
        }

    return {"train": [example(c, 0) for c in range(classes)], "test": [example(c, 1) for c in range(classes)]}


def scenes(pixels, images=3):
    names = tfds.builder("places365_small").info.features["label"].names
    big = pixels(0, 256)
    train = [
        {"image": big + 10 * c + i, "label": c, "filename": f"data_256/{names[c]}/{i:08d}.jpg"}
        for i in reversed(range(images))
        for c in range(6)
    ]
    # A class of its own, so that a validation image that is taken by mistake shows.
    other = [{"image": big + 250, "label": 6, "filename": "val_256/1.jpg"}]
    return {"train": train, "validation": other, "test": [{**other[0], "label": -1, "filename": "test_256/1.jpg"}]}


def species(pixels, plants=(3, 1, 2, 2, 4)):
    """Plants with these numbers of images, the last of each in the validation split; and an animal with many."""
    features = tfds.builder("i_naturalist2018").info.features
    train, validation = [], []
    for c, count in enumerate(plants):
        for i in range(count):
            one = {
                "id": f"{c}_{i}",
                "image": pixels(10 * c + i),
                "label": 100 + c,
                "supercategory": features["supercategory"].str2int("Plantae"),
            }
            (validation if i == count - 1 else train).append(one)
    animal = {"label": 5, "supercategory": features["supercategory"].str2int("Aves")}
    train += [{"id": f"a_{i}", "image": pixels(200 + i), **animal} for i in range(9)]
    unlabelled = {"id": "t", "image": pixels(250), "label": -1, "supercategory": -1}
    return {"train": train, "validation": validation, "test": [unlabelled]}


def test_cub_takes_all_images_and_splits_by_the_rule(stand_in, pixels):
    asked = stand_in("caltech_birds2011", birds(pixels))
    found = prepare_domain("cub")
    assert asked == ["caltech_birds2011"]
    assert found.made
    source = open_source("domain:cub")
    assert source.class_names == tuple(f"bird{c}" for c in range(8))
    assert levels(source, "base") == {f"bird{c}": [10 * c, 10 * c + 1] for c in (0, 2, 4, 6)}
    assert levels(source, "val") == {f"bird{c}": [10 * c, 10 * c + 1] for c in (1, 5)}
    assert levels(source, "novel") == {f"bird{c}": [10 * c, 10 * c + 1] for c in (3, 7)}
    first = int(source.split("novel").members[0][0])
    assert source.describe(first).startswith("domain:cub/CUB/004.Bird3/")
    assert open_source("tfds:cub").class_names == source.class_names


def test_the_counts_are_compared_with_the_published(stand_in, pixels):
    stand_in("caltech_birds2011", birds(pixels))
    found = prepare_domain("cub")
    assert [(one.classes, one.images, one.fewest, one.most) for one in found.counts] == [
        (4, 8, 2, 2),
        (2, 4, 2, 2),
        (2, 4, 2, 2),
    ]
    # The stand-in has 8 of the 200 classes; label numbers still reach to 200.
    assert found.problems == (
        "split base has 4 classes, not 100",
        "split val has 2 classes, not 50",
        "split novel has 2 classes, not 50",
        "16 images, not 11788",
    )
    assert not found.check.unreadable


def test_duplicates_across_splits_are_found(stand_in, pixels):
    examples = birds(pixels)
    examples["train"][1]["image"] = pixels(0)
    stand_in("caltech_birds2011", examples)
    found = prepare_domain("cub")
    assert "1 images in two splits" in found.problems
    assert {"base", "val"} <= set(str(found.check.duplicates[0]).replace("(", " ").replace(")", " ").split())


def test_cars_leaves_the_test_images_out(stand_in, pixels):
    names = tfds.builder("cars196").info.features["label"].names
    box = tfds.features.BBox(0.0, 0.0, 1.0, 1.0)
    train = [{"image": pixels(10 * c), "label": c, "bbox": box, "id": f"{c:05d}"} for c in range(5)]
    stand_in("cars196", {"train": train, "test": [{**one, "image": pixels(255)} for one in train]})
    prepare_domain("cars")
    source = open_source("domain:cars")
    assert levels(source, "all") == {names[c]: [10 * c] for c in range(5)}
    assert list(levels(source, "novel")) == [names[3]]


def test_places_takes_the_first_training_images_in_the_order_of_names(stand_in, pixels, monkeypatch):
    monkeypatch.setattr("egt_tf.data.domains.places.IMAGES_PER_CLASS", 2)
    stand_in("places365_small", scenes(pixels))
    prepare_domain("places")
    source = open_source("domain:places")
    names = sorted(tfds.builder("places365_small").info.features["label"].names)
    # Lossy JPEG may be off by one.
    found = levels(source, "all")
    assert list(found) == names[:6]
    assert [[round(level / 10, 1) for level in one] for one in found.values()] == [
        pytest.approx([c, c + 0.1], abs=0.11) for c in range(6)
    ]
    assert source.split("val").class_names == (names[1], names[5])


def test_plantae_takes_the_largest_plants_in_ascending_order(stand_in, pixels, monkeypatch):
    monkeypatch.setattr("egt_tf.data.domains.plantae.CLASSES", 4)
    monkeypatch.setattr("egt_tf.data.domains.plantae.IMAGES_PER_CLASS", 3)
    stand_in("i_naturalist2018", species(pixels))
    prepare_domain("plantae")
    source = open_source("domain:plantae")
    names = tfds.builder("i_naturalist2018").info.features["label"].names
    assert source.class_names == tuple(names[100 + c] for c in (2, 3, 0, 4))
    assert list(levels(source, "all").values()) == [[20, 21], [30, 31], [0, 1, 2], [40, 41, 42]]
    assert source.split("novel").class_names == (names[104],)


def test_the_largest_classes_by_hand():
    labels = np.repeat([7, 1, 4, 9], [2, 3, 2, 1])
    assert largest_classes(labels, 3) == [4, 7, 1]
    assert largest_classes(labels, 9) == [9, 4, 7, 1]


@pytest.mark.parametrize("domain", DOMAINS.values(), ids=DOMAINS)
def test_every_builder_says_what_it_is(domain, data_folder):
    builder = domain_builder(domain)
    info = builder.info
    assert (builder.name, str(builder.version)) == (domain.name, domain.version)
    assert set(info.features) == {"image", "label", "origin"}
    assert info.supervised_keys == ("image", "label")
    assert info.citation.startswith("@")
    assert info.homepage.startswith("http")
    assert info.description
    assert info.redistribution_info.license
    assert tfds.builder(domain.name, data_dir=data_folder, try_gcs=False).name == domain.name
    assert not data_folder.exists()
    assert not is_prepared(domain)
    if domain.origin:
        assert tfds.builder_cls(domain.origin)


def test_splits_share_no_class(stand_in, pixels):
    stand_in("caltech_birds2011", birds(pixels))
    prepare_domain("cub")
    builder = domain_builder(find_domain("cub"))
    labels = {
        split: {int(one["label"]) for one in builder.as_dataset(split=split).as_numpy_iterator()}
        for split in ("base", "val", "novel")
    }
    assert labels == {"base": {0, 2, 4, 6}, "val": {1, 5}, "novel": {3, 7}}


def test_images_are_kept_byte_by_byte(stand_in, pixels, data_folder):
    stand_in("caltech_birds2011", birds(pixels))
    prepare_domain("cub")
    origin, source = open_source("tfds:caltech_birds2011"), open_source("domain:cub")
    assert sorted(map(origin.encoded, range(16))) == sorted(map(source.encoded, range(16)))


def test_a_second_call_only_verifies(stand_in, pixels):
    asked = stand_in("caltech_birds2011", birds(pixels))
    first = prepare_domain("cub")
    before = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    second = prepare_domain("cub")
    assert (first.made, second.made, asked) == (True, False, ["caltech_birds2011"])
    assert before == {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    assert second.counts == first.counts


def test_an_interruption_leaves_nothing_half_and_costs_no_second_download(stand_in, pixels, monkeypatch):
    asked = stand_in("caltech_birds2011", birds(pixels))
    from egt_tf.data.domains.base import DomainBuilder

    def interrupted(self, pictures):
        for number, example in enumerate(whole(self, pictures)):
            if number == 1:
                raise KeyboardInterrupt
            yield example

    whole = DomainBuilder._generate_examples
    with monkeypatch.context() as patch:
        patch.setattr(DomainBuilder, "_generate_examples", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare_domain("cub")
    cub = find_domain("cub")
    assert not is_prepared(cub)
    assert not prepared_folder(cub).parent.exists()
    with pytest.raises(DataError, match=r"not prepared in .*egt-tf data prepare cub"):
        open_source("domain:cub")
    assert prepare_domain("cub").made
    assert asked == ["caltech_birds2011"]


def test_what_a_killed_process_left_is_removed(stand_in, pixels):
    stand_in("caltech_birds2011", birds(pixels))
    leftover = prepared_folder(find_domain("cub")).parent / "incomplete.ABC123_1.0.0"
    leftover.mkdir(parents=True)
    prepare_domain("cub")
    assert not leftover.exists()


def test_two_processes_do_not_prepare_the_same(stand_in, pixels, data_folder):
    asked = stand_in("caltech_birds2011", birds(pixels))
    with (
        prepare_module._only_one(find_domain("cub")),
        pytest.raises(DataError, match="being prepared by another process"),
    ):
        prepare_domain("cub")
    assert not asked


def test_a_failed_download_says_which_files_go_where(stand_in, data_folder):
    stand_in("caltech_birds2011", {"train": [ConnectionError("no route\nto host")]})
    with pytest.raises(DataError) as caught:
        prepare_domain("cub")
    message = str(caught.value)
    assert "no route to host" in message
    assert "CUB_200_2011.tgz" in message
    assert str(data_folder / "downloads" / "manual") in message
    assert "\n" not in message
    assert not [path for path in data_folder.rglob("*") if path.is_file()]


def test_the_network_guard_works():
    import urllib.request

    with pytest.raises(AssertionError, match="may not use the network"):
        urllib.request.urlopen("http://localhost:9/")


def test_a_missing_module_is_told_before_the_download(monkeypatch, data_folder):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"module scipy, which is not installed; .*pip install 'egt-tf\[data\]'"):
        prepare_domain("cars")


def test_a_damaged_file_is_named(stand_in, pixels):
    stand_in("caltech_birds2011", birds(pixels))
    folder = prepare_domain("cub").folder
    (file,) = folder.glob("*novel.tfrecord*")
    whole = file.read_bytes()
    file.write_bytes(whole[:100] + bytes(4) + whole[104:])
    with pytest.raises(DataError, match=r"cannot read domain:cub in .*1.0.0"):
        open_source("domain:cub")


def test_a_vanished_file_is_named_when_read(stand_in, pixels):
    stand_in("caltech_birds2011", birds(pixels))
    folder = prepare_domain("cub").folder
    source = open_source("domain:cub")
    for file in folder.glob("*.tfrecord*"):
        file.unlink()
    with pytest.raises(DataError, match=r"cannot read example 0 of domain:cub in .*tfrecord"):
        source.read(0)


def test_names():
    with pytest.raises(DataError, match="did you mean 'mini_imagenet'"):
        find_domain("miniImagenet")
    with pytest.raises(DataError, match=r"one of mini_imagenet, cub, cars, places, plantae. Received: 'dogs'$"):
        find_domain("dogs")
    with pytest.raises(DataError, match="did you mean 'domain:cub'"):
        open_source("cub")


def test_the_table_of_domains_is_light():
    code = (
        "import sys, egt_tf, egt_tf.data.domains, egt_tf.data.sources\n"
        "sys.exit('tensorflow_datasets' in sys.modules or 'tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
