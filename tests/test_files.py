from __future__ import annotations

import errno
import json
import os
import stat

import numpy as np
import pytest
from PIL import Image

from egt_tf.files import (
    atomic_write,
    partial_folder,
    remove_partial_files,
    write_array,
    write_json,
    write_png,
    write_text,
)


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "folder" / "file.bin"
    with atomic_write(path) as file:
        file.write(b"abc")
        assert not path.exists()
    assert path.read_bytes() == b"abc"
    assert os.listdir(path.parent) == ["file.bin"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path, "w") as file:
        file.write("new")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_failing_rename_leaves_nothing(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "content").touch()
    with pytest.raises(OSError):
        write_text(tmp_path / "taken", "text")
    assert os.listdir(tmp_path) == ["taken"]


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(OSError) as caught, atomic_write(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(caught.value) == f"[Errno {errno.ENOSPC}] No space left on device: '{path}'"
    path.mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_text(path, "text")
    assert str(caught.value).endswith(f": '{path}'")


def test_an_error_without_a_number_keeps_its_words(tmp_path):
    with pytest.raises(OSError, match=r"^disk full$"), atomic_write(tmp_path / "file"):
        raise OSError("disk full")


def test_files_get_the_usual_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "text")
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_a_folder_is_hidden_until_the_block_renames_it(tmp_path):
    (tmp_path / "ordinary").mkdir()
    with partial_folder(tmp_path / "new" / "place") as folder:
        (folder / "file").touch()
        assert folder.parent == tmp_path / "new" / "place"
        assert folder.name.startswith(".")
        assert folder.stat().st_mode == (tmp_path / "ordinary").stat().st_mode
        folder.rename(folder.with_name("whole"))
    assert os.listdir(tmp_path / "new" / "place") == ["whole"]
    assert os.listdir(tmp_path / "new" / "place" / "whole") == ["file"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_no_folder(tmp_path, error):
    (tmp_path / "there").mkdir()
    for parent in ("there", "new/place"):
        with pytest.raises(error), partial_folder(tmp_path / parent) as folder:
            (folder / "file").touch()
            raise error
    assert os.listdir(tmp_path) == ["there"]
    assert os.listdir(tmp_path / "there") == []


def test_text_is_utf8_whatever_the_locale(tmp_path):
    write_text(tmp_path / "file", "Häher 鳥\n")
    assert (tmp_path / "file").read_bytes() == "Häher 鳥\n".encode()


def test_json(tmp_path):
    write_json(tmp_path / "file.json", {"a": [1, 2.5, None], "b": "ü"})
    assert json.loads((tmp_path / "file.json").read_text()) == {"a": [1, 2.5, None], "b": "ü"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": object()}])
def test_what_json_cannot_hold_leaves_the_old_file(tmp_path, value):
    path = tmp_path / "file.json"
    path.write_text("old")
    with pytest.raises((ValueError, TypeError)):
        write_json(path, {"value": value})
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.json"]


def test_array(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_array(tmp_path / "file.npy", array)
    loaded = np.load(tmp_path / "file.npy", allow_pickle=False)
    np.testing.assert_array_equal(loaded, array)
    assert loaded.dtype == np.float32


def test_arrays_of_objects_are_refused(tmp_path):
    with pytest.raises(ValueError):
        write_array(tmp_path / "file.npy", np.array([{}], dtype=object))
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_left_is_removed(tmp_path):
    for name in (".best.npz.x1.part", "best.npz", "notes.part", ".hidden"):
        (tmp_path / name).write_text("")
    remove_partial_files(tmp_path)
    remove_partial_files(tmp_path / "missing")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "best.npz", "notes.part"]


def test_a_picture_is_read_as_it_was_written(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    write_png(tmp_path / "new" / "a.png", pixels)
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), pixels)
    assert os.listdir(tmp_path / "new") == ["a.png"]
