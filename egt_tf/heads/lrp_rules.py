"""What relevance needs to know of the layers of heads: what they are like, or the rules that only they have.

Importing the room registers it all. Sources: Sun et al., ICPR 2020 (arXiv 2007.08790), and its published code.
"""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from egt_tf.errors import ExplainError
from egt_tf.heads.attention import AttendedPrototypeMean, AttendedQuery
from egt_tf.heads.base import take_classes
from egt_tf.heads.graph_layers import GraphNodes, Neighbourhood, QueryScores, SkipConcatenate
from egt_tf.heads.layers import (
    DropLastAxis,
    EpisodeBatchNormalization,
    FlattenMap,
    MapMean,
    PairConcat,
    PairConvolution2D,
    PrototypeMean,
)
from egt_tf.heads.ridge_layers import CentredMaps, MapCombination, UnitVector
from egt_tf.heads.similarity import AxisMean, AxisSum, PairProduct, PairSplit, Scale, Square
from egt_tf.keras_api import keras
from egt_tf.lrp.canonizers import register_foldable
from egt_tf.lrp.composites import register_rule
from egt_tf.lrp.linear_parts import LinearPart, linear_parts, normalization_part
from egt_tf.lrp.plain_operations import Transposed, plain_derivative
from egt_tf.lrp.rules import (
    PUBLISHED_EPSILON,
    RULES,
    ZENNIT_STABILIZER,
    LayerState,
    Pass,
    SparingRule,
    Tensors,
    divide,
    stabilize,
)

# === Graph head ===


@RULES.register("neighbourhood")
class NeighbourhoodShare(SparingRule):
    """Relevance of nodes x beside the mean of their neighbours, `[x ; A x]`, with the weights A as constants.

    `R_in = x (R0 / stab(x) + A^T (R1 / stab(A x)))`, R0 and R1 being the relevance of the two halves and
    `stab(z) = z + epsilon sign(z)`, `sign(0) = 1`. No relevance goes to A.

    Args:
        epsilon: stabiliser, >= 0; 0 guards exact zeros only.
        exact_identity: hand R0 on as it is. Otherwise it passes the stabiliser as a weighted sum does, as published,
            and small features lose relevance.

    Raises:
        ExplainError: a negative `epsilon`.

    Example:
        >>> layer = Neighbourhood()
        >>> xs = [tf.constant([[[1.0], [3.0]]]), tf.constant([[[0.0, 1.0], [1.0, 0.0]]])]
        >>> state = LayerState(layer, lambda xs: [layer(xs)], nonnegative=(True, True))
        >>> r = tf.constant([[[1.0, 10.0], [2.0, 20.0]]])
        >>> NeighbourhoodShare(0.0).apply(xs, state.call(xs), [r], state)[0].numpy().ravel()
        array([21., 12.], dtype=float32)
    """

    def __init__(self, epsilon: float = PUBLISHED_EPSILON, exact_identity: bool = False):
        if epsilon < 0:
            raise ExplainError(f"`epsilon` must be >= 0. Received: epsilon={epsilon}")
        self.epsilon = epsilon
        self.exact_identity = exact_identity

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors, reverse_state: LayerState) -> list[tf.Tensor | None]:
        nodes, adjacency = Xs
        own, of_neighbours = tf.split(Rs[0], 2, axis=-1)
        if not self.exact_identity:
            own = nodes * divide(own, nodes, self.epsilon, one_sign=True)
        means = tf.split(Ys[0], 2, axis=-1)[1]
        shares = divide(of_neighbours, means, self.epsilon, one_sign=all(reverse_state.nonnegative))
        return [own + nodes * tf.matmul(adjacency, shares, transpose_a=True), None]


# === Heads that compare pooled maps by sums of products ===


@RULES.register("fraction")
class Fraction(SparingRule):
    """`R_i = R x_i / (s + epsilon sign(s))` with `s = sum_i x_i`, for a layer that sums or averages over axes.

    For a mean, too, the denominator is the sum, so that the stabiliser is as large as for a sum. Where the n summands
    cancel to exactly 0, s is `1 / n`.

    Args:
        epsilon: stabiliser, >= 0. Published: 0.01.

    Example:
        >>> layer, x = AxisMean(-1), tf.constant([[1.0, 3.0]])
        >>> state = LayerState(layer, lambda xs: [layer(*xs)])
        >>> Fraction(0.0).apply([x], [layer(x)], [tf.constant([8.0])], state)[0].numpy()
        array([[2., 6.]], dtype=float32)
    """

    def __init__(self, epsilon: float = PUBLISHED_EPSILON):
        if epsilon < 0:
            raise ExplainError(f"`epsilon` must be >= 0. Received: epsilon={epsilon}")
        self.epsilon = epsilon

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors, reverse_state: LayerState) -> list[tf.Tensor | None]:
        return [self.shares(Xs[0], Rs[0], reverse_state.layer.axis)]

    def shares(self, summands: tf.Tensor, relevance: tf.Tensor, axis: int | tuple[int, ...]) -> tf.Tensor:
        """Relevance of each of `summands`, given that of their sum or mean over `axis`."""
        total = tf.reduce_sum(summands, axis=axis, keepdims=True)
        count = tf.cast(tf.size(summands) / tf.size(total), summands.dtype)
        total = tf.where(total == 0, 1.0 / count, total)
        return summands * (tf.reshape(relevance, tf.shape(total)) / stabilize(total, self.epsilon))


@RULES.register("attended_fraction")
class AttendedFraction(Fraction):
    """`Fraction` for the spatial mean of attended prototypes: each position is given what it contributes.

    Attention is a constant gate: it gets no relevance, and what each query's attention let through adds up.

    Args:
        epsilon: see `Fraction`.

    Example:
        >>> layer = AttendedPrototypeMean()
        >>> xs = [tf.ones((1, 1, 1, 2, 1)), tf.constant([1.0, 3.0], shape=(1, 1, 1, 1, 2, 1))]
        >>> state = LayerState(layer, lambda xs: [layer(xs)])
        >>> relevance, _ = AttendedFraction(0.0).apply(xs, state.call(xs), [tf.constant([[[[8.0]]]])], state)
        >>> relevance.numpy().ravel()
        array([2., 6.], dtype=float32)
    """

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors, reverse_state: LayerState) -> list[tf.Tensor | None]:
        prototypes, attention = Xs
        summands = tf.expand_dims(prototypes, 1) * attention
        return [tf.reduce_sum(self.shares(summands, Rs[0], (-3, -2)), axis=1), None]


@RULES.register("attention_gate")
class AttentionGate(SparingRule):
    """Relevance of attended query maps goes to the query unchanged, added up over the ways; none to the attention.

    Example:
        >>> layer = AttendedQuery()
        >>> xs = [tf.ones((1, 1, 1, 2, 1)), tf.ones((1, 1, 3, 1, 2, 1))]
        >>> state = LayerState(layer, lambda xs: [layer(xs)])
        >>> relevance, _ = AttentionGate().apply(xs, state.call(xs), [tf.ones((1, 1, 3, 1, 2, 1))], state)
        >>> relevance.numpy().ravel()
        array([3., 3.], dtype=float32)
    """

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors, reverse_state: LayerState) -> list[tf.Tensor | None]:
        return [tf.reduce_sum(Rs[0], axis=2), None]


@RULES.register("pair_product")
class ShareProduct(SparingRule):
    """Relevance of each product of a query's and a prototype's value, handed to the two factors.

    Args:
        query: the part that the query gets.
        prototype: the part that the prototype gets.

    Notes:
        The published code hands the whole relevance to the query for pictures of it, and the whole to the prototype
        for pictures of the support: with 1 and 1 it is doubled. With 1/2 and 1/2 it is conserved.

    Example:
        >>> layer = PairProduct()
        >>> xs = [tf.constant([[2.0]]), tf.constant([[3.0]])]
        >>> state = LayerState(layer, lambda xs: [layer(xs)])
        >>> [r.numpy().item() for r in ShareProduct().apply(xs, state.call(xs), [layer(xs)], state)]
        [3.0, 3.0]
    """

    def __init__(self, query: float = 0.5, prototype: float = 0.5):
        self.query = query
        self.prototype = prototype

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors, reverse_state: LayerState) -> list[tf.Tensor | None]:
        return [self.query * Rs[0], self.prototype * Rs[0]]


@RULES.register("combination")
class CombinationShare(SparingRule):
    """Relevance of weighted sums of maps, `z_k = sum_n a_nk x_n`: each map is given what it contributes to each sum.

    `R_n = x_n sum_k a_nk R_k / (z_k + epsilon sign(z_k))`, with the coefficients a as constants, to which no relevance
    goes. Where z_k is exactly 0, its relevance is lost.

    Args:
        epsilon: stabiliser, >= 0.

    Example:
        >>> layer = MapCombination()
        >>> xs = [tf.constant([[[1.0], [3.0]]]), tf.constant([[[2.0], [-1.0]]])]
        >>> state = LayerState(layer, lambda xs: [layer(xs)])
        >>> relevance, _ = CombinationShare().apply(xs, state.call(xs), [tf.constant([[[5.0]]])], state)
        >>> relevance.numpy().ravel()
        array([-10.,  15.], dtype=float32)
    """

    def __init__(self, epsilon: float = 0.0):
        if epsilon < 0:
            raise ExplainError(f"`epsilon` must be >= 0. Received: epsilon={epsilon}")
        self.epsilon = epsilon

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors, reverse_state: LayerState) -> list[tf.Tensor | None]:
        maps, coefficients = Xs
        shares = divide(Rs[0], Ys[0], self.epsilon, one_sign=True)
        flat = tf.reshape(shares, tf.concat([tf.shape(shares)[:2], [-1]], axis=0))
        return [maps * tf.reshape(tf.matmul(coefficients, flat), tf.shape(maps)), None]


# === Rules of each layer ===

for _layer in (GraphNodes, QueryScores, PairConcat, PairSplit, FlattenMap, DropLastAxis):
    register_rule(_layer, like="route")
for _layer in (PrototypeMean, MapMean):
    register_rule(_layer, like="mean")
register_rule(EpisodeBatchNormalization, like="batch_norm")
register_rule(SkipConcatenate, like="skip")
for _layer in (Scale, Square, UnitVector, CentredMaps):
    register_rule(_layer, Pass())
# The others have 0 for 0.
for _layer in (Scale, Square, UnitVector):
    register_rule(_layer, like="activation")
register_rule(AttendedQuery, AttentionGate())

# The published code's sums and means have its stabiliser, zennit's a smaller one; innvestigate guards exact zeros.
for _convention, _epsilon in (("published", PUBLISHED_EPSILON), ("zennit", ZENNIT_STABILIZER), ("innvestigate", 0.0)):
    for _layer in (AxisMean, AxisSum):
        register_rule(_layer, Fraction(_epsilon), convention=_convention)
    register_rule(AttendedPrototypeMean, AttendedFraction(_epsilon), convention=_convention)
    _neighbours = NeighbourhoodShare(_epsilon, exact_identity=_convention != "published")
    register_rule(Neighbourhood, _neighbours, convention=_convention)
register_rule(MapCombination, CombinationShare())
register_rule(MapCombination, CombinationShare(ZENNIT_STABILIZER), convention="zennit")

register_rule(PairProduct, ShareProduct())
register_rule(PairProduct, ShareProduct(1.0, 1.0), convention="published")


# === Weighted sums, and what folds into them ===

register_foldable(PairConvolution2D)


@linear_parts.register(PairConvolution2D)
def _(layer: PairConvolution2D, pairs: tf.Tensor, *parts: tf.Tensor) -> tuple[LinearPart, ...]:
    (of_pairs,) = linear_parts.dispatch(keras.layers.Conv2D)(layer, pairs)

    def forward(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        # What was made of the pairs (their positive parts, say) is no longer made of the same parts.
        if not parts or x is not pairs:
            return of_pairs.forward(x, kernel)
        prototypes, queries, *classes = parts
        of_all = layer.of_parts(prototypes, queries, kernel)
        return take_classes(of_all, classes[0]) if classes else of_all

    return (dataclasses.replace(of_pairs, forward=forward, transposed=of_pairs.backward),)


@linear_parts.register(EpisodeBatchNormalization)
def _(layer: EpisodeBatchNormalization, x: tf.Tensor) -> tuple[LinearPart, ...]:
    if layer.batch_statistics:
        return (normalization_part(layer, *layer.moments(x)),)
    mean, variance = (tf.convert_to_tensor(moving) for moving in (layer.moving_mean, layer.moving_variance))
    return (normalization_part(layer, mean, variance),)


# === Derivatives in plain operations ===


@plain_derivative.register(PairConcat)
def _(layer: PairConcat) -> Transposed:
    def transposed(xs: Tensors, y: tf.Tensor, upstream: tf.Tensor) -> list[tf.Tensor | None]:
        of_prototypes, of_queries = tf.split(upstream, 2, axis=-1)
        return [tf.reduce_sum(of_prototypes, axis=1), tf.reduce_sum(of_queries, axis=2)]

    return transposed


@plain_derivative.register(PrototypeMean)
def _(layer: PrototypeMean) -> Transposed:
    def transposed(xs: Tensors, y: tf.Tensor, upstream: tf.Tensor) -> list[tf.Tensor | None]:
        features, labels = xs
        labels = tf.cast(labels, features.dtype)
        shares = tf.math.divide_no_nan(labels, tf.reduce_sum(labels, axis=1, keepdims=True))
        flat = tf.reshape(upstream, tf.concat([tf.shape(upstream)[:2], [-1]], axis=0))
        # Labels are given: nothing is asked about them.
        return [tf.reshape(tf.matmul(shares, flat), tf.shape(features)), None]

    return transposed
