"""Relevance through a whole few-shot model, to the pixels of the query and of every support image."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from egt_tf.data.preprocessing import denormalize
from egt_tf.data.support import SupportSet
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ExplainError
from egt_tf.explain.composites import Composite
from egt_tf.explain.presets import COMPOSITES
from egt_tf.explain.explanation import EpisodeExplanation
from egt_tf.explain.heatmap import pool_channels
from egt_tf.explain.reverse import Trace, record, reverse
from egt_tf.explain.start import log_odds

ALL_CLASSES = "all"


@dataclasses.dataclass(frozen=True, eq=False)
class QueryRelevance:
    """Prediction and pixel relevance of one query.

    Attributes:
        probabilities: of the classes, `(ways,)`.
        explained: class indices that relevance was computed for, E of them.
        query: relevance of the query's pixels for each of them, `(E, size, size, 3)`.
        support: of the support images' pixels, `(E, ways, shots, size, size, 3)`.
    """

    probabilities: np.ndarray
    explained: tuple[int, ...]
    query: np.ndarray
    support: np.ndarray


def explain_image(model: EpisodicModel, support: SupportSet, image: np.ndarray, target: str | None = None,
                  composite: str | Composite = "fsc", image_name: str = "", run_name: str = "") -> EpisodeExplanation:
    """Classifies one image by a support set and explains the prediction.

    Args:
        model: the classifier.
        support: its classes.
        image: normalised `(size, size, 3)`.
        target: a class name to explain beside the predicted class; "all" for every class; None for the predicted
            class and the runner-up.
        composite: a name of `COMPOSITES`, or a `Composite`.
        image_name: for the figure.
        run_name: for the figure.

    Raises:
        ExplainError: no such class, or a layer without a rule.
    """
    composite = COMPOSITES.get(composite)
    trace = record_query(model, support, image)
    probabilities = model.head.probabilities(trace.outputs[0])[0, 0].numpy()
    explained = classes_to_explain(probabilities, support.class_names, target)
    relevance = relevance_of_query(model, support, trace, explained, composite)
    return EpisodeExplanation(
        query_image=denormalize(image).numpy(), class_names=support.class_names, probabilities=probabilities,
        explained=explained, query_relevance=pool_channels(relevance.query),
        support_images=denormalize(support.images).numpy(), support_relevance=pool_channels(relevance.support),
        image_name=image_name, run_name=run_name, method_name=composite.name)


def record_query(model: EpisodicModel, support: SupportSet, image: np.ndarray) -> Trace:
    """Runs one query, in inference mode, as the first query of an episode.

    A head that normalises by the statistics of its episode needs more than one query to have any; the support images
    are scored beside the query then.
    """
    flat = support.images.reshape(-1, *support.images.shape[2:])
    labels = np.repeat(np.eye(support.ways, dtype=np.float32), support.shots, axis=0)
    queries = np.concatenate([image[None], flat]) if model.head.uses_batch_statistics else image[None]
    inputs = {"support_images": flat, "support_labels": labels, "query_images": queries}
    return record(model, [tf.constant(inputs[name][None]) for name in model.input_names])


def relevance_of_query(model: EpisodicModel, support: SupportSet, trace: Trace, explained: Sequence[int],
                       composite: Composite) -> QueryRelevance:
    """Takes the log-odds of each class of `explained` back to the pixels.

    Args:
        model: the classifier.
        support: its classes.
        trace: of `record_query`.
        explained: class indices.
        composite: gives each layer its rule.
    """
    by_name = dict(zip(model.input_names, trace.inputs))
    scores = trace.outputs[0]
    probabilities = model.head.probabilities(scores)
    start = log_odds(probabilities)
    query_maps, support_maps = [], []
    for target in explained:
        # Relevance starts at one score alone: that of the first query for the class explained.
        chosen = tf.one_hot([[target]], support.ways, dtype=start.dtype)
        chosen = tf.pad(chosen, [[0, 0], [0, tf.shape(start)[1] - 1], [0, 0]])
        wanted = [by_name["query_images"], by_name["support_images"]]
        query, images = reverse(trace, start * chosen, composite, wanted)
        query_maps.append(query[0, 0].numpy())
        support_maps.append(images[0].numpy().reshape(support.images.shape))
    return QueryRelevance(probabilities[0, 0].numpy(), tuple(explained), np.stack(query_maps), np.stack(support_maps))


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
        near = difflib.get_close_matches(target, class_names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ExplainError(f"the target must be 'all' or one of {', '.join(class_names)}. Received: {target!r}{hint}")
    chosen = class_names.index(target)
    return (chosen, next(i for i in ranking if i != chosen))
