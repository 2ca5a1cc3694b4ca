"""The measures that explanations are judged by, each with its direction."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from egt_tf.measures import (
    Perturbation,
    area_under,
    aupc,
    autvc,
    blurred,
    deletion_curve,
    faithfulness_correlation,
    insertion_curve,
    max_sensitivity,
    most_relevant_first,
    perturbation_curves,
    points_inside,
    rank_inside,
    share_inside,
)

LOWER, HIGHER = "lower", "higher"
# Patches along each side, of the deletion and the insertion curve.
_GRID = 14


@dataclasses.dataclass(frozen=True)
class Effort:
    """How thoroughly explanations are judged.

    Attributes:
        perturbation: of AUPC.
        sets: random sets of pixels, of the faithfulness correlation.
        changes: changed images, of the maximal sensitivity.
        points: of the deletion and the insertion curve, from no patch to all.
        seed: of the random sets and changes; that of the fills is the perturbation's.

    Example:
        >>> QUICK.perturbation.fills
        5
    """

    perturbation: Perturbation = dataclasses.field(default_factory=Perturbation)
    sets: int = 100
    changes: int = 10
    points: int = 15
    seed: int = 0

    def seeded(self, seed: int) -> Effort:
        """The same with another seed for everything.

        Example:
            >>> QUICK.seeded(3).perturbation.seed
            3
        """
        return dataclasses.replace(self, seed=seed, perturbation=dataclasses.replace(self.perturbation, seed=seed))


EXACT = Effort()
QUICK = Effort(Perturbation(windows=10, fills=5), sets=30, changes=1, points=8)


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """One query, and its maps by several methods, M of them.

    Attributes:
        image: uint8 `(H, W, 3)`.
        maps: signed, summed over the channels, `(M, H, W)`, of one class for all.
        mask: bool `(H, W)`, true on the object; None: not known.
        score: uint8 images `(n, H, W, 3)` -> the raw score of that class, `(n,)`.
        probability: as `score`, its probability.
        explain: an image `(H, W, 3)` -> its maps by all methods, `(M, H, W)`, of the same class.
        effort: see `Effort`.

    Example:
        >>> def half(images):
        ...     return np.full(len(images), 0.5)
        >>> image, maps = np.zeros((8, 8, 3), np.uint8), np.ones((2, 8, 8))
        >>> Judged(image, maps, None, half, half, lambda image: maps, QUICK).images.shape
        (2, 8, 8, 3)
    """

    image: np.ndarray
    maps: np.ndarray
    mask: np.ndarray | None
    score: Callable[[np.ndarray], np.ndarray]
    probability: Callable[[np.ndarray], np.ndarray]
    explain: Callable[[np.ndarray], np.ndarray]
    effort: Effort

    @property
    def images(self) -> np.ndarray:
        """The image, once for each method."""
        return np.repeat(self.image[None], len(self.maps), axis=0)

    def scores(self, images: np.ndarray) -> np.ndarray:
        """As `score`, with any leading axes."""
        return self.score(images.reshape(-1, *images.shape[-3:])).reshape(images.shape[:-3])

    @functools.cached_property
    def curves(self) -> np.ndarray:
        """Perturbation curves, `(M, 1 + visits)`."""
        return perturbation_curves(self.scores, self.images, self.maps, self.effort.perturbation)


@dataclasses.dataclass(frozen=True)
class Measure:
    """What an explanation is judged by.

    Attributes:
        name: what it is called.
        better: "lower" or "higher".
        title: a few words.
        of: a judged query -> one number for each method, `(M,)`; not a number where it is not defined.
        needs_mask: whether the object's mask must be known.
        scored: how many images are scored for one map.
        explained: how many images are explained for one map.

    Example:
        >>> MEASURES["aupc"].better
        'lower'
    """

    name: str
    better: str
    title: str
    of: Callable[[Judged], np.ndarray]
    needs_mask: bool = False
    scored: Callable[[Effort], int] = lambda effort: 0
    explained: Callable[[Effort], int] = lambda effort: 0


def _aupc(judged: Judged) -> np.ndarray:
    return aupc(judged.curves)


def _autvc(judged: Judged) -> np.ndarray:
    return autvc(judged.maps)


def _patches(curve: Callable[..., np.ndarray]) -> Callable[[Judged], np.ndarray]:
    def area(judged: Judged) -> np.ndarray:
        grid = min(_GRID, *judged.maps.shape[1:])
        order = most_relevant_first(judged.maps, grid)
        shares = np.linspace(0, 1, judged.effort.points).tolist()
        found = curve(judged.probability, judged.images, blurred(judged.images), order, shares)
        return area_under(found, shares)

    return area


def _correlation(judged: Judged) -> np.ndarray:
    # Scored once for all methods, which are of the same image.
    image, effort = judged.image[None], judged.effort
    return faithfulness_correlation(
        judged.scores, image, judged.maps, blurred(image), runs=effort.sets, seed=effort.seed
    )


def _sensitivity(judged: Judged) -> np.ndarray:
    effort = judged.effort

    def explain(images: np.ndarray) -> np.ndarray:
        return judged.explain(images[0])

    return max_sensitivity(explain, judged.images, judged.maps, samples=effort.changes, seed=effort.seed)


def _on_object(measure: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[Judged], np.ndarray]:
    return lambda judged: np.asarray(measure(judged.maps, np.asarray(judged.mask)))


def _filled(effort: Effort) -> int:
    return effort.perturbation.windows * effort.perturbation.fills


def _points(effort: Effort) -> int:
    return effort.points


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("aupc", LOWER, "area under the perturbation curve", _aupc, scored=_filled),
        Measure("deletion", LOWER, "area under the deletion curve", _patches(deletion_curve), scored=_points),
        Measure("insertion", HIGHER, "area under the insertion curve", _patches(insertion_curve), scored=_points),
        Measure("faithfulness", HIGHER, "faithfulness correlation", _correlation),
        Measure("relevance_mass", HIGHER, "positive relevance on the object", _on_object(share_inside), True),
        Measure("relevance_rank", HIGHER, "most relevant pixels on the object", _on_object(rank_inside), True),
        Measure("pointing_game", HIGHER, "most relevant pixel on the object", _on_object(points_inside), True),
        Measure("autvc", LOWER, "area under the total variation curve", _autvc),
        Measure(
            "sensitivity",
            LOWER,
            "maximal sensitivity to small changes",
            _sensitivity,
            explained=lambda effort: effort.changes,
        ),
    )
}
