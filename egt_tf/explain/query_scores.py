"""Raw scores of many versions of one query, for measures that change its pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from egt_tf.data.preprocessing import normalize
from egt_tf.episodic_model import EpisodicModel
from egt_tf.keras_api import compiled

SUPPORT, LABELS, QUERY = "support_images", "support_labels", "query_images"
# Images that pass the backbone at once.
BATCH = 64
# Of those, as many share a pass of the head where each has an episode of its own: a part of this size.
EPISODES = 4


class QueryScores:
    """What a few-shot model says to other images in the place of an episode's first query.

    The support images, and the queries that keep the first one company, pass the backbone once a call. What TensorFlow
    traces is kept from one episode to the next.

    Args:
        model: the classifier.
        batch: images that pass the backbone at once.

    Example:
        >>> model = EpisodicModel.build_from({"name": "conv4", "width": 2}, "prototype", image_size=16, seed=1)
        >>> images = {"support_images": tf.zeros((1, 2, 16, 16, 3)), "query_images": tf.zeros((1, 1, 16, 16, 3))}
        >>> inputs = [{**images, "support_labels": tf.one_hot([[0, 1]], 2)}[name] for name in model.input_names]
        >>> QueryScores(model)(inputs, np.zeros((5, 16, 16, 3), np.uint8)).shape
        (5, 2)
    """

    def __init__(self, model: EpisodicModel, batch: int = BATCH):
        self._model, self._batch = model, batch
        self._embed = compiled(lambda images: model.backbone(images, training=False), reduce_retracing=True)
        self._score = compiled(self._of_episodes)

    def __call__(self, inputs: Sequence[tf.Tensor], images: np.ndarray) -> np.ndarray:
        """Raw scores.

        Args:
            inputs: one tensor for each of the model's inputs, of one episode.
            images: uint8 `(n, size, size, 3)`.

        Returns:
            float32 `(n, ways)`.
        """
        by_name = dict(zip(self._model.input_names, inputs, strict=True))
        support, others = self._embed(by_name[SUPPORT][0]), by_name[QUERY][0, 1:]
        # A head whose scores depend on no other query has none.
        company = self._embed(others) if len(others) else None
        # Two shapes, so that the function is traced twice at most.
        together = 1 if len(images) == 1 else self._batch if company is None else max(1, self._batch // EPISODES)
        padded = np.concatenate([images, np.repeat(images[:1], -len(images) % together, axis=0)])
        parts = []
        for part in padded.reshape(-1, together, *images.shape[1:]):
            changed = self._embed(normalize(part))
            parts.append(self._score(support, by_name[LABELS][0], changed, company).numpy())
        return np.concatenate(parts)[: len(images)]

    def _of_episodes(
        self, support: tf.Tensor, labels: tf.Tensor, changed: tf.Tensor, company: tf.Tensor | None
    ) -> tf.Tensor:
        """Of features `(images, ...)`; a changed image is a query of one episode, or in company has one of its own."""
        head = self._model.head
        if company is None:
            return head([support[None], labels[None], changed[None]], training=False)[0]
        support, labels, company = (
            tf.repeat(x[None], tf.shape(changed)[0], axis=0) for x in (support, labels, company)
        )
        query = tf.concat([changed[:, None], company], axis=1)
        return head([support, labels, query], training=False)[:, 0]
