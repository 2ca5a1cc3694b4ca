"""Rules of layer-wise relevance propagation.

A rule takes the relevance of a layer's outputs to its inputs. Rules derive from innvestigate's `ReverseMappingBase`
and keep its names where it has them, but hold no layer and make no variables: they are parameters, and each call reads
the layer's current weights. So one rule serves every layer, eagerly and inside a `tf.function`.

Sources: Bach et al. 2015 (epsilon, alpha-beta); Montavon et al. 2017 (z^B, w^2) and 2019 (gamma, overview);
Sun et al. 2020 (few-shot use).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from innvestigate.backend.graph import ReverseMappingBase

from egt_tf.errors import ExplainError
from egt_tf.explain.kinds import ends_in_relu
from egt_tf.explain.linear import LinearPart, linear_parts
from egt_tf.registry import Registry

RULES = Registry("rule")

# innvestigate and the published code guard exact zeros with this number, and nothing else.
ZERO_GUARD = 1e-7

Tensors = Sequence[tf.Tensor]


def stabilize(z: tf.Tensor, epsilon: float) -> tf.Tensor:
    """`z + epsilon * sign(z)` with `sign(0) = 1`."""
    # tf.cast would take a Python number through float32.
    return z + tf.where(z >= 0, tf.constant(epsilon, z.dtype), tf.constant(-epsilon, z.dtype))


def guarded_division(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """`a / b`, with exact zeros of `b` replaced by 1e-7."""
    return a / tf.where(b == 0, tf.constant(ZERO_GUARD, b.dtype), b)


def pull_back(call: Callable[[Tensors], Tensors], Xs: Tensors, Rs: Tensors) -> list[tf.Tensor]:
    """The layer's derivative, transposed, applied to `Rs`; inputs without influence get zeros."""
    # A layer may be given one tensor twice; each of the two has a relevance of its own.
    Xs = [tf.identity(x) for x in Xs]
    with tf.GradientTape(persistent=len(Xs) > 1, watch_accessed_variables=False) as tape:
        tape.watch(Xs)
        Ys = call(Xs)
    # One by one: TensorFlow 2.14 never frees a gradient that several sources share, as the terms of a sum do.
    zero = tf.UnconnectedGradients.ZERO
    return [tape.gradient(Ys, x, output_gradients=list(Rs), unconnected_gradients=zero) for x in Xs]


class Rule(ReverseMappingBase):
    """Base of all rules. Two rules with the same parameters are equal."""

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors,
              reverse_state: dict[str, Any]) -> list[tf.Tensor | None]:
        """Relevance of the inputs.

        Args:
            Xs: the layer's input tensors of the recorded forward pass.
            Ys: its output tensors.
            Rs: relevance of the outputs, shaped as `Ys`.
            reverse_state: "layer" (the Keras layer), "call" (runs the layer again on other inputs) and
                "nonnegative" (for each input, whether the graph says that it has no negative values).

        Returns:
            Relevance of the inputs, shaped as `Xs`; None for an input that gets none, so that nothing behind it is
            walked.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Every argument of the constructor, as JSON types."""
        return {name: _as_json(getattr(self, name)) for name in inspect.signature(type(self)).parameters}

    def to_json(self) -> dict[str, Any]:
        """What `RULES.get` makes an equal rule from."""
        return {"name": RULES.name_of(type(self)), **self.get_config()}

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self):
        return hash((type(self), repr(self)))

    def __repr__(self):
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


@RULES.register("pass")
class Pass(Rule):
    """The relevance of the output, unchanged, for a layer that keeps its first input's shape.

    For activations and, as published, for batch normalisation.
    """

    def apply(self, Xs, Ys, Rs, reverse_state):
        return [Rs[0], *(tf.zeros_like(x) for x in Xs[1:])]


@RULES.register("mask")
class Mask(Rule):
    """`R * [y > 0]`: a ReLU lets relevance through where it let the signal through."""

    def apply(self, Xs, Ys, Rs, reverse_state):
        # One pass over memory where a comparison and a choice take three.
        return [tf.raw_ops.ReluGrad(gradients=Rs[0], features=Ys[0])]


@RULES.register("route")
class Route(Rule):
    """Each output value is a copy of one input value (or of none): its relevance goes back there.

    For reshaping, permuting, padding, cropping, concatenating, repeating. A value that was copied gathers the
    relevance of its copies.
    """

    def apply(self, Xs, Ys, Rs, reverse_state):
        return pull_back(reverse_state["call"], Xs, Rs)


@RULES.register("gate")
class Gate(Rule):
    """A product in which all factors but one are gates: the relevance stays with the signal.

    Args:
        signal: which input is the signal; it has the shape of the output.
    """

    def __init__(self, signal: int = 0):
        self.signal = signal

    def apply(self, Xs, Ys, Rs, reverse_state):
        if not 0 <= self.signal < len(Xs):
            raise ExplainError(f"`signal` must be in 0..{len(Xs) - 1}. Received: signal={self.signal}")
        return [Rs[0] if index == self.signal else tf.zeros_like(x) for index, x in enumerate(Xs)]


@RULES.register("derivative")
class Derivative(Rule):
    """The layer's derivative, transposed, applied to the relevance: walking back with it is back-propagation."""

    def apply(self, Xs, Ys, Rs, reverse_state):
        return pull_back(reverse_state["call"], Xs, Rs)


@RULES.register("guided")
class Guided(Rule):
    """The derivative, which behind a ReLU lets only positive relevance back: `max(R, 0) dy/dx`.

    Source: Springenberg et al., 2015 (guided back-propagation).
    """

    def apply(self, Xs, Ys, Rs, reverse_state):
        if ends_in_relu(reverse_state["layer"]):
            Rs = [tf.maximum(r, 0) for r in Rs]
        return pull_back(reverse_state["call"], Xs, Rs)


@RULES.register("share")
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


@RULES.register("share_sum")
class ShareSum(Share):
    """`Share` for a sum of inputs of one shape; where all of them are zero, each gets the same part."""

    def apply(self, Xs, Ys, Rs, reverse_state):
        shares = super().apply(Xs, Ys, Rs, reverse_state)
        silent = tf.reduce_all([x == 0 for x in Xs], axis=0)
        return [tf.where(silent, Rs[0] / len(Xs), share) for share in shares]


class LinearRule(Rule):
    """Base of the rules for layers with weights; a subclass says how one weighted sum is shared out."""

    def apply(self, Xs, Ys, Rs, reverse_state):
        parts = linear_parts(reverse_state["layer"], Xs[0])
        # Each part's input is the output of the part before it, of which no sign is known.
        inputs, signs = [Xs[0]], [reverse_state["nonnegative"][0]] + [False] * (len(parts) - 1)
        for part in parts[:-1]:
            inputs.append(part.of(inputs[-1]))
        relevance = Rs[0]
        for part, x, nonnegative in reversed(list(zip(parts, inputs, signs))):
            relevance = self.share_out(x, relevance, part, nonnegative)
        return [relevance]

    def share_out(self, x: tf.Tensor, relevance: tf.Tensor, part: LinearPart, nonnegative: bool) -> tf.Tensor:
        """Relevance of `x`, given that of `forward(x, kernel) + bias`."""
        raise NotImplementedError


@RULES.register("z")
class Z(LinearRule):
    """`R_i = sum_j x_i w_ij R_j / z_j`, `z_j = sum_i x_i w_ij (+ b_j)`; exact zeros of z are guarded.

    Args:
        bias: whether the bias takes part in the denominator (and keeps its share).
    """

    def __init__(self, bias: bool = True):
        self.bias = bias

    def share_out(self, x, relevance, part, nonnegative):
        z = _add_bias(part.forward(x, part.kernel), part.bias if self.bias else None)
        return x * part.backward(x, part.kernel, self._divide(relevance, z))

    def _divide(self, relevance, z):
        return guarded_division(relevance, z)


@RULES.register("epsilon")
class Epsilon(Z):
    """As `Z`, with the denominators `z + epsilon sign(z)`, `sign(0) = 1`.

    Args:
        epsilon: stabiliser, > 0. Published few-shot use: 0.01.
        bias: whether the bias takes part in the denominator (and keeps its share).
    """

    def __init__(self, epsilon: float = 1e-7, bias: bool = True):
        super().__init__(bias)
        if epsilon <= 0:
            raise ExplainError(f"`epsilon` must be > 0. Received: epsilon={epsilon}")
        self.epsilon = epsilon

    def _divide(self, relevance, z):
        return relevance / stabilize(z, self.epsilon)


@RULES.register("alpha_beta")
class AlphaBeta(LinearRule):
    """`R_i = alpha sum_j (x_i w_ij)+ R_j / Z+_j  -  beta sum_j (x_i w_ij)- R_j / Z-_j`.

    `Z+_j` sums the positive contributions `x+ w+ + x- w-` (and `b+`), `Z-_j` the negative ones `x- w+ + x+ w-`
    (and `b-`); exact zeros are guarded, and a unit without contributions of a sign loses that part.

    Args:
        alpha: weight of the positive contributions.
        beta: weight of the negative ones, >= 0; `alpha - beta` must be 1, or relevance would grow or fade.
        bias: whether the bias takes part in the denominators.
        whole_bias: put the whole bias into both denominators, as innvestigate does.
        stabilizer: added to the denominators with their sign; 0 guards exact zeros only.
    """

    def __init__(self, alpha: float = 1.0, beta: float = 0.0, bias: bool = True, whole_bias: bool = False,
                 stabilizer: float = 0.0):
        if beta < 0 or abs(alpha - beta - 1.0) > 1e-6:
            raise ExplainError(f"`alpha - beta` must be 1 with beta >= 0. Received: alpha={alpha}, beta={beta}")
        self.alpha = alpha
        self.beta = beta
        self.bias = bias
        self.whole_bias = whole_bias
        self.stabilizer = stabilizer

    def share_out(self, x, relevance, part, nonnegative):
        positive, negative = _signs(part.kernel)
        up, down = self._biases(part.bias)
        # Where the graph says x >= 0 there is no x-, and half of the work is not done.
        x_up, x_down = (x, None) if nonnegative else _signs(x)
        result = self.alpha * _share_products(part, ((x_up, positive), (x_down, negative)), up, relevance,
                                              self.stabilizer)
        if self.beta:
            result -= self.beta * _share_products(part, ((x_up, negative), (x_down, positive)), down, relevance,
                                                  self.stabilizer)
        return result

    def _biases(self, bias):
        if not self.bias or bias is None:
            return None, None
        return (bias, bias) if self.whole_bias else _signs(bias)


@RULES.register("z_plus")
class ZPlus(AlphaBeta):
    """`AlphaBeta` with alpha 1 and beta 0: only positive contributions count.

    Args:
        bias: whether the positive part of the bias takes part in the denominators.
        stabilizer: see `AlphaBeta`.
    """

    def __init__(self, bias: bool = False, stabilizer: float = 0.0):
        super().__init__(1.0, 0.0, bias=bias, stabilizer=stabilizer)


@RULES.register("gamma")
class Gamma(LinearRule):
    """Positive contributions count more: `R_i = sum_j x_i (w_ij + gamma w_ij+) R_j / sum_i (...)` for `x >= 0`.

    The general form, for inputs of both signs: where the unit's pre-activation is positive the contributions are
    `x+ (w + gamma w+) + x- (w + gamma w-)` with the bias `b + gamma b+`; where it is negative
    `x+ (w + gamma w-) + x- (w + gamma w+)` with `b + gamma b-`; where it is zero, none.

    Args:
        gamma: > 0; 0 would be `Z`, a large one `ZPlus`.
        bias: whether the bias takes part in the denominators.
        stabilizer: see `AlphaBeta`.
    """

    def __init__(self, gamma: float = 0.25, bias: bool = True, stabilizer: float = 0.0):
        if gamma <= 0:
            raise ExplainError(f"`gamma` must be > 0. Received: gamma={gamma}")
        self.gamma = gamma
        self.bias = bias
        self.stabilizer = stabilizer

    def share_out(self, x, relevance, part, nonnegative):
        x_up, x_down = (x, None) if nonnegative else _signs(x)
        up, down = (part.kernel + self.gamma * w for w in _signs(part.kernel))
        bias_up, bias_down = (None, None)
        if self.bias and part.bias is not None:
            bias_up, bias_down = (part.bias + self.gamma * b for b in _signs(part.bias))
        # The sign of the unit is that of what the layer computes, whatever the denominators leave out.
        z = part.of(x)
        nothing = tf.zeros_like(relevance)
        firing = _share_products(part, ((x_up, up), (x_down, down)), bias_up, tf.where(z > 0, relevance, nothing),
                                 self.stabilizer)
        silent = _share_products(part, ((x_up, down), (x_down, up)), bias_down, tf.where(z < 0, relevance, nothing),
                                 self.stabilizer)
        return firing + silent


@RULES.register("w_square")
class WSquare(LinearRule):
    """`R_i = sum_j w_ij^2 R_j / sum_i w_ij^2`: for inputs where zero is no absence, such as raw pixels.

    Args:
        bias: whether the squared bias takes part in the denominator.
        stabilizer: see `AlphaBeta`.
    """

    def __init__(self, bias: bool = False, stabilizer: float = 0.0):
        self.bias = bias
        self.stabilizer = stabilizer

    def share_out(self, x, relevance, part, nonnegative):
        kernel = self._shares(part.kernel)
        bias = tf.square(part.bias) if self.bias and part.bias is not None else None
        z = _add_bias(part.forward(tf.ones_like(x), kernel), bias)
        return part.backward(x, kernel, divide(relevance, z, self.stabilizer))

    def _shares(self, kernel):
        return tf.square(kernel)


@RULES.register("flat")
class Flat(WSquare):
    """The same share for every input that a unit sees.

    Args:
        stabilizer: see `AlphaBeta`.
    """

    def __init__(self, stabilizer: float = 0.0):
        super().__init__(bias=False, stabilizer=stabilizer)

    def _shares(self, kernel):
        return tf.ones_like(kernel)


@RULES.register("bounded")
class Bounded(LinearRule):
    """z^B, for inputs in a known box: `R_i = sum_j (x_i w_ij - low w_ij+ - high w_ij-) R_j / sum_i (...)`.

    Args:
        low: smallest possible input (below or at 0), a number or one for each channel.
        high: largest possible input.
        stabilizer: see `AlphaBeta`.
    """

    def __init__(self, low: float | Sequence[float] = -1.0, high: float | Sequence[float] = 1.0,
                 stabilizer: float = 0.0):
        # Lists would make rules unhashable, and JSON has no tuples.
        self.low, self.high = (tuple(map(float, bound)) if np.ndim(bound) else float(bound) for bound in (low, high))
        self.stabilizer = stabilizer

    def share_out(self, x, relevance, part, nonnegative):
        low, high = (tf.zeros_like(x) + tf.constant(bound, x.dtype) for bound in (self.low, self.high))
        positive, negative = _signs(part.kernel)
        products = ((x, part.kernel), (-low, positive), (-high, negative))
        return _share_products(part, products, None, relevance, self.stabilizer)


@RULES.register("alpha_beta_x")
class AlphaBetaX(LinearRule):
    """Alpha-beta with a denominator for each pair of signs of input and weight.

    `alpha[0] r(x+, w+) + alpha[1] r(x-, w-) - beta[0] r(x+, w-) - beta[1] r(x-, w+)`, where `r(x, w)` shares R in
    proportion to `x w`, with the bias of the product's sign in the denominator.

    Args:
        alpha: weights of the two positive kinds of contributions.
        beta: weights of the two negative kinds.

    Notes:
        innvestigate's presets use alpha (2, 0) and beta (1, 0) for batch normalisation. Its own version weighs
        `r(x-, w-)` by beta[1] and gives it the negative bias; this one by alpha[1], with the positive bias. For these
        numbers both are the same.
    """

    def __init__(self, alpha: Sequence[float] = (2.0, 0.0), beta: Sequence[float] = (1.0, 0.0)):
        self.alpha = tuple(alpha)
        self.beta = tuple(beta)

    def share_out(self, x, relevance, part, nonnegative):
        (x_up, x_down), (up, down) = _signs(x), _signs(part.kernel)
        bias_up, bias_down = (None, None) if part.bias is None else _signs(part.bias)
        terms = ((self.alpha[0], x_up, up, bias_up), (self.alpha[1], x_down, down, bias_up),
                 (-self.beta[0], x_up, down, bias_down), (-self.beta[1], x_down, up, bias_down))
        return tf.add_n([weight * _share_products(part, ((inputs, kernel),), bias, relevance, 0.0)
                         for weight, inputs, kernel, bias in terms if weight])


@RULES.register("magnitude")
class Magnitude(LinearRule):
    """`R |x w| / (|x w| + |b|)`, value by value: what the published CAN code does to batch normalisation.

    For layers that scale and shift each value; exact zeros of the denominator are guarded.
    """

    def share_out(self, x, relevance, part, nonnegative):
        signal = tf.abs(part.forward(x, part.kernel))
        noise = tf.zeros_like(signal) if part.bias is None else tf.abs(part.bias)
        return relevance * guarded_division(signal, signal + noise)


@RULES.register("innvestigate_batch_norm")
class InnvestigateBatchNorm(Rule):
    """Another rule on batch normalisation as innvestigate 2.1.2 understands it, for comparisons with it only.

    It takes `sqrt(variance^2 + epsilon)` for the standard deviation and does not scale the mean by gamma:
    `k = gamma / s`, `b = beta - mean / s`. The true layer has `s = sqrt(variance + epsilon)`, `b = beta - mean k`.

    Args:
        rule: the rule for the scaling layer, or its configuration.
    """

    def __init__(self, rule: LinearRule | dict[str, Any]):
        self.rule = RULES.get(rule)

    def apply(self, Xs, Ys, Rs, reverse_state):
        layer = reverse_state["layer"]
        scale = tf.math.rsqrt(tf.square(tf.convert_to_tensor(layer.moving_variance)) + layer.epsilon)
        kernel = scale if layer.gamma is None else scale * layer.gamma
        bias = -layer.moving_mean * scale + (0.0 if layer.beta is None else layer.beta)
        part = LinearPart(kernel, bias, lambda x, k: x * k)
        return [self.rule.share_out(Xs[0], Rs[0], part, reverse_state["nonnegative"][0])]


def _as_json(value):
    if isinstance(value, Rule):
        return value.to_json()
    return list(value) if isinstance(value, tuple) else value


def divide(relevance: tf.Tensor, z: tf.Tensor, stabilizer: float) -> tf.Tensor:
    """`relevance / (z + stabilizer sign(z))`; with a stabiliser of 0, exact zeros of z are guarded."""
    return relevance / stabilize(z, stabilizer) if stabilizer else guarded_division(relevance, z)


def _signs(x):
    return tf.maximum(x, 0), tf.minimum(x, 0)


def _add_bias(z, bias):
    return z if bias is None else z + bias


def _share_products(part, products, bias, relevance, stabilizer):
    """Shares R in proportion to `forward(x, kernel)`, summed over pairs of x and kernel; one without x is left out."""
    products = _side_by_side(part, [(x, kernel) for x, kernel in products if x is not None])
    z = _add_bias(tf.add_n([part.forward(x, kernel) for x, kernel in products]), bias)
    s = divide(relevance, z, stabilizer)
    shares = [x * part.backward(x, kernel, s) for x, kernel in products]
    width = part.kernel.shape[part.input_axis] if part.input_axis else None
    return tf.add_n([share for both in shares for share in _apart(both, width)])


def _side_by_side(part, products):
    """The pairs as one with all their channels: a transposed convolution to 3 channels costs as much as to 6."""
    if part.input_axis is None or len(products) == 1:
        return products
    xs, kernels = zip(*products)
    return [(tf.concat(xs, axis=-1), tf.concat(kernels, axis=part.input_axis))]


def _apart(share, width):
    """Undoes `_side_by_side` for what belongs to the inputs."""
    return [share] if width is None or width == share.shape[-1] else tf.split(share, share.shape[-1] // width, axis=-1)
