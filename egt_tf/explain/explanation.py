"""What an explanation of one query holds, checked once, and its numbers as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from egt_tf.errors import ExplainError
from egt_tf.pictures import Pictured
from egt_tf.ties import tie_text, tied_classes


@dataclass(frozen=True)
class EpisodeExplanation(Pictured):
    """All that the figure shows, in NumPy arrays; K classes, S support images per class, E explained classes.

    A notebook shows the figure itself.

    Args:
        query_image: uint8 `(H, W, 3)`.
        class_names: K names, at least two.
        probabilities: `(K,)` in [0, 1].
        explained: the E different class indices that relevance was computed for, in the order they are drawn.
            The first is the class the support maps are drawn for: the predicted one, or the one asked for.
        query_relevance: signed `(E, H, W)`, summed over the colour channels.
        support_images: uint8 `(K, S, H, W, 3)`.
        support_relevance: signed `(E, K, S, H, W)`, in the units of `query_relevance`.
        image_name: of the query, for the figure and the JSON file.
        run_name: which model.
        method_name: the composite or the method the relevance comes from.
        support_counts: how many support images of each class there are, where their numbers differ; those behind them
            are blank. None: S of each.
        known: whether the query shows one of the classes at all; None where that is not told.

    Raises:
        ExplainError: shapes that do not fit together, images that are not uint8, probabilities outside
            [0, 1], relevance that is not finite.

    Example:
        >>> explanation = EpisodeExplanation(
        ...     query_image=np.zeros((4, 4, 3), np.uint8),
        ...     class_names=("ant", "bee"),
        ...     probabilities=np.array([0.3, 0.7]),
        ...     explained=(1,),
        ...     query_relevance=np.ones((1, 4, 4)),
        ...     support_images=np.zeros((2, 1, 4, 4, 3), np.uint8),
        ...     support_relevance=np.zeros((1, 2, 1, 4, 4)),
        ... )
        >>> explanation.class_names[explanation.predicted], explanation.query_sums.tolist()
        ('bee', [16.0])
    """

    query_image: np.ndarray
    class_names: tuple[str, ...]
    probabilities: np.ndarray
    explained: tuple[int, ...]
    query_relevance: np.ndarray
    support_images: np.ndarray
    support_relevance: np.ndarray
    image_name: str = ""
    run_name: str = ""
    method_name: str = ""
    support_counts: tuple[int, ...] | None = None
    known: bool | None = None

    def __post_init__(self) -> None:
        self._check_classes()
        self._check_images()
        self._check_relevance()

    @property
    def ranking(self) -> tuple[int, ...]:
        """Class indices from the most to the least probable; ties keep their order."""
        return tuple(int(i) for i in np.argsort(-np.asarray(self.probabilities), kind="stable"))

    @property
    def predicted(self) -> int:
        """The most probable class."""
        return self.ranking[0]

    @property
    def runner_up(self) -> int:
        """The second most probable class."""
        return self.ranking[1]

    @property
    def tied(self) -> tuple[int, ...]:
        """The classes that are as probable as `predicted`, which is among them; more than one is no prediction."""
        return tied_classes(self.probabilities)

    @property
    def has_relevance(self) -> bool:
        """Whether the class explained first got any relevance; without, nothing in the images spoke for it or against."""
        return bool(np.any(self.query_relevance[0]) or np.any(self.support_relevance[0]))

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the explanation must not be taken for one of a prediction, a phrase each; mostly none."""
        found = []
        if len(self.tied) > 1:
            found.append(
                f"no prediction: {tie_text([self.class_names[index] for index in self.tied], len(self.class_names))}"
            )
        if not self.has_relevance:
            found.append("no relevance: no pixel counts")
        return tuple(found)

    @property
    def query_sums(self) -> np.ndarray:
        """The summed relevance of the query for each explained class: `(E,)`."""
        return _sums(self.query_relevance)

    @property
    def support_sums(self) -> np.ndarray:
        """The summed relevance of every support image for each explained class: `(E, K, S)`."""
        return _sums(self.support_relevance)

    @property
    def support_sizes(self) -> tuple[int, ...]:
        """How many support images each class has."""
        ways, shots = self.support_images.shape[:2]
        return ways * (shots,) if self.support_counts is None else self.support_counts

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What a notebook shows beside the figure, and IPython in place of it: one line."""
        image, name = self.image_name or "image", self.class_names[self.predicted]
        doubts = "".join(f"; {doubt}" for doubt in self.doubts)
        if self.known is False:
            doubts = f"; probably none of these classes{doubts}"
        printer.text(f"{image}: {name}, {100 * self.probabilities[self.predicted]:.0f} %{doubts}")

    def _check_classes(self) -> None:
        ways = len(self.class_names)
        if ways < 2:
            raise ExplainError(f"`class_names` must hold at least two. Received: {self.class_names!r}")
        _check_shape("probabilities", self.probabilities, (ways,))
        if not np.all((self.probabilities >= 0) & (self.probabilities <= 1 + 1e-5)):
            raise ExplainError(f"`probabilities` must be in [0, 1]. Received: {list(self.probabilities)}")
        if not self.explained or len(set(self.explained)) != len(self.explained):
            raise ExplainError(f"`explained` must hold different classes, at least one. Received: {self.explained!r}")
        if not all(0 <= index < ways for index in self.explained):
            raise ExplainError(f"`explained` must be in 0..{ways - 1}. Received: {self.explained!r}")

    def _check_images(self) -> None:
        for name, ndim in (("query_image", 3), ("support_images", 5)):
            image = getattr(self, name)
            if image.dtype != np.uint8 or image.ndim != ndim or image.shape[-1] != 3 or 0 in image.shape:
                raise ExplainError(
                    f"`{name}` must be uint8 with {ndim} axes, RGB last. Received: {image.dtype} {image.shape}"
                )
        ways, shots = self.support_images.shape[:2]
        if ways != len(self.class_names):
            raise ExplainError(
                f"`support_images` must hold {len(self.class_names)} classes. "
                f"Received: shape={self.support_images.shape}"
            )
        if len(self.support_sizes) != ways or not all(0 <= size <= shots for size in self.support_sizes):
            raise ExplainError(
                f"`support_counts` must hold {ways} numbers from 0 to {shots}. Received: {self.support_counts}"
            )

    def _check_relevance(self) -> None:
        count = len(self.explained)
        _check_shape("query_relevance", self.query_relevance, (count, *self.query_image.shape[:2]))
        _check_shape("support_relevance", self.support_relevance, (count, *self.support_images.shape[:-1]))
        for name in ("query_relevance", "support_relevance"):
            check_finite(name, getattr(self, name))


def to_json(explanation: EpisodeExplanation) -> dict[str, Any]:
    """The numbers of an explanation as JSON types.

    Returns:
        `image`, `run`, `method`; `class_names` and `probabilities` (K); `known`; `predicted` and `runner_up` with
        `index`, `name` and `probability`; `tied`, the indices of all classes as probable as the predicted one, which is
        a prediction only where it is alone; `explained`, the E class indices; `query_relevance_sums` (E);
        `support_relevance_sums` (E, K, S), without what is blank.

    Example:
        >>> images = np.zeros((2, 1, 4, 4, 3), np.uint8)
        >>> relevance = np.zeros((1, 2, 1, 4, 4))
        >>> probabilities = np.array([0.25, 0.75])
        >>> to_json(
        ...     EpisodeExplanation(
        ...         images[0, 0], ("ant", "bee"), probabilities, (1,), relevance[0, :1, 0], images, relevance
        ...     )
        ... )["predicted"]
        {'index': 1, 'name': 'bee', 'probability': 0.75}
    """
    probabilities = [float(p) for p in explanation.probabilities]

    def entry(index: int) -> dict[str, Any]:
        return {"index": index, "name": explanation.class_names[index], "probability": probabilities[index]}

    return {
        "image": explanation.image_name,
        "run": explanation.run_name,
        "method": explanation.method_name,
        "class_names": list(explanation.class_names),
        "probabilities": probabilities,
        "known": explanation.known,
        "predicted": entry(explanation.predicted),
        "runner_up": entry(explanation.runner_up),
        "tied": list(explanation.tied),
        "explained": [int(index) for index in explanation.explained],
        "query_relevance_sums": explanation.query_sums.tolist(),
        "support_relevance_sums": [
            [sums[:size].tolist() for sums, size in zip(classes, explanation.support_sizes, strict=True)]
            for classes in explanation.support_sums
        ],
    }


def pool_channels(relevance: np.ndarray) -> np.ndarray:
    """Sums relevance over the colour channels: `(..., H, W, C)` -> `(..., H, W)`.

    The sum (not the mean or the maximum) keeps the total relevance of the image.

    Raises:
        ExplainError: fewer than three axes.
    """
    relevance = np.asarray(relevance)
    if relevance.ndim < 3:
        raise ExplainError(f"`relevance` must have shape (..., H, W, C). Received: shape={relevance.shape}")
    return relevance.sum(axis=-1)


def check_finite(name: str, relevance: np.ndarray) -> None:
    """Checks an array of relevance.

    Raises:
        ExplainError: a value is infinite or not a number.
    """
    if not np.isfinite(relevance).all():
        raise ExplainError(f"`{name}` must be finite. Received: infinite values or not-a-number")


def _check_shape(name: str, array: np.ndarray, expected: tuple[int, ...]) -> None:
    if np.shape(array) != expected:
        raise ExplainError(f"`{name}` must have shape {expected}. Received: shape={np.shape(array)}")


def _sums(maps: np.ndarray) -> np.ndarray:
    """Sums over the last two axes in float64."""
    return np.asarray(maps, np.float64).sum(axis=(-2, -1))
