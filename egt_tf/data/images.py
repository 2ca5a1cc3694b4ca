"""Decoding of image files into 8-bit RGB arrays."""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from egt_tf.data.heic import is_heic, open_heic
from egt_tf.errors import DataError

IMAGE_SUFFIXES = (".bmp", ".gif", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".webp")
MAX_PIXELS = 50_000_000
MAX_BYTES = 512 * 2**20

_SMALL_SIDE = 16
_LARGE_PIXELS = 20_000_000
_PNG_DEPTH_AT = 24  # position of the bit depth in the file
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
_KNOWN = "PNG, JPEG, BMP, GIF, WebP or HEIC"
# A photograph of more pixels may be decoded at a fraction of its sides, if these stay twice as long as is asked for.
_DRAFT_PIXELS, _DRAFT_SPARE = 4_000_000, 2
_JPEG_START, _JPEG_END = b"\xff\xd8", 0xD9
# Within the data of a scan, 0xff is followed by 0, a restart marker or another 0xff.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
_ORIENTATION_TAG = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's decoders raise for damaged files; OSError covers a missing, truncated or unidentified file.
_DAMAGE = (
    OSError,
    RuntimeError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def decode_image(source: str | os.PathLike | bytes, name: str | None = None, side: int | None = None) -> np.ndarray:
    """Decodes a PNG, JPEG, BMP, GIF, WebP or HEIC to RGB; of an animated one its first frame.

    Grey and palette images become RGB, transparent ones are laid over white, 16-bit ones are scaled to 8
    bits, CMYK is converted, and the EXIF orientation is applied.

    Args:
        source: a path, or the encoded bytes.
        name: what error messages call the image; by default the path.
        side: the side of the square that the image is to be resized to. The decoder may then give a JPEG of more than
            4 megapixels at 1/2, 1/4 or 1/8 of its size, which is several times faster; both sides are still at least
            twice as long as `side`. None: every pixel.

    Returns:
        uint8 `(height, width, 3)`.

    Raises:
        DataError: the file is missing, no image of these formats, damaged (as far as it can be told, see
            `hidden_damage`), larger than 50 megapixels or 512 MiB, or HEIC without pillow-heif, which reads it.

    Example:
        >>> file = io.BytesIO()
        >>> Image.new("L", (3, 2), 200).save(file, "PNG")
        >>> decode_image(file.getvalue()).shape
        (2, 3, 3)
    """
    name = name or ("from memory" if isinstance(source, bytes) else os.fspath(source))
    try:
        encoded = source if isinstance(source, bytes) else _file_content(source, name)
        with _opened(encoded, name) as image:
            _check_size(image, name)
            _make_draft(image, side)
            image.load()
            _mend_transparency(image, _png_depth(encoded))
            picture, turn = _to_rgb(image), _TRANSPOSE.get(_orientation(image))
            pixels = np.array(picture if turn is None else picture.transpose(turn))
    except DataError:
        raise
    except _DAMAGE as error:
        raise DataError(f"cannot read image {name}: {_reason(error)}") from error
    damage = hidden_damage(encoded)
    if damage:
        raise DataError(f"cannot read image {name}: {damage}")
    return pixels


def as_jpeg_or_png(encoded: bytes, name: str) -> bytes:
    """The bytes of an image in a format that exported models decode: of another one, the same pixels as a PNG.

    Args:
        encoded: the bytes of a file that `decode_image` reads; those of a JPEG or PNG are not looked at.
        name: what error messages call the image.

    Raises:
        DataError: it is neither JPEG nor PNG, and `decode_image` cannot read it.

    Example:
        >>> file = io.BytesIO()
        >>> Image.new("L", (3, 2), 200).save(file, "BMP")
        >>> as_jpeg_or_png(file.getvalue(), "grey.bmp")[:4]
        b'\\x89PNG'
    """
    if encoded.startswith((_JPEG_START, _PNG_START)):
        return encoded
    file = io.BytesIO()
    # The fastest compression: the file is decoded a moment later.
    Image.fromarray(decode_image(encoded, name)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _opened(encoded: bytes, name: str) -> Image.Image:
    return open_heic(encoded, name) if is_heic(encoded) else Image.open(io.BytesIO(encoded), formats=_FORMATS)


def _make_draft(image: Image.Image, side: int | None) -> None:
    if side is not None and image.width * image.height > _DRAFT_PIXELS:
        # Only the decoder of JPEG images does anything here.
        image.draft(None, (_DRAFT_SPARE * side, _DRAFT_SPARE * side))


def _file_content(path: str | os.PathLike, name: str) -> bytes:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            limit = f"{MAX_BYTES >> 20} MiB"
            raise DataError(f"an image file may have at most {limit}. Received: {name} has {size >> 20} MiB")
        return file.read()


def oddities(encoded: bytes) -> tuple[str, ...]:
    """Says what is unusual about an image that `decode_image` can read, and what is made of it.

    Args:
        encoded: the bytes of the file.

    Returns:
        one phrase each for: a side below 16 pixels, more than 20 megapixels, CMYK, more than 8 bits, transparency,
        several frames, an EXIF orientation other than upright. Empty for an ordinary image and for one that cannot be
        opened.
    """
    try:
        with _opened(encoded, "") as image:
            return tuple(phrase for phrase, holds in _oddity_tests(image, encoded) if holds)
    except (*_DAMAGE, DataError):
        return ()


def _oddity_tests(image: Image.Image, encoded: bytes) -> Iterator[tuple[str, bool]]:
    size, frames, orientation = f"{image.width} x {image.height} pixels", _frames(image), _orientation(image)
    yield size, min(image.size) < _SMALL_SIDE or image.width * image.height > _LARGE_PIXELS
    yield "CMYK, converted to RGB", image.mode == "CMYK"
    yield "more than 8 bits a channel, scaled to 8", image.mode.startswith("I") or _png_depth(encoded) > 8
    yield "transparent, laid over white", "A" in image.getbands() or "transparency" in image.info
    yield f"{frames} frames, the first is taken", frames > 1
    yield f"EXIF orientation {orientation}, turned upright", orientation in _TRANSPOSE


def _frames(image: Image.Image) -> int:
    """Counts the frames; a damaged later one counts as none, since only the first is read."""
    try:
        return getattr(image, "n_frames", 1)
    except _DAMAGE:
        return 1


def _png_depth(encoded: bytes) -> int:
    """Bits a channel of a PNG, which Pillow does not tell for colour images; 0 for another format."""
    is_png = encoded.startswith(b"\x89PNG") and len(encoded) > _PNG_DEPTH_AT
    return encoded[_PNG_DEPTH_AT] if is_png else 0


def _check_size(image: Image.Image, name: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise DataError(
            f"an image may have at most {MAX_PIXELS // 1_000_000} megapixels. "
            f"Received: {name} has {image.width} x {image.height}"
        )


def _mend_transparency(image: Image.Image, depth: int) -> None:
    """Brings the transparent colour of a PNG to 8 bits a channel, as Pillow's pixels are, in place.

    Pillow leaves it in the units of the file and then finds no such pixel, or others. Of 16 bits a channel in colour the
    low ones are lost, so that colours with the same high ones are transparent too.
    """
    colour = image.info.get("transparency")
    if image.mode == "L" and isinstance(colour, int) and 0 < depth < 8:
        image.info["transparency"] = colour * 255 // (2**depth - 1)
    elif image.mode == "RGB" and isinstance(colour, tuple) and depth == 16:
        image.info["transparency"] = tuple(level >> 8 for level in colour)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit grey at 255 instead of scaling it, and knows no transparency of it.
        values = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        levels = ((values * 255 + 32767) // 65535).astype(np.uint8)
        return Image.fromarray(np.where(values == image.info.get("transparency"), np.uint8(255), levels)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """Reads the EXIF orientation; damaged EXIF counts as none, since the pixels are whole."""
    try:
        return image.getexif().get(_ORIENTATION_TAG, 1)
    except _DAMAGE:
        return 1


def _reason(error: BaseException) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return f"not a {_KNOWN} image"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"more than {MAX_PIXELS // 1_000_000} megapixels"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())


# === Damage that decoders pass over in silence: the part that is lost comes out black, grey or garbled ===


def hidden_damage(encoded: bytes) -> str | None:
    """Looks for damage in a file that could be decoded.

    A JPEG or a GIF that ends in zeros must have its end marker before them: an interrupted copy into a file of the
    right size has none. The parts of a PNG that decide its pixels must have the checksums written beside them. A BMP,
    a WebP or a HEIC has neither marker nor checksum, so zeros in it cannot be told from black.

    Returns:
        what is wrong, or None.
    """
    if encoded.startswith(_PNG_START):
        return _wrong_checksum(encoded)
    if not encoded.endswith(b"\0"):
        return None
    is_cut = (encoded.startswith(_JPEG_START) and not _has_jpeg_end(encoded)) or (
        encoded.startswith(b"GIF8") and not encoded.rstrip(b"\0").endswith(b";")
    )
    return "its end is missing, zeros are in its place" if is_cut else None


def _wrong_checksum(png: bytes) -> str | None:
    place = len(_PNG_START)
    while place + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, place)
        kind, end = png[place + 4 : place + 8], place + 8 + length
        if kind == b"IEND":
            return None
        if kind in _PIXEL_CHUNKS and zlib.crc32(png[place + 4 : end]) != int.from_bytes(png[end : end + 4], "big"):
            return f"the checksum of its {kind.decode()} part is wrong"
        place = end + 4
    return None


def _has_jpeg_end(jpeg: bytes) -> bool:
    """Whether an end marker follows the scans; one of a thumbnail inside a segment does not count."""
    place = len(_JPEG_START)
    while match := _JPEG_MARKER.search(jpeg, place):
        if match[1][0] == _JPEG_END:
            return True
        (length,) = struct.unpack_from(">H", jpeg.ljust(match.end() + 2, b"\0"), match.end())
        place = match.end() + max(length, 2)
    return False
