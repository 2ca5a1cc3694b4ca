"""The photographs that come with the package."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image

from egt_tf.data.sources import open_source

SAMPLES = Path(__file__).resolve().parents[1] / "saved_models" / "samples"
SUPPORT = sorted((SAMPLES / "photos").glob("*/*.jpg"))
QUERIES = sorted((SAMPLES / "photo-queries").glob("*.jpg"))
CLASSES = sorted({path.parent.name for path in SUPPORT})


def relative(path: Path) -> str:
    return path.relative_to(SAMPLES).as_posix()


def test_five_photographs_to_learn_from_and_two_to_ask_for_each_class():
    assert len(CLASSES) >= 4
    for name in CLASSES:
        assert [path.name for path in SUPPORT if path.parent.name == name] == [f"{i:02d}.jpg" for i in range(1, 6)]
        assert [path.name for path in QUERIES if path.name.startswith(name)] == [f"{name}-{i:02d}.jpg" for i in (1, 2)]


def test_author_licence_and_source_of_each_file_are_written_down():
    rows = [line.split(" | ") for line in (SAMPLES / "photos/LICENSES.md").read_text("utf-8").splitlines()]
    rows = {row[0].strip("|` "): row[1:] for row in rows if row[0].startswith("| `")}
    assert sorted(rows) == sorted(relative(path) for path in (*SUPPORT, *QUERIES))
    for author, licence, source, *_ in rows.values():
        assert author.strip()
        assert licence in ("public domain", "CC0 1.0", "CC BY-SA 4.0")
        assert re.fullmatch(r"\[source\]\(https://[^()]+\)", source)


def test_photographs_are_small_files_without_metadata():
    files = [*SUPPORT, *QUERIES]
    assert sum(path.stat().st_size for path in files) < 1_500_000
    for path in files:
        with Image.open(path) as image:
            assert (image.format, image.mode, max(image.size) <= 320, len(image.getexif())) == ("JPEG", "RGB", True, 0)


def test_no_photograph_is_there_twice():
    """Thumbnails of one photograph, cropped or saved anew, are alike; those of different ones are not."""
    thumbnails = [
        np.asarray(Image.open(path).convert("L").resize((16, 16)), float).ravel() for path in SUPPORT + QUERIES
    ]
    alike = np.corrcoef(thumbnails) - np.eye(len(thumbnails))
    assert alike.max() < 0.9


def test_the_folder_opens_as_a_source():
    source = open_source(f"folder:{SAMPLES / 'photos'}")
    splits = [source.split(split) for split in ("base", "val", "novel")]
    assert sorted(name for images in splits for name in images.class_names) == CLASSES
