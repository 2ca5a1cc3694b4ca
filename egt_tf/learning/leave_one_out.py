"""Scores that each photo gets from a classifier that has not seen it, in closed form. Pure functions in NumPy.

All take features `(n, c)`, one row a photo, and labels, integers `(n,)` from 0 to ways - 1 where every class has a
photo, and give raw scores `(n, ways)`, those of the head of the same name with `scale=1`. Row i is scored by all other
rows. A photo that is the only one of its class cannot be left out: its row means nothing; see `can_be_left_out`.
"""

from __future__ import annotations

import numpy as np

from egt_tf.learning.defaults import PENALTY

_SHORTEST = 1e-12


def can_be_left_out(labels: np.ndarray) -> np.ndarray:
    """Which photos have another one of their class: bool `(n,)`.

    Example:
        >>> can_be_left_out(np.array([0, 0, 1])).tolist()
        [True, True, False]
    """
    return np.bincount(labels)[labels] > 1


def prototype_scores(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """As the prototype head: `2 <q, p> - <p, p>`."""
    prototypes, own = _prototypes(features, labels)
    scores = 2 * features @ prototypes.T - np.sum(prototypes**2, axis=1)
    return _with_own(scores, labels, 2 * np.sum(features * own, axis=1) - np.sum(own**2, axis=1))


def cosine_scores(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """As the cosine head: `cos(q, p)`."""
    prototypes, own = _prototypes(features, labels)
    query = _unit(features)
    scores = query @ _unit(prototypes).T
    return _with_own(scores, labels, np.sum(query * _unit(own), axis=1))


def ridge_scores(features: np.ndarray, labels: np.ndarray, penalty: float = PENALTY) -> np.ndarray:
    """As the ridge head without centring, `<w, q / ||q||>`, from one solution for all photos.

    With `G = F F^T + penalty I` for the unit vectors F, the residual of a photo that is left out is
    `(G^-1 Y)_i / (G^-1)_ii` (Allen's PRESS statistic, Technometrics 1974, in its dual form).

    Args:
        features, labels: see above.
        penalty: of the head, > 0.
    """
    unit = _unit(np.asarray(features, np.float64))
    inverse = np.linalg.inv(unit @ unit.T + penalty * np.eye(len(unit)))
    targets = np.eye(int(labels.max()) + 1)[labels]
    return targets - inverse @ targets / np.diagonal(inverse)[:, None]


def _prototypes(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The means of all classes `(ways, c)`, and of each photo's class without it `(n, c)`."""
    counts = np.bincount(labels)
    sums = np.eye(len(counts))[labels].T @ np.asarray(features, np.float64)
    others = np.maximum(counts[labels] - 1, 1)[:, None]
    return sums / counts[:, None], (sums[labels] - features) / others


def _with_own(scores: np.ndarray, labels: np.ndarray, own: np.ndarray) -> np.ndarray:
    scores = scores.copy()
    scores[np.arange(len(labels)), labels] = own
    return scores


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(lengths > _SHORTEST, vectors / np.maximum(lengths, _SHORTEST), 0.0)
