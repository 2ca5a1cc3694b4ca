from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from egt_tf.data.images import decode_image, hidden_damage
from egt_tf.errors import DataError
from tests.helpers.image_files import encode


def noise(file_format: str, **options) -> bytes:
    """A picture that no file of the format can make much shorter."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    return encode(Image.fromarray(pixels), file_format, **options)


WHOLE = {
    "PNG": noise("PNG"),
    "JPEG": noise("JPEG"),
    "progressive": noise("JPEG", progressive=True),
    "restart": noise("JPEG", restart_marker_rows=1),
    "GIF": noise("GIF"),
    "BMP": noise("BMP"),
}


@pytest.mark.parametrize(
    ("kind", "behind"),
    [
        (kind, behind)
        for kind in WHOLE
        for behind in (b"", b"\0" * 9, b"a note", b"a note\0")
        # Not told from a cut one.
        if (kind, behind) != ("GIF", b"a note\0")
    ],
)
def test_whole_files_pass_whatever_stands_behind_them(kind, behind):
    assert hidden_damage(WHOLE[kind] + behind) is None


@pytest.mark.parametrize("kind", ["JPEG", "progressive", "restart", "GIF"])
def test_zeros_in_place_of_the_end(kind):
    data = WHOLE[kind]
    cut = data[:-200] + bytes(200)
    assert hidden_damage(cut) == "its end is missing, zeros are in its place"
    with pytest.raises(DataError, match=r"cannot read image a.jpg: "):
        decode_image(cut, "a.jpg")


def test_the_end_of_a_thumbnail_is_not_that_of_the_image():
    thumbnail = WHOLE["JPEG"]
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    data = WHOLE["JPEG"][:2] + segment + WHOLE["JPEG"][2:]
    assert decode_image(data).shape == (40, 50, 3)
    assert hidden_damage(data) is None
    assert hidden_damage(data[:-300] + bytes(300))


@pytest.mark.parametrize("part", [b"IDAT", b"IHDR"])
def test_a_wrong_checksum_of_pixels(part):
    data = bytearray(WHOLE["PNG"])
    place = data.index(part) + (100 if part == b"IDAT" else 8)
    data[place] ^= 1
    assert hidden_damage(bytes(data)) == f"the checksum of its {part.decode()} part is wrong"


def test_a_wrong_checksum_of_a_note_does_no_harm():
    from PIL import PngImagePlugin

    notes = PngImagePlugin.PngInfo()
    notes.add_text("title", "a bird")
    data = noise("PNG", pnginfo=notes).replace(b"a bird", b"a bard")
    assert hidden_damage(data) is None
