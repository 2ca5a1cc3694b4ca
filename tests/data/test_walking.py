"""Which images are found below folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from egt_tf.data.walking import image_files
from egt_tf.errors import DataError


def test_files_stay_and_folders_are_gone_through(tmp_path):
    for name in ("b.JPG", "a.png", "deep/er/c.webp", "notes.txt", ".hidden.png", ".hidden/d.png"):
        (tmp_path / "new" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "new" / name).touch()
    (tmp_path / "new" / "deep" / "loop").symlink_to(tmp_path / "new")
    found = image_files([tmp_path / "x.txt", tmp_path / "new"])
    names = [str(path.relative_to(tmp_path)) for path in found]
    assert names == ["x.txt", "new/a.png", "new/b.JPG", "new/deep/er/c.webp"]
    assert image_files([]) == []


def test_a_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"must have images \(.*Received: none in it"):
        image_files([Path(tmp_path)])
