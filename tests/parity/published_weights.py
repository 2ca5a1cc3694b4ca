"""Carries weights under the published PyTorch state-dict names into our models."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from tensorflow import keras

from egt_tf.heads import GraphHead

Arrays = Mapping[str, np.ndarray]


def to_channels_last(array: np.ndarray) -> np.ndarray:
    """`(..., C, H, W)` to `(..., H, W, C)`."""
    return np.moveaxis(array, -3, -1)


def _convolution(arrays: Arrays, prefix: str) -> list[np.ndarray]:
    kernel = arrays[f"{prefix}.weight"].transpose(2, 3, 1, 0)
    bias = arrays.get(f"{prefix}.bias")
    return [kernel] if bias is None else [kernel, bias]


def _dense(arrays: Arrays, prefix: str) -> list[np.ndarray]:
    return [arrays[f"{prefix}.weight"].T, arrays[f"{prefix}.bias"]]


def _norm(arrays: Arrays, prefix: str) -> list[np.ndarray]:
    names = ("weight", "bias", "running_mean", "running_var")
    return [arrays[f"{prefix}.{name}"] for name in names if f"{prefix}.{name}" in arrays]


def set_relation_weights(score_model: keras.Model, arrays: Arrays) -> None:
    """Relation module: layer{1,2}.C, layer{1,2}.BN, fc1, fc2."""
    for block in (1, 2):
        score_model.get_layer(f"block{block}_conv").set_weights(_convolution(arrays, f"layer{block}.C"))
        score_model.get_layer(f"block{block}_bn").set_weights(_norm(arrays, f"layer{block}.BN"))
    kernel, bias = _dense(arrays, "fc1")
    score_model.get_layer("fc1").set_weights([rows_channels_last(kernel, score_model), bias])
    score_model.get_layer("fc2").set_weights(_dense(arrays, "fc2"))


def rows_channels_last(kernel: np.ndarray, score_model: keras.Model) -> np.ndarray:
    """Rows of fc1 from PyTorch's (channel, row, column) order to ours."""
    height, width, channels = score_model.get_layer("flatten").input_shape[-3:]
    return to_channels_last(kernel.T.reshape(-1, channels, height, width)).reshape(kernel.shape[1], -1).T


def _pointwise(arrays: Arrays, prefix: str) -> list[np.ndarray]:
    """A 1x1 convolution, which ours is a dense layer."""
    return [arrays[f"{prefix}.weight"][:, :, 0, 0].T, arrays[f"{prefix}.bias"]]


def graph_layers() -> dict[str, tuple[str, Callable]]:
    """Our layer name -> (published prefix, reader) for both models of the graph head."""
    layers = {"embedding": ("fc.0", _dense), "embedding_bn": ("fc.1", _norm),
              "node_scores": ("gnn.layer_last.fc", _dense)}
    for ours, adjacency, update in (("graph1", "layer_w0", "layer_l0"), ("graph2", "layer_w1", "layer_l1"),
                                    ("graph3", "w_comp_last", None)):
        for number in (1, 2, 3, 4):
            layers[f"{ours}_adjacency{number}"] = (f"gnn.{adjacency}.conv2d_{number}", _pointwise)
            layers[f"{ours}_adjacency{number}_bn"] = (f"gnn.{adjacency}.bn_{number}", _norm)
        layers[f"{ours}_adjacency_last"] = (f"gnn.{adjacency}.conv2d_last", _pointwise)
        if update:
            layers[ours] = (f"gnn.{update}.fc", _dense)
            layers[f"{ours}_bn"] = (f"gnn.{update}.bn", _norm)
    return layers


def set_graph_weights(head: GraphHead, arrays: Arrays) -> dict[str, keras.layers.Layer]:
    """Sets all weights of the head; returns its layers by their published prefix."""
    models = (head.relate_model, head.score_model)
    ours = {layer.name: layer for model in models for layer in model.layers if layer.weights}
    layers = graph_layers()
    if ours.keys() != layers.keys():
        raise KeyError(f"layers without a published counterpart, or the reverse: {sorted(ours.keys() ^ layers.keys())}")
    for name, (prefix, reader) in layers.items():
        ours[name].set_weights(reader(arrays, prefix))
    return {prefix: ours[name] for name, (prefix, _) in layers.items()}


def resnet_layers(arrays: Arrays) -> dict[str, tuple[str, Callable]]:
    """Our layer name -> (published prefix, reader) for a ResNet of one block a stage."""
    layers = {"stem_conv": ("trunk.0", _convolution), "stem_bn": ("trunk.1", _norm)}
    parts = {"conv1": ("C1", _convolution), "bn1": ("BN1", _norm), "conv2": ("C2", _convolution), "bn2": ("BN2", _norm),
             "shortcut_conv": ("shortcut", _convolution), "shortcut_bn": ("BNshortcut", _norm)}
    for stage in (1, 2, 3, 4):
        for ours, (theirs, reader) in parts.items():
            prefix = f"trunk.{stage + 3}.{theirs}"
            if f"{prefix}.weight" in arrays:
                layers[f"stage{stage}_block1_{ours}"] = (prefix, reader)
    return layers


def conv4_layers(arrays: Arrays) -> dict[str, tuple[str, Callable]]:
    """Our layer name -> (published prefix, reader) for Conv4 and Conv4NP."""
    layers = {}
    for block in range(4):
        layers[f"block{block + 1}_conv"] = (f"trunk.{block}.C", _convolution)
        layers[f"block{block + 1}_bn"] = (f"trunk.{block}.BN", _norm)
    return layers


def set_backbone_weights(backbone: keras.Model, arrays: Arrays, layers: Mapping[str, tuple[str, Callable]]) -> None:
    """Sets the weights of every layer named in `layers`."""
    for name, (prefix, reader) in layers.items():
        backbone.get_layer(name).set_weights(reader(arrays, prefix))
