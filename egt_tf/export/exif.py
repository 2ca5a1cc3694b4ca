"""The orientation that a camera wrote into a JPEG file, read and applied inside the graph."""

from __future__ import annotations

import tensorflow as tf

# The orientation is near the beginning; before it may stand other segments of at most 64 KB each.
_BYTES_READ = 1 << 18
_MOST_SEGMENTS, _MOST_ENTRIES = 32, 256
# Bytes 0xFF that may stand before markers in all, as the standard allows (ITU-T T.81, B.1.1.2); a step of the loop each.
_MOST_FILL_BYTES = 4096
_APP1, _START_OF_SCAN = 0xE1, 0xDA
_EXIF = tuple(b"Exif\x00\x00")
_ORIENTATION_TAG = 0x0112


def upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns and mirrors an image `(height, width, channels)` as its orientation 1..8 says; 1 changes nothing."""
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    mirrored, overturned = (tf.reduce_any(orientation == which) for which in ((2, 3, 6, 7), (3, 4, 7, 8)))
    image = tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)
    return tf.cond(overturned, lambda: tf.reverse(image, [0]), lambda: image)


def jpeg_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """The EXIF orientation of a JPEG file.

    Args:
        encoded: a scalar string, the bytes of the file.

    Returns:
        An int32 scalar in 1..8; 1 where none can be found, also in damaged EXIF data.
    """
    file = _Bytes(encoded)
    segment = _exif_segment(file)
    return tf.cond(segment > 0, lambda: _orientation(file, segment + 10), lambda: tf.constant(1))


class _Bytes:
    """Numbers in a file; zero behind its end."""

    def __init__(self, encoded: tf.Tensor):
        values = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, 0, _BYTES_READ), tf.uint8), tf.int64)
        self.values = tf.concat([values, [0]], axis=0)

    def at(self, position: tf.Tensor) -> tf.Tensor:
        last = tf.size(self.values, tf.int64) - 1
        inside = (position >= 0) & (position < last)
        return tf.gather(self.values, tf.where(inside, position, last))

    def number(self, position: tf.Tensor, size: int, little: tf.Tensor | bool = False) -> tf.Tensor:
        """Unsigned, of `size` bytes; `position` may be a vector."""
        big = sum(self.at(position + k) * 256 ** (size - 1 - k) for k in range(size))
        return tf.where(little, sum(self.at(position + k) * 256**k for k in range(size)), big)


def _exif_segment(file: _Bytes) -> tf.Tensor:
    """Where the segment with EXIF data begins, or 0."""

    def is_exif(position: tf.Tensor) -> tf.Tensor:
        name = file.at(position + 4 + tf.range(6, dtype=tf.int64))
        return (file.at(position + 1) == _APP1) & tf.reduce_all(name == _EXIF)

    def goes_on(position: tf.Tensor) -> tf.Tensor:
        return (file.at(position) == 0xFF) & (file.at(position + 1) != _START_OF_SCAN) & ~is_exif(position)

    def next_segment(position: tf.Tensor) -> list[tf.Tensor]:
        is_fill = file.at(position + 1) == 0xFF
        return [position + tf.where(is_fill, tf.ones_like(position), 2 + file.number(position + 2, 2))]

    (position,) = tf.while_loop(
        goes_on,
        next_segment,
        [tf.constant(2, tf.int64)],
        maximum_iterations=_MOST_SEGMENTS + _MOST_FILL_BYTES,
    )
    return tf.where((file.at(position) == 0xFF) & is_exif(position), position, tf.zeros_like(position))


def _orientation(file: _Bytes, start: tf.Tensor) -> tf.Tensor:
    """The value of the orientation's entry in the first directory; `start` is where the TIFF data begins."""
    little = file.at(start) == ord("I")
    directory = start + file.number(start + 4, 4, little)
    entries = directory + 2 + 12 * tf.range(tf.minimum(file.number(directory, 2, little), _MOST_ENTRIES))
    values = tf.boolean_mask(file.number(entries + 8, 2, little), file.number(entries, 2, little) == _ORIENTATION_TAG)
    # One at the end for a directory without the entry.
    value = tf.concat([values, [1]], axis=0)[0]
    return tf.cast(tf.where((value >= 1) & (value <= 8), value, tf.ones_like(value)), tf.int32)
