from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image

from egt_tf.data.filelists import export_filelists
from egt_tf.data.sources import Source, open_source
from egt_tf.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """Eight classes of two images; the colour says which image it is."""
    for c in range(8):
        for i in range(2):
            path = tmp_path / "things" / f"class {c}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((4, 5, 3), 10 * c + i, np.uint8)).save(path)
    return tmp_path / "things"


def content(source: Source) -> dict:
    """Split -> class -> the pixels of its images."""
    found = {}
    for split in ("base", "val", "novel"):
        images = source.split(split)
        found[split] = {
            name: [source.read(i).tobytes() for i in members]
            for name, members in zip(images.class_names, images.members)
        }
    return found


@pytest.mark.parametrize("copy_images", [False, True])
def test_reads_back_to_the_same(folder, tmp_path, copy_images, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = open_source("folder:things")
    assert export_filelists(source, "new/lists", copy_images=copy_images) == {"base": 8, "val": 4, "novel": 4}
    # From another place, under another name.
    (tmp_path / "new").rename(tmp_path / "moved")
    expected = content(open_source(f"folder:{folder}"))
    monkeypatch.chdir("/")
    again = open_source(f"filelist:{tmp_path}/moved/lists/base.json")
    assert content(again) == expected
    assert {c: again.describe(i) for i, c in enumerate(again.labels.tolist())}.keys() == set(range(8))


def test_the_format_is_the_published(folder, tmp_path):
    export_filelists(open_source(f"folder:{folder}"), tmp_path / "lists")
    listed = json.loads((tmp_path / "lists" / "val.json").read_text())
    assert listed == {
        "label_names": [f"class {c}" for c in range(8)],
        "image_names": [f"{folder}/class {c}/{i}.png" for c in (1, 5) for i in range(2)],
        "image_labels": [1, 1, 5, 5],
    }
    (tmp_path / "ordinary").mkdir()
    assert os.stat(tmp_path / "lists").st_mode == os.stat(tmp_path / "ordinary").st_mode


def test_copied_images_are_listed_relative_to_the_lists(tmp_path):
    class_names = ("a/b", "..", "c", "d")
    source = Source(
        "mine",
        class_names,
        np.repeat(np.arange(4), 2),
        {"base": (0, 2), "val": (1,), "novel": (3,)},
        read=lambda i: np.full((3, 3, 3), i, np.uint8),
        describe=str,
    )
    export_filelists(source, tmp_path / "lists", copy_images=True)
    names = json.loads((tmp_path / "lists" / "base.json").read_text())["image_names"]
    assert names == [f"images/{c:04d}/{i:07d}.png" for c, i in ((0, 0), (0, 1), (2, 4), (2, 5))]
    assert content(open_source(f"filelist:{tmp_path}/lists/novel.json")) == content(source)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp"])
def test_files_are_copied_byte_by_byte(tmp_path, suffix):
    for c in range(4):
        (tmp_path / "things" / f"{c}").mkdir(parents=True)
        # A name that tells another format than the content is kept as what it is.
        image_format = {"jpg": "jpeg"}.get(suffix, suffix)
        Image.new("RGB", (9, 9), (c, 200, 30)).save(tmp_path / "things" / f"{c}" / "0.png", image_format)
    source = open_source(f"folder:{tmp_path}/things")
    export_filelists(source, tmp_path / "lists", copy_images=True)
    copied = tmp_path / "lists" / "images" / "0002" / f"0000002.{suffix}"
    assert copied.read_bytes() == source.encoded(2)
    assert content(open_source(f"filelist:{tmp_path}/lists/val.json")) == content(source)


def test_a_split_without_classes_has_no_list(folder, tmp_path):
    (folder / "splits.json").write_text(json.dumps({"base": ["class 0"], "novel": ["class 1"]}))
    assert export_filelists(open_source(f"folder:{folder}"), tmp_path / "lists") == {"base": 2, "novel": 2}
    assert sorted(path.name for path in (tmp_path / "lists").iterdir()) == ["base.json", "novel.json"]
    (folder / "splits.json").write_text("{}")
    with pytest.raises(DataError, match="has none there"):
        export_filelists(open_source(f"folder:{folder}"), tmp_path / "more")


def test_what_is_there_is_not_touched(folder, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "val.json").write_text("mine")
    (tmp_path / "file").write_text("mine")
    source = open_source(f"folder:{folder}")
    for taken in ("full", "file", "things"):
        with pytest.raises(DataError, match="a new or an empty folder"):
            export_filelists(source, tmp_path / taken)
    (tmp_path / "empty").mkdir()
    assert export_filelists(source, tmp_path / "empty")


def test_images_without_files_must_be_copied(tmp_path):
    with pytest.raises(DataError, match="--copy-images"):
        export_filelists(open_source("synthetic:shapes"), tmp_path / "lists")


def test_a_failure_leaves_nothing(folder, tmp_path):
    (folder / "class 7" / "1.png").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=r"class 7/1.png"):
        export_filelists(open_source(f"folder:{folder}"), tmp_path / "new" / "lists", copy_images=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_backslashes_of_lists_from_windows(folder, tmp_path):
    """Folders are found; a name that really has a backslash stays."""
    names = [f"things\\class {c}\\{i}.png" for c in range(8) for i in range(2)]
    odd = tmp_path / "things\\class 0\\0.png"
    listed = {"label_names": [f"class {c}" for c in range(8)], "image_names": names}
    listed["image_labels"] = [c for c in range(8) for _ in range(2)]
    (tmp_path / "list.json").write_text(json.dumps(listed))
    source = open_source(f"filelist:{tmp_path}/list.json")
    assert [int(source.read(i)[0, 0, 0]) for i in range(16)] == [10 * c + i for c in range(8) for i in range(2)]
    Image.fromarray(np.full((4, 5, 3), 200, np.uint8)).save(odd)
    source = open_source(f"filelist:{tmp_path}/list.json")
    assert [int(source.read(i)[0, 0, 0]) for i in range(2)] == [200, 1]
    (tmp_path / "list.json").write_text(json.dumps({**listed, "image_names": ["things/class 0/0.png", *names[1:]]}))
    assert open_source(f"filelist:{tmp_path}/list.json").path(0).endswith("things/class 0/0.png")
