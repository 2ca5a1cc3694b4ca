"""The explanation of an image by many stored photos, of which only those that counted are taken to their pixels."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np

from egt_tf.data.support import SupportSet, padded_support
from egt_tf.explain.explanation import EpisodeExplanation
from egt_tf.explain.query import classes_to_explain

# Photos of a class in the figure, and photos that are explained at a time.
_SHOWN, _BATCH = 5, 16
# Of more than so many, only those of the classes explained are shown.
_MANY = 30


@dataclasses.dataclass(frozen=True, eq=False)
class StoredAnswer:
    """What a model takes one image for.

    Attributes:
        probabilities: of all classes, `(ways,)`.
        known: whether it shows one of the classes at all; None where the model does not tell.

    Example:
        >>> StoredAnswer(np.array([0.3, 0.7]), known=False).known
        False
    """

    probabilities: np.ndarray
    known: bool | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class StoredRelevance:
    """What spoke for each of E classes in one image.

    Attributes:
        image: relevance of the image's pixels, summed over the colours, `(E, size, size)`.
        photos: summed relevance of each stored photo, `(E, photos)`.

    Example:
        >>> StoredRelevance(np.zeros((1, 8, 8)), np.zeros((1, 4))).photos.shape
        (1, 4)
    """

    image: np.ndarray
    photos: np.ndarray


class StoredPhotos(Protocol):
    """A model with stored photos that can be asked about single images, uint8 `(size, size, 3)`.

    Example:
        >>> def sure(model: StoredPhotos, image: np.ndarray) -> float:
        ...     return float(model.answer(image).probabilities.max())
    """

    @property
    def from_margin(self) -> bool:
        """Whether relevance begins at the margin between a class and its strongest rival."""

    def answer(self, image: np.ndarray) -> StoredAnswer:
        """What the image is taken for."""

    def relevance(self, image: np.ndarray, targets: np.ndarray) -> StoredRelevance:
        """For the class indices `targets`, int64 `(E,)`."""

    def photo_relevance(
        self, image: np.ndarray, targets: np.ndarray, photos: np.ndarray, positions: np.ndarray
    ) -> np.ndarray:
        """Relevance of the pixels of stored photos, summed over the colours.

        Args:
            image: what is explained.
            targets: class indices, int64 `(E,)`.
            photos: their pixels, uint8 `(m, size, size, 3)`.
            positions: where they are among all stored photos, int64 `(m,)`.

        Returns:
            `(E, m, size, size)`.
        """


def explain_by_stored_photos(
    model: StoredPhotos,
    image: np.ndarray,
    support: SupportSet,
    target: str | None = None,
    image_name: str = "",
    run_name: str = "",
    method_name: str = "",
) -> EpisodeExplanation:
    """Explains an image by all stored photos, and shows those of each class that counted most.

    Args:
        model: holds the features of all photos of `support`, in the order of `support.flat_images`.
        image: uint8 `(size, size, 3)`.
        support: the photos; without any (all `sizes` 0) the image alone is explained.
        target: see `egt_tf.explain.query.explain_image`.
        image_name, run_name, method_name: for the figure.

    Returns:
        With at most 5 photos of a class. Where more than 30 photos had a part in the prediction, as with a head that
        sets every class against all others, only those of the classes explained are shown.

    Raises:
        ExplainError: `target` is no class.
    """
    answer = model.answer(image)
    explained = classes_to_explain(answer.probabilities, support.class_names, target)
    # The two most probable classes are each the other's strongest rival: from the margin, what speaks for the one speaks
    # against the other, and one walk back does for both.
    opposite = model.from_margin and set(explained) == set(np.argsort(-answer.probabilities, kind="stable")[:2])
    walked = np.array(explained[:1] if opposite else explained, np.int64)
    signs = np.array([1.0, -1.0] if opposite else [1.0] * len(walked), np.float32)
    found = model.relevance(image, walked)
    positions = _shown_photos(support, found.photos, explained)
    flat = support.flat_images
    shown = padded_support(support.class_names, [flat[each] for each in positions])
    maps = _photo_maps(model, image, flat, np.concatenate(positions), found, walked)
    return EpisodeExplanation(
        query_image=image,
        class_names=support.class_names,
        probabilities=answer.probabilities,
        explained=explained,
        query_relevance=signs[:, None, None] * found.image,
        support_images=shown.images,
        support_relevance=np.stack([shown.placed(each) for each in signs[:, None, None, None] * maps]),
        image_name=image_name,
        run_name=run_name,
        method_name=method_name,
        support_counts=shown.counts,
        known=answer.known,
    )


def _photo_maps(
    model: StoredPhotos,
    image: np.ndarray,
    photos: np.ndarray,
    positions: np.ndarray,
    found: StoredRelevance,
    targets: np.ndarray,
) -> np.ndarray:
    """Relevance of the pixels of the photos at `positions`, `(E, positions, size, size)`."""
    maps = np.zeros((len(targets), len(positions), *image.shape[:2]), np.float32)
    for row in range(len(targets)):
        # What had no part has no relevance, and needs no pass through the network.
        counted = np.flatnonzero(found.photos[row, positions])
        for start in range(0, len(counted), _BATCH):
            chosen = counted[start : start + _BATCH]
            places = positions[chosen]
            maps[row, chosen] = model.photo_relevance(image, targets[row : row + 1], photos[places], places)[0]
    return maps


def _shown_photos(support: SupportSet, sums: np.ndarray, explained: tuple[int, ...]) -> list[np.ndarray]:
    """Of each class the positions of the photos to show, those that counted most first."""
    labels = support.flat_labels
    if not len(labels):
        return support.ways * [np.zeros(0, np.int64)]
    weight = np.abs(sums).max(axis=0)
    ranked = [np.flatnonzero(labels == index) for index in range(support.ways)]
    chosen = [each[np.argsort(-weight[each], kind="stable")][:_SHOWN] for each in ranked]
    if sum(int(np.count_nonzero(weight[each])) for each in chosen) > _MANY:
        chosen = [each if index in explained else each[:0] for index, each in enumerate(chosen)]
    return chosen
