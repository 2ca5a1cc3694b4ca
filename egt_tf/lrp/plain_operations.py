"""Relevance by operations that every inference engine has.

TensorFlow's derivatives of pooling, activations, concatenation and broadcasting are operations of their own
(`MaxPoolGrad`, `ReluGrad`, `ConcatOffset`, `BroadcastGradientArgs`), which engines that only classify do not know.
Comparisons, slices, sums and padding do the same.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from egt_tf.keras_api import keras
from egt_tf.lrp.composites import Composite
from egt_tf.lrp.rules import RULES, Derivative, Gradient, LayerState, Mask, Rule, Share, Tensors

# From the inputs, the outputs and what arrives at the outputs to what arrives at the inputs.
Transposed = Callable[[Tensors, tf.Tensor, tf.Tensor], list[tf.Tensor | None]]


def with_plain_operations(composite: Composite) -> Composite:
    """A composite that gives the same relevance by plain operations, for the layers of this package's models."""
    entries = [dataclasses.replace(entry, rule=plain_rule(entry.rule)) for entry in composite.entries]
    return Composite(entries, composite.name, composite.convention)


@functools.singledispatch
def plain_rule(rule: Rule) -> Rule:
    """A rule that gives the same relevance by plain operations; the rule itself where it has no others."""
    return rule


@RULES.register("plain_mask")
class PlainMask(Mask):
    """`Mask`, as a comparison and a choice."""

    def masked(self, r: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return tf.where(y > 0, r, tf.zeros_like(r))


@RULES.register("plain_derivative")
class PlainDerivative(Rule):
    """Another rule that asks for a layer's derivative, with that derivative in plain operations where it is known.

    At ties of a maximum, the first value of the window, row by row, takes all, as with `MaxPoolGrad` on the CPU.

    Args:
        rule: the rule, or its configuration.
    """

    def __init__(self, rule: Rule | dict[str, Any]):
        self.rule = RULES.get(rule)

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors, reverse_state: LayerState) -> list[tf.Tensor | None]:
        return self.rule.apply(Xs, Ys, Rs, _with_plain_derivative(reverse_state))

    def gradient(self, reverse_state: LayerState) -> Gradient | None:
        return self.rule.gradient(_with_plain_derivative(reverse_state))


def _with_plain_derivative(state: LayerState) -> LayerState:
    derivative = plain_derivative(state.layer)
    return state if derivative is None else dataclasses.replace(state, call=_differentiable(state.call, derivative))


def _differentiable(call: Callable[[Tensors], Tensors], derivative: Transposed) -> Callable[[Tensors], Tensors]:
    """`call` of one output, with another derivative."""

    @tf.custom_gradient
    def with_derivative(*xs: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        (y,) = call(xs)

        def backward(upstream: tf.Tensor, variables: Sequence[tf.Variable] = ()) -> Any:
            of_inputs = derivative(xs, y, upstream)
            # TensorFlow asks for those of weights too, where the layer has some. Nobody reads them.
            return (of_inputs, [None for _ in variables]) if variables else of_inputs

        return y, backward

    return lambda xs: [with_derivative(*xs)]


@plain_rule.register
def _(rule: Mask) -> Rule:
    return PlainMask()


@plain_rule.register(Derivative)
@plain_rule.register(Share)
def _(rule: Rule) -> Rule:
    return PlainDerivative(rule)


@functools.singledispatch
def plain_derivative(layer: keras.layers.Layer) -> Transposed | None:
    """The transposed derivative of a layer in plain operations; None where it is not known.

    Extend it for a layer of your own with `@plain_derivative.register`: return a function of the inputs, the output
    and what arrives at the output that gives what arrives at each input.
    """
    return None


@plain_derivative.register(keras.layers.Add)
def _(layer: keras.layers.Layer) -> Transposed:
    return lambda xs, y, upstream: len(xs) * [upstream]


@plain_derivative.register(keras.layers.Cropping1D)
def _(layer: keras.layers.Cropping1D) -> Transposed:
    return lambda xs, y, upstream: [tf.pad(upstream, [[0, 0], list(layer.cropping), [0, 0]])]


@plain_derivative.register(keras.layers.MaxPooling2D)
def _(layer: keras.layers.MaxPooling2D) -> Transposed:
    def transposed(xs: Tensors, y: tf.Tensor, upstream: tf.Tensor) -> list[tf.Tensor | None]:
        (x,) = xs
        # Behind the leading axes, of which there may be several.
        maps, maxima, arriving = (
            tf.reshape(z, [-1, *z.shape[-3:]]) for z in (x, y, tf.ensure_shape(upstream, y.shape))
        )
        return [tf.reshape(_to_winners(maps, maxima, arriving, layer), tf.shape(x))]

    return transposed


# === Max-pooling ===


def _to_winners(x: tf.Tensor, y: tf.Tensor, arriving: tf.Tensor, layer: keras.layers.MaxPooling2D) -> tf.Tensor:
    """Adds what arrives at each output to the first input of its window that equals it.

    Args:
        x: inputs `(n, height, width, channels)`.
        y: outputs.
        arriving: of the shape of `y`.
        layer: says windows, steps and padding.
    """
    before, after = _borders(x, y, layer)
    padded = tf.pad(x, [[0, 0], *zip(before, after, strict=True), [0, 0]], constant_values=x.dtype.min)
    taken, gathered = tf.zeros_like(y, tf.bool), []
    for row in range(layer.pool_size[0]):
        for column in range(layer.pool_size[1]):
            wins = (_every(padded, (row, column), y, layer) == y) & ~taken
            taken = taken | wins
            gathered.append(_put_back(tf.where(wins, arriving, tf.zeros_like(arriving)), (row, column), padded, layer))
    total = functools.reduce(tf.add, gathered)
    return total[:, before[0] : before[0] + x.shape[1], before[1] : before[1] + x.shape[2]]


def _borders(x: tf.Tensor, y: tf.Tensor, layer: keras.layers.MaxPooling2D) -> tuple[list[int], list[int]]:
    """Rows and columns that padding puts before and behind the input, so that every window lies inside."""
    before, after = [], []
    for axis in (0, 1):
        needed = (y.shape[axis + 1] - 1) * layer.strides[axis] + layer.pool_size[axis]
        missing = max(needed - x.shape[axis + 1], 0)
        before.append(missing // 2)
        after.append(missing - missing // 2)
    return before, after


def _every(padded: tf.Tensor, offset: tuple[int, int], y: tf.Tensor, layer: keras.layers.MaxPooling2D) -> tf.Tensor:
    """The value at `offset` of each window."""
    (top, left), (down, across) = offset, layer.strides
    return padded[
        :, top : top + (y.shape[1] - 1) * down + 1 : down, left : left + (y.shape[2] - 1) * across + 1 : across
    ]


def _put_back(
    values: tf.Tensor, offset: tuple[int, int], padded: tf.Tensor, layer: keras.layers.MaxPooling2D
) -> tf.Tensor:
    """Undoes `_every`: zeros in all other places."""
    for axis in (1, 2):
        step, length = layer.strides[axis - 1], padded.shape[axis]
        shape = values.shape.as_list()
        apart = tf.pad(tf.expand_dims(values, axis + 1), _on_axis(axis + 1, 5, 0, step - 1))
        apart = tf.reshape(apart, [-1, *shape[1:axis], shape[axis] * step, *shape[axis + 1 :]])
        room = length - offset[axis - 1]
        kept = min(shape[axis] * step, room)
        apart = apart[:, :kept] if axis == 1 else apart[:, :, :kept]
        values = tf.pad(apart, _on_axis(axis, 4, offset[axis - 1], room - kept))
    return values


def _on_axis(axis: int, axes: int, before: int, after: int) -> list[list[int]]:
    return [[before, after] if each == axis else [0, 0] for each in range(axes)]
