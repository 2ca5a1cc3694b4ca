"""Kinds of layers: the names that composites speak of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf
from tensorflow import keras

from egt_tf.backbones.feature_transformation import FeatureTransformation
from egt_tf.episodic_model import JoinEpisodes, SplitEpisodes
from egt_tf.heads.attention import AttendedPrototypeMean, AttendedQuery
from egt_tf.heads.graph_layers import GraphNodes, Neighbourhood, QueryScores, SkipConcatenate
from egt_tf.heads.layers import DropLastAxis, EpisodeBatchNormalization, FlattenMap, MapMean, PairConcat, PrototypeMean
from egt_tf.heads.similarity import AxisMean, AxisSum, PairProduct, PairSplit, Scale, Square

L = keras.layers
Predicate = Callable[[L.Layer], bool]


def _instance_of(*classes: type) -> Predicate:
    return lambda layer: isinstance(layer, classes)


def _is_relu(layer: L.Layer) -> bool:
    plain = isinstance(layer, L.ReLU) and not layer.negative_slope and not layer.threshold
    return plain or (isinstance(layer, L.Activation) and layer.activation is keras.activations.relu)


KINDS: dict[str, Predicate] = {
    "dense": _instance_of(L.Dense),
    "convolution": _instance_of(
        L.Conv1D,
        L.Conv2D,
        L.Conv3D,
        L.DepthwiseConv1D,
        L.DepthwiseConv2D,
        L.SeparableConv1D,
        L.SeparableConv2D,
        L.Conv1DTranspose,
        L.Conv2DTranspose,
        L.Conv3DTranspose,
    ),
    "batch_norm": _instance_of(L.BatchNormalization, EpisodeBatchNormalization),
    "relu": _is_relu,
    "activation": _instance_of(L.Activation, L.ReLU, L.LeakyReLU, L.ELU, L.PReLU, L.Softmax, FeatureTransformation),
    "max_pool": _instance_of(
        L.MaxPooling1D, L.MaxPooling2D, L.MaxPooling3D, L.GlobalMaxPooling1D, L.GlobalMaxPooling2D, L.GlobalMaxPooling3D
    ),
    "mean": _instance_of(
        L.AveragePooling1D,
        L.AveragePooling2D,
        L.AveragePooling3D,
        L.GlobalAveragePooling1D,
        L.GlobalAveragePooling2D,
        L.GlobalAveragePooling3D,
        L.Average,
        PrototypeMean,
        MapMean,
    ),
    "add": _instance_of(L.Add),
    "reduction": _instance_of(AxisMean, AxisSum),
    "pair_product": _instance_of(PairProduct),
    "elementwise": _instance_of(Scale, Square),
    "attended_query": _instance_of(AttendedQuery),
    "attended_prototype": _instance_of(AttendedPrototypeMean),
    "gate": _instance_of(L.Multiply),
    "neighbourhood": _instance_of(Neighbourhood),
    "skip": _instance_of(SkipConcatenate),
    "route": _instance_of(
        L.InputLayer,
        L.Flatten,
        L.Reshape,
        L.Permute,
        L.RepeatVector,
        L.Concatenate,
        L.Dropout,
        L.SpatialDropout1D,
        L.SpatialDropout2D,
        L.SpatialDropout3D,
        L.ZeroPadding1D,
        L.ZeroPadding2D,
        L.ZeroPadding3D,
        L.Cropping1D,
        L.Cropping2D,
        L.Cropping3D,
        L.UpSampling1D,
        L.UpSampling2D,
        L.UpSampling3D,
        JoinEpisodes,
        SplitEpisodes,
        PairConcat,
        PairSplit,
        FlattenMap,
        DropLastAxis,
        GraphNodes,
        QueryScores,
    ),
    "padding": _instance_of(L.ZeroPadding1D, L.ZeroPadding2D, L.ZeroPadding3D),
    "any": lambda layer: True,
}

# Layers whose outputs are >= 0 when their inputs are.
_SIGN_KEEPING = ("max_pool", "mean", "add", "route")


def is_kind(layer: L.Layer, kind: str) -> bool:
    """Whether `layer` is of the kind named `kind` (a key of `KINDS`)."""
    return KINDS[kind](layer)


def ends_in_relu(layer: L.Layer) -> bool:
    """Whether the layer is a ReLU or has one as its own activation."""
    return is_kind(layer, "relu") or getattr(layer, "activation", None) is keras.activations.relu


def output_nonnegative(layer: L.Layer, inputs_nonnegative: tuple[bool, ...]) -> bool:
    """Whether the layer's outputs are known to have no negative values."""
    if ends_in_relu(layer):
        return True
    return all(inputs_nonnegative) and any(is_kind(layer, kind) for kind in _SIGN_KEEPING)


def outputs_nonnegative(model: keras.Model, inputs_nonnegative: Sequence[bool]) -> tuple[bool, ...]:
    """Which outputs of a Functional model are known to have no negative values.

    Args:
        model: the model.
        inputs_nonnegative: the same of each of its inputs.
    """
    known = {id(symbol): sign for symbol, sign in zip(model.inputs, inputs_nonnegative, strict=True)}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in (node for node in model._nodes_by_depth[depth] if not node.is_input):
            layer, signs = node.outbound_layer, tuple(known[id(x)] for x in tf.nest.flatten(node.keras_inputs))
            symbols = tf.nest.flatten(node.outputs)
            nested = isinstance(layer, keras.Model)
            of_outputs = (
                outputs_nonnegative(layer, signs) if nested else [output_nonnegative(layer, signs)] * len(symbols)
            )
            known.update((id(symbol), sign) for symbol, sign in zip(symbols, of_outputs, strict=True))
    return tuple(known[id(symbol)] for symbol in model.outputs)
