"""How much a map changes when its image hardly does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from egt_tf.errors import ConfigError, ExplainError, check_integer


def max_sensitivity(
    explain: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    maps: np.ndarray,
    radius: float = 0.02,
    samples: int = 10,
    seed: int = 0,
) -> np.ndarray:
    """`max_e |R(x + e) - R(x)| / |R(x)|` over random e in a cube about an image; lower is more stable.

    Args:
        explain: uint8 images `(n, H, W, 3)` -> their maps `(n, H, W)`, of the class that was explained of each image.
        images: uint8 `(n, H, W, 3)`.
        maps: theirs.
        radius: half of the side of the cube, as a share of the 255 grey levels, in (0, 1].
        samples: changed images, >= 1. The noise is the same for all methods.
        seed: of the noise.

    Returns:
        float64 `(n,)`, >= 0, by Euclidean norms; not a number where a map is zero.

    Raises:
        ExplainError: a radius or a number out of range.

    Notes:
        Source: Yeh et al., "On the (in)fidelity and sensitivity of explanations", NeurIPS 2019; divided by the norm of the
        map, so that methods in different units can be compared. Changed images are whole grey levels within 0..255.

    Example:
        >>> images = np.full((1, 4, 4, 3), 100, np.uint8)
        >>> float(max_sensitivity(lambda x: np.ones((1, 4, 4)), images, np.ones((1, 4, 4)), samples=2)[0])
        0.0
    """
    try:
        check_integer("samples", samples, 1)
    except ConfigError as error:
        raise ExplainError(str(error)) from None
    if not 0 < radius <= 1:
        raise ExplainError(f"`radius` must lie in (0, 1]. Received: radius={radius!r}")
    rng = np.random.default_rng(seed)
    maps = np.asarray(maps, np.float64)
    norms = np.sqrt((maps**2).sum((-2, -1)))
    most = np.zeros(len(maps))
    for _ in range(samples):
        noise = rng.uniform(-255 * radius, 255 * radius, images.shape[1:])
        changed = np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)
        difference = np.asarray(explain(changed), np.float64) - maps
        most = np.maximum(most, np.sqrt((difference**2).sum((-2, -1))))
    return np.divide(most, norms, out=np.full_like(most, np.nan), where=norms > 0)
