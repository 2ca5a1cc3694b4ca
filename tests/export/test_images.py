"""Images decoded in the graph are those that the package decodes with Pillow."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from egt_tf.data.images import decode_image
from egt_tf.data.preprocessing import resized_centre
from egt_tf.export.exif import jpeg_orientation
from egt_tf.export.images import checked_floats, decoded_image, decoded_images
from egt_tf.export.requests import RequestLimits
from tests.helpers.image_files import encode, png

SIZE = 48


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
def prepare(encoded):
    return decoded_images(encoded, SIZE)


def photograph(mode: str, height: int = 90, width: int = 130) -> Image.Image:
    """Smooth colours with some noise, as photographs have."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:height, :width] / 20.0
    channels = [127 + 100 * np.sin(x * (k + 1) / 2 + y) + rng.normal(0, 6, (height, width)) for k in range(4)]
    pixels = np.stack(channels, -1).clip(0, 255).astype(np.uint8)
    if mode == "I;16":
        return Image.fromarray((pixels[..., 0].astype(np.uint16) << 8) + pixels[..., 1])
    if mode == "RGBA":
        return Image.fromarray(pixels, "RGBA")
    return Image.fromarray(pixels[..., :3]).convert(mode)


@pytest.mark.parametrize(
    ("form", "mode", "options"),
    [
        ("PNG", "RGB", {}),
        ("PNG", "L", {}),
        ("PNG", "P", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "LA", {}),
        ("PNG", "1", {}),
        ("PNG", "I;16", {}),
        ("JPEG", "RGB", {}),
        ("JPEG", "RGB", {"quality": 30, "subsampling": 2}),
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "L", {}),
        ("JPEG", "CMYK", {}),
    ],
)
def test_pixels_are_those_of_the_package(form, mode, options):
    file = encode(photograph(mode), form, **options)
    expected = resized_centre(decode_image(file), SIZE).numpy().astype(int)
    actual = prepare([file])[0].numpy().astype(int)
    assert np.abs(actual - expected).max() <= 1
    assert expected.std() > 10


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_images_of_few_bits(depth):
    values = np.arange(40) % 2**depth
    row = b"\0" + int("".join(format(v, f"0{depth}b") for v in values), 2).to_bytes(5 * depth, "big")
    file = png(40, 8, depth, colour=0, rows=8 * row)
    expected = resized_centre(decode_image(file), SIZE).numpy().astype(int)
    assert np.abs(prepare([file])[0].numpy() - expected).max() <= 1


@pytest.mark.parametrize("colours", [2, 4, 16])
def test_palettes_of_few_bits(colours):
    file = encode(photograph("RGB").quantize(colours), "PNG")
    expected = resized_centre(decode_image(file), SIZE).numpy().astype(int)
    assert np.abs(prepare([file])[0].numpy() - expected).max() <= 1


# A row of samples, the transparent one, and its grey levels over white; those of the low byte of 16 bits differ by 1.
TRANSPARENT_GREY = [
    (1, b"\x40", 1, [0, 255]),
    (1, b"\x40", 0, [255, 255]),
    (2, b"\x1b", 1, [0, 255, 170, 255]),
    (2, b"\x1b", 2, [0, 85, 255, 255]),
    (4, b"\x05\x1a", 5, [0, 255, 17, 170]),
    (4, b"\x05\x1a", 1, [0, 85, 255, 170]),
    (8, b"\x00\x05\x50", 5, [0, 255, 80]),
    (16, b"\x00\x00\x55\x55\x55\x00\x12\x34", 0x5555, [0, 255, 85, 18]),
    (16, b"\x00\x00\x55\x55\x55\x00\x12\x34", 0x1234, [0, 85, 85, 255]),
    (16, b"\x00\x00\x55\x55\x55\x00\x12\x34", 0, [255, 85, 85, 18]),
]


@pytest.mark.parametrize(("depth", "samples", "colour", "levels"), TRANSPARENT_GREY)
def test_the_transparent_grey_level_of_every_depth(depth, samples, colour, levels):
    file = png(len(levels), 1, depth, 0, b"\0" + samples, transparent=struct.pack(">H", colour))
    assert decode_image(file)[0].tolist() == [[level] * 3 for level in levels]
    assert decoded_image(tf.constant(file), RequestLimits())[0].numpy().tolist() == [[level] * 3 for level in levels]


@pytest.mark.parametrize(("depth", "number"), [(8, "B"), (16, "H")])
def test_the_transparent_colour_of_every_depth(depth, number):
    colours = [(0, 0, 0), (2**depth - 1, 77, 1), (200, 100, 50)]
    rows = b"\0" + b"".join(struct.pack(f">3{number}", *colour) for colour in colours)
    file = png(3, 1, depth, 2, rows, transparent=struct.pack(">3H", *colours[1]))
    pixels = decode_image(file)[0].tolist()
    assert pixels[1] == [255, 255, 255]
    assert pixels[2] == [level >> (depth - 8) for level in colours[2]]
    assert decoded_image(tf.constant(file), RequestLimits())[0].numpy().tolist() == pixels


@pytest.mark.parametrize("fill", [1, 2, 7, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_fill_bytes_before_the_orientation(fill, orientation):
    """Any marker may have bytes 0xFF before it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = encode(photograph("RGB"), "JPEG", exif=exif.tobytes())
    place = plain.index(b"\xff\xe1")
    file = plain[:place] + b"\xff" * fill + plain[place:]
    np.testing.assert_array_equal(decode_image(file), decode_image(plain))
    assert int(jpeg_orientation(tf.constant(file))) == orientation
    np.testing.assert_array_equal(*prepare([file, plain]).numpy())


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("orientation", range(1, 10))
def test_photographs_are_turned_upright(orientation, order):
    exif = Image.Exif()
    exif.endian = {"big": ">", "little": "<"}[order]
    exif[0x010F], exif[0x0112] = "maker", orientation
    file = encode(photograph("RGB"), "JPEG", exif=exif)
    assert (b"MM\0*" in file) == (order == "big")
    expected = resized_centre(decode_image(file), SIZE).numpy().astype(int)
    assert np.abs(prepare([file])[0].numpy() - expected).max() <= 1


@pytest.mark.parametrize("exif", [b"", b"II*\0", b"MM\0*" + b"\xff" * 40, b"II*\0\x08\0\0\0\xff\xff" + bytes(30)])
def test_damaged_orientations_count_as_none(exif):
    plain = encode(photograph("RGB"), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", 8 + len(exif)) + b"Exif\0\0" + exif
    np.testing.assert_array_equal(prepare([plain[:2] + segment + plain[2:]]), prepare([plain]))


def test_images_of_different_sizes_come_in_one_request():
    files = [encode(photograph("RGB", *sides), "PNG") for sides in ((20, 31), (200, 64), (1, 1))]
    assert prepare(files).shape == (3, SIZE, SIZE, 3)


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (b"", "JPEG or PNG"),
        (b"GIF89a" + bytes(100), "JPEG or PNG"),
        (b"\x89PNG\r\n\x1a\n", "JPEG or PNG"),
        (png(100_000, 100_000), "50 megapixels"),
        (png(20_000, 20_000, 16, 6), "50 megapixels"),
        (png(20_000, 20_000, 8, 0), "50 megapixels"),
        (png(20_000, 20_000, 8, 4), "50 megapixels"),
        (b"BM" + bytes(100), "JPEG or PNG"),
        (b"RIFF\0\0\0\0WEBP" + bytes(100), "JPEG or PNG"),
        (png(2**31 - 1, 2**31 - 1), "50 megapixels"),
        (png(2**32 - 1, 5), "must have pixels"),
        (png(0, 5), "must have pixels"),
        (png(4, 4), "Invalid PNG"),
        (b"\xff\xd8\xff" + bytes(20), "Invalid JPEG"),
        (encode(photograph("RGB"), "JPEG")[:1500], "Invalid JPEG"),
        (encode(photograph("RGB"), "PNG")[:1500], "Invalid PNG"),
    ],
)
def test_what_is_no_image_is_refused_and_the_next_request_answered(file, says):
    good = encode(photograph("RGB"), "PNG")
    before = prepare([good]).numpy()
    with pytest.raises(tf.errors.InvalidArgumentError, match=says):
        prepare([good, file])
    np.testing.assert_array_equal(prepare([good]), before)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_large_jpeg_is_refused_by_its_header(mode):
    file = bytearray(encode(photograph(mode), "JPEG"))
    start = file.index(b"\xff\xc0")
    file[start + 5 : start + 9] = struct.pack(">HH", 65000, 65000)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"50 megapixels.*65000"):
        prepare([bytes(file)])


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_limit_of_ones_own(form):
    limits = RequestLimits(max_pixels=90 * 130)
    at_it, beyond = (encode(photograph("RGB", *sides), form) for sides in ((90, 130), (131, 90)))
    np.testing.assert_allclose(decoded_images(tf.constant([at_it]), SIZE, limits), prepare([at_it]), atol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"at most 11700 pixels\D+131, 90"):
        decoded_images(tf.constant([beyond]), SIZE, limits)


def test_no_image_is_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least one image"):
        prepare(tf.zeros([0], tf.string))


def test_decoded_images_are_normalised():
    image = resized_centre(decode_image(encode(photograph("RGB"), "PNG")), SIZE)
    floats = tf.function(checked_floats)
    np.testing.assert_allclose(
        floats(tf.cast(image, tf.float32)[None])[0], prepare([encode(photograph("RGB"), "PNG")])[0], atol=1e-6
    )
    for value in (-1.0, 256.0, float("nan")):
        with pytest.raises(tf.errors.InvalidArgumentError, match="grey levels"):
            floats(tf.fill([1, SIZE, SIZE, 3], value))
