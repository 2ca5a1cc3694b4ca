"""Folds batch normalisation into the layer before or after it, so that relevance needs no rule for it.

`gamma (W x + b - mean) / s + beta` is one weighted sum with the kernel `W gamma / s` and the bias
`(b - mean) gamma / s + beta`, `s = sqrt(variance + epsilon)`; likewise for a normalisation before the weighted sum.
Source: canonisation in zennit (Anders et al., 2021).
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from egt_tf.errors import ExplainError
from egt_tf.keras_api import keras
from egt_tf.lrp.layer_types import declared_like, is_layer_type
from egt_tf.lrp.propagation import nodes_in_order, training_of

L = keras.layers
Scale = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Which normalisations go where.

    Attributes:
        after: name of a weighted sum -> the normalisation of its output.
        before: name of a weighted sum -> the normalisation of its input.
        kept: names of nested models that are copied as they are.
    """

    after: dict[str, keras.layers.Layer]
    before: dict[str, keras.layers.Layer]
    kept: frozenset[str]

    def folded(self) -> set[str]:
        """Names of all normalisations that are folded."""
        return {norm.name for norms in (self.after, self.before) for norm in norms.values()}


@functools.singledispatch
def fold_batch_norm(model: keras.Model) -> keras.Model:
    """A copy of a Functional or Sequential model without the batch normalisations that can be folded.

    In inference the copy has the outputs of the model (up to rounding). Folded are normalisations of channels by moving
    statistics that alone follow a dense layer or a convolution without an activation of its own, and those that are
    read by nothing but a dense layer or an unpadded convolution. Neither of the two may be called more than once, or
    with `training=True`. The rest stays, and so does the model itself.

    A class of models that must keep their class says how with `@fold_batch_norm.register`, as `EpisodicModel` does.

    Args:
        model: the model; nested models are treated likewise.

    Raises:
        ExplainError: the model is no graph of layers, is not built yet, or has a layer without a configuration.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.BatchNormalization()])
        >>> [type(layer).__name__ for layer in fold_batch_norm(model).layers]
        ['Dense', 'Activation']
    """
    plan = _plan(model)
    folded = plan.folded()
    copies: dict[str, keras.layers.Layer] = {}

    def copy_of(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.Model):
            return _plain_copy(layer) if layer.name in plan.kept else fold_batch_norm(layer)
        if layer.name in folded:
            return L.Activation("linear", name=layer.name)
        config = _config_of(layer)
        if layer.name in plan.after or layer.name in plan.before:
            config["use_bias"] = True
        # A layer of a user's may lose its name on the way.
        copies[layer.name] = type(layer).from_config(config)
        return copies[layer.name]

    copy = keras.models.clone_model(model, clone_function=copy_of)
    for layer in model.layers:
        if layer.name in copies:
            copies[layer.name].set_weights(_weights(layer, plan))
    return copy


def _config_of(layer: keras.layers.Layer) -> dict[str, Any]:
    try:
        return layer.get_config()
    except NotImplementedError:
        raise ExplainError(
            "a model is copied by the configurations of its layers. Received: layer "
            f"{layer.name!r} of class {type(layer).__name__}, which needs a `get_config`"
        ) from None


def has_foldable(model: keras.Model) -> bool:
    """Whether `fold_batch_norm` would fold any normalisation of the model or of the models nested in it."""
    plan = _plan(model)
    nested = [layer for layer in model.layers if isinstance(layer, keras.Model) and layer.name not in plan.kept]
    return bool(plan.folded()) or any(map(has_foldable, nested))


def _plain_copy(model: keras.Model) -> keras.Model:
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _plan(model: keras.Model) -> _Plan:
    nodes = [node for node in nodes_in_order(model) if not node.is_input]
    calls = collections.Counter(node.outbound_layer.name for node in nodes)
    maker, readers = _makers_and_readers(model, nodes)
    after, before = {}, {}
    for node in nodes:
        norm = node.outbound_layer
        if calls[norm.name] == 1 and _is_foldable(node):
            x, y = node.keras_inputs[0], node.outputs
            source, reader = maker.get(id(x)), readers[id(y)][0]
            if source and calls[source.name] == 1 and _takes_scale(source) and len(readers[id(x)]) == 1:
                after[source.name] = norm
            elif reader and calls[reader.name] == 1 and _takes_shift(reader) and len(readers[id(y)]) == 1:
                before[reader.name] = norm
    kept = frozenset(
        node.outbound_layer.name
        for node in nodes
        if isinstance(node.outbound_layer, keras.Model) and training_of(node) not in (None, False)
    )
    return _Plan(after, before, kept)


def _makers_and_readers(
    model: keras.Model, nodes: Sequence[Any]
) -> tuple[dict[int, keras.layers.Layer], dict[int, list[keras.layers.Layer | None]]]:
    """By the identity of each tensor in the graph: the layer that makes it, and those that read it (None: the caller).

    A layer that reads a tensor twice is listed twice.
    """
    maker = {id(y): node.outbound_layer for node in nodes for y in tf.nest.flatten(node.outputs)}
    readers = collections.defaultdict(list)
    for node in nodes:
        for x in node.keras_inputs:
            readers[id(x)].append(node.outbound_layer)
    for y in model.outputs:
        readers[id(y)].append(None)
    return maker, readers


def _is_foldable(node: Any) -> bool:
    layer = node.outbound_layer
    # A normalisation by the statistics of its own input keeps none, or does not use those that it keeps.
    if not is_layer_type(layer, "batch_norm") or not hasattr(layer, "moving_mean"):
        return False
    if training_of(node) not in (None, False) or len(node.keras_inputs) != 1:
        return False
    # A subclass may compute something else, unless it says that it does not.
    known = type(layer).call is L.BatchNormalization.call or declared_like(type(layer), "batch_norm")
    # Keras can normalise along another axis than the channels, which no kernel could take over.
    channels = len(node.keras_inputs[0].shape) - 1
    return known and (not isinstance(layer, L.BatchNormalization) or list(layer.axis) == [channels])


# Of exactly these classes: a subclass may use its kernel in another way.
_FOLDABLE: set[type] = {L.Dense, L.Conv1D, L.Conv2D, L.DepthwiseConv2D}


def register_foldable(layer_class: type[keras.layers.Layer]) -> None:
    """Lets `fold_batch_norm` fold the normalisation behind layers of a class, but not of its subclasses.

    Args:
        layer_class: a weighted sum whose weights are a kernel, with the output channels last, and a bias, and which
            has the arguments `use_bias` and `activation`.
    """
    _FOLDABLE.add(layer_class)


def _takes_scale(layer: keras.layers.Layer) -> bool:
    """Whether the layer's output can be scaled and shifted by its weights."""
    return type(layer) in _FOLDABLE and layer.activation is keras.activations.linear and _has_channels_last(layer)


def _takes_shift(layer: keras.layers.Layer) -> bool:
    """Whether a constant added to the layer's input is a constant added to its output; padding would spoil that."""
    unpadded = type(layer) in (L.Conv1D, L.Conv2D) and layer.padding == "valid" and _has_channels_last(layer)
    return unpadded or type(layer) is L.Dense


def _has_channels_last(layer: keras.layers.Layer) -> bool:
    return getattr(layer, "data_format", "channels_last") == "channels_last"


def _weights(layer: keras.layers.Layer, plan: _Plan) -> list[np.ndarray]:
    weights = layer.get_weights()
    for plans, fold in ((plan.before, _fold_before), (plan.after, _fold_after)):
        if layer.name in plans:
            weights = fold(layer, weights, _scale_and_shift(plans[layer.name]))
    return weights


def _scale_and_shift(norm: keras.layers.Layer) -> Scale:
    """The normalisation as `y = scale x + shift`, in float64."""
    mean, variance = (np.asarray(v, np.float64) for v in (norm.moving_mean, norm.moving_variance))
    scale = 1.0 / np.sqrt(variance + norm.epsilon)
    scale = scale if norm.gamma is None else scale * np.asarray(norm.gamma)
    shift = 0.0 if norm.beta is None else np.asarray(norm.beta)
    return scale, shift - mean * scale


def _fold_after(layer: keras.layers.Layer, weights: list[np.ndarray], norm: Scale) -> list[np.ndarray]:
    scale, shift = norm
    kernel, bias = weights[0], weights[1] if len(weights) > 1 else 0.0
    # A depthwise kernel has its output channels on two axes, (input channel, multiplier).
    by_output = scale.reshape(kernel.shape[-2:]) if type(layer) is L.DepthwiseConv2D else scale
    return [kernel * by_output, bias * scale + shift]


def _fold_before(layer: keras.layers.Layer, weights: list[np.ndarray], norm: Scale) -> list[np.ndarray]:
    scale, shift = (_by_kernel(layer, weights[0], value) for value in norm)
    kernel, bias = weights[0], weights[1] if len(weights) > 1 else 0.0
    moved = np.einsum("kio,io->o", kernel.reshape(-1, *kernel.shape[-2:]), shift)
    return [kernel * scale, bias + moved]


def _by_kernel(layer: keras.layers.Layer, kernel: np.ndarray, value: np.ndarray) -> np.ndarray:
    """A value for each input channel, as one for each weight of a kernel `(..., i, o)`.

    In a convolution of several groups, each output channel reads the input channels of its group alone.
    """
    groups = getattr(layer, "groups", 1)
    return np.repeat(np.reshape(value, (groups, -1)).T, kernel.shape[-1] // groups, axis=1)
