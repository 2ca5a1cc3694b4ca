"""Rules of layer-wise relevance propagation.

A rule takes the relevance of a layer's outputs to its inputs. Rules derive from innvestigate's `ReverseMappingBase`
and keep its names where it has them, but hold no layer and make no variables: they are parameters, and each call reads
the layer's current weights. So one rule serves every layer, eagerly and inside a `tf.function`.

Sources: Bach et al. 2015 (epsilon, alpha-beta); Montavon et al. 2019 (overview); Sun et al. 2020 (few-shot use).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from innvestigate.backend.graph import ReverseMappingBase

from egt_tf.explain.linear import LinearPart, linear_part

# innvestigate and the published code guard exact zeros with this number, and nothing else.
ZERO_GUARD = 1e-7

Tensors = Sequence[tf.Tensor]


def stabilize(z: tf.Tensor, epsilon: float) -> tf.Tensor:
    """`z + epsilon * sign(z)` with `sign(0) = 1`."""
    return z + tf.where(z >= 0, tf.cast(epsilon, z.dtype), tf.cast(-epsilon, z.dtype))


def guarded_division(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """`a / b`, with exact zeros of `b` replaced by 1e-7."""
    return a / tf.where(b == 0, tf.cast(ZERO_GUARD, b.dtype), b)


def pull_back(call: Callable[[Tensors], Tensors], Xs: Tensors, Rs: Tensors) -> list[tf.Tensor]:
    """The layer's derivative, transposed, applied to `Rs`; inputs without influence get zeros."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(Xs)
        Ys = call(Xs)
    return tape.gradient(Ys, list(Xs), output_gradients=list(Rs), unconnected_gradients=tf.UnconnectedGradients.ZERO)


class Rule(ReverseMappingBase):
    """Base of all rules. Two rules with the same parameters are equal."""

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors, reverse_state: dict[str, Any]) -> list[tf.Tensor]:
        """Relevance of the inputs.

        Args:
            Xs: the layer's input tensors of the recorded forward pass.
            Ys: its output tensors.
            Rs: relevance of the outputs, shaped as `Ys`.
            reverse_state: "layer" (the Keras layer), "call" (runs the layer again on other inputs) and
                "nonnegative" (for each input, whether the graph says that it has no negative values).

        Returns:
            Relevance of the inputs, shaped as `Xs`.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Every argument of the constructor."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self):
        return hash((type(self), tuple(sorted(self.get_config().items()))))

    def __repr__(self):
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


class Pass(Rule):
    """The relevance of the output, unchanged, for a layer that keeps its first input's shape.

    For activations and, as published, for batch normalisation.
    """

    def apply(self, Xs, Ys, Rs, reverse_state):
        return [Rs[0], *(tf.zeros_like(x) for x in Xs[1:])]


class Mask(Rule):
    """`R * [y > 0]`: a ReLU lets relevance through where it let the signal through."""

    def apply(self, Xs, Ys, Rs, reverse_state):
        return [tf.where(Ys[0] > 0, Rs[0], tf.zeros_like(Rs[0]))]


class Route(Rule):
    """Each output value is a copy of one input value (or of none): its relevance goes back there.

    For reshaping, permuting, padding, cropping, concatenating, repeating. A value that was copied gathers the
    relevance of its copies.
    """

    def apply(self, Xs, Ys, Rs, reverse_state):
        return pull_back(reverse_state["call"], Xs, Rs)


class Share(Rule):
    """Each input gets the share it contributed: `R_i = x_i dy/dx_i R / (y + epsilon sign(y))`.

    For layers that are linear in their inputs and have no weights (average pooling, means, sums), and for
    max-pooling, where the winner takes all. With `epsilon=0` only exact zeros of `y` are guarded.
    """

    def __init__(self, epsilon: float = 0.0):
        self.epsilon = epsilon

    def apply(self, Xs, Ys, Rs, reverse_state):
        if self.epsilon:
            shares = [r / stabilize(y, self.epsilon) for r, y in zip(Rs, Ys)]
        else:
            shares = [guarded_division(r, y) for r, y in zip(Rs, Ys)]
        return [x * s for x, s in zip(Xs, pull_back(reverse_state["call"], Xs, shares))]


class ShareSum(Share):
    """`Share` for a sum of inputs of one shape; where all of them are zero, each gets the same part."""

    def apply(self, Xs, Ys, Rs, reverse_state):
        shares = super().apply(Xs, Ys, Rs, reverse_state)
        silent = tf.reduce_all([x == 0 for x in Xs], axis=0)
        return [tf.where(silent, Rs[0] / len(Xs), share) for share in shares]


class LinearRule(Rule):
    """Base of the rules for layers with weights; a subclass says how one weighted sum is shared out."""

    def apply(self, Xs, Ys, Rs, reverse_state):
        part = linear_part(reverse_state["layer"])
        return [self.share_out(Xs[0], Rs[0], part, reverse_state["nonnegative"][0])]

    def share_out(self, x: tf.Tensor, relevance: tf.Tensor, part: LinearPart, nonnegative: bool) -> tf.Tensor:
        """Relevance of `x`, given that of `forward(x, kernel) + bias`."""
        raise NotImplementedError


class Epsilon(LinearRule):
    """`R_i = sum_j x_i w_ij R_j / (z_j + epsilon sign(z_j))`, `z_j = sum_i x_i w_ij (+ b_j)`, `sign(0) = 1`.

    Args:
        epsilon: stabiliser, > 0. Published few-shot use: 0.01.
        bias: whether the bias takes part in the denominator (and keeps its share).
    """

    def __init__(self, epsilon: float = 1e-7, bias: bool = True):
        self.epsilon = epsilon
        self.bias = bias

    def share_out(self, x, relevance, part, nonnegative):
        z = part.forward(x, part.kernel)
        if self.bias and part.bias is not None:
            z += part.bias
        return x * part.backward(x, part.kernel, relevance / stabilize(z, self.epsilon))


class AlphaBeta(LinearRule):
    """`R_i = alpha sum_j (x_i w_ij)+ R_j / Z+_j  -  beta sum_j (x_i w_ij)- R_j / Z-_j`.

    `Z+_j` sums the positive contributions `x+ w+ + x- w-` (and `b+`), `Z-_j` the negative ones `x- w+ + x+ w-`
    (and `b-`); exact zeros are guarded, and a unit without contributions of a sign loses that part.

    Args:
        alpha: weight of the positive contributions.
        beta: weight of the negative ones; relevance is conserved for `alpha - beta = 1`.
        bias: whether the bias takes part in the denominators.
    """

    def __init__(self, alpha: float = 1.0, beta: float = 0.0, bias: bool = True):
        self.alpha = alpha
        self.beta = beta
        self.bias = bias

    def share_out(self, x, relevance, part, nonnegative):
        positive, negative = _split(part.kernel)
        bias_positive, bias_negative = (None, None)
        if self.bias and part.bias is not None:
            bias_positive, bias_negative = _split(part.bias)
        # Where the graph says x >= 0 there is no x-, and half of the work is not done.
        x_positive, x_negative = (x, None) if nonnegative else _split(x)
        result = self.alpha * _share(part, [(x_positive, positive), (x_negative, negative)], bias_positive, relevance)
        if self.beta:
            result -= self.beta * _share(part, [(x_positive, negative), (x_negative, positive)], bias_negative, relevance)
        return result


def _split(x):
    return tf.maximum(x, 0), tf.minimum(x, 0)


def _share(part, products, bias, relevance):
    """`sum over products of x * kernel^T(relevance / z)`, `z` the sum of all products and the bias."""
    products = [(x, kernel) for x, kernel in products if x is not None]
    z = tf.add_n([part.forward(x, kernel) for x, kernel in products])
    if bias is not None:
        z += bias
    s = guarded_division(relevance, z)
    return tf.add_n([x * part.backward(x, kernel, s) for x, kernel in products])
