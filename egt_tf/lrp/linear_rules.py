"""Rules of layer-wise relevance propagation for layers that are weighted sums: dense layers, convolutions, scalings.

Sources: Bach et al. 2015 (epsilon, alpha-beta); Montavon et al. 2017 (z^B, w^2) and 2019 (gamma, overview);
Sun et al. 2020 (few-shot use).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from egt_tf.errors import ExplainError
from egt_tf.keras_api import keras
from egt_tf.lrp.linear_parts import LinearPart, linear_parts
from egt_tf.lrp.rules import (
    RULES,
    Gradient,
    LayerState,
    Pass,
    Rule,
    Tensors,
    by_quotient,
    damped,
    divide,
    guarded_division,
    stabilize,
)
from egt_tf.lrp.value_ranges import is_plain_relu
from egt_tf.tensors import is_half

# Pairs of an input, or None, and a kernel.
Products = Sequence[tuple[tf.Tensor | None, tf.Tensor]]

L = keras.layers
_WEIGHTED_SUMS = frozenset(
    {
        *(L.Dense, L.EinsumDense, L.Conv1D, L.Conv2D, L.Conv3D, L.DepthwiseConv1D, L.DepthwiseConv2D),
        *(L.SeparableConv1D, L.SeparableConv2D, L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose),
    }
)


@dataclasses.dataclass(frozen=True)
class Signal:
    """The input of a weighted sum.

    Attributes:
        x: its values.
        nonnegative: whether the graph says that none is negative.
        present: 1 where x is a value and 0 where it is padding, of a shape that broadcasts to that of x; None: no
            padding.
        rescaled: how a value of the model's input looks here, see `LayerState`; None: as it is.
        weighted_sum: what the layer makes of x, bias included, where it is at hand; None: it is to be computed.
    """

    x: tf.Tensor
    nonnegative: bool = False
    present: tf.Tensor | None = None
    rescaled: Callable[[tf.Tensor], tf.Tensor] | None = None
    weighted_sum: tf.Tensor | None = None

    def sum_by(self, part: LinearPart) -> tf.Tensor:
        """The weighted sum of x, bias included."""
        return part.of(self.x) if self.weighted_sum is None else self.weighted_sum

    def box(self, low: float | Sequence[float], high: float | Sequence[float]) -> tuple[tf.Tensor, tf.Tensor]:
        """The smallest and the largest value of the model's input, as they look here; both shaped as x."""
        channels = self.x.shape[-1]
        if not {len(value) for value in (low, high) if isinstance(value, Sequence)} <= {channels}:
            raise ExplainError(
                f"`low` and `high` must be numbers or have one for each channel of the input, {channels}. "
                f"Received: low={low}, high={high}"
            )
        corners = [tf.broadcast_to(tf.constant(value, self.x.dtype), self.x.shape[-1:]) for value in (low, high)]
        if self.rescaled is not None:
            shape = [1] * (len(self.x.shape) - 1) + [-1]
            # A layer that changes the sign swaps the two.
            seen = [tf.reshape(self.rescaled(tf.reshape(corner, shape)), [-1]) for corner in corners]
            corners = [tf.minimum(*seen), tf.maximum(*seen)]
        return self.everywhere(corners[0]), self.everywhere(corners[1])

    def everywhere(self, value: float | tf.Tensor) -> tf.Tensor:
        """A number, or one for each channel, wherever x is no padding; shaped as x."""
        filled = tf.zeros_like(self.x) + tf.cast(value, self.x.dtype)
        return filled if self.present is None else filled * tf.cast(self.present, self.x.dtype)


class LinearRule(Rule):
    """Base of the rules for layers with weights; a subclass says how one weighted sum's is redistributed.

    A layer's own activation lies behind its weighted sum. It gets the rule of an activation layer, so that
    Dense(activation="relu") is Dense and Activation("relu").
    """

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors, reverse_state: LayerState) -> list[tf.Tensor | None]:
        parts = linear_parts(reverse_state.layer, *Xs)
        signals = _signals(parts, Xs[0], reverse_state, _sum_at_hand(reverse_state.layer, Ys))
        relevance = _before_activation(reverse_state, lambda: parts[-1].of(signals[-1].x), Ys, Rs)
        if relevance is None:
            # Nothing passes the layer's own activation.
            return [None] * len(Xs)
        for part, signal in reversed(list(zip(parts, signals, strict=True))):
            relevance = self.redistribute(signal, relevance, part)
        return [relevance, *[None] * (len(Xs) - 1)]

    def redistribute(self, signal: Signal, relevance: tf.Tensor, part: LinearPart) -> tf.Tensor:
        """Relevance of `signal.x`, given that of `forward(x, kernel) + bias`."""
        raise NotImplementedError


class ProportionalRule(LinearRule):
    """Base of the rules that give each input its value times something: an input of zero has no relevance.

    A subclass says what that is, the slope. So these rules have a form as a modified gradient.

    Example:
        >>> class Plain(ProportionalRule):
        ...     def slope(self, signal, relevance, part):
        ...         return part.backward(signal.x, part.kernel, relevance / part.of(signal.x))
        >>> part = LinearPart(tf.constant([[1.0], [-3.0]]), None, tf.matmul)
        >>> Plain().redistribute(Signal(tf.constant([[2.0, 1.0]])), tf.constant([[6.0]]), part).numpy()
        array([[-12.,  18.]], dtype=float32)
    """

    def redistribute(self, signal: Signal, relevance: tf.Tensor, part: LinearPart) -> tf.Tensor:
        return signal.x * self.slope(signal, relevance, part)

    def slope(self, signal: Signal, relevance: tf.Tensor, part: LinearPart) -> tf.Tensor:
        """What `signal.x` is multiplied with, given the relevance of `forward(x, kernel) + bias`."""
        raise NotImplementedError

    def slope_of_gradient(self, signal: Signal, gradient: tf.Tensor, part: LinearPart) -> tf.Tensor:
        """`slope` for the relevance `z gradient`, with z the weighted sum."""
        return self.slope(signal, tf.math.multiply_no_nan(signal.sum_by(part), gradient), part)

    def gradient(self, reverse_state: LayerState) -> Gradient | None:
        before_activation = _gradient_before_activation(reverse_state)
        if before_activation is None:
            return None

        def of_inputs(Xs: Tensors, Ys: Tensors, Gs: Tensors) -> list[tf.Tensor | None]:
            parts = linear_parts(reverse_state.layer, *Xs)
            signals = _signals(parts, Xs[0], reverse_state)
            z, gradient = before_activation(lambda: parts[-1].of(signals[-1].x), Ys, Gs)
            for part, signal in reversed(list(zip(parts, signals, strict=True))):
                known = dataclasses.replace(signal, weighted_sum=z)
                z, gradient = signal.x, self.slope_of_gradient(known, gradient, part)
            return [gradient, *[None] * (len(Xs) - 1)]

        return of_inputs


def _signals(
    parts: Sequence[LinearPart], x: tf.Tensor, state: LayerState, last_sum: tf.Tensor | None = None
) -> list[Signal]:
    """The inputs of weighted sums that follow each other; `last_sum` is what the last of them is, if at hand."""
    signals = [Signal(x, state.nonnegative[0], state.present[0], state.rescaled[0])]
    for part in parts[:-1]:
        # Of the output of a weighted sum no sign is known.
        signals.append(Signal(part.of(signals[-1].x)))
    sums = [*(signal.x for signal in signals[1:]), last_sum]
    return [dataclasses.replace(signal, weighted_sum=z) for signal, z in zip(signals, sums, strict=True)]


def _sum_at_hand(layer: keras.layers.Layer, Ys: Tensors) -> tf.Tensor | None:
    """A layer's weighted sum, if that is what it put out, in full precision."""
    # Not of subclasses, which may do more, nor of normalisations, which in training go by other statistics than those
    # that they are explained with.
    plain = type(layer) in _WEIGHTED_SUMS and layer.activation in (None, keras.activations.linear)
    return Ys[0] if plain and not is_half(tf.as_dtype(layer.compute_dtype)) else None


def _before_activation(
    state: LayerState, weighted_sum: Callable[[], tf.Tensor], Ys: Tensors, Rs: Tensors
) -> tf.Tensor | None:
    """Relevance of a layer's weighted sum, given that of its outputs."""
    of_activation = _own_activation(state)
    if of_activation is None or state.rule_for is None:
        return Rs[0]
    return state.rule_for(of_activation.layer).apply([weighted_sum()], Ys, Rs, of_activation)[0]


# From what makes a layer's weighted sum, the layer's outputs and a gradient at these to the sum and the gradient at it.
BeforeActivation = Callable[[Callable[[], tf.Tensor], Tensors, Tensors], tuple[tf.Tensor, tf.Tensor]]


def _gradient_before_activation(state: LayerState) -> BeforeActivation | None:
    """`_before_activation` for a modified gradient; None if the activation's rule has no such form."""
    of_activation = _own_activation(state)
    if of_activation is None:
        return lambda weighted_sum, Ys, Gs: (Ys[0], Gs[0])
    rule = Pass() if state.rule_for is None else state.rule_for(of_activation.layer)
    gradient = rule.gradient(of_activation)
    if gradient is None:
        return None

    def before(weighted_sum: Callable[[], tf.Tensor], Ys: Tensors, Gs: Tensors) -> tuple[tf.Tensor, tf.Tensor]:
        # Behind a ReLU, the sum is the output wherever the gradient is not 0.
        z = Ys[0] if is_plain_relu(of_activation.layer) else weighted_sum()
        (of_sum,) = gradient([z], Ys, Gs)
        return z, tf.zeros_like(z) if of_sum is None else of_sum

    return before


def _own_activation(state: LayerState) -> LayerState | None:
    """The activation that a layer applies to its weighted sum, as a layer; None: it has none."""
    function = getattr(state.layer, "activation", None)
    if function in (None, keras.activations.linear):
        return None
    activation = (
        function
        if isinstance(function, keras.layers.Layer)
        else keras.layers.Activation(function, name=f"{state.layer.name}_activation")
    )
    return LayerState(activation, lambda zs: [function(zs[0])], rule_for=state.rule_for)


@RULES.register("z")
class Z(ProportionalRule):
    """`R_i = sum_j x_i w_ij R_j / z_j`, `z_j = sum_i x_i w_ij (+ b_j)`; exact zeros of z are guarded.

    Args:
        bias: whether the bias takes part in the denominator (and keeps its share).

    Example:
        >>> part = LinearPart(tf.constant([[1.0], [-3.0]]), tf.constant([1.0]), tf.matmul)
        >>> x, r = tf.constant([[2.0, 1.0]]), tf.constant([[6.0]])
        >>> Z(bias=False).redistribute(Signal(x), r, part).numpy()
        array([[-12.,  18.]], dtype=float32)
    """

    def __init__(self, bias: bool = True):
        self.bias = bias

    def slope(self, signal: Signal, relevance: tf.Tensor, part: LinearPart) -> tf.Tensor:
        z = signal.sum_by(part) if self._takes_all(part) else part.forward(signal.x, part.kernel)
        return part.backward(signal.x, part.kernel, self._divide(relevance, z))

    def slope_of_gradient(self, signal: Signal, gradient: tf.Tensor, part: LinearPart) -> tf.Tensor:
        if not self._takes_all(part):
            return super().slope_of_gradient(signal, gradient, part)
        return part.backward(signal.x, part.kernel, self._damp(gradient, signal.sum_by(part)))

    def _takes_all(self, part: LinearPart) -> bool:
        """Whether the denominators are what the layer computes."""
        return self.bias or part.bias is None

    def _divide(self, relevance: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        return guarded_division(relevance, z)

    def _damp(self, gradient: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        return damped(gradient, z, 0.0)


@RULES.register("epsilon")
class Epsilon(Z):
    """As `Z`, with the denominators `z + epsilon sign(z)`, `sign(0) = 1`.

    Args:
        epsilon: stabiliser, > 0. Published few-shot use: 0.01.
        bias: whether the bias takes part in the denominator (and keeps its share).

    Example:
        >>> part = LinearPart(tf.constant([[1.0], [-3.0]]), tf.constant([1.0]), tf.matmul)
        >>> x, r = tf.constant([[2.0, 1.0]]), tf.constant([[6.0]])
        >>> Epsilon(1.0, bias=False).redistribute(Signal(x), r, part).numpy()
        array([[-6.,  9.]], dtype=float32)
    """

    def __init__(self, epsilon: float = 1e-7, bias: bool = True):
        super().__init__(bias)
        if epsilon <= 0:
            raise ExplainError(f"`epsilon` must be > 0. Received: epsilon={epsilon}")
        self.epsilon = epsilon

    def _divide(self, relevance: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        return relevance / stabilize(z, self.epsilon)

    def _damp(self, gradient: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        return damped(gradient, z, self.epsilon)


@RULES.register("alpha_beta")
class AlphaBeta(ProportionalRule):
    """`R_i = alpha sum_j (x_i w_ij)+ R_j / Z+_j  -  beta sum_j (x_i w_ij)- R_j / Z-_j`.

    `Z+_j` sums the positive contributions `x+ w+ + x- w-` (and `b+`), `Z-_j` the negative ones `x- w+ + x+ w-`
    (and `b-`); exact zeros are guarded, and a unit without contributions of a sign loses that part.

    Args:
        alpha: weight of the positive contributions.
        beta: weight of the negative ones, >= 0; `alpha - beta` must be 1, or relevance would grow or fade.
        bias: whether the bias takes part in the denominators.
        whole_bias: put the whole bias into both denominators, as innvestigate does.
        stabilizer: added to the denominators with their sign; 0 guards exact zeros only.

    Example:
        >>> part = LinearPart(tf.constant([[1.0], [-3.0]]), tf.constant([1.0]), tf.matmul)
        >>> x, r = tf.constant([[2.0, 1.0]]), tf.constant([[6.0]])
        >>> AlphaBeta(2.0, 1.0, bias=False).redistribute(Signal(x), r, part).numpy()
        array([[12., -6.]], dtype=float32)
    """

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 0.0,
        bias: bool = True,
        whole_bias: bool = False,
        stabilizer: float = 0.0,
    ):
        if beta < 0 or abs(alpha - beta - 1.0) > 1e-6:
            raise ExplainError(f"`alpha - beta` must be 1 with beta >= 0. Received: alpha={alpha}, beta={beta}")
        self.alpha = alpha
        self.beta = beta
        self.bias = bias
        self.whole_bias = whole_bias
        self.stabilizer = stabilizer

    def slope(self, signal: Signal, relevance: tf.Tensor, part: LinearPart) -> tf.Tensor:
        positive, negative = _signs(part.kernel)
        up, down = self._biases(part.bias)
        x_up, x_down = _signal_signs(signal)
        share = functools.partial(
            _slope_of_signs,
            part,
            relevance=relevance,
            stabilizer=self.stabilizer,
            one_sign=up is None or not self.whole_bias,
        )
        result = self.alpha * share(((x_up, positive), (x_down, negative)), up)
        return result - self.beta * share(((x_up, negative), (x_down, positive)), down) if self.beta else result

    def _biases(self, bias: tf.Tensor | None) -> tuple[tf.Tensor | None, tf.Tensor | None]:
        if not self.bias or bias is None:
            return None, None
        return (bias, bias) if self.whole_bias else _signs(bias)


@RULES.register("z_plus")
class ZPlus(AlphaBeta):
    """`AlphaBeta` with alpha 1 and beta 0: only positive contributions count.

    Args:
        bias: whether the positive part of the bias takes part in the denominators.
        stabilizer: see `AlphaBeta`.

    Example:
        >>> part = LinearPart(tf.constant([[1.0], [-3.0]]), tf.constant([1.0]), tf.matmul)
        >>> x, r = tf.constant([[2.0, 1.0]]), tf.constant([[6.0]])
        >>> ZPlus(bias=True).redistribute(Signal(x), r, part).numpy()
        array([[4., 0.]], dtype=float32)
    """

    def __init__(self, bias: bool = False, stabilizer: float = 0.0):
        super().__init__(1.0, 0.0, bias=bias, stabilizer=stabilizer)


@RULES.register("gamma")
class Gamma(ProportionalRule):
    """Positive contributions count more: `R_i = sum_j x_i (w_ij + gamma w_ij+) R_j / sum_i (...)` for `x >= 0`.

    The general form, for inputs of both signs: where the unit's pre-activation is positive the contributions are
    `x+ (w + gamma w+) + x- (w + gamma w-)` with the bias `b + gamma b+`; where it is negative
    `x+ (w + gamma w-) + x- (w + gamma w+)` with `b + gamma b-`; where it is zero, none.

    Args:
        gamma: > 0; 0 would be `Z`, a large one `ZPlus`.
        bias: whether the bias takes part in the denominators.
        stabilizer: see `AlphaBeta`.
        bias_in_sign: whether the sign of a unit is that of what the layer computes, bias included. With a bias that
            the denominators leave out (`bias=False`), a unit can then be called firing whose contributions nearly
            cancel, and relevance grows there; False takes the sign of the contributions alone.

    Example:
        >>> part = LinearPart(tf.constant([[1.0], [-3.0]]), tf.constant([1.0]), tf.matmul)
        >>> x, r = tf.constant([[2.0, 1.0]]), tf.constant([[6.0]])
        >>> Gamma(1.0, bias=False, bias_in_sign=False).redistribute(Signal(x), r, part).numpy()
        array([[-3.,  9.]], dtype=float32)
    """

    def __init__(self, gamma: float = 0.25, bias: bool = True, stabilizer: float = 0.0, bias_in_sign: bool = True):
        if gamma <= 0:
            raise ExplainError(f"`gamma` must be > 0. Received: gamma={gamma}")
        self.gamma = gamma
        self.bias = bias
        self.stabilizer = stabilizer
        self.bias_in_sign = bias_in_sign

    def slope(self, signal: Signal, relevance: tf.Tensor, part: LinearPart) -> tf.Tensor:
        z = signal.sum_by(part)
        plain = z
        if part.bias is not None:
            # Where the bias is no part of it, the sum is not found by taking it away again: that would round.
            plain = z - part.bias if self.bias else part.forward(signal.x, part.kernel)
        fires = z if self.bias_in_sign else plain
        favoured = self._favoured(signal, plain, fires > 0, part)
        s = divide(relevance, (z if self.bias else plain) + self.gamma * favoured, self.stabilizer, one_sign=False)
        return self._slope_of_quotients(signal, tf.where(fires == 0, tf.zeros_like(s), s), fires > 0, part)

    def _favoured(self, signal: Signal, plain: tf.Tensor, fires: tf.Tensor, part: LinearPart) -> tf.Tensor:
        """The contributions of a unit's own sign, summed: the positive ones of one that fires, else the negative."""
        if signal.nonnegative:
            positive = part.forward(signal.x, tf.maximum(part.kernel, 0))
            favoured = tf.where(fires, positive, plain - positive)
        else:
            # One sum where the two pairs of signs would take two; as both terms have the unit's sign, none cancels.
            sizes = part.forward(tf.abs(signal.x), tf.abs(part.kernel))
            favoured = 0.5 * (plain + tf.where(fires, sizes, -sizes))
        if not self.bias or part.bias is None:
            return favoured
        return favoured + tf.where(fires, *_signs(part.bias))

    def _slope_of_quotients(self, signal: Signal, s: tf.Tensor, fires: tf.Tensor, part: LinearPart) -> tf.Tensor:
        """What x is multiplied with, s being relevance over denominator."""
        positive, silent = tf.maximum(part.kernel, 0), tf.where(fires, tf.zeros_like(s), s)
        signed = part.backward(signal.x, positive, s - 2.0 * silent)
        if signal.nonnegative:
            # w + gamma w+ for units that fire and w + gamma w- for silent ones, w- being w less w+.
            return part.backward(signal.x, part.kernel, s + self.gamma * silent) + self.gamma * signed
        of_all, of_silent = (part.backward(signal.x, part.kernel, each) for each in (s, silent))
        favoured = of_silent + signed
        return of_all + self.gamma * tf.where(signal.x > 0, favoured, of_all - favoured)


@RULES.register("w_square")
class WSquare(LinearRule):
    """`R_i = sum_j w_ij^2 R_j / sum_i w_ij^2`: for inputs where zero is no absence, such as raw pixels.

    Args:
        bias: whether the squared bias takes part in the denominator.
        stabilizer: see `AlphaBeta`.
        padding: whether what a padding layer added gets a share too, as innvestigate has it; that share is lost.

    Example:
        >>> part = LinearPart(tf.constant([[1.0], [-3.0]]), tf.constant([1.0]), tf.matmul)
        >>> x, r = tf.constant([[2.0, 1.0]]), tf.constant([[6.0]])
        >>> WSquare().redistribute(Signal(x), r, part).numpy()
        array([[0.6, 5.4]], dtype=float32)
    """

    def __init__(self, bias: bool = False, stabilizer: float = 0.0, padding: bool = False):
        self.bias = bias
        self.stabilizer = stabilizer
        self.padding = padding

    def redistribute(self, signal: Signal, relevance: tf.Tensor, part: LinearPart) -> tf.Tensor:
        signal = dataclasses.replace(signal, present=None) if self.padding else signal
        kernel = self._shares(part.kernel)
        bias = tf.square(part.bias) if self.bias and part.bias is not None else None
        z = _add_bias(part.forward(signal.everywhere(1.0), kernel), bias)
        share = part.backward(signal.x, kernel, divide(relevance, z, self.stabilizer, one_sign=True))
        return share if signal.present is None else share * tf.cast(signal.present, share.dtype)

    def _shares(self, kernel: tf.Tensor) -> tf.Tensor:
        return tf.square(kernel)


@RULES.register("flat")
class Flat(WSquare):
    """The same share for every input that a unit sees.

    Args:
        stabilizer: see `AlphaBeta`.
        padding: see `WSquare`.

    Example:
        >>> part = LinearPart(tf.constant([[1.0], [-3.0]]), tf.constant([1.0]), tf.matmul)
        >>> x, r = tf.constant([[2.0, 1.0]]), tf.constant([[6.0]])
        >>> Flat().redistribute(Signal(x), r, part).numpy()
        array([[3., 3.]], dtype=float32)
    """

    def __init__(self, stabilizer: float = 0.0, padding: bool = False):
        super().__init__(bias=False, stabilizer=stabilizer, padding=padding)

    def _shares(self, kernel: tf.Tensor) -> tf.Tensor:
        return tf.ones_like(kernel)


@RULES.register("bounded")
class Bounded(LinearRule):
    """z^B, for inputs in a known box: `R_i = sum_j (x_i w_ij - low w_ij+ - high w_ij-) R_j / sum_i (...)`.

    Args:
        low: smallest possible input (below or at 0), a number or one for each channel.
        high: largest possible input.
        stabilizer: see `AlphaBeta`.

    Raises:
        ExplainError: `low` or `high` is no number and no list of them, or `low` is above `high`.

    Example:
        >>> part = LinearPart(tf.constant([[1.0], [-3.0]]), tf.constant([1.0]), tf.matmul)
        >>> x, r = tf.constant([[2.0, 1.0]]), tf.constant([[6.0]])
        >>> Bounded(0.0, 4.0).redistribute(Signal(x), r, part).numpy()
        array([[1.0909091, 4.909091 ]], dtype=float32)
    """

    def __init__(
        self, low: float | Sequence[float] = -1.0, high: float | Sequence[float] = 1.0, stabilizer: float = 0.0
    ):
        # Lists would make rules unhashable, and JSON has no tuples.
        self.low, self.high = _as_bound("low", low), _as_bound("high", high)
        of_channels = {len(bound) for bound in (self.low, self.high) if isinstance(bound, tuple)}
        if len(of_channels) > 1 or np.any(np.greater(self.low, self.high)):
            raise ExplainError(
                f"`high` must have as many values as `low`, none of them below it. Received: low={low!r}, high={high!r}"
            )
        self.stabilizer = stabilizer

    def redistribute(self, signal: Signal, relevance: tf.Tensor, part: LinearPart) -> tf.Tensor:
        low, high = signal.box(self.low, self.high)
        positive, negative = _signs(part.kernel)
        products = ((signal.x, part.kernel), (-low, positive), (-high, negative))
        return _share_products(part, products, None, relevance, self.stabilizer, one_sign=False)


@RULES.register("alpha_beta_x")
class AlphaBetaX(ProportionalRule):
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

    Example:
        >>> part = LinearPart(tf.constant([[1.0], [-3.0]]), tf.constant([1.0]), tf.matmul)
        >>> x, r = tf.constant([[2.0, 1.0]]), tf.constant([[6.0]])
        >>> AlphaBetaX().redistribute(Signal(x), r, part).numpy()
        array([[ 8., -6.]], dtype=float32)
    """

    def __init__(self, alpha: Sequence[float] = (2.0, 0.0), beta: Sequence[float] = (1.0, 0.0)):
        self.alpha = tuple(alpha)
        self.beta = tuple(beta)

    def slope(self, signal: Signal, relevance: tf.Tensor, part: LinearPart) -> tf.Tensor:
        (x_up, x_down), (up, down) = _signs(signal.x), _signs(part.kernel)
        bias_up, bias_down = (None, None) if part.bias is None else _signs(part.bias)
        terms = (
            (self.alpha[0], x_up, up, bias_up),
            (self.alpha[1], x_down, down, bias_up),
            (-self.beta[0], x_up, down, bias_down),
            (-self.beta[1], x_down, up, bias_down),
        )
        slopes = [tf.zeros_like(signal.x)]
        for weight, inputs, kernel, bias in terms:
            if weight:
                (of_sign,) = _slopes(part, ((inputs, kernel),), bias, relevance, 0.0, one_sign=True)
                slopes.append(tf.where(inputs == 0, tf.zeros_like(of_sign), weight * of_sign))
        return tf.add_n(slopes)


@RULES.register("magnitude")
class Magnitude(ProportionalRule):
    """`R |x w| / (|x w| + |b|)`, value by value: what the published CAN code does to batch normalisation.

    For layers that scale and shift each value; exact zeros of the denominator are guarded.

    Example:
        >>> part = LinearPart(tf.constant([2.0, 1.0]), tf.constant([-2.0, 0.0]), tf.multiply)
        >>> Magnitude().redistribute(Signal(tf.ones((1, 2))), tf.ones((1, 2)), part).numpy()
        array([[0.5, 1. ]], dtype=float32)
    """

    def redistribute(self, signal: Signal, relevance: tf.Tensor, part: LinearPart) -> tf.Tensor:
        contribution = tf.abs(part.forward(signal.x, part.kernel))
        noise = tf.zeros_like(contribution) if part.bias is None else tf.abs(part.bias)
        return relevance * tf.math.divide_no_nan(contribution, contribution + noise)

    def slope(self, signal: Signal, relevance: tf.Tensor, part: LinearPart) -> tf.Tensor:
        return tf.math.divide_no_nan(self.redistribute(signal, relevance, part), signal.x)


@RULES.register("innvestigate_batch_norm")
class InnvestigateBatchNorm(Rule):
    """Another rule on batch normalisation as innvestigate 2.1.2 understands it, for comparisons with it only.

    It takes `sqrt(variance^2 + epsilon)` for the standard deviation and does not scale the mean by gamma:
    `k = gamma / s`, `b = beta - mean / s`. The true layer has `s = sqrt(variance + epsilon)`, `b = beta - mean k`.

    Args:
        rule: the rule for the scaling layer, or its configuration.

    Example:
        >>> InnvestigateBatchNorm(Z())
        InnvestigateBatchNorm(rule={'name': 'z', 'bias': True})
    """

    def __init__(self, rule: LinearRule | dict[str, Any]):
        self.rule = RULES.get(rule)

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors, reverse_state: LayerState) -> list[tf.Tensor | None]:
        layer = reverse_state.layer
        scale = tf.math.rsqrt(tf.square(tf.convert_to_tensor(layer.moving_variance)) + layer.epsilon)
        kernel = scale if layer.gamma is None else scale * layer.gamma
        bias = -layer.moving_mean * scale + (0.0 if layer.beta is None else layer.beta)
        part = LinearPart(kernel, bias, lambda x, k: x * k)
        return [self.rule.redistribute(Signal(Xs[0], reverse_state.nonnegative[0]), Rs[0], part)]

    def gradient(self, reverse_state: LayerState) -> Gradient | None:
        return by_quotient(self, reverse_state) if isinstance(self.rule, ProportionalRule) else None


def _as_bound(name: str, bound: float | Sequence[float]) -> float | tuple[float, ...]:
    try:
        values = np.asarray(bound, np.float64)
    except (TypeError, ValueError):
        values = np.asarray(np.nan)
    if values.ndim > 1 or not np.isfinite(values).all():
        raise ExplainError(f"`{name}` must be a number or a list of one for each channel. Received: {name}={bound!r}")
    return tuple(values.tolist()) if values.ndim else float(values)


def _signs(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.maximum(x, 0), tf.minimum(x, 0)


def _signal_signs(signal: Signal) -> tuple[tf.Tensor, tf.Tensor | None]:
    """x+ and x-; where the graph says x >= 0 there is no x-, and half of the work is not done."""
    return (signal.x, None) if signal.nonnegative else _signs(signal.x)


def _add_bias(z: tf.Tensor, bias: tf.Tensor | None) -> tf.Tensor:
    return z if bias is None else z + bias


def _share_products(
    part: LinearPart,
    products: Sequence[tuple[tf.Tensor, tf.Tensor]],
    bias: tf.Tensor | None,
    relevance: tf.Tensor,
    stabilizer: float,
    one_sign: bool,
) -> tf.Tensor:
    """Shares R in proportion to `forward(x, kernel)`, summed over pairs of x and kernel."""
    slopes = _slopes(part, products, bias, relevance, stabilizer, one_sign)
    return tf.add_n([x * slope for (x, _), slope in zip(products, slopes, strict=True)])


def _slope_of_signs(
    part: LinearPart,
    products: tuple[tuple[tf.Tensor, tf.Tensor], tuple[tf.Tensor | None, tf.Tensor]],
    bias: tf.Tensor | None,
    relevance: tf.Tensor,
    stabilizer: float,
    one_sign: bool,
) -> tf.Tensor:
    """`_slopes` of the two signs of one x, given as pairs of x+ and x- with their kernels, where x has them."""
    slopes = _slopes(part, products, bias, relevance, stabilizer, one_sign)
    return slopes[0] if len(slopes) == 1 else tf.where(products[0][0] > 0, *slopes)


def _slopes(
    part: LinearPart,
    products: Products,
    bias: tf.Tensor | None,
    relevance: tf.Tensor,
    stabilizer: float,
    one_sign: bool,
) -> list[tf.Tensor]:
    """For each pair of x and kernel, what x is multiplied with to give its share of R; one without x is left out.

    R is shared in proportion to `forward(x, kernel)`, summed over the pairs.
    """
    products = _side_by_side(part, [(x, kernel) for x, kernel in products if x is not None])
    z = _add_bias(tf.add_n([part.forward(x, kernel) for x, kernel in products]), bias)
    s = divide(relevance, z, stabilizer, one_sign)
    slopes = [part.backward(x, kernel, s) for x, kernel in products]
    width = part.kernel.shape[part.input_axis] if part.input_axis else None
    return [slope for both in slopes for slope in _apart(both, width)]


def _side_by_side(part: LinearPart, products: Products) -> Products:
    """The pairs as one with all their channels: a transposed convolution to 3 channels costs as much as to 6."""
    if part.input_axis is None or len(products) == 1:
        return products
    xs, kernels = zip(*products, strict=True)
    return [(tf.concat(xs, axis=-1), tf.concat(kernels, axis=part.input_axis))]


def _apart(share: tf.Tensor, width: int | None) -> list[tf.Tensor]:
    """Undoes `_side_by_side` for what belongs to the inputs."""
    return [share] if width is None or width == share.shape[-1] else tf.split(share, share.shape[-1] // width, axis=-1)
