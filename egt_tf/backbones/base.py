"""What backbones share: the table of their names, and initial weights that follow from a seed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from egt_tf.backbones.feature_transformation import transformations
from egt_tf.backbones.neck import with_neck
from egt_tf.backbones.noise_places import with_noise
from egt_tf.errors import ConfigError, check_integer
from egt_tf.keras_api import keras
from egt_tf.registry import Registry

BACKBONES = Registry("backbone")

# Added to a backbone's seed for that of its neck.
_NECK_STREAM = 2_000_003
# Of every backbone; the others are those of its factory.
_OWN_ARGUMENTS = ("trainable", "neck", "noise")


def build_backbone(spec: str | Mapping[str, Any], image_size: int, seed: int | None = None) -> keras.Model:
    """Makes a backbone as the `model.backbone` of a configuration says: an embedding and, if asked for, a neck.

    Args:
        spec: a name of `BACKBONES`, or a mapping with `name`, the arguments of that backbone and of three more:
            `trainable` (default true): whether the embedding is trained; a frozen one runs as in inference;
            `noise` (default none): a degree of noise behind each block of the embedding, see `with_noise`;
            `neck` (default none): the channels of a 1x1 convolution, normalised and rectified, behind the embedding,
            which is always trained.
        image_size: height and width of the images in pixels.
        seed: of the initial weights.

    Returns:
        A Functional model from normalised images to maps. With a neck, the embedding is a model within it.

    Raises:
        ConfigError: an unknown name or argument, a value of the wrong kind, or a frozen embedding with a feature-wise
            transformation or noise.

    Example:
        >>> import egt_tf.backbones
        >>> spec = {"name": "conv4", "width": 4, "trainable": False, "neck": 6}
        >>> backbone = build_backbone(spec, image_size=16, seed=0)
        >>> backbone.output_shape, len(backbone.trainable_weights), len(backbone.layers[1].trainable_weights)
        ((None, 1, 1, 6), 3, 0)
    """
    if not isinstance(spec, Mapping):
        return BACKBONES.get(spec, image_size=image_size, seed=seed)
    neck = spec.get("neck")
    if neck is not None:
        check_integer("model.backbone.neck", neck, 1)
    embedding = BACKBONES.get(
        {key: value for key, value in spec.items() if key not in _OWN_ARGUMENTS}, image_size=image_size, seed=seed
    )
    noise = spec.get("noise")
    if is_frozen(spec):
        _check_frozen(embedding, noise)
        embedding.trainable = False
    if noise is not None:
        embedding = with_noise(embedding, noise)
    if neck is None:
        return embedding
    return with_neck(embedding, neck, InitialWeights(None if seed is None else seed + _NECK_STREAM))


def is_frozen(spec: str | Mapping[str, Any]) -> bool:
    """Whether a configuration's backbone has an embedding that is not trained.

    Raises:
        ConfigError: `trainable` is neither true nor false.

    Example:
        >>> is_frozen("conv4"), is_frozen({"name": "conv4", "trainable": False})
        (False, True)
    """
    trainable = spec.get("trainable", True) if isinstance(spec, Mapping) else True
    if not isinstance(trainable, bool):
        raise ConfigError(f"`model.backbone.trainable` must be true or false. Received: {trainable!r}")
    return not trainable


def without_pretrained(spec: str | Mapping[str, Any]) -> dict[str, Any]:
    """The same backbone with initial weights in place of published ones, which a weight file is to replace anyway.

    Args:
        spec: as for `build_backbone`.

    Example:
        >>> import egt_tf.backbones
        >>> without_pretrained("efficientnet_lite0"), without_pretrained({"name": "conv4", "width": 4})
        ({'name': 'efficientnet_lite0', 'weights': 'none'}, {'name': 'conv4', 'width': 4})
    """
    arguments: dict[str, Any] = {"name": spec} if isinstance(spec, str) else dict(spec)
    takes_weights = "weights" in inspect.signature(BACKBONES.member(arguments.get("name", ""))).parameters
    return {**arguments, "weights": "none"} if takes_weights else arguments


def _check_frozen(embedding: keras.Model, noise: Any) -> None:
    given = {"feature_transformation": bool(transformations(embedding)), "noise": noise is not None}
    for argument in (name for name, is_given in given.items() if is_given):
        raise ConfigError(
            f"`model.backbone.{argument}` must be left out where `trainable` is false: its noise differs from step to "
            "step, and the maps of a frozen backbone are computed once. Received: both"
        )


def seed_beside(seed: int | None) -> int | None:
    """The seed of what a model has beside its backbone: with the backbone's own, both would draw the same numbers.

    Args:
        seed: the backbone's, or None for different weights at every call.
    """
    return None if seed is None else seed + 1_000_003


class InitialWeights:
    """Initializers as the published models have them.

    The n-th one handed out depends on `seed` and n alone, so that a model is a function of its seed.

    Args:
        seed: an integer >= 0, or None for different weights at every call.

    Raises:
        ConfigError: the seed is neither.
    """

    def __init__(self, seed: int | None):
        if seed is not None:
            check_integer("seed", seed, 0)
        self._generator = None if seed is None else np.random.default_rng(seed)

    def convolution(self) -> keras.initializers.Initializer:
        """Normal with standard deviation `sqrt(2 / (kernel height * kernel width * output channels))`."""
        return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal", seed=self._next_seed())

    def truncated_normal(self, deviation: float) -> keras.initializers.Initializer:
        """Normal with the given standard deviation, nothing beyond two of them."""
        return keras.initializers.TruncatedNormal(stddev=deviation, seed=self._next_seed())

    def uniform(self, fan_in: int) -> keras.initializers.Initializer:
        """Uniform on `+-1 / sqrt(fan_in)`: PyTorch's default for the weights and the biases of a linear layer."""
        limit = fan_in**-0.5
        return keras.initializers.RandomUniform(-limit, limit, seed=self._next_seed())

    def dense(
        self,
        fan_in: int,
        units: int,
        name: str,
        layer: type[keras.layers.Dense] = keras.layers.Dense,
        **arguments: Any,
    ) -> keras.layers.Dense:
        """A dense layer with PyTorch's default weights and biases, see `uniform`.

        Args:
            fan_in: size of the last axis of its inputs.
            units: of its outputs.
            name: of the layer.
            layer: its class.
            **arguments: of the class, beside those of every dense layer.
        """
        return layer(
            units,
            name=name,
            kernel_initializer=self.uniform(fan_in),
            bias_initializer=self.uniform(fan_in),
            **arguments,
        )

    def _next_seed(self) -> int | None:
        return None if self._generator is None else int(self._generator.integers(2**31 - 1))
