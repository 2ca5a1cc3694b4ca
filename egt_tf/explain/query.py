"""Relevance through a whole few-shot model, to the pixels of the query and of every support image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from egt_tf.data.preprocessing import denormalize
from egt_tf.data.support import SupportSet
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ExplainError, did_you_mean, original_error
from egt_tf.explain.explanation import EpisodeExplanation
from egt_tf.explain.methods import Method, get_method
from egt_tf.figures.colormap import pool_channels
from egt_tf.heads.base import Head
from egt_tf.lrp.output_relevance import log_odds

ALL_CLASSES = "all"


@dataclasses.dataclass(frozen=True, eq=False)
class QueryRelevance:
    """Pixel relevance of one query and of the support images.

    Attributes:
        query: relevance of the query's pixels for each class explained, `(E, size, size, 3)`.
        support: of the support images' pixels, `(E, ways, shots, size, size, 3)`.
    """

    query: np.ndarray
    support: np.ndarray


def explain_image(
    model: EpisodicModel,
    support: SupportSet,
    image: np.ndarray,
    target: str | None = None,
    method: str | Method = "fsc",
    image_name: str = "",
    run_name: str = "",
) -> EpisodeExplanation:
    """Classifies one image by a support set and explains the prediction.

    Args:
        model: the classifier.
        support: its classes.
        image: normalised `(size, size, 3)`.
        target: a class name to explain, beside the most probable of the others; "all" for every class; None for the
            predicted class and the runner-up.
        method: a name that `egt_tf.explain.methods.get_method` knows, or a `Method`.
        image_name: for the figure.
        run_name: for the figure.

    Raises:
        ExplainError: no such class or method, or a layer that the method cannot explain.
    """
    method = get_method(method)
    model = method.prepared(model)
    inputs = query_inputs(model, support, image)
    with original_error():
        scores = model(dict(zip(model.input_names, inputs, strict=True)), training=False)
    probabilities = model.head.probabilities(scores)[0, 0].numpy()
    explained = classes_to_explain(probabilities, support.class_names, target)
    relevance = relevance_of_query(model, support, inputs, explained, method)
    return EpisodeExplanation(
        query_image=denormalize(image).numpy(),
        class_names=support.class_names,
        probabilities=probabilities,
        explained=explained,
        query_relevance=pool_channels(relevance.query),
        support_images=denormalize(support.images).numpy(),
        support_relevance=pool_channels(relevance.support),
        image_name=image_name,
        run_name=run_name,
        method_name=method.name,
    )


def query_inputs(model: EpisodicModel, support: SupportSet, image: np.ndarray) -> list[tf.Tensor]:
    """The model's inputs for one query, which is the first of its episode.

    A head that normalises by the statistics of its episode needs more than one query to have any; the support images
    are scored beside the query then. Where the number of queries must be a multiple (`Head.query_multiple`), support
    images fill it up, again from the first.
    """
    flat = support.images.reshape(-1, *support.images.shape[2:])
    labels = np.repeat(np.eye(support.ways, dtype=np.float32), support.shots, axis=0)
    companions = len(flat) if model.head.uses_batch_statistics else 0
    companions += -(1 + companions) % model.head.query_multiple(support.ways)
    queries = np.concatenate([image[None], flat[np.arange(companions) % len(flat)]])
    inputs = {"support_images": flat, "support_labels": labels, "query_images": queries}
    return [tf.constant(inputs[name][None]) for name in model.input_names]


def relevance_of_query(
    model: EpisodicModel, support: SupportSet, inputs: Sequence[tf.Tensor], explained: Sequence[int], method: Method
) -> QueryRelevance:
    """Explains the first query's score for each class of `explained`, down to the pixels.

    Args:
        model: the classifier.
        support: its classes.
        inputs: of `query_inputs`.
        explained: class indices.
        method: how.
    """
    selects = [start_of_first_query(model.head, target, method.from_log_odds) for target in explained]
    query_maps, support_maps = [], []
    for maps in method.maps(method.prepared(model), inputs, selects):
        by_name = dict(zip(model.input_names, maps, strict=True))
        query_maps.append(by_name["query_images"][0, 0].numpy())
        support_maps.append(by_name["support_images"][0].numpy().reshape(support.images.shape))
    return QueryRelevance(np.stack(query_maps), np.stack(support_maps))


def start_of_first_query(head: Head, target: int, from_log_odds: bool) -> Callable[[tf.Tensor], tf.Tensor]:
    """What the explanation of the first query's score for a class starts from, as `Method.maps` takes it.

    Args:
        head: makes probabilities of raw scores.
        target: class index.
        from_log_odds: see `Method`.

    Returns:
        A function from raw scores `(1, queries, ways)` to starts of that shape, zero but for one value.
    """

    def start(scores: tf.Tensor) -> tf.Tensor:
        queries, ways = tf.shape(scores)[1], tf.shape(scores)[2]
        chosen = tf.one_hot([[target]], ways, dtype=scores.dtype)
        chosen = tf.pad(chosen, [[0, 0], [0, queries - 1], [0, 0]])
        return chosen * log_odds(head.probabilities(scores)) if from_log_odds else chosen

    return start


def classes_to_explain(probabilities: np.ndarray, class_names: Sequence[str], target: str | None) -> tuple[int, ...]:
    """The class indices that `explain_image` explains, the one its support maps are drawn for first.

    Raises:
        ExplainError: `target` is no class.
    """
    ranking = [int(i) for i in np.argsort(-probabilities, kind="stable")]
    if target is None:
        return tuple(ranking[:2])
    if target == ALL_CLASSES:
        return tuple(ranking)
    if target not in class_names:
        hint = did_you_mean(target, class_names)
        raise ExplainError(f"the target must be 'all' or one of {', '.join(class_names)}. Received: {target!r}{hint}")
    chosen = class_names.index(target)
    return (chosen, next(i for i in ranking if i != chosen))
