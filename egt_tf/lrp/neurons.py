"""Neurons: which values of a model's output are explained.

A *neuron* is one value of an example's output. It is named by its index on each axis behind the batch; an integer alone
is an index on the last axis and names a channel, which is the neuron of that index or, where there are further axes,
all neurons of that index, at every position.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from egt_tf.errors import ExplainError

# In place of an index: every index of the axis. Nobody can mean it as an index.
_EVERY = int(np.iinfo(np.int64).min)


def named_by(selection: Any, axes: int, argument: str, several: bool = False) -> np.ndarray:
    """What names neurons, as indices on each axis behind the batch.

    Args:
        selection: an integer (a channel); with two axes or more a tuple of as many integers (a neuron); or a list or an
            array of these. With one axis a tuple is a list.
        axes: how many axes the output has behind the batch.
        argument: its name in errors.
        several: whether it must be a list, with one entry or more.

    Returns:
        int64 `(n, axes)`, n = 1 for what is no list. Where a channel is named, all but the last are the smallest int64.

    Raises:
        ExplainError: it is none of these.

    Example:
        >>> named_by([3, 1], 1, "neurons").tolist(), named_by((0, 4, 3), 3, "neurons").tolist()
        ([[3], [1]], [[0, 4, 3]])
        >>> named_by([3, (0, 4, 3)], 3, "neurons")[:, -1].tolist()
        [3, 3]
    """
    is_list = _is_list(selection, axes)
    rows = [_indices(entry, axes) for entry in (selection if is_list else [selection])]
    if several and not (is_list and rows):
        raise ExplainError(f"`{argument}` must be a list of at least one neuron. Received: {selection!r}")
    if None in rows:
        of_axes = f", tuples of {axes} integers" if axes > 1 else ""
        raise ExplainError(
            f"`{argument}` must be made of integers{of_axes}, or be a list of them. Received: {selection!r}"
        )
    return np.array(rows, np.int64).reshape(-1, max(axes, 1))


def _is_list(selection: Any, axes: int) -> bool:
    if isinstance(selection, tuple):
        return axes == 1
    return np.ndim(selection) > 0 if hasattr(selection, "shape") else isinstance(selection, Sequence)


def _indices(entry: Any, axes: int) -> tuple[int, ...] | None:
    try:
        values = np.asarray(entry)
    except (TypeError, ValueError):
        return None
    if values.dtype.kind not in "iu" or not values.size:
        return None
    if values.ndim == 0:
        return (*[_EVERY] * (axes - 1), int(values))
    return tuple(values.tolist()) if values.shape == (axes,) else None


def check_range(indices: np.ndarray, sizes: Sequence[int | None], argument: str) -> None:
    """Checks that neurons exist.

    Args:
        indices: see `named_by`.
        sizes: of the output's axes behind the batch; None: not known.
        argument: its name in errors.

    Raises:
        ExplainError: one is out of range.
    """
    # The output of an example that has no axis of its own is one neuron.
    for axis, (index, size) in enumerate(zip(indices.T, sizes or [1], strict=True)):
        named = index[index != _EVERY]
        if named.size and (named.min() < 0 or (size is not None and named.max() >= size)):
            of_axis = f" on axis {axis + 1} of the output" if len(sizes) > 1 else ""
            last = "" if size is None else size - 1
            raise ExplainError(f"`{argument}` must be in 0..{last}{of_axis}. Received: {named.tolist()}")


def chosen(scores: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    """1 at the neurons that indices name, 0 elsewhere; inside a graph.

    Args:
        scores: `(batch, ...)`.
        indices: see `named_by`.

    Returns:
        `(n, ...)`, which broadcasts to the shape of the scores if n is the batch or 1.
    """
    axes = scores.shape.rank - 1
    if not axes:
        return tf.ones_like(indices[:, 0], scores.dtype)
    masks = []
    for axis in range(axes):
        index = indices[:, axis]
        mask = tf.one_hot(index, tf.shape(scores)[axis + 1], dtype=scores.dtype)
        if axis < axes - 1:
            mask = tf.where(index[:, None] == _EVERY, tf.ones_like(mask), mask)
        shape = [tf.shape(mask)[0], *[1] * axis, tf.shape(mask)[1], *[1] * (axes - 1 - axis)]
        masks.append(tf.reshape(mask, shape) if axes > 1 else mask)
    return functools.reduce(tf.multiply, masks)


def largest(scores: tf.Tensor) -> tf.Tensor:
    """1 at the largest of all neurons of each example (the first of equal ones), 0 elsewhere; inside a graph.

    Args:
        scores: `(batch, ...)`.

    Example:
        >>> largest(tf.constant([[[1.0, 5.0], [7.0, 2.0]]])).numpy()
        array([[[0., 0.],
                [1., 0.]]], dtype=float32)
    """
    if scores.shape.rank == 1:
        return tf.ones_like(scores)
    if scores.shape.rank == 2:
        return tf.one_hot(tf.argmax(scores, axis=-1), tf.shape(scores)[-1], dtype=scores.dtype)
    shape = tf.shape(scores)
    neurons = tf.reduce_prod(shape[1:])
    best = tf.argmax(tf.reshape(scores, [shape[0], neurons]), axis=-1)
    return tf.reshape(tf.one_hot(best, neurons, dtype=scores.dtype), shape)
