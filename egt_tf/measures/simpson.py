"""The area under sampled curves."""

from __future__ import annotations

import numpy as np


def simpson(values: np.ndarray) -> np.ndarray:
    """The integral of curves by Simpson's rule, their samples lying 1 apart.

    With an even number of samples the last interval is that of the parabola through the last three (Cartwright, 2017),
    so that parabolas are integrated exactly; two samples make a trapezium, and one has no area.

    Args:
        values: `(..., samples)`.

    Returns:
        float64 `(...)`.

    Example:
        >>> simpson(np.arange(5.0) ** 2).round(6).item(), simpson(np.arange(4.0) ** 2).round(6).item()
        (21.333333, 9.0)
    """
    values = np.asarray(values, np.float64)
    count = values.shape[-1]
    if count < 3:
        return values.mean(axis=-1) * (count - 1)
    odd = values if count % 2 else values[..., :-1]
    area = (odd[..., 0] + odd[..., -1] + 4 * odd[..., 1:-1:2].sum(-1) + 2 * odd[..., 2:-2:2].sum(-1)) / 3
    if count % 2:
        return area
    return area + (5 * values[..., -1] + 8 * values[..., -2] - values[..., -3]) / 12
