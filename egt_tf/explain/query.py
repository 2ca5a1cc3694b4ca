"""Relevance through a whole few-shot model, to the pixels of the query and of every support image."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from egt_tf.data.preprocessing import normalize
from egt_tf.data.support import ImageOrPath, SupportOrPath, SupportSet, as_image, as_support
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ExplainError, did_you_mean, original_error
from egt_tf.explain.explanation import EpisodeExplanation, pool_channels
from egt_tf.explain.gradients import Select
from egt_tf.explain.methods import Method, get_method
from egt_tf.heads.base import Head
from egt_tf.lrp.output_relevance import Start

ALL_CLASSES = "all"


@dataclasses.dataclass(frozen=True, eq=False)
class QueryRelevance:
    """Pixel relevance of one query and of the support images.

    Attributes:
        query: relevance of the query's pixels for each class explained, `(E, size, size, 3)`.
        support: of the support images' pixels, `(E, ways, shots, size, size, 3)`.

    Example:
        >>> QueryRelevance(np.zeros((1, 8, 8, 3)), np.zeros((1, 5, 1, 8, 8, 3))).query.shape
        (1, 8, 8, 3)
    """

    query: np.ndarray
    support: np.ndarray


def explain_image(
    model: EpisodicModel,
    support: SupportOrPath,
    image: ImageOrPath,
    target: str | None = None,
    method: str | Mapping[str, Any] | Method = "fsc",
    image_name: str = "",
    run_name: str = "",
    start: str | Start | None = None,
) -> EpisodeExplanation:
    """Classifies one image by a support set and explains the prediction.

    Args:
        model: the classifier.
        support: its classes: a support set, or a folder with one sub-folder of images a class.
        image: a file, or uint8 pixels `(size, size, 3)` as `egt_tf.data.support.load_image` gives them.
        target: a class name to explain, beside the most probable of the others; "all" for every class, unless one is
            called so; None for the predicted class and the runner-up.
        method: a name that `egt_tf.explain.methods.get_method` knows, a composite with arguments, or a `Method`.
        image_name: for the figure; the name of the file by default.
        run_name: for the figure.
        start: where the explanation begins at the scores: "log_odds" of the class, or its "margin", its score minus that
            of its strongest rival; None: the method's own, log-odds unless it was asked for with another.

    Raises:
        DataError: an image cannot be read, or is not of the size that the model takes.
        ExplainError: no such class or method, or a layer that the method cannot explain.

    Example:
        >>> model = EpisodicModel.build_from("conv4", "cosine", image_size=16, seed=1)
        >>> support = SupportSet(("ant", "bee"), np.zeros((2, 1, 16, 16, 3), np.uint8))
        >>> explanation = explain_image(model, support, np.full((16, 16, 3), 200, np.uint8), target="bee")
        >>> explanation.explained, explanation.query_relevance.shape
        ((1, 0), (2, 16, 16))
    """
    method = get_method(method, start)
    image_name = image_name or name_of(image)
    support, image = as_support(support, model.image_size), as_image(image, model.image_size)
    model = method.prepared(model)
    inputs = query_inputs(model, support, image)
    probabilities = _probabilities(model, inputs)
    explained = classes_to_explain(probabilities, support.class_names, target)
    relevance = relevance_of_query(model, support, inputs, explained, method)
    return EpisodeExplanation(
        query_image=image,
        class_names=support.class_names,
        probabilities=probabilities,
        explained=explained,
        query_relevance=pool_channels(relevance.query),
        support_images=support.images,
        support_relevance=pool_channels(relevance.support),
        support_counts=support.counts,
        image_name=image_name,
        run_name=run_name,
        method_name=method.name,
    )


def class_probabilities(model: EpisodicModel, support: SupportOrPath, image: ImageOrPath) -> np.ndarray:
    """How probable each class of a support set is for one image, `(ways,)`, as `explain_image` has it.

    Args:
        model, support, image: see `explain_image`.

    Raises:
        DataError: see `explain_image`.

    Example:
        >>> model = EpisodicModel.build_from("conv4", "cosine", image_size=16, seed=1)
        >>> support = SupportSet(("ant", "bee"), np.zeros((2, 1, 16, 16, 3), np.uint8))
        >>> class_probabilities(model, support, np.full((16, 16, 3), 200, np.uint8)).round(3).tolist()
        [0.5, 0.5]
    """
    support, image = as_support(support, model.image_size), as_image(image, model.image_size)
    return _probabilities(model, query_inputs(model, support, image))


def _probabilities(model: EpisodicModel, inputs: Sequence[tf.Tensor]) -> np.ndarray:
    with original_error():
        scores = model(dict(zip(model.input_names, inputs, strict=True)), training=False)
    return model.head.probabilities(scores)[0, 0].numpy()


def name_of(image: ImageOrPath) -> str:
    """The name of an image's file; empty for pixels."""
    return "" if isinstance(image, np.ndarray) else Path(image).name


def query_inputs(model: EpisodicModel, support: SupportSet, image: np.ndarray) -> list[tf.Tensor]:
    """The model's inputs for one query, which is the first of its episode; `Head.filler_queries` follow it.

    Args:
        model: the classifier.
        support: its classes.
        image: uint8 `(size, size, 3)`.

    Returns:
        One tensor for each of the model's inputs, an episode each; the images normalised.
    """
    flat = support.flat_images
    labels = np.eye(support.ways, dtype=np.float32)[support.flat_labels]
    fillers = model.head.filler_queries(len(flat), support.ways).numpy()
    inputs = {
        "support_images": normalize(flat[None]),
        "support_labels": tf.constant(labels[None]),
        "query_images": normalize(np.concatenate([image[None], flat[fillers]])[None]),
    }
    return [inputs[name] for name in model.input_names]


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

    Example:
        >>> model = EpisodicModel.build_from("conv4", "cosine", image_size=16, seed=1)
        >>> support = SupportSet(("ant", "bee"), np.zeros((2, 1, 16, 16, 3), np.uint8))
        >>> inputs = query_inputs(model, support, np.full((16, 16, 3), 200, np.uint8))
        >>> relevance_of_query(model, support, inputs, [0, 1], get_method("gradient")).support.shape
        (2, 2, 1, 16, 16, 3)
    """
    selects = [select_first_query(model.head, target, method) for target in explained]
    query_maps, support_maps = [], []
    for maps in method.maps(method.prepared(model), inputs, selects):
        by_name = dict(zip(model.input_names, maps, strict=True))
        query_maps.append(by_name["query_images"][0, 0].numpy())
        support_maps.append(support.placed(by_name["support_images"][0].numpy()))
    return QueryRelevance(np.stack(query_maps), np.stack(support_maps))


def select_first_query(head: Head, target: int, method: Method) -> Select:
    """What is explained of the first query's scores: one class, as `Method.maps` takes it.

    Args:
        head: makes probabilities of raw scores.
        target: class index.
        method: says where it begins.

    Returns:
        A function from raw scores `(1, queries, ways)` to output relevance, or weights, of that shape, zero but for the
        first query.
    """

    def select(scores: tf.Tensor) -> tf.Tensor:
        queries, ways = tf.shape(scores)[1], tf.shape(scores)[2]
        chosen = tf.one_hot([[target]], ways, dtype=scores.dtype)
        chosen = tf.pad(chosen, [[0, 0], [0, queries - 1], [0, 0]])
        return method.begin(scores, head.probabilities(scores), chosen)

    return select


def classes_to_explain(probabilities: np.ndarray, class_names: Sequence[str], target: str | None) -> tuple[int, ...]:
    """The class indices that `explain_image` explains, the one its support maps are drawn for first.

    Raises:
        ExplainError: `target` is no class.
    """
    ranking = [int(i) for i in np.argsort(-probabilities, kind="stable")]
    if target is None:
        return tuple(ranking[:2])
    # A class that is called so can be asked for by its name alone.
    if target == ALL_CLASSES and target not in class_names:
        return tuple(ranking)
    if target not in class_names:
        hint = did_you_mean(target, class_names)
        raise ExplainError(f"the target must be 'all' or one of {', '.join(class_names)}. Received: {target!r}{hint}")
    chosen = class_names.index(target)
    return (chosen, next(i for i in ranking if i != chosen))
