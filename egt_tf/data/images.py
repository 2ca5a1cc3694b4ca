"""Decoding of image files into 8-bit RGB arrays."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
from PIL import Image

from egt_tf.errors import DataError

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
MAX_PIXELS = 50_000_000

_FORMATS = ("BMP", "GIF", "JPEG", "PNG")
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


def decode_image(source: str | os.PathLike | bytes, name: str | None = None) -> np.ndarray:
    """Decodes a PNG, JPEG, BMP or GIF (its first frame) to RGB.

    Grey and palette images become RGB, transparent ones are laid over white, 16-bit ones are scaled to 8
    bits, CMYK is converted, and the EXIF orientation is applied.

    Args:
        source: a path, or the encoded bytes.
        name: what error messages call the image; by default the path.

    Returns:
        uint8 `(height, width, 3)`.

    Raises:
        DataError: the file is missing, no image of these formats, damaged, or larger than 50 megapixels.
    """
    encoded = isinstance(source, bytes)
    name = name or ("from memory" if encoded else os.fspath(source))
    try:
        with Image.open(io.BytesIO(source) if encoded else source, formats=_FORMATS) as image:
            _check_size(image, name)
            image.load()
            return np.array(_upright(_to_rgb(image), _orientation(image)))
    except DataError:
        raise
    except _DAMAGE as error:
        raise DataError(f"cannot read image {name}: {_reason(error)}") from error


def _check_size(image: Image.Image, name: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise DataError(
            f"an image may have at most {MAX_PIXELS // 1_000_000} megapixels. "
            f"Received: {name} has {image.width} x {image.height}"
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit grey at 255 instead of scaling it.
        values = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
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


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image


def _reason(error: BaseException) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a PNG, JPEG, BMP or GIF image"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"more than {MAX_PIXELS // 1_000_000} megapixels"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())
