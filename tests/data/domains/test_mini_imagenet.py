from __future__ import annotations

import io
import json
import re
import tarfile

import numpy as np
import pytest
from PIL import Image

from egt_tf.data.domains import mini_imagenet
from egt_tf.data.domains.mini_imagenet import manual_pictures
from egt_tf.data.domains.mini_imagenet_synsets import BASE, NOVEL, VAL
from egt_tf.data.domains.prepare import prepare_domain
from egt_tf.data.sources import open_source
from egt_tf.errors import DataError
from tests.helpers.image_files import encode

SYNSETS = (*BASE, *VAL, *NOVEL)


def encoded(level: int) -> bytes:
    return encode(Image.fromarray(np.full((16, 16, 3), level % 251, np.uint8)), "PNG")


def write_folders(root, images=2, part=lambda synset: "", name=lambda synset: synset, suffix="png"):
    for c, synset in enumerate(SYNSETS):
        folder = root / part(synset) / name(synset)
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(images):
            (folder / f"{synset}_{i}.{suffix}").write_bytes(encoded(2 * c + i))


def tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def class_tars(images=2) -> dict[str, bytes]:
    return {
        f"{synset}.tar": tar({f"{synset}_{i}.JPEG": encoded(2 * c + i) for i in range(images)})
        for c, synset in enumerate(SYNSETS)
    }


def test_the_classes_are_those_of_the_published_split():
    assert (len(BASE), len(VAL), len(NOVEL)) == (64, 16, 20)
    assert len(set(SYNSETS)) == 100
    assert all(re.fullmatch(r"n\d{8}", synset) for synset in SYNSETS)
    # Well-known members: house finch to train on, nematode and golden retriever to test on.
    assert "n01532829" in BASE
    assert {"n01930112", "n02099601"} <= set(NOVEL)


def test_the_classes_are_those_of_the_benchmark(benchmark_dir):
    listed = json.loads((benchmark_dir / "miniImagenet" / "splits.json").read_text())
    for split, names in (("base", BASE), ("val", VAL), ("novel", NOVEL)):
        assert sorted(name[:9] for name in listed[split]) == sorted(names)


@pytest.mark.parametrize("layout", ["flat", "parts", "nested", "named", "tars", "whole"])
def test_layouts(tmp_path, layout):
    root = tmp_path / "images"
    part = {name: split for split, names in (("train", BASE), ("val", VAL), ("test", NOVEL)) for name in names}
    if layout == "flat":
        write_folders(root)
    elif layout == "parts":
        write_folders(root, part=part.get)
    elif layout == "nested":
        write_folders(root, part=lambda synset: f"mini/{part[synset]}", suffix="JPEG")
    elif layout == "named":
        write_folders(root, name=lambda synset: f"{synset}_thing")
    else:
        root.mkdir()
        files = class_tars() if layout == "tars" else {mini_imagenet.WHOLE_TRAINING_SET: tar(class_tars())}
        for name, data in files.items():
            (root / name).write_bytes(data)
    pictures = manual_pictures(root)
    assert [one.label for one in pictures] == np.repeat(range(100), 2).tolist()
    assert [one.read() for one in pictures] == [encoded(number) for number in range(200)]
    assert len({one.origin for one in pictures}) == 200


def test_prepared(tmp_path, data_folder):
    write_folders(tmp_path / "images")
    found = prepare_domain("mini_imagenet", tmp_path / "images")
    assert found.folder == data_folder / "mini_imagenet" / "1.0.0"
    assert [(one.split, one.classes, one.images) for one in found.counts] == [
        ("base", 64, 128),
        ("val", 16, 32),
        ("novel", 20, 40),
    ]
    assert found.problems == ()
    source = open_source("domain:mini_imagenet")
    for split, names in (("base", BASE), ("val", VAL), ("novel", NOVEL)):
        assert source.split(split).class_names == names
    index = int(source.split("novel").members[3][0])
    assert source.describe(index).startswith(f"domain:mini_imagenet/{NOVEL[3]}/{NOVEL[3]}_")
    assert source.read(index)[0, 0, 0] in (2 * 83, 2 * 83 + 1)


def test_an_unreadable_image_is_a_problem_not_a_crash(tmp_path):
    write_folders(tmp_path / "images")
    bad = tmp_path / "images" / NOVEL[0] / f"{NOVEL[0]}_0.png"
    bad.write_bytes(b"no image")
    found = prepare_domain("mini_imagenet", tmp_path / "images")
    assert found.problems == ("1 unreadable images",)
    assert bad.name in str(found.check.unreadable[0])


def test_the_first_images_are_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(mini_imagenet, "IMAGES_PER_CLASS", 2)
    write_folders(tmp_path, images=4)
    assert [one.origin for one in manual_pictures(tmp_path)[:3]] == [
        f"{BASE[0]}/{BASE[0]}_0.png",
        f"{BASE[0]}/{BASE[0]}_1.png",
        f"{BASE[1]}/{BASE[1]}_0.png",
    ]


def test_missing_classes_are_named(tmp_path):
    write_folders(tmp_path)
    for synset in NOVEL[:2]:
        for file in (tmp_path / synset).iterdir():
            file.unlink()
    with pytest.raises(DataError, match=rf"2 classes are missing \({NOVEL[0]}, {NOVEL[1]}\)"):
        manual_pictures(tmp_path)


def test_a_damaged_archive_is_named(tmp_path):
    for name, data in class_tars().items():
        (tmp_path / name).write_bytes(data)
    bad = tmp_path / f"{BASE[5]}.tar"
    bad.write_bytes(b"no archive" * 100)
    with pytest.raises(DataError, match=f"cannot read the archive .*{bad.name}"):
        manual_pictures(tmp_path)
    whole = class_tars()[bad.name]
    bad.write_bytes(whole[:520])
    with pytest.raises(DataError, match=f"cannot read the archive .*{bad.name}"):
        manual_pictures(tmp_path)
    bad.write_bytes(whole)
    pictures = manual_pictures(tmp_path)
    bad.write_bytes(whole[:520])
    with pytest.raises(DataError, match="ends too early"):
        [one.read() for one in pictures]


def test_without_a_folder_the_error_says_what_goes_where(data_folder, tmp_path):
    with pytest.raises(DataError) as caught:
        prepare_domain("mini_imagenet")
    assert str(data_folder / "downloads" / "manual") in str(caught.value)
    assert "ILSVRC2012_img_train.tar" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"must exist. Received: .*nowhere"):
        prepare_domain("mini_imagenet", tmp_path / "nowhere")
    assert not data_folder.exists()
