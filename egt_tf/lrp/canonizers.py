"""Folds batch normalisation into the layer before or after it, so that relevance needs no rule for it.

`gamma (W x + b - mean) / s + beta` is one weighted sum with the kernel `W gamma / s` and the bias
`(b - mean) gamma / s + beta`, `s = sqrt(variance + epsilon)`; likewise for a normalisation before the weighted sum.
Source: canonisation in zennit (Anders et al., 2021).
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import tensorflow as tf
from tensorflow import keras

from egt_tf.lrp.layer_types import is_layer_type

L = keras.layers
Scale = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Which normalisations go where.

    Attributes:
        after: name of a weighted sum -> the normalisation of its output.
        before: name of a weighted sum -> the normalisation of its input.
    """

    after: dict[str, keras.layers.Layer]
    before: dict[str, keras.layers.Layer]

    def folded(self) -> set[str]:
        """Names of all normalisations that are folded."""
        return {norm.name for norms in (self.after, self.before) for norm in norms.values()}


@functools.singledispatch
def fold_batch_norm(model: keras.Model) -> keras.Model:
    """A copy of a Functional or Sequential model without the batch normalisations that can be folded.

    In inference the copy has the outputs of the model (up to rounding). Folded are normalisations of channels by moving
    statistics that alone follow a dense layer or a convolution without an activation of its own, and those that are
    read by nothing but a dense layer or an unpadded convolution. The rest stays, and so does the model itself.

    A class of models that must keep their class says how with `@fold_batch_norm.register`, as `EpisodicModel` does.

    Args:
        model: the model; nested models are treated likewise.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.BatchNormalization()])
        >>> [type(layer).__name__ for layer in fold_batch_norm(model).layers]
        ['Dense', 'Activation']
    """
    plan = _plan(model)
    folded = plan.folded()

    def copy_of(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.Model):
            return fold_batch_norm(layer)
        if layer.name in folded:
            return L.Activation("linear", name=layer.name)
        config = layer.get_config()
        if layer.name in plan.after or layer.name in plan.before:
            config["use_bias"] = True
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=copy_of)
    for layer in model.layers:
        if not isinstance(layer, keras.Model) and layer.name not in folded:
            copy.get_layer(layer.name).set_weights(_weights(layer, plan))
    return copy


def has_foldable(model: keras.Model) -> bool:
    """Whether `fold_batch_norm` would fold any normalisation of the model or of the models nested in it."""
    nested = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return bool(_plan(model).folded()) or any(map(has_foldable, nested))


def _plan(model: keras.Model) -> _Plan:
    producers, consumers = _graph(model)
    after, before = {}, {}
    for norm in (layer for layer in model.layers if _is_foldable(layer)):
        source, readers = producers.get(norm.name, []), consumers.get(norm.name, [])
        if len(source) == 1 and _takes_scale(source[0]) and len(consumers[source[0].name]) == 1:
            after[source[0].name] = norm
        elif len(readers) == 1 and _takes_shift(readers[0]):
            before[readers[0].name] = norm
    return _Plan(after, before)


def _graph(model: keras.Model) -> tuple[dict[str, list[keras.layers.Layer]], dict[str, list[keras.layers.Layer]]]:
    """For each layer that is called once: whose outputs it reads, and who reads its output (None: the caller)."""
    producers: dict[str, list] = {}
    consumers: dict[str, list] = {}
    for nodes in model._nodes_by_depth.values():
        for node in nodes:
            if not node.is_input:
                sources = [tensor._keras_history.layer for tensor in tf.nest.flatten(node.keras_inputs)]
                producers.setdefault(node.outbound_layer.name, []).extend(sources)
                for source in sources:
                    consumers.setdefault(source.name, []).append(node.outbound_layer)
    for output in model.outputs:
        consumers.setdefault(output._keras_history.layer.name, []).append(None)
    return producers, consumers


def _is_foldable(layer: keras.layers.Layer) -> bool:
    # A normalisation by the statistics of its own input keeps none.
    if not is_layer_type(layer, "batch_norm") or not hasattr(layer, "moving_mean"):
        return False
    # Keras can normalise along another axis than the channels, which no kernel could take over.
    return not isinstance(layer, L.BatchNormalization) or list(layer.axis) == [len(layer.input_shape) - 1]


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
    return type(layer) in _FOLDABLE and layer.activation is keras.activations.linear


def _takes_shift(layer: keras.layers.Layer | None) -> bool:
    """Whether a constant added to the layer's input is a constant added to its output; padding would spoil that."""
    return layer is not None and (
        type(layer) is L.Dense or (type(layer) in (L.Conv1D, L.Conv2D) and layer.padding == "valid")
    )


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
    scale, shift = norm
    kernel, bias = weights[0], weights[1] if len(weights) > 1 else 0.0
    moved = np.einsum("kio,i->o", kernel.reshape(-1, *kernel.shape[-2:]), shift)
    return [kernel * scale[:, None], bias + moved]
