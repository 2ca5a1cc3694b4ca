"""Explanations by gradients at noisy copies of the input: SmoothGrad and SmoothTaylor.

The functions are methods as those of `gradients` are: from a model with one output, one tensor for each of its inputs
and `select` to one map for each input, of its shape. What is selected at x is selected at every copy.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import tensorflow as tf

from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError, ExplainError, check_boolean, check_positive
from egt_tf.explain.gradients import Select, gradient
from egt_tf.explain.noise import Noise, NoisyInput, Term, mean_over_copies
from egt_tf.explain.smooth_taylor import taylor_term
from egt_tf.explain.versions import merged, versions_at_once
from egt_tf.keras_api import keras
from egt_tf.lrp.propagation import record

SUPPORT, QUERY = "support_images", "query_images"
# Axes of an episodic model's images that count images: episodes and images of each.
_EPISODIC = 2


def smoothgrad(
    model: keras.Model,
    inputs: Sequence[tf.Tensor],
    select: Select,
    samples: int = 16,
    noise: float = 0.1,
    seed: int = 0,
    fixed: Collection[str] = (),
) -> list[tf.Tensor]:
    """The mean gradient over noisy copies of the input (Smilkov et al., 2017).

    Args:
        model, inputs, select: see the head of this file.
        samples: copies, >= 1.
        noise: standard deviation as a share of the range of each image, or of each example.
        seed: of the noise.
        fixed: names of inputs that stay as they are, such as labels.

    Raises:
        ExplainError: `samples` or `noise` is out of range.
    """
    try:
        check_positive("noise", noise)
    except ConfigError as error:
        raise ExplainError(str(error)) from None
    return mean_slope(model, inputs, select, Noise(noise, samples, True, seed), fixed)


def mean_slope(
    model: keras.Model, inputs: Sequence[tf.Tensor], select: Select, noise: Noise, fixed: Collection[str] = ()
) -> list[tf.Tensor]:
    """As `smoothgrad`, with any noise."""
    noisy = [_noisy(model, name, x, name not in fixed) for name, x in zip(model.input_names, inputs, strict=True)]
    return _over_copies(model, noisy, select, noise, lambda x, z, slope: slope)


def smooth_taylor(
    model: keras.Model,
    inputs: Sequence[tf.Tensor],
    select: Select,
    sigma: float = 0.5,
    samples: int = 150,
    percent: bool = False,
    seed: int = 0,
    support: bool = False,
    fixed: Collection[str] = (),
) -> list[tf.Tensor]:
    """The mean first Taylor term about noisy copies of the query, which needs no baseline (Goh et al., 2020).

    `ST(x)_i = 1/R sum_r (x_i - z_ri) ds/dz_ri` with `z_r = x + sigma e_r`; see `SmoothTaylor`.

    Args:
        model, inputs, select: see the head of this file.
        sigma: deviation of the noise, > 0, in units of the normalised image.
        samples: R, copies, >= 1.
        percent: whether `sigma` is a share of the range of each image.
        seed: of the noise.
        support: whether the support images of a few-shot model get noise too; those that get none have no attribution.
        fixed: names of inputs that stay as they are, such as labels.

    Raises:
        ExplainError: `sigma` or `samples` is out of range.
    """
    try:
        check_boolean("support", support)
    except ConfigError as error:
        raise ExplainError(str(error)) from None
    still = {*fixed} if support or not isinstance(model, EpisodicModel) else {*fixed, SUPPORT}
    noisy = [_noisy(model, name, x, name not in still) for name, x in zip(model.input_names, inputs, strict=True)]
    noise = Noise(sigma, samples, percent, seed)
    if isinstance(model, EpisodicModel) and not support and inputs[model.input_names.index(QUERY)].shape[:2] == (1, 1):
        return _over_queries(model, noisy, select, noise, taylor_term)
    return _over_copies(model, noisy, select, noise, taylor_term)


def _noisy(model: keras.Model, name: str, x: tf.Tensor, moves: bool) -> NoisyInput:
    if not moves:
        return NoisyInput(x, None)
    if not isinstance(model, EpisodicModel):
        return NoisyInput(x)
    if name != QUERY:
        return NoisyInput(x, examples=_EPISODIC)
    # Queries behind the first one only keep it company.
    first = tf.reshape(tf.one_hot(0, tf.shape(x)[1], dtype=x.dtype), [1, -1, *[1] * (len(x.shape) - _EPISODIC)])
    return NoisyInput(x, first, _EPISODIC)


def _over_copies(
    model: keras.Model, noisy: Sequence[NoisyInput], select: Select, noise: Noise, term: Term
) -> list[tf.Tensor]:
    """Copies are examples of one batch: of a few-shot model, whole episodes."""
    trace = record(model, [one.x for one in noisy])
    weights, together = select(trace.outputs[0]), versions_at_once(trace, noise.samples)
    of_copies = merged(tf.repeat(weights[None], together, axis=0))

    def slopes(points: list[tf.Tensor]) -> list[tf.Tensor]:
        return gradient(model, points, lambda _: of_copies)

    return mean_over_copies(noisy, noise, slopes, term, together)


def _over_queries(
    model: EpisodicModel, noisy: Sequence[NoisyInput], select: Select, noise: Noise, term: Term
) -> list[tf.Tensor]:
    """Copies are queries of one episode, whose support images pass the backbone once for all of them.

    For heads whose scores depend on no other query.
    """
    names, inputs = model.input_names, [one.x for one in noisy]
    place = names.index(QUERY)
    trace = record(model, inputs)
    weights, images = select(trace.outputs[0]), inputs[names.index(SUPPORT)].shape[1] + 1
    together = versions_at_once(trace, noise.samples, share=1 / images)
    of_queries = tf.repeat(weights, together, axis=1)

    def slopes(points: list[tf.Tensor]) -> list[tf.Tensor]:
        queries = tf.transpose(points[0], [1, 0, *range(2, len(points[0].shape))])
        found = gradient(model, [*inputs[:place], queries, *inputs[place + 1 :]], lambda _: of_queries)[place]
        return [tf.transpose(found, [1, 0, *range(2, len(points[0].shape))])]

    (query,) = mean_over_copies([noisy[place]], noise, slopes, term, together)
    return [query if index == place else tf.zeros_like(x) for index, x in enumerate(inputs)]
