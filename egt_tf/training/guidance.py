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
from egt_tf.heads.base import Head, take_classes
from egt_tf.lrp.composites import Composite
from egt_tf.lrp.output_relevance import log_odds
from egt_tf.lrp.propagation import record, reverse
from egt_tf.tensors import widen
from egt_tf.training.chosen_classes import of_classes, true_and_rival
from egt_tf.training.guidance_weights import ByRelevance, GuidanceWeights
from egt_tf.training.manipulation import rival_examples


@dataclasses.dataclass(frozen=True)
class GuidedScores:
    """What one guided pass gives.

    Attributes:
        plain: raw scores `(episodes, queries, ways)`.
        guided: what the head makes of the weighted features to learn from (`Head.training_scores`).
        output_relevance: relevance that the explanation started from.
        relevance: relevance of each of the head's weighted tensors (`Head.weighted_layers`), shaped as it is.
        weights: what each of them was weighted with, in [0, 2]; something may have been added, see
            `egt_tf.heads.weighting.Weighting`.

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


def guided_scores(
    head: Head,
    features: tf.Tensor | Sequence[tf.Tensor],
    composite: Composite,
    beta: float | None = None,
    training: bool = True,
    detach: bool = True,
    nonnegative: bool = False,
    weights: GuidanceWeights | None = None,
    halves: bool = False,
    seed: Sequence[int] | tf.Tensor = (0, 0),
    labels: tf.Tensor | None = None,
    some_classes: bool = False,
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
        weights: makes weights of relevance; `ByRelevance` by default.
        halves: whether the prototype's and the query's channels have a largest relevance each, for a head whose
            weighted features hold both (`Head.has_halves`).
        seed: of the random numbers of `weights`, two integers.
        labels: class of each query, integers `(episodes, queries)`, for `some_classes` and for `weights` that need
            rivals.
        some_classes: only what belongs to the true class and to its hardest rival (`true_and_rival`) is explained,
            weighted and scored again, for a head that scores each pair of a query and a class by itself
            (`Head.first_pairs`); the true class comes first.

    Raises:
        ConfigError: `halves`, `some_classes` or `weights` with a head that they are not for, or labels are missing.

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
        With `some_classes` the second pass has two pairs a query, and a normalisation by the statistics of the call takes
        them from these alone; the first pass, and with it what is explained, has all pairs.
    """
    kind = ByRelevance() if weights is None else weights
    check_head(head, halves, some_classes, kind)
    _check_labels(labels, some_classes, kind)
    features = tf.nest.flatten(features)
    trace = record(head.score_model, features, training, nonnegative, raw=False)
    explained = trace.detached() if detach else trace
    source = explained.outputs[0] if head.explained_layer is None else explained.output_of(head.explained_layer)
    # Near certainty, half precision has no digits left for what the logarithm is of.
    output_relevance = log_odds(head.probabilities(widen(source)), beta=beta)
    classes = true_and_rival(trace.outputs[0], labels) if some_classes else None
    if classes is not None and head.first_pairs is not None:
        explained = of_classes(explained, classes, head.first_pairs)
        output_relevance = take_classes(output_relevance, classes)
        source = explained.outputs[0]
    targets = [explained.output_of(name) for name in head.weighted_layers] or [explained.inputs[0]]
    relevance = tuple(reverse(explained, output_relevance, composite, targets, source))
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, len(relevance)))
    queries = _queries_of_rivals(trace.outputs[0], labels, seed) if kind.needs_rivals else None
    used = [kind.weighting(r, s, halves, queries) for r, s in zip(relevance, seeds, strict=True)]
    # The rules read the layers' weights, so constant features alone would not make constant weights.
    used = [weighting.detached() for weighting in used] if detach else used
    guided = head.training_scores(features, trace.outputs[0], used, training=training, classes=classes)
    return GuidedScores(trace.outputs[0], guided, output_relevance, relevance, tuple(each.weights for each in used))


def _queries_of_rivals(scores: tf.Tensor, labels: tf.Tensor, seed: Sequence[int] | tf.Tensor) -> tf.Tensor:
    # Other random numbers than those of the weights.
    return rival_examples(scores, labels, tf.random.experimental.stateless_fold_in(tf.convert_to_tensor(seed), 1))


def _check_labels(labels: tf.Tensor | None, some_classes: bool, weights: GuidanceWeights) -> None:
    if labels is None and (some_classes or weights.needs_rivals):
        raise ConfigError("guidance that asks for rivals must have the `labels` of the queries. Received: None")


def check_head(head: Head, halves: bool, some_classes: bool, weights: GuidanceWeights) -> None:
    """Checks that guidance can be had in this way, see `guided_scores`.

    Raises:
        ConfigError: `halves`, guidance of some classes alone, or weights, with a head that it is not for.
    """
    if halves and not head.has_halves:
        raise ConfigError(
            "`guidance.normalize` must be joint for a head whose weighted features are no prototype beside a query. "
            f"Received: halves with {head.name}"
        )
    if some_classes and head.first_pairs is None:
        raise ConfigError(
            "`guidance.classes` must be all for a head that does not compare a query with each class by itself. "
            f"Received: true_and_rival with {head.name}"
        )
    if weights.needs_positions and not head.weights_positions:
        raise ConfigError(
            "`guidance.weights` must neither blur nor have the unit position for a head whose weighted features have no "
            f"positions. Received: one of them with {head.name}"
        )
    if weights.needs_rivals and (some_classes or head.first_pairs is None):
        raise ConfigError(
            "`guidance.weights` must not exchange where features are not those of a query with every class. Received: "
            + (f"exchange with {head.name}" if head.first_pairs is None else "exchange with classes true_and_rival")
        )


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
