"""HEIC photos, as telephones write them: opened by pillow-heif, which is an extra."""

from __future__ import annotations

import io

from PIL import Image

from egt_tf.errors import DataError

_BRAND_AT, _BRAND_END = 4, 12
# The brands of files whose pictures are compressed by HEVC, and the two that leave it open.
_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Where the latter hold AV1 instead, which pillow-heif does not read.
_OTHER_BRANDS = (b"avif", b"avis")
_BRAND_LIST_END = 64


def is_heic(encoded: bytes) -> bool:
    """Whether a file is a HEIC or HEIF picture, by its first bytes.

    Example:
        >>> is_heic(bytes(3) + b"\\x18ftypheic"), is_heic(b"RIFF....WEBP")
        (True, False)
    """
    brand = encoded[_BRAND_AT:_BRAND_END]
    if not brand.startswith(b"ftyp") or brand[4:] not in _BRANDS:
        return False
    return not any(other in encoded[_BRAND_END:_BRAND_LIST_END] for other in _OTHER_BRANDS)


def open_heic(encoded: bytes, name: str) -> Image.Image:
    """Opens a HEIC picture: size and metadata are read, the pixels when they are asked for.

    The decoder turns it upright, and scales more than 8 bits to 8.

    Args:
        encoded: the bytes of the file, `is_heic`.
        name: what the error message calls the image.

    Raises:
        DataError: pillow-heif is not installed.
        SyntaxError, ValueError, EOFError, RuntimeError: the file is damaged.

    Example:
        >>> import pillow_heif
        >>> file = io.BytesIO()
        >>> pillow_heif.from_pillow(Image.new("RGB", (3, 2))).save(file)
        >>> open_heic(file.getvalue(), "black.heic").size
        (3, 2)
    """
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise DataError(
            f"cannot read image {name}: a HEIC photo, which takes pillow-heif; install it: pip install pillow-heif"
        ) from error
    # The class itself, not its registration with Pillow, which would change what other code of the process can open.
    return HeifImageFile(io.BytesIO(encoded))
