"""Image files in memory."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image


def encode(image: Image.Image, file_format: str, **options) -> bytes:
    """What Pillow writes."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def png(
    width: int,
    height: int,
    depth: int = 8,
    colour: int = 2,
    rows: bytes = b"",
    level: int = -1,
    transparent: bytes = b"",
) -> bytes:
    """A PNG with a header of one's own; by default it promises pixels that are not there.

    Args:
        width, height, depth, colour: of the header; colour 0 is grey, 2 red, green and blue, 4 and 6 with alpha.
        rows: a filter byte and the samples of each row.
        level: of the compression.
        transparent: the colour that is transparent, 2 bytes a channel; none by default.
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = zlib.compress(rows, level)
    colours = chunk(b"tRNS", transparent) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + colours + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
