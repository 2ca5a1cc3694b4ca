"""Raw scores of many versions of one query, for measures that change its pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from egt_tf.data.preprocessing import normalize
from egt_tf.episodic_model import EpisodicModel

SUPPORT, QUERY = "support_images", "query_images"
# Images that pass the backbone at once.
BATCH = 64


class QueryScores:
    """What a few-shot model says to other images in the place of an episode's first query.

    Of a head whose scores depend on no other query, the images are queries of one episode; else each has an episode of
    its own, with the other queries as they are. What TensorFlow traces is kept from one episode to the next.

    Args:
        model: the classifier.
        batch: images that pass the backbone at once, about.

    Example:
        >>> model = EpisodicModel.build_from({"name": "conv4", "width": 2}, "prototype", image_size=16, seed=1)
        >>> images = {"support_images": tf.zeros((1, 2, 16, 16, 3)), "query_images": tf.zeros((1, 1, 16, 16, 3))}
        >>> inputs = [{**images, "support_labels": tf.one_hot([[0, 1]], 2)}[name] for name in model.input_names]
        >>> QueryScores(model)(inputs, np.zeros((5, 16, 16, 3), np.uint8)).shape
        (5, 2)
    """

    def __init__(self, model: EpisodicModel, batch: int = BATCH):
        self._model, self._batch = model, batch
        self._queries = tf.function(self._of_queries)
        self._episodes = tf.function(self._of_episodes)

    def __call__(self, inputs: Sequence[tf.Tensor], images: np.ndarray) -> np.ndarray:
        """Raw scores.

        Args:
            inputs: one tensor for each of the model's inputs, of one episode.
            images: uint8 `(n, size, size, 3)`.

        Returns:
            float32 `(n, ways)`.
        """
        by_name = dict(zip(self._model.input_names, inputs, strict=True))
        others = int(by_name[QUERY].shape[1]) - 1
        score = self._episodes if others else self._queries
        together = max(1, self._batch // (1 + int(by_name[SUPPORT].shape[1]) + others)) if others else self._batch
        # Two shapes, so that a function is traced twice at most.
        together = 1 if len(images) == 1 else together
        padded = np.concatenate([images, np.repeat(images[:1], -len(images) % together, axis=0)])
        parts = [score(by_name, part).numpy() for part in padded.reshape(-1, together, *images.shape[1:])]
        return np.concatenate(parts)[: len(images)]

    def _of_queries(self, inputs: Mapping[str, tf.Tensor], images: tf.Tensor) -> tf.Tensor:
        return self._model({**inputs, QUERY: normalize(images)[None]}, training=False)[0]

    def _of_episodes(self, inputs: Mapping[str, tf.Tensor], images: tf.Tensor) -> tf.Tensor:
        repeated = {name: tf.repeat(x, tf.shape(images)[0], axis=0) for name, x in inputs.items()}
        repeated[QUERY] = tf.concat([normalize(images)[:, None], repeated[QUERY][:, 1:]], axis=1)
        return self._model(repeated, training=False)[:, 0]
