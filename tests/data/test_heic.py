from __future__ import annotations

import io
import sys

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from egt_tf.data.heic import is_heic
from egt_tf.data.images import decode_image, oddities
from egt_tf.errors import DataError


def picture(height: int = 48, width: int = 80) -> np.ndarray:
    """A smooth picture without symmetry."""
    y, x = np.mgrid[:height, :width]
    return np.stack([40 + 2 * x, 60 + 3 * y, 200 - x - 2 * y], axis=-1).clip(0, 255).astype(np.uint8)


def heic(*pictures: np.ndarray, **options) -> bytes:
    """A file of one or several pictures, the first of them the primary one."""
    file = pillow_heif.from_pillow(Image.fromarray(pictures[0]))
    for more in pictures[1:]:
        file.add_from_pillow(Image.fromarray(more))
    buffer = io.BytesIO()
    file.save(buffer, quality=95, **options)
    return buffer.getvalue()


def test_a_photo():
    encoded = heic(picture())
    assert is_heic(encoded)
    assert np.abs(decode_image(encoded).astype(int) - picture()).mean() < 3
    assert oddities(encoded) == ()


def test_pillow_is_left_as_it_was():
    """Other code of the process can open no more formats than before."""
    encoded = heic(picture())
    decode_image(encoded)
    with pytest.raises(Image.UnidentifiedImageError):
        Image.open(io.BytesIO(encoded))


def test_a_turned_photo_is_turned_once():
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode_image(heic(np.ascontiguousarray(np.rot90(picture())), exif=exif.tobytes()))
    assert decoded.shape == picture().shape
    assert np.abs(decoded.astype(int) - picture()).mean() < 3


def test_several_pictures_and_transparent_ones():
    encoded = heic(picture(), np.zeros((48, 80, 3), np.uint8))
    assert np.abs(decode_image(encoded).astype(int) - picture()).mean() < 3
    assert oddities(encoded) == ("2 frames, the first is taken",)
    layer = np.concatenate([picture(), np.zeros((48, 80, 1), np.uint8)], axis=-1)
    assert decode_image(heic(layer)).min() > 250


def test_large_photos_are_refused_before_decoding(monkeypatch):
    monkeypatch.setattr("egt_tf.data.images.MAX_PIXELS", 3000)
    monkeypatch.setattr("egt_tf.data.images._to_rgb", lambda image: pytest.fail("decoded"))
    with pytest.raises(DataError, match=r"big\.heic has 80 x 48"):
        decode_image(heic(picture()), "big.heic")


def test_without_pillow_heif_the_command_that_installs_it_is_named(monkeypatch):
    encoded = heic(picture())
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(DataError) as caught:
        decode_image(encoded, "photos/cat.heic")
    assert str(caught.value) == (
        "cannot read image photos/cat.heic: a HEIC photo, which takes pillow-heif; install it: pip install pillow-heif"
    )
    assert oddities(encoded) == ()


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0", True),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", True),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", False),
        (b"\0\0\0\x18ftypavif\0\0\0\0", False),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", False),
        (b"", False),
    ],
)
def test_what_is_a_heic_file(encoded, expected):
    assert is_heic(encoded) == expected
    with pytest.raises(DataError, match="cannot read image x: "):
        decode_image(encoded, "x")


def test_damage_never_escapes_as_another_error():
    rng, whole, failed = np.random.default_rng(0), heic(picture()), 0
    for number in range(300):
        damaged = bytearray(whole[: rng.integers(len(whole))] if number % 3 == 0 else whole)
        for position in rng.integers(max(1, min(len(damaged), 400)), size=3 if number % 3 else 0):
            damaged[position] = rng.integers(256)
        try:
            oddities(bytes(damaged))
            assert decode_image(bytes(damaged), "x.heic").dtype == np.uint8
        except DataError as error:
            assert "x.heic" in str(error)
            assert "\n" not in str(error)
            failed += 1
    assert 100 < failed < 300
