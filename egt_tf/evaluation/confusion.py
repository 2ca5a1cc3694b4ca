"""Which classes were taken for which, over episodes of other classes each. Pure functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from egt_tf.errors import DataError

# Of different classes, so many pairs are written: all of 14 classes, of hundreds the most frequent ones.
MOST_PAIRS = 200


@dataclasses.dataclass(frozen=True, eq=False)
class Confusion:
    """Answers by true and by predicted class; C classes, all of which were asked for.

    An episode has some of the classes, so that two can be confused only where they meet: a share is one of `asked`.

    Attributes:
        class_names: C names.
        taken: queries of class i that were taken for class j, int64 `(C, C)`.
        asked: queries of class i in episodes that had class j too, int64 `(C, C)`; on the diagonal all queries of i.

    Example:
        >>> found = Confusion(("ant", "bee"), np.array([[3, 1], [0, 4]]), np.full((2, 2), 4))
        >>> found.to_json()["pairs"]
        [{'class': 0, 'taken_for': 1, 'queries': 1, 'of': 4}]
    """

    class_names: tuple[str, ...]
    taken: np.ndarray
    asked: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """As JSON types.

        Returns:
            `classes` with `name`, `queries` and how many were `right`; `pairs` of different ones by their places in that
            list: how many `queries` of `class` were `taken_for` another, `of` those that were asked beside it; the most
            frequent first, `MOST_PAIRS` at most, none without queries.
        """
        wrong = self.taken - np.diag(self.taken.diagonal())
        order = np.argsort(-wrong.ravel(), kind="stable")[:MOST_PAIRS]
        pairs = [divmod(int(place), len(wrong)) for place in order if wrong.ravel()[place]]
        return {
            "classes": [
                {"name": name, "queries": int(self.asked[i, i]), "right": int(self.taken[i, i])}
                for i, name in enumerate(self.class_names)
            ],
            "pairs": [
                {"class": i, "taken_for": j, "queries": int(self.taken[i, j]), "of": int(self.asked[i, j])}
                for i, j in pairs
            ],
        }


def count_confusion(class_names: Sequence[str], classes: np.ndarray, predicted: np.ndarray) -> Confusion:
    """Counts the answers of all queries; classes that no episode has are left out.

    Args:
        class_names: of all classes.
        classes: positions of each episode's classes among them, int64 `(episodes, ways)`.
        predicted: answers as positions in the episode, int64 `(episodes, queries)`; the queries are sorted by class,
            as many of each.

    Raises:
        DataError: shapes that do not fit.

    Example:
        >>> count_confusion("abc", np.array([[2, 0]]), np.array([[0, 1, 1, 1]])).taken.tolist()
        [[2, 0], [1, 1]]
    """
    (episodes, ways), (rows, queries) = classes.shape, predicted.shape
    if episodes != rows or queries % ways:
        raise DataError(
            "`predicted` must have as many queries of each class for each episode. Received: "
            f"shapes {predicted.shape} for classes {classes.shape}"
        )
    seen, places = np.unique(classes, return_inverse=True)
    places = places.reshape(classes.shape)
    taken, asked = (np.zeros((len(seen), len(seen)), np.int64) for _ in range(2))
    truth = np.repeat(places, queries // ways, axis=1)
    np.add.at(taken, (truth, np.take_along_axis(places, predicted, axis=1)), 1)
    np.add.at(asked, (places[:, :, None], places[:, None, :]), queries // ways)
    return Confusion(tuple(class_names[index] for index in seen.tolist()), taken, asked)
