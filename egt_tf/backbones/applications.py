"""The networks of `keras.applications`, by name, with the preprocessing that each was trained with."""

from __future__ import annotations

import collections
import inspect
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from egt_tf.backbones.base import BACKBONES
from egt_tf.backbones.layers import ReverseChannels, from_normalized
from egt_tf.errors import ConfigError, check_integer, did_you_mean
from egt_tf.keras_api import keras
from egt_tf.registry import family_layer, serializable

WEIGHTS = ("imagenet", "none")


# The layers that Keras has for one family of networks only, and does not make again by their names.
for _network, _layer in (
    (keras.applications.ConvNeXtTiny, "LayerScale"),
    (keras.applications.ConvNeXtTiny, "StochasticDepth"),
    (keras.applications.InceptionResNetV2, "CustomScaleLayer"),
):
    serializable(family_layer(_network, _layer))


@BACKBONES.register_family("applications")
def application(
    network: str,
    image_size: int = 224,
    weights: str = "imagenet",
    output: str = "last",
    seed: int | None = None,
) -> keras.Model:
    """A network of `keras.applications` without its classifier: "applications:ResNet50".

    Args:
        network: as `keras.applications` calls it.
        image_size: height and width of the images in pixels; most networks take 32 or more.
        weights: "imagenet", which Keras downloads on first use and keeps in ~/.keras, or "none" for initial ones.
        output: the name of the layer whose map is taken, or "last".
        seed: of the initial weights.

    Returns:
        A Functional model from normalised images `(images, size, size, 3)` to maps `(images, h, w, channels)`.

    Raises:
        ConfigError: an unknown network, layer or `weights`, an image that is too small, or weights that cannot be
            downloaded.

    Notes:
        The first layers turn normalised images into what the network's own `preprocess_input` makes of grey levels. What
        that is, is found out from a few colours, so that it holds for every network.

    Example:
        >>> BACKBONES.get({"name": "applications:MobileNetV2", "weights": "none"}, image_size=32).output_shape
        (None, 1, 1, 1280)
    """
    check_integer("image_size", image_size, 1)
    if weights not in WEIGHTS:
        raise ConfigError(f"`weights` must be one of {', '.join(WEIGHTS)}. Received: {weights!r}")
    factory = _factory(network)
    inner = _with_fixed_names(_inner_network(network, factory, image_size, None if weights == "none" else weights))
    if weights == "none" and seed is not None:
        check_integer("seed", seed, 0)
        _draw_weights(inner, np.random.default_rng(seed))
    images = keras.Input((image_size, image_size, 3), name="images")
    x = _prepared(images, _preprocessing(factory))
    return keras.Model(images, _output_model(network, inner, output)(x), name=network.lower())


def application_names() -> tuple[str, ...]:
    """The networks that this version of Keras has.

    Example:
        >>> "ResNet50" in application_names()
        True
    """
    members = inspect.getmembers(keras.applications, inspect.isfunction)
    return tuple(name for name, factory in members if "include_top" in inspect.signature(factory).parameters)


def _factory(network: str) -> Callable[..., keras.Model]:
    if network not in application_names():
        hint = did_you_mean(network, application_names(), otherwise="; see keras.applications")
        raise ConfigError(f"`applications:NAME` must name a network of keras.applications. Received: {network!r}{hint}")
    return getattr(keras.applications, network)


def _inner_network(
    network: str, factory: Callable[..., keras.Model], image_size: int, weights: str | None
) -> keras.Model:
    try:
        return factory(include_top=False, weights=weights, input_shape=(image_size, image_size, 3))
    except ValueError as error:
        raise ConfigError(f"{network} cannot be made at {image_size} px: {_first_line(error)}") from error
    except Exception as error:
        if weights is None:
            raise
        # Whatever the download raises: Keras wraps the errors of sockets, of HTTP and of checksums.
        raise ConfigError(
            f"the weights of {network} must be downloaded by Keras, which failed: {_first_line(error)}; try again with a "
            "network, put the file into ~/.keras/models, or set `weights: none`"
        ) from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _with_fixed_names(model: keras.Model) -> keras.Model:
    """The model with layers that are numbered from its own first one on.

    Keras numbers those without a name over a whole process, but weights are written and read by these names.
    """
    counts: collections.Counter[str] = collections.Counter()
    for layer in model.layers:
        found = re.fullmatch(r"(\w+?)(_\d+)?", layer.name)
        if found and found[1] == _snake_case(type(layer).__name__):
            number = counts[found[1]]
            counts[found[1]] += 1
            layer._name = f"{found[1]}_{number}" if number else found[1]
    return keras.Model(model.inputs, model.outputs, name=model.name)


def _snake_case(name: str) -> str:
    """The name of a layer without one, but for its number: "Conv2D" as conv2d, "ReLU" as re_lu."""
    return re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z0-9]+)", r"\1_\2", name)).lower()


def _draw_weights(model: keras.Model, rng: np.random.Generator) -> None:
    """Draws the initial weights anew, from the distributions that they were drawn from."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            _draw_weights(layer, rng)
            continue
        for name, initializer in list(vars(layer).items()):
            stem = name.removesuffix("_initializer")
            weight = getattr(layer, stem, getattr(layer, f"{stem}_kernel", None))
            if stem == name or weight is None or "seed" not in initializer.get_config():
                continue
            seed = int(rng.integers(2**31 - 1))
            weight.assign(type(initializer).from_config({**initializer.get_config(), "seed": seed})(weight.shape))


def _output_model(network: str, inner: keras.Model, output: str) -> keras.Model:
    if output == "last":
        return inner
    names = [layer.name for layer in inner.layers]
    if output not in names:
        hint = did_you_mean(output, names, otherwise=f"; the last ones are {', '.join(names[-3:])}")
        raise ConfigError(f"`output` must name a layer of {network}, or be 'last'. Received: {output!r}{hint}")
    found = inner.get_layer(output).output
    if len(found.shape) != 4:
        raise ConfigError(
            f"`output` must be a map, (height, width, channels). Received: {output!r}, whose shape is {found.shape[1:]}"
        )
    return keras.Model(inner.inputs, found, name=inner.name)


def _preprocessing(factory: Callable[..., keras.Model]) -> Callable[[np.ndarray], Any]:
    return sys.modules[factory.__module__].preprocess_input


def _prepared(images: tf.Tensor, preprocess: Callable[[np.ndarray], Any]) -> tf.Tensor:
    """Normalised images as `preprocess`, which scales channel by channel and may reverse them, makes them of grey levels."""
    # Black, and each of the three colours alone.
    probes = np.concatenate([np.zeros((1, 3)), 255.0 * np.eye(3)]).astype(np.float32)[:, None, None]
    black, *colours = np.asarray(preprocess(probes.copy()), np.float64)[:, 0, 0]
    changes = np.array(colours) - black
    reverses = abs(changes[0, 2]) > abs(changes[0, 0])
    if reverses:
        changes, black = changes[:, ::-1], black[::-1]
    # (x - mean) / std of grey levels x.
    std = 255.0 / np.diag(changes)
    x = from_normalized((-black * std).tolist(), std.tolist(), name="scaled")(images)
    return ReverseChannels(name="reversed")(x) if reverses else x
