"""Thousands of damaged files: each is decoded or refused with a DataError, quickly, and nothing else happens."""

from __future__ import annotations

import signal
import warnings

import numpy as np
import pytest
from PIL import Image

from egt_tf.data.images import decode_image, oddities
from egt_tf.errors import DataError
from tests.helpers.image_files import encode

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
FILES_PER_KIND = 700


class _TooSlow(Exception):
    pass


def _seeds() -> dict[str, list[bytes]]:
    """A few whole files of each format, in different modes."""
    y, x = np.mgrid[:24, :31]
    colour = Image.fromarray(np.stack([8 * x, 10 * y, 255 - 4 * x - 5 * y], axis=-1).clip(0, 255).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    variants = {
        "PNG": [
            (colour, {}),
            (colour.convert("P"), {"transparency": 0}),
            (colour.convert("LA"), {}),
            (Image.fromarray((x * 2000).astype(np.uint16)), {}),
            (colour, {"exif": exif}),
        ],
        "JPEG": [(colour, {}), (colour.convert("CMYK"), {}), (colour, {"progressive": True}), (colour, {"exif": exif})],
        "GIF": [(colour, {}), (colour, {"save_all": True, "append_images": [colour.rotate(180)] * 2})],
        "WEBP": [
            (colour, {}),
            (colour, {"lossless": True}),
            (colour.convert("RGBA"), {"exif": exif}),
            (colour, {"save_all": True, "append_images": [colour.rotate(180)] * 2}),
        ],
        "BMP": [(colour, {}), (colour.convert("P"), {}), (colour.convert("1"), {})],
    }
    return {name: [encode(image, name, **options) for image, options in some] for name, some in variants.items()}


def _cut(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(len(data))]


def _flip_bits(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(data)
    for position in rng.integers(len(damaged), size=rng.integers(1, 9)):
        damaged[position] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def _overwrite(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Extreme values, in the header more often than not, where sizes and offsets are."""
    damaged = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        start = int(rng.integers(min(len(damaged), 60) if rng.uniform() < 0.7 else len(damaged)))
        value = (b"\x00", b"\xff", b"\x7f")[rng.integers(3)] * int(rng.integers(1, 5))
        damaged[start : start + len(value)] = value
    return bytes(damaged)


def _splice(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """The head of one file, perhaps of another format, before the rest of a second."""
    return other[: rng.integers(1, min(len(other), 64))] + data[rng.integers(len(data)) :]


MUTATIONS = {"cut": _cut, "flip": _flip_bits, "overwrite": _overwrite, "splice": _splice}


def _guarded(data: bytes, seconds: float = 2.0) -> bool:
    """Whether the file is decoded; fails if it takes too long or ends otherwise than it may."""

    def stop(*_):
        raise _TooSlow

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            oddities(data)
            image = decode_image(data, "fuzzed.png")
    except DataError as error:
        assert "fuzzed.png" in str(error)
        assert "\n" not in str(error)
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.size
    return True


@pytest.mark.parametrize("kind", MUTATIONS)
def test_damaged_files_are_decoded_or_refused(kind):
    rng = np.random.default_rng(sorted(MUTATIONS).index(kind))
    seeds = _seeds()
    assert all(_guarded(data) for some in seeds.values() for data in some)
    refused = 0
    for number in range(FILES_PER_KIND):
        some, others = seeds[FORMATS[number % 5]], seeds[FORMATS[rng.integers(5)]]
        data = MUTATIONS[kind](some[rng.integers(len(some))], others[rng.integers(len(others))], rng)
        refused += not _guarded(data)
    # A mutation that never or always breaks a file tests nothing.
    assert refused > 0.1 * FILES_PER_KIND
    assert kind in ("cut", "splice") or refused < 0.95 * FILES_PER_KIND


def test_the_time_limit_works(monkeypatch):
    def endless(*_):
        while True:
            pass

    monkeypatch.setattr("egt_tf.data.images._to_rgb", endless)
    with pytest.raises(_TooSlow):
        _guarded(_seeds()["PNG"][0], 0.2)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_file_cut_anywhere_is_refused_or_whole(file_format):
    for data in _seeds()[file_format]:
        whole = decode_image(data)
        for end in range(len(data)):
            try:
                image = decode_image(data[:end])
            except DataError:
                continue
            np.testing.assert_array_equal(image, whole, err_msg=f"cut after {end} of {len(data)} bytes")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF"])
def test_a_file_whose_end_is_zeros_is_refused_or_whole(file_format):
    """As an interrupted copy into a file of the right size leaves it. A BMP cannot tell zeros from black."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 130, 3), np.uint8))
    for data in [*_seeds()[file_format], encode(noise, file_format)]:
        whole, refused = decode_image(data), 0
        for end in range(1, len(data), max(1, len(data) // 200)):
            try:
                image = decode_image(data[:end] + bytes(len(data) - end))
            except DataError:
                refused += 1
            else:
                np.testing.assert_array_equal(image, whole, err_msg=f"zeros after {end} of {len(data)} bytes")
        assert refused > 50
