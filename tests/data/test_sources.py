from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from egt_tf.data.sources import _tfds_name, open_source
from egt_tf.errors import DataError


@pytest.fixture(autouse=True)
def offline(no_network):
    """Opening a source never asks the network."""


def save(path: Path, level: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 5, 3), level, np.uint8)).save(path)
    return path


@pytest.fixture
def animals(tmp_path) -> Path:
    """Five classes of two images; the level says which image it is."""
    for c, name in enumerate(["ant", "bee", "cat", "dog", "elk"]):
        for i in range(2):
            save(tmp_path / "animals" / name / f"{i}.png", 10 * c + i)
    return tmp_path / "animals"


def write_list(path: Path, label_names, image_names, image_labels) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [str(name) for name in image_names]
    content = {"label_names": label_names, "image_names": names, "image_labels": image_labels}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def levels(image_set) -> list[list[int]]:
    return [[int(image_set.read(i)[0, 0, 0]) for i in members] for members in image_set.members]


@pytest.mark.parametrize("specification", ["zip:a", "animals", "folder:", "", "folder"])
def test_unknown_kinds_list_the_known(specification):
    with pytest.raises(DataError, match=r"folder:DIR, filelist:FILE.json, tfds:NAME, domain:NAME or synthetic"):
        open_source(specification)


def test_what_was_meant_is_suggested(animals, monkeypatch):
    for received, meant in (
        ("foldr:birds", "folder:birds"),
        ("cub", "domain:cub"),
        (str(animals), f"folder:{animals}"),
        ("tdfs:mnist", "tfds:mnist"),
    ):
        with pytest.raises(DataError) as caught:
            open_source(received)
        assert str(caught.value).endswith(f"Received: '{received}'; did you mean '{meant}'?")
    with pytest.raises(DataError) as caught:
        open_source("")
    assert str(caught.value).endswith("Received: ''")


# === folder ===


def test_folder_reads_classes_in_the_order_of_names(animals):
    source = open_source(f"folder:{animals}")
    assert source.class_names == ("ant", "bee", "cat", "dog", "elk")
    assert source.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert levels(source.split("all")) == [[0, 1], [10, 11], [20, 21], [30, 31], [40, 41]]
    assert source.describe(3) == str(animals / "bee" / "1.png")
    assert source.mask is None


def test_folder_ignores_what_is_no_image(animals):
    save(animals / "ant" / ".hidden.png")
    save(animals / ".cache" / "0.png")
    (animals / "ant" / "notes.txt").write_text("x")
    (animals / "readme.md").write_text("x")
    save(animals / "ant" / "2.JPEG")
    source = open_source(f"folder:{animals}/")
    assert source.class_names[0] == "ant"
    assert len(source.class_names) == 5
    assert np.bincount(source.labels).tolist() == [3, 2, 2, 2, 2]


def test_folder_without_splits_follows_the_rule(animals):
    source = open_source(f"folder:{animals}")
    assert source.split("base").class_names == ("ant", "cat", "elk")
    assert source.split("val").class_names == ("bee",)
    assert levels(source.split("novel")) == [[30, 31]]
    assert source.split("novel").name == f"folder:{animals} (split novel)"


@pytest.mark.parametrize("inside", [True, False])
def test_folder_splits_file(animals, inside):
    path = animals / "splits.json" if inside else animals.with_name("animals.splits.json")
    path.write_text(json.dumps({"base": ["dog", "ant"], "val": ["bee"], "novel": ["elk"]}))
    source = open_source(f"folder:{animals}")
    assert source.split("base").class_names == ("ant", "dog")
    assert source.split("novel").class_names == ("elk",)
    assert len(source.split("all").class_names) == 5


def test_folder_splits_errors(animals):
    path = animals / "splits.json"
    path.write_text(json.dumps({"base": ["ant"], "val": ["ant"]}))
    with pytest.raises(DataError, match="class 'ant' is in base and in val"):
        open_source(f"folder:{animals}")
    path.write_text(json.dumps({"base": ["yak"]}))
    with pytest.raises(DataError, match="Received: 'yak'"):
        open_source(f"folder:{animals}")


def test_empty_and_unknown_split(animals):
    (animals / "splits.json").write_text(json.dumps({"base": ["ant"]}))
    source = open_source(f"folder:{animals}")
    with pytest.raises(DataError, match=r"split 'val' of folder:.* has no classes"):
        source.split("val")
    with pytest.raises(DataError, match=r"one of base, val, novel, all. Received: 'test'"):
        source.split("test")


def test_folder_errors(tmp_path, animals):
    with pytest.raises(DataError, match=r"cannot read the folder .*none: No such file"):
        open_source(f"folder:{tmp_path}/none")
    with pytest.raises(DataError, match=r"at least 2 classes. Received: 1 sub-folders"):
        open_source(f"folder:{tmp_path}")
    (animals / "fox").mkdir()
    with pytest.raises(DataError, match="class 'fox' of folder:"):
        open_source(f"folder:{animals}")


def in_parts(folder, parts) -> Path:
    """Part -> classes; every class of a part has one image."""
    for number, (part, names) in enumerate(parts.items()):
        for c, name in enumerate(names):
            save(folder / part / name / f"{number}.png", 10 * number + c)
    return folder


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("base", "validation", "novel"),
        ("Train", "VAL", "Test"),
        ("train", "valid", "test"),
        ("training", "valid", "testing"),
    ],
)
def test_parts_with_classes_of_their_own_are_the_splits(tmp_path, names):
    folder = in_parts(tmp_path / "parts", dict(zip(names, (["dog", "ant"], ["cat"], ["bee", "elk"]))))
    source = open_source(f"folder:{folder}")
    assert source.class_names == ("ant", "bee", "cat", "dog", "elk")
    assert [source.split(s).class_names for s in ("base", "val", "novel")] == [("ant", "dog"), ("cat",), ("bee", "elk")]
    assert levels(source.split("base")) == [[1], [0]]
    (folder / "splits.json").write_text(json.dumps({"base": ["elk"]}))
    assert open_source(f"folder:{folder}").split("base").class_names == ("elk",)


def test_a_part_may_be_missing(tmp_path):
    source = open_source(f"folder:{in_parts(tmp_path / 'parts', {'train': ['a', 'b'], 'test': ['c']})}")
    assert source.split("novel").class_names == ("c",)
    with pytest.raises(DataError, match=r"split 'val' .* has no classes"):
        source.split("val")


def test_parts_that_share_classes_are_pooled(tmp_path):
    folder = in_parts(tmp_path / "parts", {"train": ["a", "b", "c", "d"], "test": ["a", "b", "c", "d"]})
    source = open_source(f"folder:{folder}")
    assert [sorted(one) for one in levels(source.split("all"))] == [[0, 10], [1, 11], [2, 12], [3, 13]]
    assert source.split("novel").class_names == ("d",)


@pytest.mark.parametrize("extra", ["car/1.png", "train/1.png", "validation/x/1.png"])
def test_folders_that_only_look_like_parts_are_classes(tmp_path, extra):
    """A class of trains; images in the part itself; two parts for one split."""
    folder = tmp_path / "vehicles"
    for name in ("train", "val"):
        save(folder / name / ("0.png" if extra == "car/1.png" else "a/0.png"))
    save(folder / extra)
    if extra == "car/1.png":
        assert open_source(f"folder:{folder}").class_names == ("car", "train", "val")
    else:
        with pytest.raises(DataError, match="every class must have images"):
            open_source(f"folder:{folder}")


def test_files_that_are_passed_over_are_known(animals):
    (animals / "bee" / "photo.tiff").write_bytes(b"II*")
    (animals / "dog" / "more").mkdir()
    assert open_source(f"folder:{animals}").ignored == (f"{animals}/bee/photo.tiff", f"{animals}/dog/more")


def test_damaged_image_is_named_when_read(animals):
    (animals / "bee" / "1.png").write_text("no image")
    images = open_source(f"folder:{animals}").split("all")
    with pytest.raises(DataError, match=r"bee/1.png"):
        images.read(3)


# === filelist ===


@pytest.mark.parametrize("absolute", [True, False])
def test_filelist_paths(tmp_path, animals, monkeypatch, absolute):
    names = [animals / "ant" / "0.png", animals / "dog" / "1.png", animals / "bee" / "0.png"]
    names = names if absolute else [os.path.relpath(name, tmp_path / "lists") for name in names]
    write_list(tmp_path / "lists" / "mine.json", ["ant", "bee", "dog"], names, [0, 2, 1])
    monkeypatch.chdir(tmp_path)
    source = open_source("filelist:lists/mine.json")
    assert source.labels.tolist() == [0, 2, 1]
    assert levels(source.split("all")) == [[0], [10], [31]]
    assert source.split("base").class_names == ("ant", "dog")


def test_filelist_keeps_the_published_split_where_classes_are_missing(tmp_path):
    names = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"]
    path = write_list(tmp_path / "some.json", names, ["a.png", "b.png", "c.png"], [7, 2, 5])
    source = open_source(f"filelist:{path}")
    assert source.class_names == ("c2", "c5", "c7")
    assert source.labels.tolist() == [2, 0, 1]
    assert [source.split(s).class_names for s in ("base", "val", "novel")] == [("c2",), ("c5",), ("c7",)]


def test_filelist_with_splits_beside_it(tmp_path):
    path = write_list(tmp_path / "some.json", ["a", "b", "c"], ["0.png", "1.png"], [0, 2])
    (tmp_path / "splits.json").write_text(json.dumps({"base": ["b", "c"], "novel": ["a"]}))
    source = open_source(f"filelist:{path}")
    assert source.split("base").class_names == ("c",)
    assert source.split("novel").class_names == ("a",)


def published_lists(folder: Path, animals: Path) -> None:
    """Three lists, each with all class names and the images of its own classes, as published."""
    names = ["ant", "bee", "cat", "dog", "elk"]
    for split, classes in {"base": (0, 2, 4), "val": (1,), "novel": (3,)}.items():
        images = [animals / names[c] / f"{i}.png" for c in classes for i in range(2)]
        write_list(folder / f"{split}.json", names, images, [c for c in classes for _ in range(2)])


@pytest.mark.parametrize("opened", ["base", "novel"])
def test_sibling_lists_are_the_splits(tmp_path, animals, opened):
    published_lists(tmp_path / "lists", animals)
    source = open_source(f"filelist:{tmp_path}/lists/{opened}.json")
    assert source.split("base").class_names == ("ant", "cat", "elk")
    assert levels(source.split("base")) == [[0, 1], [20, 21], [40, 41]]
    assert levels(source.split("val")) == [[10, 11]]
    assert levels(source.split("novel")) == [[30, 31]]
    assert source.describe(source.split("novel").members[0][1]) == str(animals / "dog" / "1.png")


def test_sibling_lists_may_be_missing(tmp_path, animals):
    published_lists(tmp_path / "lists", animals)
    (tmp_path / "lists" / "val.json").unlink()
    source = open_source(f"filelist:{tmp_path}/lists/base.json")
    assert len(source.split("all").class_names) == 4
    with pytest.raises(DataError, match=r"split 'val' of filelist:.* has no classes"):
        source.split("val")
    with pytest.raises(DataError, match=r"cannot read .*val.json: No such file"):
        open_source(f"filelist:{tmp_path}/lists/val.json")


def test_sibling_lists_may_not_share_classes_or_images(tmp_path):
    write_list(tmp_path / "base.json", ["ant", "bee"], ["0.png"], [0])
    write_list(tmp_path / "novel.json", ["ant", "bee"], ["1.png"], [0])
    with pytest.raises(DataError, match="class 'ant' is in base and in novel"):
        open_source(f"filelist:{tmp_path}/base.json")
    write_list(tmp_path / "novel.json", ["ant", "bee"], ["./0.png"], [1])
    with pytest.raises(DataError, match=r"each image once only. Received: '.*0.png' 2 times"):
        open_source(f"filelist:{tmp_path}/base.json")


@pytest.mark.parametrize(
    ("label_names", "image_names", "labels", "message"),
    [
        (["a", "b"], ["0.png"], [2], "integers from 0 to 1. Received: 2"),
        (["a", "b"], ["0.png"], [-1], "Received: -1"),
        (["a", "b"], ["0.png"], [0.0], "Received: 0.0"),
        (["a", "b"], ["0.png"], [True], "Received: True"),
        (["a", "b"], ["0.png", "1.png"], [0], "equal length. Received: 2 and 1"),
        (["a", "b"], [], [], "at least one image"),
        (["a", 3], ["0.png"], [0], "'label_names' of"),
        (["a", "a"], ["0.png", "1.png"], [0, 1], "each class once only"),
        (["a", "b"], ["0.png", "0.png"], [0, 1], "each image once only"),
        ("ab", ["0.png"], [0], "must have a list 'label_names'. Received: str"),
    ],
)
def test_filelist_errors(tmp_path, label_names, image_names, labels, message):
    path = write_list(tmp_path / "bad.json", label_names, image_names, labels)
    with pytest.raises(DataError) as caught:
        open_source(f"filelist:{path}")
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"), [("[1]", "JSON object"), ("{", "not valid JSON"), ("{}", "no such key")]
)
def test_filelist_that_is_none(tmp_path, content, message):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(DataError, match=message):
        open_source(f"filelist:{tmp_path}/bad.json")


# === synthetic ===


def test_synthetic_draws_images_and_masks():
    from egt_tf.data import synthetic

    source = open_source("synthetic:shapes")
    index = 2 * synthetic.IMAGES_PER_CLASS + 17
    image, mask = synthetic.draw("shapes", 2, 17)
    np.testing.assert_array_equal(source.read(index), image)
    np.testing.assert_array_equal(source.mask(np.int64(index)), mask)
    assert source.labels[index] == 2
    assert source.describe(index) == f"synthetic:shapes/{synthetic.CLASS_NAMES[2]}/17"
    novel = source.split("novel")
    assert novel.class_names == tuple(synthetic.CLASS_NAMES[3::4])
    np.testing.assert_array_equal(novel.mask(index), mask)


def test_synthetic_domain_must_exist():
    with pytest.raises(DataError, match="shapes"):
        open_source("synthetic:shape")


def test_a_home_folder_of_nobody_is_a_name_like_any_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    in_parts(tmp_path / "~nobody-here" / "animals", {"ant": ["a"], "bee": ["b"]})
    for name in ("~nobody-here/missing", "~nobody-here/missing.json"):
        with pytest.raises(DataError, match="~nobody-here/missing"):
            open_source(f"{'filelist' if name.endswith('json') else 'folder'}:{name}")
    with pytest.raises(DataError, match="must be folder:DIR"):
        open_source("~nobody-here/missing")
    with pytest.raises(DataError, match="did you mean 'folder:~/~nobody-here'"):
        open_source("~/~nobody-here")


# === TensorFlow Datasets ===


@pytest.fixture(scope="module")
def tfds_builder_class():
    tfds = pytest.importorskip("tensorflow_datasets")

    class TinyAnimals(tfds.core.GeneratorBasedBuilder):
        """Two splits of four classes; the level of an image says which it is."""

        VERSION = tfds.core.Version("1.0.0")
        CLASSES = ["ant", "bee", "cat", "dog"]

        def _info(self):
            label = tfds.features.ClassLabel(names=self.CLASSES)
            features = {"image": tfds.features.Image(encoding_format="png"), "label": label}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(0), "test": self._generate_examples(1)}

        def _generate_examples(self, offset):
            for c in range(4):
                level = np.full((6, 7, 3), 10 * c + offset, np.uint8)
                yield c, {"image": level, "label": c}

    return TinyAnimals


def test_tfds_pools_the_prepared_splits(tmp_path, monkeypatch, tfds_builder_class):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    tfds_builder_class(data_dir=tmp_path, file_format="tfrecord").download_and_prepare()
    source = open_source("tfds:tiny_animals")
    assert source.class_names == ("ant", "bee", "cat", "dog")
    assert np.bincount(source.labels).tolist() == [2, 2, 2, 2]
    assert [sorted(one) for one in levels(source.split("all"))] == [[0, 1], [10, 11], [20, 21], [30, 31]]
    assert [sorted(one) for one in levels(source.split("novel"))] == [[30, 31]]
    assert source.read(0).shape == (6, 7, 3)
    assert source.describe(3) == "tfds:tiny_animals/3"
    for name in ("tiny_animals", "tiny_animals:1.0.0", "tiny_animals:1.*.*"):
        again = open_source(f"tfds:{name}")
        np.testing.assert_array_equal(again.labels, source.labels)
    with pytest.raises(DataError, match=r"TensorFlow Datasets cannot open 'tiny_animals:2\.0\.0'"):
        open_source("tfds:tiny_animals:2.0.0")


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("eurosat", "eurosat"),
        ("eurosat:rgb", "eurosat/rgb"),
        ("eurosat:2.0.0", "eurosat:2.0.0"),
        ("eurosat:2.*.*", "eurosat:2.*.*"),
        ("eurosat:rgb:2.0.0", "eurosat/rgb:2.0.0"),
        ("eurosat/rgb", "eurosat/rgb"),
        ("eurosat/rgb:2.0.0", "eurosat/rgb:2.0.0"),
        ("imagenet_resized:8x8", "imagenet_resized/8x8"),
    ],
)
def test_versions_of_tfds_are_no_configurations(name, theirs):
    assert _tfds_name(name) == theirs


def test_tfds_that_is_not_prepared_says_how(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError) as caught:
        open_source("tfds:eurosat:rgb")
    assert "prepare it with: tfds build eurosat/rgb --data_dir=" in str(caught.value)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["no_such_set", "eurosat:nope", "a b!", "eurosat/rgb:9.9.9"])
def test_tfds_unknown_names(tmp_path, monkeypatch, name):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match="TensorFlow Datasets cannot open") as caught:
        open_source(f"tfds:{name}")
    assert "\n" not in str(caught.value)


# === real photos ===


def test_benchmark_domains(benchmark_dir):
    source = open_source(f"folder:{benchmark_dir}/cub")
    listed = json.loads((benchmark_dir / "cub" / "splits.json").read_text())
    for split in ("base", "val", "novel"):
        assert sorted(source.split(split).class_names) == sorted(listed[split])
    image = source.read(int(source.split("novel").members[0][0]))
    assert image.shape == (84, 84, 3)
    assert image.std() > 5


# === Masks ===


def test_a_folder_of_masks_beside_the_images(animals):
    assert open_source(f"folder:{animals}").split("all").mask is None
    for file in animals.rglob("*.png"):
        mask = np.zeros((4, 5), np.uint8)
        mask[int(file.stem) :, 1:3] = 255
        target = Path(f"{animals}.masks") / file.relative_to(animals)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(target)
    images = open_source(f"folder:{animals}").split("all")
    for index in (0, 1, 9):
        expected = np.zeros((4, 5), bool)
        expected[int(Path(images.describe(index)).stem) :, 1:3] = True
        np.testing.assert_array_equal(images.mask(index), expected)
    Image.new("L", (9, 9)).save(Path(f"{animals}.masks") / "ant" / "0.png")
    with pytest.raises(DataError, match=r"as large as its image, 5 x 4 pixels. Received: .*0.png, 9 x 9"):
        images.mask(0)
    (Path(f"{animals}.masks") / "ant" / "0.png").unlink()
    with pytest.raises(DataError, match="every image must have a mask where there are any"):
        images.mask(0)
