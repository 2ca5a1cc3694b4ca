"""Explanation guidance: relevance becomes weights, weighted features give a second prediction, both are learned from.

Pure functions. Source: Sun, Lapuschkin, Samek, Zhao, Cheung, Binder, "Explanation-Guided Training for Cross-Domain
Few-Shot Classification", ICPR 2020 (arXiv 2007.08790).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import tensorflow as tf

from egt_tf.errors import ConfigError
from egt_tf.heads.base import Head
from egt_tf.lrp.composites import Composite
from egt_tf.lrp.output_relevance import log_odds
from egt_tf.lrp.propagation import record, reverse
from egt_tf.tensors import widen


@dataclasses.dataclass(frozen=True)
class GuidedScores:
    """What one guided pass gives.

    Attributes:
        plain: raw scores `(episodes, queries, ways)`.
        guided: what the head makes of the weighted features to learn from (`Head.training_scores`).
        output_relevance: relevance that the explanation started from.
        relevance: relevance of each of the head's weighted tensors (`Head.weighted_layers`), shaped as it is.
        weights: what each of them was weighted with, in [0, 2].

    Example:
        >>> one = tf.ones((1, 2, 2))
        >>> scores = GuidedScores(one, 2 * one, one, relevance=(one,), weights=(2 * one,))
        >>> float(scores.weights[0][0, 0, 0])
        2.0
    """

    plain: tf.Tensor
    guided: tf.Tensor
    output_relevance: tf.Tensor
    relevance: tuple[tf.Tensor, ...]
    weights: tuple[tf.Tensor, ...]


def relevance_weights(relevance: tf.Tensor, axis: int = -1) -> tf.Tensor:
    """`w = 1 + R / max |R|` along `axis`; 1 where all relevance is zero.

    Args:
        relevance: any shape.
        axis: the channels that share a maximum; every other position has its own.

    Returns:
        Weights in [0, 2], shaped as `relevance`.

    Example:
        >>> relevance_weights(tf.constant([[2.0, -1.0, 0.0], [0.0, 0.0, 0.0]])).numpy().tolist()
        [[2.0, 0.5, 1.0], [1.0, 1.0, 1.0]]
    """
    # Two reductions; the absolute values of all relevance would be one more large tensor.
    largest = tf.maximum(
        tf.reduce_max(relevance, axis=axis, keepdims=True), -tf.reduce_min(relevance, axis=axis, keepdims=True)
    )
    return 1.0 + relevance / tf.where(largest == 0, tf.ones_like(largest), largest)


def guided_scores(
    head: Head,
    features: tf.Tensor | Sequence[tf.Tensor],
    composite: Composite,
    beta: float | None = None,
    training: bool = True,
    detach: bool = True,
    nonnegative: bool = False,
) -> GuidedScores:
    """Scores the features, explains the scores, weights the features by their relevance and scores them again.

    Args:
        head: its `score_model` is run and explained.
        features: output of `head.relate`, the last axis holding channels.
        composite: rules for the layers of `head.score_model`.
        beta: see `log_odds`; `ways - 1` by default.
        training: handed to the layers that ask for it.
        detach: the weights are constants: gradients flow through both scores, not through the explanation. The
            published RelationNet and GNN do so, the published CAN does not.
        nonnegative: whether the features are known to have no negative values; rules then leave out what concerns
            those.

    Example:
        >>> from egt_tf.heads import CosineHead
        >>> from egt_tf.lrp.presets import COMPOSITES
        >>> head = CosineHead((2, 2, 4))
        >>> support, queries = tf.random.uniform((1, 2, 2, 2, 4)), tf.random.uniform((1, 3, 2, 2, 4))
        >>> features = head.relate(support, tf.eye(2)[None], queries)
        >>> scores = guided_scores(head, features, COMPOSITES.get("fsc"))
        >>> scores.plain.shape
        TensorShape([1, 3, 2])

    Notes:
        One recorded pass serves the plain scores and the explanation; the published code runs three for the same.
        A head that keeps running averages (`batch_statistics=False`) updates them in both passes.
    """
    features = tf.nest.flatten(features)
    trace = record(head.score_model, features, training, nonnegative, raw=False)
    explained = trace.detached() if detach else trace
    source = explained.outputs[0] if head.explained_layer is None else explained.output_of(head.explained_layer)
    targets = [explained.output_of(name) for name in head.weighted_layers] or [explained.inputs[0]]
    # Near certainty, half precision has no digits left for what the logarithm is of.
    output_relevance = log_odds(head.probabilities(widen(source)), beta=beta)
    relevance = tuple(reverse(explained, output_relevance, composite, targets, source))
    # The rules read the layers' weights, so constant features alone would not make constant weights.
    constant = tf.stop_gradient if detach else tf.identity
    weights = tuple(constant(relevance_weights(r)) for r in relevance)
    guided = head.training_scores(features, trace.outputs[0], weights, training=training)
    return GuidedScores(trace.outputs[0], guided, output_relevance, relevance, weights)


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """`loss = plain * loss(scores) + guided * loss(guided scores)`.

    Attributes:
        plain: xi of the paper, >= 0.
        guided: lambda of the paper, >= 0; 0 means that no explanation is computed.

    Example:
        >>> LossWeights(plain=1.0, guided=0.5)
        LossWeights(plain=1.0, guided=0.5)
    """

    plain: float = 1.0
    guided: float = 1.0

    def __post_init__(self) -> None:
        if not (self.plain >= 0 and self.guided >= 0 and 0 < self.plain + self.guided < math.inf):
            raise ConfigError(
                "the weights of the plain and the guided loss must be >= 0, finite and not both 0. "
                f"Received: plain={self.plain}, guided={self.guided}"
            )


def loss_weights(mode: str, plain_weight: float, guided_weight: float | None, shots: int) -> LossWeights:
    """The weights that a configuration's `guidance` part means.

    Args:
        mode: "none" (plain loss alone), "guided" (both) or "guided_only".
        plain_weight: xi.
        guided_weight: lambda, or None for the published 0.5 at one shot and 1.0 otherwise.
        shots: support images a class.

    Raises:
        ConfigError: an unknown mode, or weights that are negative or all zero.

    Example:
        >>> loss_weights("guided", plain_weight=1.0, guided_weight=None, shots=1)
        LossWeights(plain=1.0, guided=0.5)
    """
    if guided_weight is None:
        guided_weight = 0.5 if shots == 1 else 1.0
    modes = {"none": (plain_weight, 0.0), "guided": (plain_weight, guided_weight), "guided_only": (0.0, guided_weight)}
    if mode not in modes:
        raise ConfigError(f"`guidance.mode` must be one of {', '.join(modes)}. Received: {mode!r}")
    return LossWeights(*modes[mode])
