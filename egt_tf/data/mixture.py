"""Several domains as one image set: each episode comes from one of them, drawn with the domains' weights."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from egt_tf.config import WeightedSource
from egt_tf.data.image_set import ImageSet
from egt_tf.data.sources import open_source
from egt_tf.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Mixture(ImageSet):
    """The classes of several image sets, numbered one after the other.

    Image numbers are its own: those of one set follow those of the set before. `mix` makes it.

    Attributes:
        domain_names: the name of each image set.
        domain_classes: for each, the positions of its classes in `class_names`.
        weights: for each, how often it is drawn relative to the others.
        counterpart_of: None, or the seed of another stream of episodes of these sets: an episode never comes from the
            domain of that stream's episode of the same number.

    Example:
        >>> sources = WeightedSource("synthetic:shapes"), WeightedSource("synthetic:fog", weight=3)
        >>> mixture = open_mixture(sources, "novel")
        >>> isinstance(mixture, Mixture), mixture.domain_classes, mixture.weights
        (True, (range(0, 20), range(20, 40)), (1.0, 3.0))
    """

    domain_names: tuple[str, ...] = ()
    domain_classes: tuple[range, ...] = ()
    weights: tuple[float, ...] = ()
    counterpart_of: int | None = None


def mix(sets: Sequence[ImageSet], weights: Sequence[float] | None = None) -> ImageSet:
    """Puts image sets together; a single one is returned as it is.

    The result skips unreadable images if all of them do, and has masks if all of them have.

    Args:
        sets: the image sets, at least one.
        weights: one positive number for each, of any sum; equal by default.

    Raises:
        ConfigError: no image set, another number of weights, or a weight that is not positive.

    Example:
        >>> mix([open_source("synthetic:shapes").split(split) for split in ("base", "novel")]).name
        'synthetic:shapes (split base), synthetic:shapes (split novel)'
    """
    weights = tuple([1.0] * len(sets) if weights is None else map(float, weights))
    if not sets or len(weights) != len(sets) or not all(math.isfinite(w) and w > 0 for w in weights):
        raise ConfigError(
            f"there must be a weight > 0 for each of at least one image set. Received: {len(sets)} image "
            f"sets, weights {list(weights)}"
        )
    if len(sets) == 1:
        return sets[0]
    classes = np.cumsum([0, *(len(images.members) for images in sets)]).tolist()
    first_images = np.cumsum([0, *(1 + max(int(m.max()) for m in images.members) for images in sets)]).tolist()
    masks = [images.mask for images in sets if images.mask is not None]
    encoded = [images.encoded for images in sets if images.encoded is not None]
    mixture = Mixture(
        name=", ".join(images.name for images in sets),
        class_names=tuple(name for images in sets for name in images.class_names),
        members=tuple(m + first for images, first in zip(sets, first_images[:-1], strict=True) for m in images.members),
        read=_dispatch([images.read for images in sets], first_images),
        describe=_dispatch([images.describe for images in sets], first_images),
        mask=_dispatch(masks, first_images) if len(masks) == len(sets) else None,
        encoded=_dispatch(encoded, first_images) if len(encoded) == len(sets) else None,
        domain_names=tuple(images.name for images in sets),
        domain_classes=tuple(map(range, classes, classes[1:])),
        weights=weights,
    )
    return mixture.skipping_unreadable() if all(images.unreadable for images in sets) else mixture


def open_mixture(sources: Sequence[WeightedSource], split: str) -> ImageSet:
    """Opens data sources and puts one split of each together, see `open_source` and `mix`.

    Raises:
        DataError: a source cannot be opened, or has no such split.
        ConfigError: see `mix`.

    Example:
        >>> sources = WeightedSource("synthetic:shapes"), WeightedSource("synthetic:sketch")
        >>> len(open_mixture(sources, "val").class_names)
        40
    """
    return mix([open_source(each.source).split(split) for each in sources], [each.weight for each in sources])


def counterpart(images: ImageSet, seed: int) -> Mixture:
    """The same mixture, whose episodes come from other domains than those of the stream `seed` of `images`.

    Raises:
        ConfigError: `images` is one domain.
    """
    if not isinstance(images, Mixture):
        raise ConfigError(
            "there must be at least two sources to draw pairs of domains from. Received: one, "
            f"{images.name}; list several in data.train"
        )
    return replace(images, counterpart_of=seed)


def domains(images: ImageSet) -> Iterator[tuple[str, range]]:
    """The name and the class positions of each domain; an image set that is no mixture is one domain."""
    if isinstance(images, Mixture):
        return zip(images.domain_names, images.domain_classes, strict=True)
    return iter([(images.name, range(len(images.members)))])


def _dispatch(functions: Sequence[Callable[[int], Any]], first_images: Sequence[int]) -> Callable[[int], Any]:
    """A function of an image number that calls that of the image's set with its number there."""

    def call(index: int) -> Any:
        domain = bisect.bisect_right(first_images, int(index)) - 1
        return functions[domain](int(index) - first_images[domain])

    return call
