"""What sets of TensorFlow Datasets may look like: shards, configurations, grey images, other names of features."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from egt_tf.data.images import decode_image
from egt_tf.data.records import read_records
from egt_tf.data.sources import open_source
from egt_tf.errors import DataError

tfds = pytest.importorskip("tensorflow_datasets")


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch, no_network):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    return tmp_path


def features(**others):
    return {
        "image": tfds.features.Image(encoding_format="png"),
        "label": tfds.features.ClassLabel(names=["ant", "bee", "cat", "dog"]),
        **others,
    }


def make(name, examples, feature_types, supervised=("image", "label"), **preparation):
    """Prepares a set of the given examples of its split "train", and returns its builder."""

    class Made(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """A set made for a test."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(feature_types), supervised_keys=supervised
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield from enumerate(examples)

    Made.name = name
    builder = Made(data_dir=os.environ["TFDS_DATA_DIR"])
    builder.download_and_prepare(
        file_format=preparation.pop("file_format", "tfrecord"),
        download_config=tfds.download.DownloadConfig(try_download_gcs=False, **preparation),
    )
    return builder


def grey(level, channels=3):
    return np.full((5, 6, channels), level, np.uint8)


def test_every_example_is_found_over_all_files():
    examples = [{"image": grey(10 * c + i), "label": c} for c in range(4) for i in range(5)]
    builder = make("sharded", examples, features(), num_shards=3)
    assert builder.info.splits["train"].num_shards == 3
    records = read_records("tfds:sharded", builder)
    found = {(int(label), int(decode_image(records.image(i))[0, 0, 0])) for i, label in enumerate(records.labels)}
    assert found == {(c, 10 * c + i) for c in range(4) for i in range(5)}
    assert len(records.files) == 3
    assert set(records.splits) == {"train"}


def test_nothing_is_kept_in_memory_but_places():
    examples = [
        {"image": np.random.default_rng(c).integers(0, 256, (90, 90, 3), np.uint8), "label": c % 4} for c in range(8)
    ]
    records = read_records("tfds:big", make("big", examples, features()))
    assert records.places.shape == (8, 3)
    assert not any(isinstance(value, bytes) for value in vars(records).values())
    assert len(records.image(0)) > 20_000


def test_unlabelled_examples_are_left_out():
    examples = [{"image": grey(level), "label": label} for level, label in ((1, 0), (2, -1), (3, 3))]
    records = read_records("tfds:some", make("some", examples, features()))
    assert sorted(records.labels.tolist()) == [0, 3]


def test_texts_and_numbers_are_kept_on_demand():
    types = features(file=tfds.features.Text(), kind=tfds.features.ClassLabel(names=["x", "y"]))
    examples = [{"image": grey(c), "label": c, "file": f"é{c}", "kind": c % 2} for c in range(4)]
    records = read_records("tfds:kept", make("kept", examples, types), keep=("file", "kind"))
    assert sorted(zip(records.labels.tolist(), records.kept["file"], records.kept["kind"])) == [
        (c, f"é{c}", c % 2) for c in range(4)
    ]


def test_supervised_keys_name_the_features():
    types = {"picture": tfds.features.Image(encoding_format="png"), "kind": tfds.features.ClassLabel(names=["x", "y"])}
    records = read_records("tfds:named", make("named", [{"picture": grey(7), "kind": 1}], types, ("picture", "kind")))
    assert records.class_names == ("x", "y")
    assert records.image(0).startswith(b"\x89PNG")


def test_grey_and_sixteen_bit_images():
    types = {**features(), "image": tfds.features.Image(shape=(None, None, 1), encoding_format="png")}
    records = read_records("tfds:grey", make("grey", [{"image": grey(99, 1), "label": 0}], types))
    assert decode_image(records.image(0)).tolist() == grey(99).tolist()
    types["image"] = tfds.features.Image(shape=(None, None, 1), dtype=np.uint16, encoding_format="png")
    deep = {"image": np.full((5, 6, 1), 25700, np.uint16), "label": 0}
    records = read_records("tfds:deep", make("deep", [deep], types))
    assert decode_image(records.image(0)).tolist() == grey(100).tolist()


@pytest.mark.parametrize(
    ("types", "received"),
    [
        ({"image": tfds.features.Image(), "target": tfds.features.ClassLabel(num_classes=2)}, "image, target"),
        (
            {
                "image": tfds.features.Tensor(shape=(2, 2, 3), dtype=np.uint8),
                "label": tfds.features.ClassLabel(num_classes=2),
            },
            "image, label",
        ),
    ],
)
def test_other_features_are_refused(types, received):
    pixels = np.zeros((2, 2, 3), np.uint8)
    example = {key: pixels if key == "image" else 0 for key in types}
    builder = make("other", [example], types, None)
    with pytest.raises(DataError, match=rf"must have the features 'image' \(Image\).*Received: {received}"):
        read_records("tfds:other", builder)


def test_images_of_floats_are_refused():
    types = {**features(), "image": tfds.features.Image(shape=(None, None, 1), dtype=np.float32)}
    builder = make("floats", [{"image": np.ones((4, 4, 1), np.float32), "label": 0}], types)
    with pytest.raises(DataError, match=r"of 8 or 16 bits. Received: float32"):
        read_records("tfds:floats", builder)


def test_another_file_format_is_refused():
    builder = make("packed", [{"image": grey(1), "label": 0}], features(), file_format="array_record")
    with pytest.raises(DataError, match=r"prepared as tfrecord files. Received: array_record"):
        read_records("tfds:packed", builder)


def test_a_configuration_is_chosen_after_a_colon():
    class EgtPaints(tfds.core.GeneratorBasedBuilder):
        """Two configurations that differ in their images."""

        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="dark"), tfds.core.BuilderConfig(name="light")]

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features()))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for c in range(4):
                yield c, {"image": grey(c + (100 if self.builder_config.name == "light" else 0)), "label": c}

    for config in ("dark", "light"):
        EgtPaints(config=config, data_dir=os.environ["TFDS_DATA_DIR"]).download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
    for suffix, level in ((":light", 103), ("/light", 103), ("/light:1.0.0", 103), (":dark", 3), ("", 3)):
        images = open_source(f"tfds:egt_paints{suffix}").split("novel")
        assert [int(images.read(i)[0, 0, 0]) for i in images.members[0]] == [level]


def test_a_file_that_changed_after_it_was_indexed():
    records = read_records("tfds:moved", make("moved", [{"image": grey(c), "label": c} for c in range(4)], features()))
    whole = Path(records.files[0]).read_bytes()
    for changed in (whole[:20], bytes(len(whole)), b"\xff" * len(whole)):
        with open(records.files[0], "wb") as file:
            file.write(changed)
        with pytest.raises(DataError, match=r"cannot read example 3 of tfds:moved in .*tfrecord"):
            records.image(3)


def test_a_set_without_a_label():
    builder = make("unlabelled", [{"image": grey(1), "label": -1}, {"image": grey(2), "label": -1}], features())
    with pytest.raises(
        DataError, match=r"^tfds:unlabelled must have images with labels\. Received: none, in the splits train$"
    ):
        read_records("tfds:unlabelled", builder)
