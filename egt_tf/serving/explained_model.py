"""The explanations of an exported model, for those that judge them."""

from __future__ import annotations

import numpy as np

from egt_tf.evaluation.explained_model import Answers
from egt_tf.evaluation.judged_queries import JudgedQuery
from egt_tf.serving.exported_model import ExportedModel, support_inputs

_CLASSIFY, _EXPLAIN = "classify_episode_floats", "explain_episode_floats"
# Queries of a request, beside its support images. Few, since a model may have been told to take few.
_BATCH = 16


class ExplainedExport:
    """An exported model with the one method of its graph, as `egt_tf.evaluation.explained_model.Explained`.

    Args:
        model: exported by this package.
        method: what the method is called.

    Raises:
        ExportError: it has not the signatures.

    Notes:
        A model answers probabilities. In the place of the raw scores stand their logarithms less the mean over the
        classes, which are the raw scores less their mean, for all heads of this package.

    Example:
        >>> from egt_tf.data.support import SupportSet
        >>> support = SupportSet(("ant", "bee"), np.zeros((2, 1, 64, 64, 3), np.uint8))
        >>> answers = ExplainedExport(ExportedModel("saved_models/shapes"), "fsc").answers(
        ...     JudgedQuery(support, np.zeros((64, 64, 3), np.uint8), None)
        ... )
        >>> answers.probabilities(np.zeros((3, 64, 64, 3), np.uint8)).shape
        (3, 2)
    """

    def __init__(self, model: ExportedModel, method: str):
        self.methods = (method,)
        self.image_size = int(model.inputs(_EXPLAIN)["query_images"].shape[1])
        self._model = model

    def answers(self, query: JudgedQuery) -> Answers:
        """See `Explained`."""
        episode = support_inputs(query.support)

        def probabilities(images: np.ndarray) -> np.ndarray:
            parts = [images[i : i + _BATCH].astype(np.float32) for i in range(0, len(images), _BATCH)]
            return np.concatenate(
                [self._model.ask(_CLASSIFY, {**episode, "query_images": part})["probabilities"] for part in parts]
            )

        def scores(images: np.ndarray) -> np.ndarray:
            found = probabilities(images)
            logarithms = np.log(np.maximum(found, np.finfo(found.dtype).tiny))
            return logarithms - logarithms.mean(axis=-1, keepdims=True)

        def explain(image: np.ndarray, target: int) -> np.ndarray:
            queries = {"query_images": image[None].astype(np.float32), "targets": np.array([target])}
            return self._model.ask(_EXPLAIN, {**episode, **queries})["relevance"]

        return Answers(scores, probabilities, explain)
