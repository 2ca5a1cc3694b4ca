"""Episodes of random features, as backbones make them, for the tests of heads."""

from __future__ import annotations

import numpy as np


def episodes(shape=(4, 4, 5), *, count=2, ways=3, shots=2, queries=4, seed=0) -> list[np.ndarray]:
    """Support features, one-hot support labels in any order, and query features; all features >= 0."""
    rng = np.random.default_rng(seed)
    support = np.maximum(rng.normal(size=(count, ways * shots, *shape)), 0).astype(np.float32)
    query = np.maximum(rng.normal(size=(count, queries, *shape)), 0).astype(np.float32)
    labels = np.stack([rng.permutation(np.repeat(np.arange(ways), shots)) for _ in range(count)])
    return [support, np.eye(ways, dtype=np.float32)[labels], query]


def prototypes_of(inputs) -> np.ndarray:
    """Mean of the support maps of each class, `(episodes, ways, h, w, c)`, float64."""
    support, labels, _ = (np.asarray(x, np.float64) for x in inputs)
    return np.array([[x[y[:, k] == 1].mean(0) for k in range(y.shape[1])] for x, y in zip(support, labels)])
