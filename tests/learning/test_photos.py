"""What is made of folders and lists that are not as they should be."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from egt_tf.errors import DataError
from egt_tf.learning.photos import folder_photos, labelled_photos, photo_pixels


def photo(path, level: int, size: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(level).integers(0, 255, (size, size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def test_classes_of_different_sizes_in_order(tmp_path):
    for name, count in (("bee", 3), ("ant", 1)):
        for index in range(count):
            photo(tmp_path / name / f"{index}.png", 10 * count + index)
    (tmp_path / "bee" / "notes.txt").write_text("no photo")
    (tmp_path / ".hidden").mkdir()
    seen = []
    photos = folder_photos(tmp_path, 16, progress=lambda done, total: seen.append((done, total)))
    assert photos.class_names == ("ant", "bee")
    assert photos.labels.tolist() == [0, 1, 1, 1]
    assert photos.names == ("ant/0.png", "bee/0.png", "bee/1.png", "bee/2.png")
    assert photos.pixels.shape == (4, 16, 16, 3)
    assert (photos.left_out, photos.remarks) == ((), ())
    assert seen[-1] == (4, 4)


def test_what_cannot_be_read_is_left_out_and_named(tmp_path):
    for name in ("ant", "bee"):
        photo(tmp_path / name / "0.png", len(name) + ord(name[0]))
    (tmp_path / "ant" / "bad.jpg").write_bytes(b"no photo")
    (remark,) = folder_photos(tmp_path, 16).left_out
    assert remark.where == "ant/bad.jpg"
    assert "cannot read image" in remark.reason


def test_duplicates(tmp_path):
    photo(tmp_path / "ant" / "0.png", 1)
    for copy in ("ant/1.png", "bee/0.png"):
        photo(tmp_path / copy, 1)
    photo(tmp_path / "bee" / "1.png", 2)
    photos = folder_photos(tmp_path, 16)
    assert [str(each) for each in photos.left_out] == ["ant/1.png: the same photo as ant/0.png"]
    assert [str(each) for each in photos.remarks] == ["bee/0.png: the same photo as ant/0.png, in another class"]
    assert photos.names == ("ant/0.png", "bee/0.png", "bee/1.png")


def test_photos_that_are_known_are_not_taken_again(tmp_path):
    """A folder that has grown is added as a whole; a class that has not grown needs no new photo."""
    for name, level in (("ant/0.png", 1), ("bee/0.png", 2)):
        photo(tmp_path / name, level)
    before = folder_photos(tmp_path, 16)
    known = dict(zip(before.digests, zip(before.names, ("ant", "bee"), strict=True), strict=True))
    with pytest.raises(DataError, match=r"is new. Received: none \(ant/0.png: the same photo as ant/0.png\)"):
        folder_photos(tmp_path, 16, known)
    photo(tmp_path / "bee" / "1.png", 3)
    after = folder_photos(tmp_path, 16, known)
    assert after.names == ("bee/1.png",)
    assert len(after.left_out) == 2


def test_folders_that_are_not_as_they_should_be(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"sub-folder of photos for each class. Received: no sub-folders"):
        folder_photos(tmp_path / "empty", 16)
    photo(tmp_path / "loose" / "1.png", 1)
    with pytest.raises(DataError, match="Received: 1 photos without a class"):
        folder_photos(tmp_path / "loose", 16)
    photo(tmp_path / "deep" / "animals" / "ant" / "1.png", 1)
    with pytest.raises(DataError, match=r"Received: folders in it, such as 'ant' in .*animals; name the folder whose"):
        folder_photos(tmp_path / "deep", 16)
    photo(tmp_path / "bad" / "ant" / "1.png", 1)
    (tmp_path / "bad" / "bee").mkdir()
    with pytest.raises(DataError, match=r"must have photos \(.*Received: none in .*bee"):
        folder_photos(tmp_path / "bad", 16)
    (tmp_path / "bad" / "bee" / "1.jpg").write_bytes(b"no photo")
    with pytest.raises(DataError, match=r"a photo that can be read. Received: none in 'bee' \(bee/1.jpg: cannot read"):
        folder_photos(tmp_path / "bad", 16)
    with pytest.raises(DataError, match="cannot read the folder"):
        folder_photos(tmp_path / "nowhere", 16)


def test_lists_of_files_and_pixels(tmp_path):
    photo(tmp_path / "a.png", 1)
    pixels = np.full((30, 20, 3), 7, np.uint8)
    photos = labelled_photos([tmp_path / "a.png", pixels], ["x", "y"], 16)
    assert photos.names == ("x/a.png", "y/2")
    assert photos.pixels[1].max() == 7
    with pytest.raises(DataError, match=r"every image must have a label. Received: 2 images and 1 labels"):
        labelled_photos([pixels, pixels], ["x"], 16)


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_pixels_that_are_no_image(image):
    with pytest.raises(DataError, match="an image must be a file or uint8 pixels"):
        photo_pixels(image, 8)


def test_photos_of_a_list_may_have_names():
    pixels = [np.full((8, 8, 3), level, np.uint8) for level in (10, 20, 30)]
    photos = labelled_photos(pixels, ["bee", "ant", "bee"], 8, names=["one.jpg", "two.jpg", "three.jpg"])
    assert photos.names == ("ant/two.jpg", "bee/one.jpg", "bee/three.jpg")
    with pytest.raises(DataError, match=r"must have a name, or none\. Received: 3 images and 1 names"):
        labelled_photos(pixels, ["bee", "ant", "bee"], 8, names=["one.jpg"])
