"""Rules for layers that only few-shot heads have.

Source: Sun et al., ICPR 2020, as its published code computes.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from egt_tf.errors import ExplainError
from egt_tf.explain.rules import RULES, Route, Rule, divide
from egt_tf.explain.start import PUBLISHED_EPSILON

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
