"""Images that cannot be read and are left out of the training instead of stopping it."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from egt_tf.data.sources import ImageSet
from egt_tf.errors import DataError


class UnreadableImages:
    """Finds the images that cannot be read, tries each image once, and remembers which are to be reported.

    It may be used from several threads.

    Args:
        images: gives and describes the images.
    """

    def __init__(self, images: ImageSet):
        self._images = images
        self._good: set[int] = set()
        self._bad: dict[int, None] = {}  # In the order they were found in.
        self._reported = 0
        self._lock = threading.Lock()

    def among(self, indices: Iterable[int]) -> list[int]:
        """The image indices, of those given, that cannot be read."""
        indices = [int(index) for index in indices]
        for index in indices:
            if index not in self._good and index not in self._bad:
                self._try(index)
        return [index for index in indices if index in self._bad]

    def report(self, listed: int = 3) -> str | None:
        """A line on the images that were found since the last report; None if there are none.

        Args:
            listed: how many of them are named.
        """
        with self._lock:
            new = sorted(list(self._bad)[self._reported :])
            self._reported = len(self._bad)
        if not new:
            return None
        names = ", ".join(self._images.describe(index) for index in new[:listed])
        more = f" and {len(new) - listed} more" if len(new) > listed else ""
        return f"left out {len(new)} unreadable image{'s' if len(new) > 1 else ''}: {names}{more}"

    def _try(self, index: int) -> None:
        try:
            self._images.read(index)
        except DataError:
            with self._lock:
                self._bad[index] = None
        else:
            self._good.add(index)
