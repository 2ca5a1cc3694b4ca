"""Support sets and queries of random pixels, where only shapes and sums matter."""

from __future__ import annotations

import numpy as np

from egt_tf.data.support import SupportSet


def random_support(ways: int = 3, shots: int = 2, size: int = 32) -> SupportSet:
    """Images of the first of three classes: ant, bee and cow."""
    images = np.random.default_rng(1).integers(0, 256, (ways, shots, size, size, 3), dtype=np.uint8)
    return SupportSet(("ant", "bee", "cow")[:ways], images)


def random_image(size: int = 32) -> np.ndarray:
    """One query."""
    return np.random.default_rng(2).integers(0, 256, (size, size, 3), dtype=np.uint8)
