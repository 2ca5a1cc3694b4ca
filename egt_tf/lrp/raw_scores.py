"""The raw scores of a model that ends in a softmax.

Behind a softmax every class has relevance of every other one, and a sure prediction has none left to hand on: an
explanation starts from the scores before it.
"""

from __future__ import annotations

import copy
import dataclasses

import tensorflow as tf

from egt_tf.keras_api import keras
from egt_tf.lrp.layer_types import is_layer_type
from egt_tf.lrp.operations import SOFTMAX, plain
from egt_tf.lrp.propagation import Trace, in_wide, nodes_in_order

L = keras.layers
# Whose activation lies behind a weighted sum and is all that does.
_WEIGHTED_SUMS = (L.Dense, L.Conv1D, L.Conv2D, L.Conv3D)


def output_layer(model: keras.Model, position: int) -> keras.layers.Layer:
    """The layer that makes the output at `position`, in whatever nested model it is; linear activations do not count.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="scores")])
        >>> output_layer(model, 0).name
        'scores'
    """
    return _maker(model, model.outputs[position])


def _maker(model: keras.Model, wanted: tf.Tensor) -> keras.layers.Layer:
    node, index = next(
        (node, index)
        for node in nodes_in_order(model)
        for index, symbol in enumerate(tf.nest.flatten(node.outputs))
        if symbol is wanted
    )
    layer = node.outbound_layer
    if isinstance(layer, keras.Model):
        return output_layer(layer, index)
    return _maker(model, node.keras_inputs[0]) if _is_linear(layer) else layer


def ends_in_softmax(layer: keras.layers.Layer) -> bool:
    """Whether a layer is a softmax or a weighted sum with a softmax behind it.

    Example:
        >>> ends_in_softmax(keras.layers.Dense(3, activation="softmax")), ends_in_softmax(keras.layers.Dense(3))
        (True, False)
    """
    return _is_softmax(layer) or (type(layer) in _WEIGHTED_SUMS and _computes_softmax(layer.activation))


def before_softmax(trace: Trace, position: int) -> tuple[Trace, tf.Tensor]:
    """The raw scores of the output at `position`, whose layer `ends_in_softmax`.

    Returns:
        A trace and its tensor of the raw scores, from which relevance can be walked back.
    """
    places = {id(y): place for place, call in enumerate(trace.calls) for y in call.outputs}
    place = places[id(trace.outputs[position])]
    while _is_linear(trace.calls[place].layer):
        place = places[id(trace.calls[place].inputs[0])]
    call = trace.calls[place]
    if _is_softmax(call.layer):
        return trace, call.inputs[0]
    layer = copy.copy(call.layer)
    # Past Keras, which would count the activation among the parts of the layer that this one is a copy of.
    vars(layer)["activation"] = keras.activations.linear
    scores = layer(*call.inputs)
    state = dataclasses.replace(call.state, layer=layer, call=in_wide(layer, lambda xs: [layer.call(*xs)]))
    plain = dataclasses.replace(call, state=state, outputs=(scores,))
    return dataclasses.replace(trace, calls=(*trace.calls[:place], plain, *trace.calls[place + 1 :])), scores


def _is_softmax(layer: keras.layers.Layer) -> bool:
    return is_layer_type(layer, "softmax") or (isinstance(layer, L.Lambda) and plain(layer.function) in SOFTMAX)


def _is_linear(layer: keras.layers.Layer) -> bool:
    # At the end of models of a mixed policy, to have the scores in float32.
    return type(layer) is L.Activation and layer.activation is keras.activations.linear


def _computes_softmax(activation: object) -> bool:
    return plain(activation) in SOFTMAX or isinstance(activation, L.Softmax)
