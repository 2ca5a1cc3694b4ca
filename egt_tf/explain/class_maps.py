"""Maps of given classes of an ordinary classifier, by any method of this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from egt_tf.errors import ExplainError
from egt_tf.explain.explanation import pool_channels
from egt_tf.explain.methods import Method, get_method
from egt_tf.keras_api import keras
from egt_tf.lrp.output_relevance import Start


def class_maps(
    model: keras.Model,
    inputs: ArrayLike,
    targets: Sequence[int] | np.ndarray,
    method: str | Mapping[str, Any] | Method = "epsilon_plus",
    start: str | Start | None = None,
) -> np.ndarray:
    """Explains one class of each image of a batch.

    Args:
        model: a Functional or Sequential classifier with one input, whose output are raw scores `(n, classes)`, such as
            `query_classifier` makes of a few-shot model.
        inputs: what it takes, `(n, H, W, channels)`.
        targets: a class for each, integers `(n,)`.
        method: see `explain_image`.
        start: see `explain_image`; probabilities are the softmax of the scores.

    Returns:
        Signed maps, summed over the channels, float32 `(n, H, W)`.

    Raises:
        ExplainError: no such method or class, or a model that it cannot explain.

    Example:
        >>> images = keras.Input((4, 4, 3))
        >>> model = keras.Model(images, keras.layers.Dense(2)(keras.layers.Flatten()(images)))
        >>> class_maps(model, np.ones((3, 4, 4, 3)), [0, 1, 1], method="gradient").shape
        (3, 4, 4)
    """
    method = get_method(method, start)
    images, classes = tf.convert_to_tensor(inputs, keras.backend.floatx()), np.asarray(targets)
    known = model.output_shape[-1]
    if classes.shape != (len(images),) or classes.min(initial=0) < 0 or classes.max(initial=0) >= known:
        raise ExplainError(
            f"`targets` must be one class for each of {len(images)} images, from 0 to {known - 1}. "
            f"Received: {classes.tolist()}"
        )

    def select(scores: tf.Tensor) -> tf.Tensor:
        chosen = tf.one_hot(classes, known, dtype=scores.dtype)
        return method.begin(scores, tf.nn.softmax(scores), chosen)

    ((found,),) = method.maps(method.prepared(model), [images], [select])
    return pool_channels(np.asarray(found))


def explain_func(
    model: keras.Model,
    inputs: ArrayLike,
    targets: Sequence[int] | np.ndarray,
    method: str | Mapping[str, Any] | Method = "epsilon_plus",
    start: str | Start | None = None,
) -> np.ndarray:
    """`class_maps` as Quantus wants its `explain_func`: with an axis of one channel before the positions.

    Args:
        model, inputs, targets, method, start: see `class_maps`; Quantus gives the last two from its `explain_func_kwargs`.

    Returns:
        Signed maps, float32 `(n, 1, H, W)`, also for images with their channels last: Quantus has them first inside.

    Example:
        >>> images = keras.Input((4, 4, 3))
        >>> model = keras.Model(images, keras.layers.Dense(2)(keras.layers.Flatten()(images)))
        >>> explain_func(model=model, inputs=np.ones((3, 4, 4, 3)), targets=[0, 1, 1], method="gradient").shape
        (3, 1, 4, 4)
    """
    return class_maps(model, inputs, targets, method, start)[:, None]
