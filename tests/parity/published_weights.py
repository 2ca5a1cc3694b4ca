"""Sets parts of our models to arrays under their published names, by the tables that `egt-tf convert` uses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from egt_tf.heads import GraphHead, Head
from egt_tf.keras_api import keras
from egt_tf.published import names
from egt_tf.published.convert import flattened_maps
from egt_tf.published.layouts import published_arrays
from egt_tf.weights import layer_weights

Arrays = Mapping[str, np.ndarray]


def to_channels_last(array: np.ndarray) -> np.ndarray:
    """`(..., C, H, W)` to `(..., H, W, C)`."""
    return np.moveaxis(array, -3, -1)


def set_weights(model: keras.Model, arrays: Arrays, layers: names.Layers) -> None:
    """Sets every weight of a model."""
    weights = dict(layer_weights(model))
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    for name, origin in published_arrays(shapes, layers, flattened_maps(model)).items():
        assert arrays[origin.name].shape in origin.shapes, name
        weights[name].assign(origin.read(arrays[origin.name]))


def set_relation_weights(score_model: keras.Model, arrays: Arrays) -> None:
    """Relation module: layer{1,2}.C, layer{1,2}.BN, fc1, fc2."""
    set_weights(score_model, arrays, names.relation_layers(prefix=""))


def set_graph_weights(head: GraphHead, arrays: Arrays) -> dict[str, keras.layers.Layer]:
    """Sets all weights of the head; returns its layers by their published prefix."""
    models, table = (head.relate_model, head.score_model), names.graph_layers()
    for model in models:
        set_weights(model, arrays, table)
    return {table[layer.name]: layer for model in models for layer in model.layers if layer.weights}


def set_cross_attention_weights(head: Head, arrays: Arrays) -> dict[str, keras.layers.Layer]:
    """Sets all weights of the head; returns its layers by their published prefix."""
    table = names.cross_attention_layers()
    for model in (head.relate_model, head.auxiliary_model):
        set_weights(model, arrays, table)
    fusion = head.relate_model.get_layer("fusion")
    layers = {f"fusion/{layer.name}": layer for layer in fusion.layers}
    layers["base_scores"] = head.auxiliary_model.get_layer("base_scores")
    return {prefix: layers[name] for name, prefix in table.items()}


def resnet_layers(arrays: Arrays) -> names.Layers:
    """Our layer name -> published prefix for a ResNet of one block a stage."""
    return {ours: theirs for ours, theirs in names.resnet_layers((1, 1, 1, 1)).items() if f"{theirs}.weight" in arrays}
