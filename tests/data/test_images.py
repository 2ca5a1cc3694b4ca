from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from egt_tf.data import images
from egt_tf.data.images import as_jpeg_or_png, decode_image
from egt_tf.errors import DataError
from tests.helpers.image_files import encode, png


def picture(height=12, width=20) -> np.ndarray:
    """A smooth picture without symmetry, so that lossy formats keep it and turned copies differ."""
    y, x = np.mgrid[:height, :width]
    channels = [40 + 8 * x, 60 + 12 * y, 200 - 4 * x - 5 * y]
    return np.stack(channels, axis=-1).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("file_format", ["PNG", "BMP"])
def test_lossless_formats_from_path_and_bytes(tmp_path, file_format):
    encoded = encode(Image.fromarray(picture()), file_format)
    path = tmp_path / f"a.{file_format.lower()}"
    path.write_bytes(encoded)
    for source in (encoded, path, str(path)):
        decoded = decode_image(source)
        assert decoded.dtype == np.uint8
        np.testing.assert_array_equal(decoded, picture())


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_jpeg(options):
    decoded = decode_image(encode(Image.fromarray(picture()), "JPEG", quality=98, subsampling=0, **options))
    assert np.abs(decoded.astype(int) - picture()).mean() < 2


@pytest.mark.parametrize(("file_format", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})])
def test_first_frame_of_an_animation(file_format, options):
    frames = [Image.fromarray(np.full((6, 7, 3), level, np.uint8)) for level in (30, 200)]
    decoded = decode_image(encode(frames[0], file_format, save_all=True, append_images=frames[1:], **options))
    np.testing.assert_array_equal(decoded, np.full((6, 7, 3), 30))


def test_webp():
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(picture()), "WEBP", lossless=True)), picture())
    lossy = decode_image(encode(Image.fromarray(picture(60, 100)), "WEBP", quality=95))
    assert np.abs(lossy.astype(int) - picture(60, 100)).mean() < 3
    layer = Image.fromarray(np.array([[[255, 0, 0, 0], [255, 0, 0, 255]]], np.uint8))
    np.testing.assert_array_equal(
        decode_image(encode(layer, "WEBP", lossless=True, exact=True)), [[[255, 255, 255], [255, 0, 0]]]
    )


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation, file_format):
    upright = picture()
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    # PNG has no use for the second option.
    encoded = encode(Image.fromarray(np.ascontiguousarray(stored)), file_format, exif=exif, lossless=True)
    np.testing.assert_array_equal(decode_image(encoded), upright)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_ignored():
    encoded = encode(Image.fromarray(picture()), "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff garbage")
    assert decode_image(encoded).shape == (12, 20, 3)


def test_sixteen_bit_grey_is_scaled_not_clipped():
    levels = np.array([[0, 257, 32896, 65535]], np.uint16)
    decoded = decode_image(encode(Image.fromarray(levels), "PNG"))
    np.testing.assert_array_equal(decoded, np.repeat([[[0], [1], [128], [255]]], 3, axis=2))


def test_grey_and_bilevel():
    grey = picture()[..., 0]
    decoded = decode_image(encode(Image.fromarray(grey), "PNG"))
    np.testing.assert_array_equal(decoded, np.stack([grey] * 3, axis=-1))
    bilevel = Image.fromarray(grey > 100)
    assert set(np.unique(decode_image(encode(bilevel, "PNG")))) == {0, 255}


def test_cmyk_jpeg():
    cmyk = Image.fromarray(np.full((8, 8, 3), (200, 40, 90), np.uint8)).convert("CMYK")
    decoded = decode_image(encode(cmyk, "JPEG", quality=98))
    assert np.abs(decoded.astype(int) - (200, 40, 90)).max() < 6


def test_alpha_is_laid_over_white():
    levels = np.array([[[0, 0], [0, 255], [100, 51]]], np.uint8)
    decoded = decode_image(encode(Image.fromarray(levels, "LA"), "PNG"))
    np.testing.assert_allclose(decoded[0, :, 0], [255, 0, 224], atol=1)
    coloured = np.array([[[255, 0, 0, 0], [255, 0, 0, 255]]], np.uint8)
    np.testing.assert_array_equal(
        decode_image(encode(Image.fromarray(coloured), "PNG")), [[[255, 255, 255], [255, 0, 0]]]
    )


@pytest.mark.parametrize("file_format", ["PNG", "GIF"])
def test_palette_with_a_transparent_colour(file_format):
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    decoded = decode_image(encode(image, file_format, transparency=0))
    np.testing.assert_array_equal(decoded, [[[255, 255, 255], [200, 100, 50]]])


def test_one_pixel():
    assert decode_image(encode(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")).tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("text.png", b"not an image\n", "not a PNG, JPEG, BMP, GIF, WebP or HEIC image"),
        ("empty.jpg", b"", "not a PNG, JPEG, BMP, GIF, WebP or HEIC image"),
        ("scan.png", encode(Image.new("RGB", (4, 4)), "TIFF"), "not a PNG, JPEG, BMP, GIF, WebP or HEIC image"),
        ("cut.webp", encode(Image.fromarray(picture(90, 90)), "WEBP")[:-200], "cut.webp"),
        ("cut.jpg", encode(Image.fromarray(picture(90, 90)), "JPEG")[:-400], "truncated"),
        ("cut.png", encode(Image.fromarray(picture(90, 90)), "PNG")[:-300], "truncated"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        decode_image(path)
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        decode_image(tmp_path / "none.png")
    with pytest.raises(DataError, match="directory"):
        decode_image(tmp_path)


def test_bytes_are_named_as_asked():
    with pytest.raises(DataError, match="cannot read image tfds:x/3: not a PNG"):
        decode_image(b"?", "tfds:x/3")


@pytest.mark.parametrize("side", [7100, 60000])
def test_large_images_are_refused_before_decoding(monkeypatch, side):
    def decode(*args):
        raise AssertionError("decoded")

    monkeypatch.setattr(images, "_to_rgb", decode)
    with pytest.raises(DataError, match=r"50 megapixels|more than 50"):
        decode_image(png(side, side), "huge.png")


def test_random_damage_never_escapes_as_another_error():
    rng = np.random.default_rng(0)
    whole = [encode(Image.fromarray(picture()), f) for f in ("PNG", "JPEG", "BMP", "GIF")]
    failed = 0
    for i in range(400):
        damaged = bytearray(whole[i % 4])
        for position in rng.integers(min(len(damaged), 150), size=3):
            damaged[position] = rng.integers(256)
        try:
            assert decode_image(bytes(damaged)).dtype == np.uint8
        except DataError:
            failed += 1
    assert 50 < failed < 400


# === files as they are found in the wild ===


def test_sixteen_bit_colour_and_grey_with_alpha():
    def of_levels(colour_type, levels):
        rows = b"".join(b"\0" + np.asarray(row, ">u2").tobytes() for row in levels)
        return png(len(levels[0]), len(levels), 16, colour_type, rows)

    colour = decode_image(of_levels(2, [[(65535, 32896, 0), (257, 0, 514)]]))
    np.testing.assert_allclose(colour, [[[255, 128, 0], [1, 0, 2]]], atol=1)
    grey = decode_image(of_levels(4, [[(25700, 65535), (0, 0)]]))
    np.testing.assert_allclose(grey, [[[100] * 3, [255] * 3]], atol=1)


def test_twenty_megapixels():
    decoded = decode_image(encode(Image.new("RGB", (5000, 4000), (9, 200, 30)), "PNG", compress_level=1))
    assert decoded.shape == (4000, 5000, 3)
    assert (decoded[::999, ::999] == (9, 200, 30)).all()


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_photograph_is_decoded_at_a_part_of_its_size(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photograph = Image.fromarray(picture(60, 90)).resize((3000, 2000), Image.Resampling.BICUBIC)
    encoded = encode(photograph, "JPEG", quality=95, exif=exif)
    whole = decode_image(encoded)
    turned = np.s_[::-1] if orientation == 6 else np.s_[:]
    for side, (width, height) in {
        97: (375, 250),
        125: (375, 250),
        126: (750, 500),
        257: (1500, 1000),
        501: (3000, 2000),
    }.items():
        part = decode_image(encoded, side=side)
        assert part.shape == (*(height, width)[turned], 3)
        assert min(part.shape[:2]) >= 2 * side or part.shape == whole.shape
        small = [np.asarray(Image.fromarray(x).resize((side, side), Image.Resampling.BOX), int) for x in (part, whole)]
        assert np.abs(small[0] - small[1]).mean() < 1


def test_what_is_not_decoded_at_a_part_of_its_size():
    """Images of data sets, and formats whose decoders can only decode the whole."""
    for image, file_format in ((Image.new("RGB", (2000, 2000)), "JPEG"), (Image.new("RGB", (2200, 2000)), "PNG")):
        assert decode_image(encode(image, file_format), side=16).shape == (2000, image.width, 3)


@pytest.mark.parametrize(
    ("file_format", "mode"), [("WEBP", "RGB"), ("BMP", "RGB"), ("GIF", "P"), ("WEBP", "RGBA"), ("JPEG", "CMYK")]
)
def test_images_for_exported_models(file_format, mode):
    encoded = encode(Image.fromarray(picture()).convert(mode), file_format)
    converted = as_jpeg_or_png(encoded, "x")
    assert (converted == encoded) == (file_format == "JPEG")
    assert converted.startswith((b"\xff\xd8", b"\x89PNG"))
    np.testing.assert_array_equal(decode_image(converted), decode_image(encoded))


def test_what_is_no_image_cannot_be_converted():
    with pytest.raises(DataError, match=r"cannot read image note\.webp: not a PNG"):
        as_jpeg_or_png(b"a note", "note.webp")


def test_a_turned_photograph_from_a_camera():
    """Two pictures in one file, the first of them the photograph, as phones write them."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(picture())))
    encoded = encode(stored, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))], exif=exif, quality=98)
    decoded = decode_image(encoded)
    assert decoded.shape == (12, 20, 3)
    assert np.abs(decoded.astype(int) - picture()).mean() < 6


def test_a_file_too_large_to_be_a_picture_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_BYTES", 2**20)
    path = tmp_path / "film.jpg"
    with open(path, "wb") as file:
        file.truncate(3 * 2**20)
    with pytest.raises(DataError, match=r"at most 1 MiB. Received: .*film.jpg has 3 MiB"):
        decode_image(path)


@pytest.mark.parametrize(
    ("image", "file_format", "options", "phrase"),
    [
        (Image.new("RGB", (40, 30)), "PNG", {}, None),
        (Image.new("L", (40, 30)), "JPEG", {}, None),
        (Image.new("RGB", (1, 1)), "PNG", {}, "1 x 1 pixels"),
        (Image.new("1", (5000, 4001)), "PNG", {}, "5000 x 4001 pixels"),
        (Image.new("CMYK", (40, 30)), "JPEG", {}, "CMYK, converted to RGB"),
        (Image.fromarray(np.zeros((30, 40), np.uint16)), "PNG", {}, "more than 8 bits a channel, scaled to 8"),
        (Image.new("LA", (40, 30)), "PNG", {}, "transparent, laid over white"),
        (Image.new("P", (40, 30)), "PNG", {"transparency": 0}, "transparent, laid over white"),
        (Image.new("RGB", (40, 30)), "WEBP", {}, None),
        (
            Image.new("L", (40, 30)),
            "GIF",
            {"save_all": True, "append_images": [Image.new("L", (40, 30), 9)]},
            "2 frames, the first is taken",
        ),
    ],
)
def test_oddities(image, file_format, options, phrase):
    encoded = encode(image, file_format, **options)
    assert images.oddities(encoded) == (() if phrase is None else (phrase,))
    decode_image(encoded)


def test_odd_orientation_and_unreadable_files():
    exif = Image.Exif()
    exif[0x0112] = 8
    encoded = encode(Image.fromarray(picture(30, 40)), "JPEG", exif=exif)
    assert images.oddities(encoded) == ("EXIF orientation 8, turned upright",)
    assert images.oddities(b"") == images.oddities(b"text") == images.oddities(encoded[:30]) == ()
