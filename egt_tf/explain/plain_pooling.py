"""Relevance through max-pooling by operations that every inference engine has.

TensorFlow's own derivative of max-pooling is an operation of its own (`MaxPoolGrad`), which engines that only classify do
not know. Comparisons, slices and padding do the same.
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf
from tensorflow import keras

from egt_tf.explain.composites import Composite, Entry
from egt_tf.explain.rules import RULES, Rule


@RULES.register("plain_max_pool")
class PlainMaxPool(Rule):
    """Another rule on `MaxPooling2D`, without `MaxPoolGrad` in the graph; other layers get that rule as it is.

    Where several values of a window are its maximum, the first of them, row by row, takes all, as with `MaxPoolGrad` on
    the CPU.

    Args:
        rule: the rule, or its configuration.
    """

    def __init__(self, rule: Rule | dict[str, Any]):
        self.rule = RULES.get(rule)

    def apply(self, Xs, Ys, Rs, reverse_state):
        layer = reverse_state["layer"]
        if isinstance(layer, keras.layers.MaxPooling2D):
            reverse_state = {**reverse_state, "call": lambda xs: [_max_pooled(xs[0], layer)]}
        return self.rule.apply(Xs, Ys, Rs, reverse_state)


def without_pooling_gradient(composite: Composite) -> Composite:
    """The same composite, except that its relevance goes through max-pooling by plain operations."""
    rule = composite.rule_for(keras.layers.MaxPooling2D())
    return composite.prepend(Entry(PlainMaxPool(rule), kind="max_pool"))


def _max_pooled(x: tf.Tensor, layer: keras.layers.MaxPooling2D) -> tf.Tensor:
    """The layer's output, with a derivative in plain operations."""

    @tf.custom_gradient
    def pooled(x):
        y = layer.call(x)

        def derivative(upstream):
            maps = tf.reshape(x, [-1, *x.shape[-3:]])
            maxima, arriving = (tf.reshape(z, [-1, *y.shape[-3:]]) for z in (y, upstream))
            return tf.reshape(_to_winners(maps, maxima, arriving, layer), tf.shape(x))

        return y, derivative

    return pooled(x)


def _to_winners(x: tf.Tensor, y: tf.Tensor, arriving: tf.Tensor, layer: keras.layers.MaxPooling2D) -> tf.Tensor:
    """Adds what arrives at each output to the first input of its window that equals it.

    Args:
        x: inputs `(n, height, width, channels)`.
        y: outputs.
        arriving: of the shape of `y`.
        layer: says windows, steps and padding.
    """
    before, after = _borders(x, y, layer)
    padded = tf.pad(x, [[0, 0], *zip(before, after), [0, 0]], constant_values=x.dtype.min)
    taken, gathered = tf.zeros_like(y, tf.bool), []
    for row in range(layer.pool_size[0]):
        for column in range(layer.pool_size[1]):
            wins = (_every(padded, (row, column), y, layer) == y) & ~taken
            taken = taken | wins
            gathered.append(_put_back(tf.where(wins, arriving, tf.zeros_like(arriving)), (row, column), padded, layer))
    total = functools.reduce(tf.add, gathered)
    return total[:, before[0]:before[0] + x.shape[1], before[1]:before[1] + x.shape[2]]


def _borders(x, y, layer) -> tuple[list[int], list[int]]:
    """Rows and columns that padding puts before and behind the input, so that every window lies inside."""
    before, after = [], []
    for axis in (0, 1):
        needed = (y.shape[axis + 1] - 1) * layer.strides[axis] + layer.pool_size[axis]
        missing = max(needed - x.shape[axis + 1], 0)
        before.append(missing // 2)
        after.append(missing - missing // 2)
    return before, after


def _every(padded, offset, y, layer):
    """The value at `offset` of each window."""
    (top, left), (down, across) = offset, layer.strides
    return padded[:, top:top + (y.shape[1] - 1) * down + 1:down, left:left + (y.shape[2] - 1) * across + 1:across]


def _put_back(values, offset, padded, layer):
    """Undoes `_every`: zeros in all other places."""
    for axis in (1, 2):
        step, length = layer.strides[axis - 1], padded.shape[axis]
        shape = values.shape.as_list()
        apart = tf.pad(tf.expand_dims(values, axis + 1), _on_axis(axis + 1, 5, 0, step - 1))
        apart = tf.reshape(apart, [-1, *shape[1:axis], shape[axis] * step, *shape[axis + 1:]])
        room = length - offset[axis - 1]
        kept = min(shape[axis] * step, room)
        apart = apart[:, :kept] if axis == 1 else apart[:, :, :kept]
        values = tf.pad(apart, _on_axis(axis, 4, offset[axis - 1], room - kept))
    return values


def _on_axis(axis, axes, before, after):
    return [[before, after] if each == axis else [0, 0] for each in range(axes)]
