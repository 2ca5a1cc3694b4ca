"""Layers that heads are made of. All carry the episode as their first axis and never mix episodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from egt_tf.keras_api import keras
from egt_tf.registry import serializable


def axis_sizes(x: tf.Tensor) -> list[int | tf.Tensor]:
    """The length of each axis: a number where it is known, whose arithmetic needs no operation; else a scalar tensor.

    Args:
        x: of a known number of axes.

    Example:
        >>> axis_sizes(tf.zeros((2, 3)))
        [2, 3]
    """
    known = x.shape.as_list()
    if None not in known:
        return known
    return [number if number is not None else size for number, size in zip(known, tf.unstack(tf.shape(x)), strict=True)]


@serializable
class PrototypeMean(keras.layers.Layer):
    """Mean of the support features of each class.

    `p[e, k] = sum_n labels[e, n, k] x[e, n] / sum_n labels[e, n, k]`; classes may have different numbers of shots.

    Inputs: features `(episodes, support, ...)` and one-hot labels `(episodes, support, ways)`.
    Output: `(episodes, ways, ...)`. A class without support gives zeros.
    """

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        features, labels = inputs
        labels = tf.cast(labels, features.dtype)
        shares = tf.math.divide_no_nan(labels, tf.reduce_sum(labels, axis=1, keepdims=True))
        shape = tf.shape(features)
        flat = tf.reshape(features, tf.concat([shape[:2], [-1]], axis=0))
        means = tf.matmul(shares, flat, transpose_a=True)
        means = tf.reshape(means, tf.concat([shape[:1], tf.shape(labels)[2:], shape[2:]], axis=0))
        return tf.ensure_shape(means, self._static_shape(features.shape, labels.shape))

    def compute_output_shape(self, input_shape: Sequence[tf.TensorShape]) -> tf.TensorShape:
        return tf.TensorShape(self._static_shape(*map(tf.TensorShape, input_shape)))

    @staticmethod
    def _static_shape(features: tf.TensorShape, labels: tf.TensorShape) -> list[int | None]:
        return [features[0], labels[2], *features[2:]]


@serializable
class PairConcat(keras.layers.Layer):
    """Every query beside every prototype: `pair[e, j, k] = channels of p[e, k], then channels of q[e, j]`.

    Inputs: prototypes `(episodes, ways, ..., c)` and queries `(episodes, queries, ..., c)`.
    Output: `(episodes, queries, ways, ..., 2c)`, the prototype first.
    """

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        prototypes, queries = (tf.expand_dims(inputs[0], 1), tf.expand_dims(inputs[1], 2))
        shape = tf.broadcast_dynamic_shape(tf.shape(prototypes), tf.shape(queries))
        pairs = tf.concat([tf.broadcast_to(prototypes, shape), tf.broadcast_to(queries, shape)], axis=-1)
        # Of axes of length 1 TensorFlow does not know what they are broadcast to.
        return tf.ensure_shape(pairs, self.compute_output_shape([x.shape for x in inputs]))

    def compute_output_shape(self, input_shape: Sequence[tf.TensorShape]) -> tf.TensorShape:
        prototypes, queries = map(tf.TensorShape, input_shape)
        return tf.TensorShape([queries[0], queries[1], prototypes[1], *queries[2:-1], 2 * queries[-1]])


@serializable
class PairConvolution2D(keras.layers.Conv2D):
    """A convolution of pairs, computed on the prototypes and the queries that the pairs are made of.

    A convolution is linear in its input channels: `conv([p ; q]) = conv_p(p) + conv_q(q)`. So it runs over
    `ways + queries` maps of c channels instead of `ways * queries` maps of 2c, and the results are added pair by pair.

    Inputs: pairs `(episodes, queries, ways, h, w, 2 c)` as `PairConcat` makes them, and the prototypes and the queries
    that it made them of. The values of the pairs are not looked at and get no gradient; an explanation gives the
    layer's relevance to them. Pairs alone, which may have been changed since, are convolved as they are.
    Output: `(episodes, queries, ways, h', w', filters)`.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # Keras would hold three inputs against what it expects of one.
        self.input_spec = None

    def build(self, input_shape: tf.TensorShape) -> None:
        super().build(_of_pairs(input_shape))
        self.input_spec = None

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        if not isinstance(inputs, (list, tuple)):
            return super().call(inputs)
        _, prototypes, queries = inputs
        z = self.of_parts(prototypes, queries, self.kernel, self.bias)
        return z if self.activation is None else self.activation(z)

    def of_parts(
        self, prototypes: tf.Tensor, queries: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The convolution of the pairs with `kernel`, and `bias` added, before the activation."""
        for_prototypes, for_queries = tf.split(kernel, 2, axis=-2)
        of_queries = self.convolution_op(queries, for_queries)
        of_queries = of_queries if bias is None else of_queries + bias
        return tf.expand_dims(self.convolution_op(prototypes, for_prototypes), 1) + tf.expand_dims(of_queries, 2)

    def compute_output_shape(self, input_shape: Sequence[tf.TensorShape]) -> tf.TensorShape:
        return super().compute_output_shape(_of_pairs(input_shape))


def _of_pairs(input_shape: tf.TensorShape | Sequence[tf.TensorShape]) -> tf.TensorShape:
    """The shape of the pairs among the shapes of the inputs, or alone."""
    alone = isinstance(input_shape, tf.TensorShape) or not isinstance(input_shape[0], (tf.TensorShape, list, tuple))
    return tf.TensorShape(input_shape if alone else input_shape[0])


@serializable
class EpisodeBatchNormalization(keras.layers.Layer):
    """Batch normalisation whose statistics are those of one episode.

    `y = gamma (x - mean) / sqrt(variance + epsilon) + beta`, mean and (biased) variance over every axis but the
    first (episode) and the last (channels).

    Args:
        epsilon: added to the variance.
        batch_statistics: True: the statistics of the call, in training and in inference alike, as the published
            relation module and graph network do, so that a score depends on the other queries of its episode.
            False: inference uses running averages, and a query is scored the same whatever is beside it.
        momentum: of the running averages, which follow the mean over the episodes of a step and the variance
            corrected for its bias (only with `batch_statistics=False`).
    """

    def __init__(self, epsilon: float = 1e-5, batch_statistics: bool = True, momentum: float = 0.9, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.batch_statistics = batch_statistics
        self.momentum = momentum

    def build(self, input_shape: tf.TensorShape) -> None:
        width = (input_shape[-1],)
        self.gamma = self._vector("gamma", width, "ones")
        self.beta = self._vector("beta", width, "zeros")
        if not self.batch_statistics:
            # Each replica of a step updates its own, as with Keras's batch normalisation.
            own = {
                "trainable": False,
                "synchronization": tf.VariableSynchronization.ON_READ,
                "aggregation": tf.VariableAggregation.MEAN,
            }
            self.moving_mean = self._vector("moving_mean", width, "zeros", **own)
            self.moving_variance = self._vector("moving_variance", width, "ones", **own)
        super().build(input_shape)

    def _vector(self, name: str, shape: tuple[int, ...], initializer: str, **options: Any) -> tf.Variable:
        # float32 under mixed precision too, as the statistics are: a sum over a map would overflow float16.
        return self.add_weight(name, shape, initializer=initializer, experimental_autocast=False, **options)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        x = tf.cast(inputs, self.variable_dtype)
        if self.batch_statistics or training:
            mean, variance = self.moments(x)
            if not self.batch_statistics:
                self._update_averages(self.rows(x), mean, variance)
        else:
            mean, variance = self.moving_mean, self.moving_variance
        scale = tf.convert_to_tensor(self.gamma) * tf.math.rsqrt(variance + self.epsilon)
        return tf.cast(x * scale + (self.beta - mean * scale), inputs.dtype)

    def moments(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and biased variance of each episode and channel, the other axes kept with length 1."""
        axes = list(range(1, len(x.shape) - 1))
        mean = tf.reduce_mean(x, axes, keepdims=True)
        # Not tf.nn.moments, which takes the mean in the variance as a constant: right for the first derivative, wrong
        # for the second.
        return mean, tf.reduce_mean(tf.square(x - mean), axes, keepdims=True)

    def rows(self, x: tf.Tensor) -> tf.Tensor:
        """How many values of a channel the moments of an episode are of."""
        return tf.cast(tf.reduce_prod(tf.shape(x)[1:-1]), x.dtype)

    def _update_averages(self, rows: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor) -> None:
        unbiased = variance * rows / tf.maximum(rows - 1.0, 1.0)
        for average, value in ((self.moving_mean, mean), (self.moving_variance, unbiased)):
            step_value = tf.reduce_mean(tf.reshape(value, [-1, value.shape[-1]]), axis=0)
            average.assign(self.momentum * average + (1.0 - self.momentum) * step_value)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(input_shape)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "epsilon": self.epsilon,
            "batch_statistics": self.batch_statistics,
            "momentum": self.momentum,
        }


@serializable
class MapMaxPooling2D(keras.layers.MaxPooling2D):
    """Max-pooling of maps behind any number of leading axes: `(..., height, width, channels)`."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.input_spec = keras.layers.InputSpec(min_ndim=4)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(inputs)
        pooled = super().call(tf.reshape(inputs, tf.concat([[-1], shape[-3:]], axis=0)))
        pooled = tf.reshape(pooled, tf.concat([shape[:-3], tf.shape(pooled)[1:]], axis=0))
        return tf.ensure_shape(pooled, self.compute_output_shape(inputs.shape))

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        shape = tf.TensorShape(input_shape)
        return shape[:-3].concatenate(super().compute_output_shape(tf.TensorShape([None]) + shape[-3:])[1:])


@serializable
class MapMean(keras.layers.Layer):
    """Mean of each channel over the map: `(..., height, width, channels)` to `(..., channels)`."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(inputs, axis=[-3, -2])

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        shape = tf.TensorShape(input_shape)
        return shape[:-3].concatenate(shape[-1:])


@serializable
class FlattenMap(keras.layers.Layer):
    """`(..., height, width, channels)` to `(..., height * width * channels)`."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        flat = tf.reshape(inputs, tf.concat([tf.shape(inputs)[:-3], [-1]], axis=0))
        return tf.ensure_shape(flat, self.compute_output_shape(inputs.shape))

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        shape = tf.TensorShape(input_shape)
        return shape[:-3].concatenate([shape[-3:].num_elements()])


@serializable
class DropLastAxis(keras.layers.Layer):
    """`(..., 1)` to `(...)`."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.squeeze(inputs, axis=-1)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(input_shape)[:-1]
