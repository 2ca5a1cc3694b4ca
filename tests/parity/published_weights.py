"""Carries weights under the published PyTorch state-dict names into our models."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from tensorflow import keras

from egt_tf.heads import Head

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


def _position_wise(arrays: Arrays, prefix: str) -> list[np.ndarray]:
    """A 1x1 convolution as a dense layer."""
    return [arrays[f"{prefix}.weight"][:, :, 0, 0].T, arrays[f"{prefix}.bias"]]


def cross_attention_layers(head: Head) -> dict[str, tuple[keras.layers.Layer, Callable]]:
    """Published prefix -> our layer and the reader of its weights; "clasifier" is spelt as published."""
    fusion = head.relate_model.get_layer("fusion")
    return {"cam.conv1.conv": (fusion.get_layer("conv1"), _position_wise),
            "cam.conv1.bn": (fusion.get_layer("bn"), _norm),
            "cam.conv2": (fusion.get_layer("conv2"), _position_wise),
            "clasifier": (head.auxiliary_model.get_layer("base_scores"), _position_wise)}


def set_cross_attention_weights(head: Head, arrays: Arrays) -> None:
    """Cross attention head: cam.conv1.conv, cam.conv1.bn, cam.conv2, clasifier."""
    for prefix, (layer, reader) in cross_attention_layers(head).items():
        layer.set_weights(reader(arrays, prefix))


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


def resnet12_layers(arrays: Arrays) -> dict[str, tuple[str, Callable]]:
    """Our layer name -> (published prefix, reader) for the ResNet12 of cross attention."""
    layers = {"stem_conv": ("conv1", _convolution), "stem_bn": ("bn1", _norm)}
    parts = {"shortcut_conv": ("downsample.0", _convolution), "shortcut_bn": ("downsample.1", _norm)}
    for index in (1, 2, 3):
        parts.update({f"conv{index}": (f"conv{index}", _convolution), f"bn{index}": (f"bn{index}", _norm)})
    for stage in (1, 2, 3, 4):
        for ours, (theirs, reader) in parts.items():
            layers[f"stage{stage}_block1_{ours}"] = (f"layer{stage}.0.{theirs}", reader)
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
