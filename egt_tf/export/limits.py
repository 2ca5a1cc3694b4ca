"""How much a request to an exported model may hold."""

from __future__ import annotations

import dataclasses

from egt_tf.data.images import MAX_PIXELS
from egt_tf.errors import ExportError
from egt_tf.heads.base import Head

MAX_IMAGES = 256
_LEAST_PIXELS = 32 * 32
# As float32 of four channels, in which an image is laid over white, this is 2 GiB.
_MOST_PIXELS = 2**27 - 1
_MOST_IMAGES = 2**16


@dataclasses.dataclass(frozen=True)
class RequestLimits:
    """Limits that become part of the graph of an exported model.

    Attributes:
        max_pixels: height times width of an encoded image, 1024 to 2^27 - 1.
        max_images: images of a request, 3 to 65536; its queries and its support images or prototypes count together.

    Raises:
        ExportError: one of them is out of its range.
    """

    max_pixels: int = MAX_PIXELS
    max_images: int = MAX_IMAGES

    def __post_init__(self):
        _check_range("max_pixels", self.max_pixels, _LEAST_PIXELS, _MOST_PIXELS)
        # Two classes and a query.
        _check_range("max_images", self.max_images, 3, _MOST_IMAGES)

    @property
    def size(self) -> str:
        """`max_pixels` in words."""
        megapixels, rest = divmod(self.max_pixels, 1_000_000)
        return f"{self.max_pixels} pixels" if rest else f"{megapixels} megapixels"

    def check_head(self, head: Head) -> None:
        """Checks that a request can hold an episode of the head.

        Raises:
            ExportError: the head takes more classes than images may be in a request, its query included.
        """
        if head.needs_ways and self.max_images <= head.ways:
            raise ExportError(
                f"`max_images` must be at least {head.ways + 1} for a head of {head.ways} classes, an "
                f"image of each and a query. Received: max_images={self.max_images}"
            )


def _check_range(name: str, value: int, smallest: int, largest: int) -> None:
    if not smallest <= value <= largest:
        raise ExportError(f"`{name}` must be between {smallest} and {largest}. Received: {name}={value}")
