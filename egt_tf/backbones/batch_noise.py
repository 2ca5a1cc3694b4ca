"""Noise whose size follows the mini-batch: what makes a backbone stochastic.

Our reading of Tan, Elovici and Binder, "Adaptive Noise Injection for Training Stochastic Student Networks from
Deterministic Teachers", ICPR 2020, of which the abstract alone was known: it says that the degree of the noise adapts
through mini-batch statistics. The formula is ours.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from egt_tf.errors import ConfigError, as_number, check_integer
from egt_tf.keras_api import keras
from egt_tf.lrp.composites import register_rule
from egt_tf.registry import serializable
from egt_tf.tensors import widen

# Fixed, so that a seed means the same numbers on every device.
_GENERATOR = "philox"


class Noise(enum.IntEnum):
    """Where the noise of a `BatchNoise` comes from in inference.

    Attributes:
        SHARED: a function of the seed and of `draw`, the same for every image: an answer depends neither on the batch
            nor on the place in it.
        OWN: a function of the seed, of `draw` and of the place in the batch: every image has its own.
        FRESH: another one for every image at every call.

    Example:
        >>> Noise.OWN.value
        1
    """

    SHARED = 0
    OWN = 1
    FRESH = 2


@serializable
class BatchNoise(keras.layers.Layer):
    """`y = x + a s_c e`, with `e` standard normal for every element and `s_c` the deviation of channel c.

    Training: `s_c` is the deviation of the channel over the mini-batch, a constant for the gradient. `e` is a function
    of `seed` and of how often the layer was called in training before, which its weight `calls` counts, so that a
    training that is resumed sees the noise it would have seen.

    Inference: `s_c` is the running mean of those deviations (0 before the first training step), and `e` comes from
    where the weight `mode` says, see `Noise`; by default it is the same for every image, call and process. The weights
    are none of the trainable ones.

    Input and output: `(batch, ..., channels)`. When a model is explained, the noise is a constant that was added:
    relevance passes the layer unchanged.

    Args:
        degree: a, in [0, 1]; with 0 the layer changes nothing.
        seed: of the noise, an integer >= 0.
        momentum: of the running mean, in [0, 1).

    Raises:
        ConfigError: an argument is out of its range.

    Notes:
        The running mean is divided by the weight that its terms have together, `1 - momentum^steps`, so that it is a
        mean from the first step on. Each replica of a strategy takes the deviation of its own part of the batch and has
        noise of its own, so that with another number of replicas a training ends elsewhere.
    """

    # See `egt_tf.lrp.register_rule`: what is added is no part of the input.
    has_zero_for_zero = False

    def __init__(self, degree: float = 0.1, seed: int = 0, momentum: float = 0.99, **kwargs: Any):
        super().__init__(**kwargs)
        check_degree("degree", degree)
        check_integer("seed", seed, 0)
        if isinstance(momentum, bool) or not isinstance(momentum, (int, float)) or not 0 <= momentum < 1:
            raise ConfigError(f"`momentum` must be a number >= 0 and < 1. Received: momentum={momentum!r}")
        self.degree, self.seed, self.momentum = float(degree), seed, momentum

    def build(self, input_shape: tf.TensorShape) -> None:
        # Both are moving averages: what sets averages back sets both back.
        self.deviations, self.known = (
            self.add_weight(
                name,
                shape,
                initializer="zeros",
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.MEAN,
                experimental_autocast=False,
            )
            for name, shape in (("deviations", (input_shape[-1],)), ("known", ()))
        )
        # The replicas of a step count, and draw, as one.
        self.calls, self.mode, self.draw = (
            self.add_weight(
                name,
                (),
                tf.int64,
                "zeros",
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
            for name in ("calls", "mode", "draw")
        )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if training:
            return self._with_noise(inputs, self._measured(inputs), self._training_noise(inputs))
        if not self.degree:
            return tf.identity(inputs)
        return self._with_noise(inputs, self.running_deviations(), self._inference_noise(inputs))

    def running_deviations(self) -> tf.Tensor:
        """The s_c of inference, `(channels,)`, >= 0."""
        return tf.math.divide_no_nan(tf.convert_to_tensor(self.deviations), tf.convert_to_tensor(self.known))

    def shared_noise(self, shape: tf.TensorShape | tf.Tensor) -> tf.Tensor:
        """The `e` of one image, of the given shape, that mode `SHARED` adds to all."""
        return tf.random.stateless_normal(shape, self._inference_seed(), alg=_GENERATOR)

    def _with_noise(self, inputs: tf.Tensor, deviations: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        scaled = self.degree * tf.cast(deviations, noise.dtype) * noise
        return inputs + tf.cast(tf.stop_gradient(scaled), inputs.dtype)

    def _measured(self, inputs: tf.Tensor) -> tf.Tensor:
        """The deviations of a mini-batch, which enter the running mean."""
        x = tf.stop_gradient(widen(inputs))
        found = tf.cast(tf.math.reduce_std(x, axis=list(range(len(inputs.shape) - 1))), self.deviations.dtype)
        self.deviations.assign(self.momentum * self.deviations + (1.0 - self.momentum) * found)
        self.known.assign(self.momentum * self.known + (1.0 - self.momentum))
        return found

    def _training_noise(self, inputs: tf.Tensor) -> tf.Tensor:
        seed = tf.stack([tf.constant(self.seed, tf.int64), tf.identity(self.calls)])
        replica = tf.distribute.get_replica_context()
        if replica is not None and replica.num_replicas_in_sync > 1:
            seed = tf.random.experimental.stateless_fold_in(seed, replica.replica_id_in_sync_group)
        self.calls.assign_add(1)
        # In single precision always: double precision would draw other numbers.
        return tf.random.stateless_normal(tf.shape(inputs), seed, alg=_GENERATOR)

    def _inference_noise(self, inputs: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(inputs)
        kinds: list[Callable[[], tf.Tensor]] = [
            lambda: tf.broadcast_to(self.shared_noise(shape[1:]), shape),
            lambda: tf.random.stateless_normal(shape, self._inference_seed(), alg=_GENERATOR),
            lambda: tf.random.normal(shape),
        ]
        return tf.ensure_shape(tf.switch_case(tf.cast(self.mode, tf.int32), kinds), inputs.shape)

    def _inference_seed(self) -> tf.Tensor:
        # Below 0, where no training step has its noise.
        return tf.stack([tf.constant(self.seed, tf.int64), -1 - tf.identity(self.draw)])

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(input_shape)

    def get_config(self) -> dict:
        """Every argument of the constructor."""
        return {**super().get_config(), "degree": self.degree, "seed": self.seed, "momentum": self.momentum}


@serializable
class FixedNoise(keras.layers.Layer):
    """`y = x + noise`, a weight of the shape of x without its first axis: what is left of a `BatchNoise` in an export.

    Example:
        >>> layer = FixedNoise()
        >>> layer(tf.zeros((2, 3, 3, 4))).shape
        TensorShape([2, 3, 3, 4])
    """

    has_zero_for_zero = False

    def build(self, input_shape: tf.TensorShape) -> None:
        self.noise = self.add_weight("noise", input_shape[1:], initializer="zeros", trainable=False)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs + tf.cast(self.noise, inputs.dtype)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(input_shape)


for _layer in (BatchNoise, FixedNoise):
    register_rule(_layer, like="activation")


def check_degree(name: str, value: object) -> None:
    """Checks a degree of noise.

    Raises:
        ConfigError: it is no number in [0, 1].
    """
    number = None if isinstance(value, str) else as_number(value)
    if number is None or not 0 <= number <= 1:
        raise ConfigError(f"`{name}` must be a number in [0, 1]. Received: {name}={value!r}")


def noise_layers(model: keras.Model) -> list[BatchNoise]:
    """The noise of a backbone and of the models within it, in the order of the layers.

    Example:
        >>> from egt_tf.backbones import build_backbone
        >>> [layer.name for layer in noise_layers(build_backbone({"name": "conv4", "noise": 0.1}, image_size=16))][:2]
        ['block1_pool_noise', 'block2_pool_noise']
    """
    found: list[BatchNoise] = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += noise_layers(layer)
        elif isinstance(layer, BatchNoise):
            found.append(layer)
    return found


def set_noise(model: keras.Model, mode: Noise, draw: int | tf.Tensor = 0) -> None:
    """Says where the noise of a model comes from in inference; works in graphs, too.

    Args:
        model: with noise, or without, which changes nothing then.
        mode: see `Noise`.
        draw: which noise of the seed's, >= 0.

    Example:
        >>> from egt_tf.backbones import build_backbone
        >>> backbone = build_backbone({"name": "conv4", "noise": 0.1}, image_size=16)
        >>> set_noise(backbone, Noise.OWN, draw=3)
        >>> int(noise_layers(backbone)[0].draw)
        3
    """
    for layer in noise_layers(model):
        layer.mode.assign(mode)
        layer.draw.assign(draw)


def with_degree(model: keras.Model, degree: float) -> keras.Model:
    """A copy of a backbone with the same weights and another degree of noise.

    Args:
        model: with noise.
        degree: in [0, 1].

    Raises:
        ConfigError: the degree is out of its range.

    Example:
        >>> from egt_tf.backbones import build_backbone
        >>> backbone = build_backbone({"name": "conv4", "noise": 0.1}, image_size=16)
        >>> noise_layers(with_degree(backbone, 0.3))[0].degree
        0.3
    """
    check_degree("degree", degree)

    def changed(layer: BatchNoise) -> keras.layers.Layer:
        return BatchNoise.from_config({**layer.get_config(), "degree": degree})

    return _copy(model, changed, lambda layer: layer.get_weights())


def with_fixed_noise(model: keras.Model) -> keras.Model:
    """A copy of a backbone that adds the noise of mode `SHARED`, as it is now, as constants: it draws no numbers.

    Args:
        model: a Functional model whose maps have known sizes.

    Example:
        >>> from egt_tf.backbones import build_backbone
        >>> backbone = build_backbone({"name": "conv4", "noise": 0.1}, image_size=16)
        >>> noise_layers(with_fixed_noise(backbone))
        []
    """

    def constant(layer: BatchNoise) -> list[Any]:
        noise = layer.shared_noise(layer.input_shape[1:])
        return [(layer.degree * layer.running_deviations() * tf.cast(noise, layer.variable_dtype)).numpy()]

    return _copy(model, lambda layer: FixedNoise(name=layer.name), constant)


def _copy(
    model: keras.Model,
    other: Callable[[BatchNoise], keras.layers.Layer],
    weights: Callable[[BatchNoise], list[Any]],
) -> keras.Model:
    """A copy of a Functional model with its weights, in which another layer is in the place of each noise."""

    def copy_of(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.Model):
            return _copy(layer, other, weights)
        return other(layer) if isinstance(layer, BatchNoise) else type(layer).from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=copy_of)
    for layer in model.layers:
        if not isinstance(layer, keras.Model):
            is_noise = isinstance(layer, BatchNoise)
            copy.get_layer(layer.name).set_weights(weights(layer) if is_noise else layer.get_weights())
    return copy
