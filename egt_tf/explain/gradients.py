"""Explanations by gradients, through the same recorded pass as relevance.

Each function takes a model with one output, one tensor for each of its inputs and `select`, which gives the weights of
the output in the value explained: `s = sum(select(output) * output)`, the weights being constants. It returns one map
for each input, of its shape.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import tensorflow as tf

from egt_tf.errors import ConfigError, ExplainError, check_integer
from egt_tf.explain.versions import merged, sum_of_parts, versions_at_once
from egt_tf.keras_api import keras
from egt_tf.lrp.composites import Composite, Entry
from egt_tf.lrp.layer_types import is_layer_type
from egt_tf.lrp.propagation import Trace, record, reverse
from egt_tf.lrp.rules import Derivative, Guided

Select = Callable[[tf.Tensor], tf.Tensor]

DERIVATIVE = Composite([Entry(Derivative(), layer_type="any")], "gradient")
GUIDED = Composite([Entry(Guided(), layer_type="any")], "guided_backprop")


def gradient(model: keras.Model, inputs: Sequence[tf.Tensor], select: Select) -> list[tf.Tensor]:
    """The derivative of the score, d s / d x."""
    trace = record(model, inputs)
    return reverse(trace, select(trace.outputs[0]), DERIVATIVE)


def input_times_gradient(model: keras.Model, inputs: Sequence[tf.Tensor], select: Select) -> list[tf.Tensor]:
    """The input times the derivative of the score, x * d s / d x."""
    return [x * slope for x, slope in zip(inputs, gradient(model, inputs, select), strict=True)]


def guided_backprop(model: keras.Model, inputs: Sequence[tf.Tensor], select: Select) -> list[tf.Tensor]:
    """The gradient without what is negative behind a ReLU (Springenberg et al., 2015)."""
    trace = record(model, inputs)
    return reverse(trace, select(trace.outputs[0]), GUIDED)


def integrated_gradients(
    model: keras.Model, inputs: Sequence[tf.Tensor], select: Select, steps: int = 32, fixed: Collection[str] = ()
) -> list[tf.Tensor]:
    """The input times the mean derivative along the path from zero to the input: `x * mean_t d s / d x at t x`.

    The zero of a normalised image is a mean grey. The maps sum to `s(x) - s(0)`, up to the size of the steps.

    Args:
        model, inputs, select: see the head of this file; what is selected at x stays selected along the path.
        steps: points on the path, >= 1.
        fixed: names of inputs that do not move, such as labels.

    Source: Sundararajan et al., 2017, with the midpoint rule.
    """
    _check_count("steps", steps)
    trace = record(model, inputs)
    together = versions_at_once(trace, steps)
    of_points = merged(tf.repeat(select(trace.outputs[0])[None], together, axis=0))
    moving = [name not in fixed for name in model.input_names]

    def slopes(first: tf.Tensor) -> list[tf.Tensor]:
        shares = (tf.cast(first + tf.range(together), tf.float64) + 0.5) / steps
        points = [_along(x, shares, moves) for x, moves in zip(inputs, moving, strict=True)]
        found = gradient(model, [merged(point) for point in points], lambda _: of_points)
        return [
            tf.reduce_sum(tf.reshape(slope, tf.shape(point)), 0) for slope, point in zip(found, points, strict=True)
        ]

    sums = sum_of_parts(slopes, inputs, steps, together)
    return [x * total / steps for x, total in zip(inputs, sums, strict=True)]


def _along(x: tf.Tensor, shares: tf.Tensor, moves: bool) -> tf.Tensor:
    """Points on the path from zero to x, `(points, ...)`; what does not move is the same at all of them."""
    if not moves:
        return tf.repeat(x[None], tf.size(shares), axis=0)
    return x[None] * tf.reshape(tf.cast(shares, x.dtype), [-1, *[1] * len(x.shape)])


def grad_cam(model: keras.Model, inputs: Sequence[tf.Tensor], select: Select) -> list[tf.Tensor]:
    """The last feature map weighted by its mean derivatives, scaled up: `relu(sum_c a_c mean_position d s / d a_c)`.

    The value of a pixel is spread evenly over its channels. In a few-shot model the map is the backbone's, for query
    and support images alike.

    Raises:
        ExplainError: the model does not go from images through feature maps.

    Source: Selvaraju et al., 2017.
    """
    trace = record(model, inputs)
    images, features = images_and_features(trace)
    (slope,) = reverse(trace, select(trace.outputs[0]), DERIVATIVE, [features])
    weights = tf.reduce_mean(slope, axis=[1, 2], keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * features, axis=-1, keepdims=True))
    heat = tf.image.resize(heat, tf.shape(images)[1:3], method="bilinear") / images.shape[-1]
    return reverse(trace, tf.broadcast_to(heat, tf.shape(images)), DERIVATIVE, source=images)


def images_and_features(trace: Trace) -> tuple[tf.Tensor, tf.Tensor]:
    """The batch of images that the first weights of a model see, and the last feature map that is one of a batch.

    Raises:
        ExplainError: there are none.
    """
    images = next(
        (
            _before_padding(trace, call.inputs[0])
            for call in trace.calls
            if call.first and not is_layer_type(call.layer, "route") and len(call.inputs[0].shape) == 4
        ),
        None,
    )
    maps = [] if images is None else _maps_of(trace, images)
    if not maps:
        raise ExplainError(
            "this method needs a model that goes from images through feature maps. Received: a model without"
        )
    return images, maps[-1]


def _maps_of(trace: Trace, images: tf.Tensor) -> list[tf.Tensor]:
    """What is computed of images by feature maps alone.

    The head of a few-shot model has tensors of four axes too, but only behind others that have an axis of episodes.
    """
    chain, maps = {id(images)}, []
    for call in trace.calls:
        if any(id(x) in chain for x in call.inputs):
            found = [y for y in call.outputs if len(y.shape) == 4 and y.shape[0] == images.shape[0]]
            chain.update(map(id, found))
            maps += found
    return maps


def _before_padding(trace: Trace, x: tf.Tensor) -> tf.Tensor:
    for call in trace.calls:
        if isinstance(call.layer, keras.layers.ZeroPadding2D) and call.outputs[0] is x:
            return call.inputs[0]
    return x


def _check_count(name: str, value: int) -> None:
    try:
        check_integer(name, value, 1)
    except ConfigError as error:
        raise ExplainError(str(error)) from None
