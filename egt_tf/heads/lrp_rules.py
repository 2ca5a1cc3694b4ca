"""Rules for layers that only few-shot heads have.

Sources: Sun et al., ICPR 2020 (arXiv 2007.08790), and its published code.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from egt_tf.errors import ExplainError
from egt_tf.lrp.output_relevance import PUBLISHED_EPSILON
from egt_tf.lrp.rules import RULES, Route, Rule, divide, stabilize

# === Graph head ===


@RULES.register("neighbourhood")
class NeighbourhoodShare(Rule):
    """Relevance of nodes x beside the mean of their neighbours, `[x ; A x]`, with the weights A as constants.

    `R_in = x (R0 / stab(x) + A^T (R1 / stab(A x)))`, R0 and R1 being the relevance of the two halves and
    `stab(z) = z + epsilon sign(z)`, `sign(0) = 1`. No relevance goes to A.

    Args:
        epsilon: stabiliser, >= 0; 0 guards exact zeros only.
        exact_identity: hand R0 on as it is. Otherwise it passes the stabiliser as a weighted sum does, as published,
            and small features lose relevance.

    Raises:
        ExplainError: a negative `epsilon`.
    """

    def __init__(self, epsilon: float = PUBLISHED_EPSILON, exact_identity: bool = False):
        if epsilon < 0:
            raise ExplainError(f"`epsilon` must be >= 0. Received: epsilon={epsilon}")
        self.epsilon = epsilon
        self.exact_identity = exact_identity

    def apply(self, Xs, Ys, Rs, reverse_state):
        nodes, adjacency = Xs
        own, of_neighbours = tf.split(Rs[0], 2, axis=-1)
        if not self.exact_identity:
            own = nodes * divide(own, nodes, self.epsilon, one_sign=True)
        means = tf.split(Ys[0], 2, axis=-1)[1]
        shares = divide(of_neighbours, means, self.epsilon, one_sign=all(reverse_state["nonnegative"]))
        return [own + nodes * tf.matmul(adjacency, shares, transpose_a=True), None]


@RULES.register("route_without")
class RouteWithout(Route):
    """`Route`, with no relevance for some of the inputs: it is lost.

    Args:
        dropped: positions of the inputs that get none.
    """

    def __init__(self, dropped: Sequence[int]):
        self.dropped = tuple(dropped)

    def apply(self, Xs, Ys, Rs, reverse_state):
        relevance = super().apply(Xs, Ys, Rs, reverse_state)
        return [None if position in self.dropped else r for position, r in enumerate(relevance)]


# === Heads that compare pooled maps by sums of products ===


@RULES.register("fraction")
class Fraction(Rule):
    """`R_i = R x_i / (s + epsilon sign(s))` with `s = sum_i x_i`, for a layer that sums or averages over axes.

    For a mean, too, the denominator is the sum, so that the stabiliser is as large as for a sum. Where the n summands
    cancel to exactly 0, s is `1 / n`.

    Args:
        epsilon: stabiliser, >= 0. Published: 0.01.
    """

    def __init__(self, epsilon: float = PUBLISHED_EPSILON):
        if epsilon < 0:
            raise ExplainError(f"`epsilon` must be >= 0. Received: epsilon={epsilon}")
        self.epsilon = epsilon

    def apply(self, Xs, Ys, Rs, reverse_state):
        return [self.shares(Xs[0], Rs[0], reverse_state["layer"].axis)]

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
    """

    def apply(self, Xs, Ys, Rs, reverse_state):
        prototypes, attention = Xs
        summands = tf.expand_dims(prototypes, 1) * attention
        return [tf.reduce_sum(self.shares(summands, Rs[0], (-3, -2)), axis=1), None]


@RULES.register("attention_gate")
class AttentionGate(Rule):
    """Relevance of attended query maps goes to the query unchanged, added up over the ways; none to the attention."""

    def apply(self, Xs, Ys, Rs, reverse_state):
        return [tf.reduce_sum(Rs[0], axis=2), None]


@RULES.register("pair_product")
class ShareProduct(Rule):
    """Relevance of each product of a query's and a prototype's value, handed to the two factors.

    Args:
        query: the part that the query gets.
        prototype: the part that the prototype gets.

    Notes:
        The published code hands the whole relevance to the query for pictures of it, and the whole to the prototype
        for pictures of the support: with 1 and 1 it is doubled. With 1/2 and 1/2 it is conserved.
    """

    def __init__(self, query: float = 0.5, prototype: float = 0.5):
        self.query = query
        self.prototype = prototype

    def apply(self, Xs, Ys, Rs, reverse_state):
        return [self.query * Rs[0], self.prototype * Rs[0]]
