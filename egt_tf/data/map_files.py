"""Files of feature maps in half precision, one array each, with a fingerprint of what they were computed from."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from egt_tf.errors import DataError
from egt_tf.files import atomic_write

DTYPE = np.dtype("<f2")
_HEADER_BYTES, _DIGEST_BYTES, _BLOCK_BYTES = 512, 64, 2**22
_FORMAT = "egt_tf feature maps 1"


@dataclasses.dataclass(frozen=True, eq=False)
class Maps:
    """Feature maps of the views of images.

    Attributes:
        indices: the images, sorted, int64 `(images,)`.
        values: float16 `(images, views, h, w, channels)`, in memory or in a file that is read as needed.
        readable: which images there are maps of, bool `(images,)`.

    Example:
        >>> values = np.arange(4, dtype=np.float16).reshape(2, 2, 1, 1, 1)
        >>> maps = Maps(np.array([3, 8]), values, np.array([True, True]))
        >>> maps.take(np.array([8, 3]), np.array([0, 1])).ravel()
        array([2., 1.], dtype=float16)
    """

    indices: np.ndarray
    values: np.ndarray
    readable: np.ndarray

    @property
    def views(self) -> int:
        """Views of each image."""
        return self.values.shape[1]

    def take(self, indices: np.ndarray, views: np.ndarray) -> np.ndarray:
        """The maps of the images and views given, float16 `(n, h, w, channels)`."""
        return self.values[np.searchsorted(self.indices, indices), views]

    def check(self, index: int) -> None:
        """Checks that there is a map of an image.

        Raises:
            DataError: the image could not be read.
        """
        if not self.readable[np.searchsorted(self.indices, index)]:
            raise DataError(f"image {index} must be readable. Received: an image that could not be read")


class MapWriter:
    """Takes maps in the order of the images.

    Args:
        shape: `(images, views, h, w, channels)` of all of them.
        write: takes the next bytes.
    """

    def __init__(self, shape: Sequence[int], write: Callable[[bytes], object]):
        self.shape, self._write, self._digest = tuple(shape), write, hashlib.sha256()

    def add(self, content: bytes) -> None:
        """Writes bytes."""
        self._digest.update(content)
        self._write(content)

    def finish(self, readable: np.ndarray) -> None:
        """Writes which images are readable, and the checksum of all."""
        self.add(readable.astype(np.uint8).tobytes())
        self._write(self._digest.hexdigest().encode())


@contextlib.contextmanager
def written_maps(path: str | os.PathLike, fingerprint: str, shape: Sequence[int]) -> Iterator[MapWriter]:
    """Within the block a file of maps is written; it appears at its end, whole or not at all.

    Args:
        path: of the file.
        fingerprint: of what the maps are computed from.
        shape: `(images, views, h, w, channels)`.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "example.maps"
        ...     with written_maps(path, "abc", (1, 1, 1, 1, 2)) as writer:
        ...         writer.add(np.array([1, 2], DTYPE).tobytes())
        ...         writer.finish(np.array([True]))
        ...     maps = read_maps(path, "abc", np.array([5]), (1, 1, 1, 1, 2))
        ...     maps.take(np.array([5]), np.array([0])).tolist()
        [[[[1.0, 2.0]]]]
    """
    with atomic_write(path) as file:
        writer = MapWriter(shape, file.write)
        writer.add(_header(fingerprint, shape))
        yield writer


def read_maps(path: str | os.PathLike, fingerprint: str, indices: np.ndarray, shape: Sequence[int]) -> Maps:
    """Opens a file of maps and checks all of it; the maps are read from the disk as needed.

    Args:
        path: of the file.
        fingerprint: what the file must be of.
        indices: the images, sorted.
        shape: `(images, views, h, w, channels)`.

    Raises:
        DataError: the file is missing, damaged or of something else.

    Example:
        >>> read_maps("no.maps", "abc", np.array([5]), (1, 1, 1, 1, 2))
        Traceback (most recent call last):
        egt_tf.errors.DataError: no file
    """
    path, size = Path(path), int(np.prod(shape)) * DTYPE.itemsize
    if not path.is_file():
        raise DataError("no file")
    try:
        with open(path, "rb") as file:
            header = file.read(_HEADER_BYTES)
            if header != _header(fingerprint, shape):
                raise DataError("it is of other images or another backbone")
            if path.stat().st_size != _HEADER_BYTES + size + len(indices) + _DIGEST_BYTES:
                raise DataError("its length is wrong")
            digest = hashlib.sha256(header)
            for count in _blocks(size + len(indices)):
                block = file.read(count)
                digest.update(block)
            if file.read() != digest.hexdigest().encode():
                raise DataError("its checksum is wrong")
        values = np.memmap(path, DTYPE, "r", _HEADER_BYTES, tuple(shape))
        readable = np.fromfile(path, np.uint8, len(indices), offset=_HEADER_BYTES + size).astype(bool)
    except OSError as error:
        raise DataError(error.strerror or type(error).__name__) from error
    return Maps(indices, values, readable)


def _header(fingerprint: str, shape: Sequence[int]) -> bytes:
    text = json.dumps({"format": _FORMAT, "fingerprint": fingerprint, "shape": list(map(int, shape))})
    return text.encode().ljust(_HEADER_BYTES)


def _blocks(size: int) -> Iterator[int]:
    while size:
        count = min(size, _BLOCK_BYTES)
        yield count
        size -= count
