"""Where noise goes in a backbone: behind each of its blocks, whatever network it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from egt_tf.backbones.batch_noise import BatchNoise, check_degree
from egt_tf.errors import ConfigError, as_number
from egt_tf.keras_api import keras

# Keeps the seeds of the layers apart from other random numbers of the same seed.
_NOISE_STREAM = 11
_ARGUMENTS = ("degree", "seed", "momentum")
_PADDING = (keras.layers.ZeroPadding1D, keras.layers.ZeroPadding2D, keras.layers.ZeroPadding3D)


def with_noise(model: keras.Model, noise: float | Mapping[str, Any]) -> keras.Model:
    """A backbone with a `BatchNoise` behind each of its blocks, each with noise of its own.

    A block ends where all that the network computes passes one tensor (no shortcut leads round it) and a layer with a
    kernel comes next, or nothing: that is behind each block of `conv4`, behind the stem and each block of the ResNets,
    and behind each layer of a network without shortcuts. The layers of the model, and their weights, are shared with it.

    Args:
        model: a Functional model; models within it get noise likewise.
        noise: the degree, in [0, 1], or a mapping with `degree` and, if wanted, `seed` (default 0) and `momentum`, see
            `BatchNoise`.

    Raises:
        ConfigError: another value of `noise`.

    Example:
        >>> from egt_tf.backbones import resnet10
        >>> noisy = with_noise(resnet10(32, stem="small", widths=(2, 2, 2, 2)), 0.1)
        >>> [layer.name for layer in noisy.layers if isinstance(layer, BatchNoise)][:2]
        ['stem_relu_noise', 'stage1_block1_relu_noise']
    """
    arguments = _arguments(noise)
    seeds = np.random.default_rng([_NOISE_STREAM, arguments.pop("seed", 0)])
    return _with_noise(model, arguments, seeds)


def _arguments(noise: Any) -> dict[str, Any]:
    arguments = dict(noise) if isinstance(noise, Mapping) else {"degree": noise}
    if "degree" not in arguments or not set(arguments) <= set(_ARGUMENTS):
        raise ConfigError(
            "`model.backbone.noise` must be a number in [0, 1], or a mapping with `degree` and, if wanted, `seed` and "
            f"`momentum`. Received: {noise!r}"
        )
    # A configuration may give numbers as text (1e-3).
    for name in ("degree", "momentum"):
        number = as_number(arguments.get(name))
        arguments |= {} if number is None else {name: number}
    check_degree("model.backbone.noise", arguments["degree"])
    # Checks the rest.
    BatchNoise(**arguments)
    return arguments


def _with_noise(model: keras.Model, arguments: Mapping[str, Any], seeds: np.random.Generator) -> keras.Model:
    ends = block_ends(model)
    inputs = [keras.Input(x.shape[1:], dtype=x.dtype, name=x.name.partition(":")[0]) for x in model.inputs]
    known = dict(zip(map(id, model.inputs), inputs, strict=True))
    for node in _nodes(model):
        layer = node.outbound_layer
        if isinstance(layer, keras.Model):
            layer = _with_noise(layer, arguments, seeds)
        args, kwargs = tf.nest.map_structure(lambda x: known.get(id(x), x), (node.call_args, node.call_kwargs))
        y = layer(*args, **kwargs)
        if layer.name in ends:
            y = BatchNoise(**arguments, seed=int(seeds.integers(2**31 - 1)), name=f"{layer.name}_noise")(y)
        known.update(zip(map(id, tf.nest.flatten(node.outputs)), tf.nest.flatten(y), strict=True))
    return keras.Model(inputs, [known[id(y)] for y in model.outputs], name=model.name)


def block_ends(model: keras.Model) -> list[str]:
    """The names of the layers of a Functional model behind which a block ends, see `with_noise`.

    Models within it are not among them: they have ends of their own.

    Example:
        >>> from egt_tf.backbones import conv4
        >>> block_ends(conv4(16, width=2))
        ['block1_pool', 'block2_pool', 'block3_pool', 'block4_pool']
    """
    nodes = _nodes(model)
    last_read = {id(x): place for place, node in enumerate(nodes) for x in node.keras_inputs}
    last_read.update((id(y), len(nodes)) for y in model.outputs)
    ends: list[str] = []
    open_until, end, has_kernel = 0, None, False
    for place, node in enumerate(nodes):
        if _has_kernel(node.outbound_layer):
            # Before the first kernel there is no block that could end.
            ends += [end] if has_kernel and end is not None else []
            end, has_kernel = None, True
        outputs = tf.nest.flatten(node.outputs)
        # All that was computed before has been read when this is: nothing leads round it.
        if open_until <= place and len(outputs) == 1 and not isinstance(node.outbound_layer, _PADDING):
            end = None if isinstance(node.outbound_layer, keras.Model) else node.outbound_layer.name
        open_until = max([open_until, *(last_read.get(id(y), 0) for y in outputs)])
    return ends + ([end] if has_kernel and end is not None else [])


def _nodes(model: keras.Model) -> list[Any]:
    """The calls of the layers, each behind those that it reads from."""
    depths = sorted(model._nodes_by_depth, reverse=True)
    return [node for depth in depths for node in model._nodes_by_depth[depth] if not node.is_input]


def _has_kernel(layer: keras.layers.Layer) -> bool:
    """Whether it is a weighted sum, or a model, which has some."""
    is_sum = any(getattr(layer, name, None) is not None for name in ("kernel", "depthwise_kernel", "pointwise_kernel"))
    return is_sum or isinstance(layer, keras.Model)
