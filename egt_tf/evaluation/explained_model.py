"""A model with the ways to explain it that are judged side by side."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ExplainError
from egt_tf.evaluation.judged_queries import JudgedQuery
from egt_tf.explain.explanation import pool_channels
from egt_tf.explain.methods import Method
from egt_tf.explain.query import query_inputs, select_first_query
from egt_tf.explain.query_scores import QUERY, QueryScores
from egt_tf.keras_api import compiled


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a model says of images in the place of one query, given the classes of its episode.

    Attributes:
        scores: uint8 images `(n, size, size, 3)` -> raw scores `(n, ways)`.
        probabilities: as `scores`, the probabilities.
        explain: an image `(size, size, 3)` and a class -> signed maps by all methods, summed over the channels,
            `(M, size, size)`.

    Example:
        >>> def even(images):
        ...     return np.full((len(images), 2), 0.5)
        >>> Answers(even, even, lambda image, target: np.zeros((1, 4, 4))).scores(np.zeros((3, 4, 4, 3))).shape
        (3, 2)
    """

    scores: Callable[[np.ndarray], np.ndarray]
    probabilities: Callable[[np.ndarray], np.ndarray]
    explain: Callable[[np.ndarray, int], np.ndarray]


class Explained(Protocol):
    """What explanations come from, whatever holds the weights: a run's model here, an exported one in `serving`.

    Example:
        >>> def predicted(explained: Explained, query: JudgedQuery) -> int:
        ...     return int(explained.answers(query).scores(query.image[None])[0].argmax())
    """

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods, M of them."""

    @property
    def image_size(self) -> int:
        """Height and width of the images in pixels."""

    def answers(self, query: JudgedQuery) -> Answers:
        """What is said of a query, and of images in its place."""


class ExplainedModel:
    """A few-shot model and methods; what TensorFlow traces is kept from one query to the next.

    Args:
        model: the classifier.
        methods: at least one, of different names.

    Raises:
        ExplainError: no method, or two of one name.

    Example:
        >>> from egt_tf.data.support import SupportSet
        >>> from egt_tf.explain.methods import get_method
        >>> model = EpisodicModel.build_from({"name": "conv4", "width": 2}, "prototype", image_size=16, seed=1)
        >>> explained = ExplainedModel(model, [get_method("gradient")])
        >>> support = SupportSet(("ant", "bee"), np.zeros((2, 1, 16, 16, 3), np.uint8))
        >>> answers = explained.answers(JudgedQuery(support, np.zeros((16, 16, 3), np.uint8), None))
        >>> answers.explain(np.full((16, 16, 3), 200, np.uint8), 1).shape
        (1, 16, 16)
    """

    def __init__(self, model: EpisodicModel, methods: Sequence[Method]):
        names = tuple(method.name for method in methods)
        if not methods or len(set(names)) < len(names):
            raise ExplainError(f"there must be methods of different names. Received: {', '.join(names) or 'none'}")
        self.methods, self.image_size = names, model.image_size
        self._model, self._scores = model, QueryScores(model)
        self._explainers = [explainer_of(model, method) for method in methods]

    def answers(self, query: JudgedQuery) -> Answers:
        """See `Explained`."""
        inputs = query_inputs(self._model, query.support, query.image)
        scores = functools.partial(self._scores, inputs)

        def explain(image: np.ndarray, target: int) -> np.ndarray:
            changed = query_inputs(self._model, query.support, image)
            return np.stack([explainer(changed, target) for explainer in self._explainers])

        def probabilities(images: np.ndarray) -> np.ndarray:
            return self._model.head.probabilities(tf.constant(scores(images))).numpy()

        return Answers(scores, probabilities, explain)


def explainer_of(model: EpisodicModel, method: Method) -> Callable[[Sequence[tf.Tensor], int], np.ndarray]:
    """From the inputs of one query (see `query_inputs`) and a class to the map of the query, `(size, size)`.

    Example:
        >>> from egt_tf.data.support import SupportSet
        >>> from egt_tf.explain.methods import get_method
        >>> model = EpisodicModel.build_from({"name": "conv4", "width": 2}, "prototype", image_size=16, seed=1)
        >>> support = SupportSet(("ant", "bee"), np.zeros((2, 1, 16, 16, 3), np.uint8))
        >>> inputs = query_inputs(model, support, np.full((16, 16, 3), 200, np.uint8))
        >>> explainer_of(model, get_method("gradient"))(inputs, 1).shape
        (16, 16)
    """
    prepared = method.prepared(model)
    place = prepared.input_names.index(QUERY)

    def maps(inputs: Sequence[tf.Tensor], target: tf.Tensor) -> tf.Tensor:
        ((*found,),) = method.maps(prepared, inputs, [select_first_query(prepared.head, target, method)])
        return found[place][0, 0]

    call = compiled(maps) if method.in_graph else maps
    return lambda inputs, target: pool_channels(np.asarray(call(list(inputs), tf.constant(target))))
