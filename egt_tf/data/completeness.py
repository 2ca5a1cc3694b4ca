"""Damage that image decoders pass over in silence: the part that is lost comes out black, grey or garbled."""

from __future__ import annotations

import re
import struct
import zlib

_JPEG_START, _JPEG_END = b"\xff\xd8", 0xD9
# Within the data of a scan, 0xff is followed by 0, a restart marker or another 0xff.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")


def hidden_damage(encoded: bytes) -> str | None:
    """Looks for damage in a file that could be decoded.

    A JPEG or a GIF that ends in zeros must have its end marker before them: an interrupted copy into a file of the
    right size has none. The parts of a PNG that decide its pixels must have the checksums written beside them. A BMP
    has neither marker nor checksum, so zeros in it cannot be told from black.

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
