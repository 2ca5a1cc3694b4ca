"""Feature-wise transformation: random scales and shifts of channels that stand for other domains (Tseng, Lee, Huang,
Yang, "Cross-Domain Few-Shot Classification via Learned Feature-Wise Transformation", ICLR 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from egt_tf.errors import ConfigError, check_positive
from egt_tf.keras_api import keras
from egt_tf.lrp.composites import register_rule
from egt_tf.registry import serializable

SHARPNESS = 100.0
# Fixed, so that a seed means the same numbers on every device.
_GENERATOR = "philox"
# Keeps the noise apart from the initial weights, which are drawn from the same seed.
_NOISE_STREAM = 7


@serializable
class FeatureTransformation(keras.layers.Layer):
    """Training: `y = (1 + n_1 softplus(theta_gamma)) x + n_2 softplus(theta_beta)`, channel by channel; else `y = x`.

    `n_1` and `n_2` are standard normal: one pair a channel and a call, shared by all images and positions. They are a
    function of `seed` and of how often the layer was called in training before, which its weight `calls` counts, so
    that a training that is resumed sees the noise it would have seen. The weights are none of the trainable ones:
    `egt_tf.training.learned_transformation` learns `theta_gamma` and `theta_beta`, other trainings leave them.

    Input and output: `(..., channels)`.

    Args:
        gamma: initial value of every `theta_gamma`, > 0.
        beta: initial value of every `theta_beta`, > 0.
        seed: of the noise, an integer >= 0.

    Notes:
        The softplus is `log(1 + exp(100 x)) / 100`, as published: x itself for all but the smallest positive numbers.
        Episodes that share a step share the noise; the published code has one episode a step.
    """

    def __init__(self, gamma: float = 0.3, beta: float = 0.5, seed: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        check_positive("gamma", gamma)
        check_positive("beta", beta)
        self.gamma, self.beta, self.seed = gamma, beta, seed

    def build(self, input_shape: tf.TensorShape) -> None:
        self.theta_gamma, self.theta_beta = (
            self.add_weight(
                name,
                (input_shape[-1],),
                initializer=keras.initializers.Constant(value),
                trainable=False,
                experimental_autocast=False,
            )
            for name, value in (("theta_gamma", self.gamma), ("theta_beta", self.beta))
        )
        # The replicas of a step count, and draw, as one.
        self.calls = self.add_weight(
            "calls", (), tf.int64, "zeros", trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA
        )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if not training:
            return tf.identity(inputs)
        scale, shift = tf.unstack(self._draw(inputs.shape[-1]))
        return inputs * tf.cast(1.0 + scale, inputs.dtype) + tf.cast(shift, inputs.dtype)

    def _draw(self, channels: int) -> tf.Tensor:
        """The noise of one call, `(2, channels)`."""
        seed = tf.stack([tf.constant(self.seed, tf.int64), tf.identity(self.calls)])
        self.calls.assign_add(1)
        # In single precision always: double precision would draw other numbers.
        normal = tf.random.stateless_normal([2, channels], seed, alg=_GENERATOR)
        return tf.cast(normal, self.variable_dtype) * softplus(tf.stack([self.theta_gamma, self.theta_beta]))

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(input_shape)

    def get_config(self) -> dict:
        return {**super().get_config(), "gamma": self.gamma, "beta": self.beta, "seed": self.seed}


# When a model is explained, the transformation hands on what it is given.
register_rule(FeatureTransformation, like="activation")


def softplus(x: tf.Tensor) -> tf.Tensor:
    """`log(1 + exp(100 x)) / 100`."""
    return tf.nn.softplus(SHARPNESS * x) / SHARPNESS


class Transformations:
    """Puts a `FeatureTransformation` behind a layer of a backbone, each with noise of its own, or nothing.

    Args:
        option: true, or a mapping with `gamma`, `beta` or both; false or None for no transformation.
        seed: of the noise; None for another one every time.

    Raises:
        ConfigError: another option.
    """

    def __init__(self, option: bool | Mapping[str, float] | None, seed: int | None):
        self._arguments = _arguments(option)
        self._seeds = np.random.default_rng(None if seed is None else [_NOISE_STREAM, seed])

    def __call__(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """The symbolic tensor `x`, transformed by a layer called `name`."""
        if self._arguments is None:
            return x
        return FeatureTransformation(**self._arguments, seed=int(self._seeds.integers(2**31 - 1)), name=name)(x)


def _arguments(option: Any) -> dict[str, float] | None:
    if option is None or isinstance(option, bool):
        return {} if option else None
    if not isinstance(option, Mapping) or not set(option) <= {"gamma", "beta"}:
        raise ConfigError(
            "`feature_transformation` must be true, false or a mapping with `gamma`, `beta` or both. "
            f"Received: {option!r}"
        )
    return dict(option)


def transformations(model: keras.Model) -> list[FeatureTransformation]:
    """The transformations of a backbone and of the models within it, in the order of the layers."""
    found: list[FeatureTransformation] = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += transformations(layer)
        elif isinstance(layer, FeatureTransformation):
            found.append(layer)
    return found


def without_transformations(model: keras.Model) -> keras.Model:
    """A copy of a backbone with the same weights in which nothing stands in the place of each transformation.

    In inference both give the same; the copy consists of Keras's own layers.
    """
    left_out = {layer.name for layer in model.layers if isinstance(layer, FeatureTransformation)}

    def copy_of(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.Model):
            return without_transformations(layer)
        if layer.name in left_out:
            return keras.layers.Activation("linear", name=layer.name)
        return type(layer).from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=copy_of)
    for layer in model.layers:
        if layer.name not in left_out and not isinstance(layer, keras.Model):
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy
