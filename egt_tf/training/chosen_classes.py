"""Some of the classes of each query: which, and a recorded pass for them alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from egt_tf.heads.base import take_classes
from egt_tf.lrp.propagation import LayerCall, Trace
from egt_tf.tensors import widen


def true_and_rival(scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The true class of each query, and that of the others which has the largest score.

    Args:
        scores: raw, `(episodes, queries, ways)`, at least two ways.
        labels: the true classes, integers `(episodes, queries)`.

    Returns:
        Classes, int32 `(episodes, queries, 2)`, without a gradient.

    Example:
        >>> true_and_rival(tf.constant([[[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]]]), tf.constant([[0, 1]])).numpy().tolist()
        [[[0, 2], [1, 0]]]
    """
    scores, labels = tf.stop_gradient(widen(scores)), tf.cast(labels, tf.int32)
    others = tf.where(
        tf.one_hot(labels, tf.shape(scores)[-1], on_value=True, off_value=False), scores.dtype.min, scores
    )
    return tf.stack([labels, tf.argmax(others, axis=-1, output_type=tf.int32)], axis=-1)


def of_classes(trace: Trace, classes: tf.Tensor, first_pairs: str) -> Trace:
    """A recorded pass of pairs of queries and classes, for some classes alone; no layer is run again.

    Args:
        trace: of the `score_model` of a head that compares each query with each class by itself.
        classes: integers `(episodes, queries, n)`.
        first_pairs: see `Head.first_pairs`. If it is a layer, the pass begins with its output.

    Notes:
        A layer that is given pairs together with what they are made of gets the classes as one more input.
    """
    begin = 0
    if first_pairs not in trace.input_names:
        begin = 1 + [call.layer.name for call in trace.calls].index(first_pairs)
    # Of which the pairs are made; they are not of a class.
    parts = {id(x): x for x in trace.inputs} if begin else {}
    taken = dict(parts)

    def take(tensors: Sequence[tf.Tensor]) -> tuple[tf.Tensor, ...]:
        for x in tensors:
            if id(x) not in taken:
                taken[id(x)] = take_classes(x, classes)
        return tuple(taken[id(x)] for x in tensors)

    def call_of_classes(call: LayerCall) -> LayerCall:
        more = (classes,) if any(id(x) in parts for x in call.inputs) else ()
        return dataclasses.replace(call, inputs=(*take(call.inputs), *more), outputs=take(call.outputs))

    inputs = take(trace.calls[begin - 1].outputs if begin else trace.inputs)
    names = (first_pairs,) if begin else trace.input_names
    return Trace(tuple(map(call_of_classes, trace.calls[begin:])), inputs, take(trace.outputs), names, trace.training)
