"""Raw scores of many versions of one query, for measures that change its pixels."""

from __future__ import annotations

from collections.abc import Sequence

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
    its own, with the other queries as they are.

    Args:
        model: the classifier.
        inputs: one tensor for each of its inputs, of one episode.
        batch: images that pass the backbone at once.

    Example:
        >>> model = EpisodicModel.build_from({"name": "conv4", "width": 2}, "prototype", image_size=16, seed=1)
        >>> labels = tf.one_hot([[0, 1]], 2)
        >>> images = {"support_images": tf.zeros((1, 2, 16, 16, 3)), "query_images": tf.zeros((1, 1, 16, 16, 3))}
        >>> scores = QueryScores(model, [{**images, "support_labels": labels}[name] for name in model.input_names])
        >>> scores(np.zeros((5, 16, 16, 3), np.uint8)).shape
        (5, 2)
    """

    def __init__(self, model: EpisodicModel, inputs: Sequence[tf.Tensor], batch: int = BATCH):
        self._model = model
        self._inputs = dict(zip(model.input_names, inputs, strict=True))
        self._alone = self._inputs[QUERY].shape[1] == 1
        others = 0 if self._alone else int(self._inputs[SUPPORT].shape[1] + self._inputs[QUERY].shape[1] - 1)
        self._together = max(1, batch // (1 + others))
        self._score = tf.function(self._of_queries if self._alone else self._of_episodes)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Raw scores.

        Args:
            images: uint8 `(n, size, size, 3)`.

        Returns:
            float32 `(n, ways)`.
        """
        count = len(images)
        # Of one shape, so that the function is traced once.
        padded = np.concatenate([images, np.repeat(images[:1], -count % self._together, axis=0)])
        parts = [self._score(part).numpy() for part in padded.reshape(-1, self._together, *images.shape[1:])]
        return np.concatenate(parts)[:count]

    def _of_queries(self, images: tf.Tensor) -> tf.Tensor:
        return self._model({**self._inputs, QUERY: normalize(images)[None]}, training=False)[0]

    def _of_episodes(self, images: tf.Tensor) -> tf.Tensor:
        repeated = {name: tf.repeat(x, self._together, axis=0) for name, x in self._inputs.items()}
        repeated[QUERY] = tf.concat([normalize(images)[:, None], repeated[QUERY][:, 1:]], axis=1)
        return self._model(repeated, training=False)[:, 0]
