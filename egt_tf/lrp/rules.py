"""Rules of layer-wise relevance propagation: what a rule is, and the rules for layers without weights.

A rule takes the relevance of a layer's outputs to its inputs. Rules derive from innvestigate's `ReverseMappingBase`
and keep its names where it has them, but hold no layer and make no variables: they are parameters, and each call reads
the layer's current weights. So one rule serves every layer, eagerly and inside a `tf.function`.

Rules for layers with weights are in `linear_rules`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from egt_tf.errors import ExplainError
from egt_tf.keras_api import RuleBase, keras
from egt_tf.lrp.layer_types import is_layer_type, like_of
from egt_tf.lrp.operations import DIVIDE, arguments, operation
from egt_tf.lrp.value_ranges import (
    ANYTHING,
    NONNEGATIVE,
    Interval,
    ends_in_relu,
    is_known_relu,
    is_plain_relu,
    output_range,
)
from egt_tf.registry import Registry

RULES = Registry("rule")

# innvestigate and the published code guard exact zeros with this number, and nothing else.
ZERO_GUARD = 1e-7
# The published code's stabiliser, in the relevance of the output and in every epsilon rule.
PUBLISHED_EPSILON = 0.01
# zennit's, in every denominator.
ZENNIT_STABILIZER = 1e-6

# Layer types whose every output is one of the inputs, or zero; and those with one value for one value.
_COPIES = ("route", "max_pool", "skip", "channel_order")
_VALUE_BY_VALUE = ("activation", "relu", "batch_norm")

Tensors = Sequence[tf.Tensor]
# From a layer's inputs, its outputs and a gradient at the outputs to one at the inputs; see `Rule.gradient`.
Gradient = Callable[[Tensors, Tensors, Tensors], list[tf.Tensor | None]]


def stabilize(z: tf.Tensor, epsilon: float) -> tf.Tensor:
    """`z + epsilon * sign(z)` with `sign(0) = 1`."""
    # tf.cast would take a Python number through float32.
    return z + tf.where(z >= 0, tf.constant(epsilon, z.dtype), tf.constant(-epsilon, z.dtype))


def guarded_division(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """`a / b`, with exact zeros of `b` replaced by 1e-7."""
    return a / tf.where(b == 0, tf.constant(ZERO_GUARD, b.dtype), b)


def divide(relevance: tf.Tensor, z: tf.Tensor, stabilizer: float, one_sign: bool) -> tf.Tensor:
    """`relevance / (z + stabilizer sign(z))`; with a stabiliser of 0, exact zeros of z are guarded.

    Where all terms of the sum z have one sign (`one_sign`), z = 0 says that each of them is 0: whatever is divided by
    it is multiplied by zeros, and one operation does it.
    """
    if stabilizer:
        return relevance / stabilize(z, stabilizer)
    return tf.math.divide_no_nan(relevance, z) if one_sign else guarded_division(relevance, z)


def damped(gradient: tf.Tensor, z: tf.Tensor, stabilizer: float) -> tf.Tensor:
    """What `divide(z * gradient, z, stabilizer)` is: `gradient z / (z + stabilizer sign(z))`, without products of z.

    Example:
        >>> damped(tf.constant([4.0, 4.0]), tf.constant([-0.5, 0.0]), 0.5).numpy()
        array([2., 0.], dtype=float32)
    """
    # Infinite sums keep their gradient this way round, and sums of zero lose theirs.
    if stabilizer:
        return gradient / (1.0 + tf.constant(stabilizer, z.dtype) / tf.abs(z))
    return tf.where(z == 0, tf.zeros_like(gradient), gradient)


def pull_back(call: Callable[[Tensors], Tensors], Xs: Tensors, Rs: Tensors) -> list[tf.Tensor]:
    """The layer's derivative, transposed, applied to `Rs`; inputs without influence, such as indices, get zeros."""
    # A layer may be given one tensor twice; each of the two has a relevance of its own.
    Xs = [tf.identity(x) for x in Xs]
    with tf.GradientTape(persistent=len(Xs) > 1, watch_accessed_variables=False) as tape:
        tape.watch([x for x in Xs if x.dtype.is_floating])
        Ys = call(Xs)
    # One by one: TensorFlow 2.14 never frees a gradient that several sources share, as the terms of a sum do.
    zero = tf.UnconnectedGradients.ZERO
    return [tape.gradient(Ys, x, output_gradients=list(Rs), unconnected_gradients=zero) for x in Xs]


def _called_alone(function: Callable[..., Any]) -> Callable[[Tensors], Tensors]:
    return lambda xs: tf.nest.flatten(function(*xs))


@dataclasses.dataclass(frozen=True)
class LayerState:
    """What a rule may know of a layer beside its tensors.

    Attributes:
        layer: the Keras layer.
        call: runs the layer again on other inputs.
        nonnegative: for each input, whether the graph says that it has no negative values.
        present: for each input, 1 where it is a value and 0 where it is padding, of a shape that broadcasts to the
            input's; None where a padding layer did not make it. Rules that distribute relevance without looking at the
            values (flat, w^2, z^B) would else give a part to the padding, which is lost.
        rescaled: for each input, how a value of the model's input looks where the layer sees it: maps `(1, ..., 1, channels)`
            to the same shape; None where it looks as it is, or where no rescaling layer lies between.
        gates: for each input, whether the graph says that its values lie between 0 and 1, as those of a sigmoid do, or
            that they are reciprocals, by which the other inputs are divided.
        rule_for: the rule that the composite has for another layer: the one that stands for the layer's own
            activation; None: the activation hands relevance on unchanged.
        calling: makes of a function that takes what the layer takes one of the layer's inputs, which calls it with the
            arguments that the layer has in the graph (a mask, say).

    Example:
        >>> relu = keras.layers.ReLU()
        >>> LayerState(relu, lambda xs: [relu(*xs)]).nonnegative
        (False,)
    """

    layer: keras.layers.Layer
    call: Callable[[Tensors], Tensors]
    nonnegative: tuple[bool, ...] = (False,)
    present: tuple[tf.Tensor | None, ...] = (None,)
    rescaled: tuple[Callable[[tf.Tensor], tf.Tensor] | None, ...] = (None,)
    gates: tuple[bool, ...] = ()
    rule_for: Callable[[keras.layers.Layer], Rule] | None = None
    calling: Callable[[Callable[..., Any]], Callable[[Tensors], Tensors]] = _called_alone

    @property
    def one_sign(self) -> bool:
        """Whether all summands of the layer's outputs are known to be >= 0: inputs and weights are."""
        inputs = [NONNEGATIVE if known else ANYTHING for known in self.nonnegative]
        return all(self.nonnegative) and output_range(self.layer, inputs).nonnegative


class Rule(RuleBase):
    """Base of all rules. Two rules with the same parameters are equal.

    Example:
        >>> class Half(Rule):
        ...     def apply(self, Xs, Ys, Rs, reverse_state):
        ...         return [0.5 * Rs[0]]
        >>> Half() == Half()
        True
    """

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors, reverse_state: LayerState) -> list[tf.Tensor | None]:
        """Relevance of the inputs.

        Args:
            Xs: the layer's input tensors of the recorded forward pass.
            Ys: its output tensors.
            Rs: relevance of the outputs, shaped as `Ys`.
            reverse_state: the layer and what the graph says of its inputs.

        Returns:
            Relevance of the inputs, shaped as `Xs`; None for an input that gets none, so that nothing behind it is
            walked.
        """
        raise NotImplementedError

    def gradient(self, reverse_state: LayerState) -> Gradient | None:
        """The rule as a modified gradient: where the outputs' relevance is `Y G`, that of the inputs is `X` times it.

        It takes the layer's inputs `Xs`, its outputs `Ys` and `Gs`, shaped as `Ys`, and returns as many as there are
        inputs, shaped as them; None for an input that gets nothing.

        Args:
            reverse_state: the layer and what the graph says of its inputs.

        Returns:
            None if the rule has no such form, as most that give relevance to inputs of zero have none.
        """
        return None

    def get_config(self) -> dict[str, Any]:
        """Every argument of the constructor, as JSON types."""
        return {name: _as_json(getattr(self, name)) for name in inspect.signature(type(self)).parameters}

    def to_json(self) -> dict[str, Any]:
        """What `RULES.get` makes an equal rule from."""
        return {"name": RULES.name_of(type(self)), **self.get_config()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rule) and type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((type(self), repr(self)))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


class SparingRule(Rule):
    """Base of the rules that give no relevance to inputs of zero, so that all they give is a multiple of the inputs.

    A rule with a faster form as a modified gradient has its own `gradient`.

    Example:
        >>> class ToTheFirst(SparingRule):
        ...     def apply(self, Xs, Ys, Rs, reverse_state):
        ...         return [Rs[0], *[None] * (len(Xs) - 1)]
        >>> layer, xs = keras.layers.Multiply(), [tf.constant([[2.0]]), tf.constant([[4.0]])]
        >>> gradient = ToTheFirst().gradient(LayerState(layer, lambda xs: [layer(xs)]))
        >>> gradient(xs, [layer(xs)], [tf.ones((1, 1))])[0].numpy().item()
        4.0
    """

    def gradient(self, reverse_state: LayerState) -> Gradient | None:
        return by_quotient(self, reverse_state)


@RULES.register("pass")
class Pass(Rule):
    """The relevance of the output, unchanged, for a layer that keeps its first input's shape.

    For activations and, as published, for batch normalisation.

    Example:
        >>> layer = keras.layers.Activation("tanh")
        >>> xs, r = [tf.constant([[1.0, -3.0]])], tf.constant([[5.0, 7.0]])
        >>> state = LayerState(layer, lambda xs: [layer(*xs)])
        >>> [x.numpy() for x in Pass().apply(xs, state.call(xs), [r], state)]
        [array([[5., 7.]], dtype=float32)]
    """

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors, reverse_state: LayerState) -> list[tf.Tensor | None]:
        return [Rs[0], *(tf.zeros_like(x) for x in Xs[1:])]

    def gradient(self, reverse_state: LayerState) -> Gradient | None:
        if is_plain_relu(reverse_state.layer):
            return Mask().gradient(reverse_state)
        return by_quotient(self, reverse_state) if _spares_zeros(reverse_state) else None


@RULES.register("mask")
class Mask(Rule):
    """`R * [y > 0]`: a ReLU lets relevance through where it let the signal through.

    Example:
        >>> layer = keras.layers.ReLU()
        >>> xs, r = [tf.constant([[1.0, -3.0]])], tf.constant([[5.0, 7.0]])
        >>> state = LayerState(layer, lambda xs: [layer(*xs)])
        >>> [x.numpy() for x in Mask().apply(xs, state.call(xs), [r], state)]
        [array([[5., 0.]], dtype=float32)]
    """

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors, reverse_state: LayerState) -> list[tf.Tensor | None]:
        return [self.masked(Rs[0], Ys[0])]

    def gradient(self, reverse_state: LayerState) -> Gradient | None:
        if is_plain_relu(reverse_state.layer):
            return lambda Xs, Ys, Gs: [self.masked(Gs[0], Ys[0])]
        return by_quotient(self, reverse_state) if is_known_relu(reverse_state.layer) else None

    def masked(self, r: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """`r` where y is above 0, else 0."""
        # One pass over memory where a comparison and a choice take three.
        return tf.raw_ops.ReluGrad(gradients=r, features=y)


@RULES.register("route")
@RULES.register("derivative")
class Derivative(Rule):
    """The layer's derivative, transposed, applied to the relevance.

    Walking back with it alone is back-propagation. Where each output value is a copy of one input value (or of none),
    as in reshaping, permuting, padding, cropping, concatenating and repeating, relevance goes back to where the value
    came from; a value that was copied gathers the relevance of its copies. For max-pooling, the winner takes all.

    Notes:
        It can be read from JSON as "route" too, the name for layers that copy.

    Example:
        >>> layer = keras.layers.Permute((2, 1))
        >>> xs, r = [tf.constant([[[1.0], [2.0]]])], tf.constant([[[5.0, 7.0]]])
        >>> state = LayerState(layer, lambda xs: [layer(*xs)])
        >>> [x.numpy() for x in Derivative().apply(xs, state.call(xs), [r], state)]
        [array([[[5.],
                [7.]]], dtype=float32)]
    """

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors, reverse_state: LayerState) -> list[tf.Tensor | None]:
        return pull_back(reverse_state.call, Xs, Rs)

    def gradient(self, reverse_state: LayerState) -> Gradient | None:
        # Of outputs that are values of the inputs; else this is no relevance, and no product with the inputs either.
        copies = any(is_layer_type(reverse_state.layer, each) for each in _COPIES)
        return functools.partial(_pulled_back, reverse_state.call) if copies else None


def _pulled_back(call: Callable[[Tensors], Tensors], Xs: Tensors, Ys: Tensors, Gs: Tensors) -> list[tf.Tensor | None]:
    return [*pull_back(call, Xs, Gs)]


@RULES.register("route_without")
class RouteWithout(Derivative):
    """`Derivative`, with no relevance for some of the inputs: it is lost.

    Args:
        dropped: positions of the inputs that get none.

    Example:
        >>> layer = keras.layers.Concatenate()
        >>> xs, r = [tf.ones((1, 1)), tf.ones((1, 2))], tf.constant([[5.0, 6.0, 7.0]])
        >>> state = LayerState(layer, lambda xs: [layer(xs)])
        >>> RouteWithout([1]).apply(xs, state.call(xs), [r], state)[1] is None
        True
    """

    def __init__(self, dropped: Sequence[int]):
        self.dropped = tuple(dropped)

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors, reverse_state: LayerState) -> list[tf.Tensor | None]:
        if set(range(len(Xs))) <= set(self.dropped):
            return [None] * len(Xs)
        return self._kept(super().apply(Xs, Ys, Rs, reverse_state))

    def gradient(self, reverse_state: LayerState) -> Gradient | None:
        if set(range(len(reverse_state.nonnegative))) <= set(self.dropped):
            return lambda Xs, Ys, Gs: [None] * len(Xs)
        of_all = super().gradient(reverse_state)
        return of_all and (lambda Xs, Ys, Gs: self._kept(of_all(Xs, Ys, Gs)))

    def _kept(self, of_inputs: list[tf.Tensor | None]) -> list[tf.Tensor | None]:
        return [None if position in self.dropped else r for position, r in enumerate(of_inputs)]


@RULES.register("gate")
class Gate(SparingRule):
    """A product: gates get no relevance, and the signals that they let through get equal parts of it.

    A gate is a factor that the graph says lies between 0 and 1, as a sigmoid, a softmax or a hard sigmoid makes it, in
    whatever place it stands; a divisor is one too. A product of two signals gives half to each; so does one in which
    every factor is a gate. Where a factor was broadcast, its relevance is summed over the places that it went to.

    Args:
        signal: position of the one input that gets all, whatever the others are; None: found out as said.

    Notes:
        Source: Arras et al., 2017 (signal takes all), and Achtibat et al., 2024 (halves).

    Example:
        >>> layer, xs, r = keras.layers.Multiply(), [tf.ones((1, 1)), 2 * tf.ones((1, 1))], tf.constant([[5.0]])
        >>> state = LayerState(layer, lambda xs: [layer(xs)], gates=(False, False))
        >>> [None if x is None else x.numpy().item() for x in Gate().apply(xs, state.call(xs), [r], state)]
        [2.5, 2.5]
        >>> [None if x is None else x.numpy().item() for x in Gate(signal=0).apply(xs, state.call(xs), [r], state)]
        [5.0, None]
    """

    def __init__(self, signal: int | None = None):
        self.signal = signal

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors, reverse_state: LayerState) -> list[tf.Tensor | None]:
        signals = self._signals(len(Xs), reverse_state)
        part = Rs[0] if len(signals) == 1 else Rs[0] / len(signals)
        return [
            _sum_where_broadcast(x, part, _alone(position, Xs, part, reverse_state, tf.ones_like))
            if position in signals
            else None
            for position, x in enumerate(Xs)
        ]

    def _signals(self, factors: int, state: LayerState) -> list[int]:
        if self.signal is not None:
            if not 0 <= self.signal < factors:
                raise ExplainError(f"`signal` must be in 0..{factors - 1}. Received: signal={self.signal}")
            return [self.signal]
        if operation(state.layer) in DIVIDE:
            # With a constant for the numerator there is one input only, which gets it all.
            return [0]
        return signals_among(factors, state)


def signals_among(factors: int, state: LayerState) -> list[int]:
    """The positions of the factors that are no gates; all of them where every one is a gate.

    Example:
        >>> signals_among(2, LayerState(keras.layers.Multiply(), lambda xs: xs, gates=(True, False)))
        [1]
    """
    gates = {position for position, is_gate in enumerate(state.gates) if is_gate}
    return [position for position in range(factors) if position not in gates] or list(range(factors))


@RULES.register("guided")
class Guided(Rule):
    """The derivative, which behind a ReLU lets only positive relevance back: `max(R, 0) dy/dx`.

    Source: Springenberg et al., 2015 (guided back-propagation).

    Example:
        >>> layer = keras.layers.ReLU()
        >>> xs, r = [tf.constant([[1.0, 3.0]])], tf.constant([[5.0, -7.0]])
        >>> state = LayerState(layer, lambda xs: [layer(*xs)])
        >>> [x.numpy() for x in Guided().apply(xs, state.call(xs), [r], state)]
        [array([[5., 0.]], dtype=float32)]
    """

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors, reverse_state: LayerState) -> list[tf.Tensor | None]:
        if ends_in_relu(reverse_state.layer):
            Rs = [tf.maximum(r, 0) for r in Rs]
        return pull_back(reverse_state.call, Xs, Rs)


@RULES.register("share")
class Share(Rule):
    """Each input gets the share it contributed: `R_i = x_i dy/dx_i R / (y + epsilon sign(y))`.

    For layers that are linear in their inputs and have no weights (average pooling, means, sums), and for
    max-pooling, where the winner takes all. With `epsilon=0` only exact zeros of `y` are guarded.

    Example:
        >>> layer = keras.layers.GlobalAveragePooling1D()
        >>> xs, r = [tf.constant([[[1.0], [3.0]]])], tf.constant([[8.0]])
        >>> state = LayerState(layer, lambda xs: [layer(*xs)])
        >>> [x.numpy() for x in Share().apply(xs, state.call(xs), [r], state)]
        [array([[[2.],
                [6.]]], dtype=float32)]
    """

    def __init__(self, epsilon: float = 0.0):
        self.epsilon = epsilon

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors, reverse_state: LayerState) -> list[tf.Tensor | None]:
        shares = [divide(r, y, self.epsilon, reverse_state.one_sign) for r, y in zip(Rs, Ys, strict=True)]
        return [x * s for x, s in zip(Xs, pull_back(reverse_state.call, Xs, shares), strict=True)]

    def gradient(self, reverse_state: LayerState) -> Gradient | None:
        def of_inputs(Xs: Tensors, Ys: Tensors, Gs: Tensors) -> list[tf.Tensor | None]:
            shares = [damped(g, y, self.epsilon) for g, y in zip(Gs, Ys, strict=True)]
            return [*pull_back(reverse_state.call, Xs, shares)]

        return of_inputs


@RULES.register("share_sum")
class ShareSum(Share):
    """`Share` for a sum of inputs; where all of them are zero, each gets the same part.

    Where an input was broadcast, its relevance is summed over the places that it went to.

    Example:
        >>> layer = keras.layers.Add()
        >>> xs, r = [tf.constant([[1.0, 0.0]]), tf.constant([[3.0, 0.0]])], tf.constant([[8.0, 2.0]])
        >>> state = LayerState(layer, lambda xs: [layer(xs)], nonnegative=(True, True))
        >>> [x.numpy() for x in ShareSum().apply(xs, state.call(xs), [r], state)]
        [array([[2., 1.]], dtype=float32), array([[6., 1.]], dtype=float32)]
    """

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors, reverse_state: LayerState) -> list[tf.Tensor | None]:
        share = divide(Rs[0], Ys[0], self.epsilon, reverse_state.one_sign)
        alone = [_alone(position, Xs, Ys[0], reverse_state, tf.zeros_like) for position in range(len(Xs))]
        summands = [call([x])[0] if _is_broadcast(x, Ys[0]) else x for x, call in zip(Xs, alone, strict=True)]
        silent = functools.reduce(tf.logical_and, [x == 0 for x in summands])
        parts = [tf.where(silent, Rs[0] / len(Xs), x * share) for x in summands]
        return [_sum_where_broadcast(*each) for each in zip(Xs, parts, alone, strict=True)]

    def gradient(self, reverse_state: LayerState) -> Gradient | None:
        def of_inputs(Xs: Tensors, Ys: Tensors, Gs: Tensors) -> list[tf.Tensor | None]:
            share = damped(Gs[0], Ys[0], self.epsilon)
            return [
                _sum_where_broadcast(x, share, _alone(position, Xs, Ys[0], reverse_state, tf.zeros_like))
                for position, x in enumerate(Xs)
            ]

        return of_inputs


@RULES.register("softmax")
class SoftmaxShare(Rule):
    """`R_i = x_i (R_i - s_i sum_j R_j)` with `s = softmax(x)`: input times gradient of what `R_j log s_j` adds up to.

    Not conserving: a softmax compares, and what is common to all its inputs has no relevance.

    Notes:
        Inputs of minus infinity, as masks make them, get none. Source: Achtibat et al., 2024 (AttnLRP).

    Example:
        >>> layer, xs = keras.layers.Softmax(), [tf.constant([[0.0, 2.0]])]
        >>> state = LayerState(layer, lambda xs: [layer(*xs)])
        >>> SoftmaxShare().apply(xs, [tf.constant([[0.25, 0.75]])], [tf.constant([[1.0, 3.0]])], state)[0].numpy()
        array([[0., 0.]], dtype=float32)
    """

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors, reverse_state: LayerState) -> list[tf.Tensor | None]:
        x, s, r = Xs[0], Ys[0], Rs[0]
        x = tf.where(tf.math.is_finite(x), x, tf.zeros_like(x))
        return [x * self._difference(r, s, reverse_state), *[None] * (len(Xs) - 1)]

    def gradient(self, reverse_state: LayerState) -> Gradient | None:
        return lambda Xs, Ys, Gs: [
            self._difference(Ys[0] * Gs[0], Ys[0], reverse_state),
            *[None] * (len(Xs) - 1),
        ]

    @staticmethod
    def _difference(r: tf.Tensor, s: tf.Tensor, state: LayerState) -> tf.Tensor:
        return r - s * tf.reduce_sum(r, axis=_softmax_axis(state.layer), keepdims=True)


def _spares_zeros(state: LayerState) -> bool:
    """Whether handing relevance on unchanged gives none to inputs of zero: the layer has 0 for 0, or no such inputs.

    Values that are known to have no sign but one come from a ReLU and are 0 in many places; the others hardly anywhere.
    """
    layer = state.layer
    if not any(is_layer_type(layer, each) for each in _VALUE_BY_VALUE):
        return False
    # Layers that are like an activation are taken to have 0 for 0 unless they say that they have not.
    like = like_of(layer) == "activation" and getattr(layer, "has_zero_for_zero", True)
    has_zero_for_zero = like or output_range(layer, [Interval(0.0, 0.0)]) == (0.0, 0.0)
    return has_zero_for_zero or not state.nonnegative[0]


def by_quotient(rule: Rule, reverse_state: LayerState) -> Gradient:
    """The form of a rule as a modified gradient (`Rule.gradient`) that divides its relevance by the inputs.

    For rules that give nothing to inputs of zero and have no form that is faster.

    Example:
        >>> layer, xs = keras.layers.Multiply(), [tf.constant([[2.0]]), tf.constant([[4.0]])]
        >>> state = LayerState(layer, lambda xs: [layer(xs)], gates=(False, False))
        >>> [g.numpy().item() for g in by_quotient(Gate(), state)(xs, state.call(xs), [tf.ones((1, 1))])]
        [2.0, 1.0]
    """

    def of_inputs(Xs: Tensors, Ys: Tensors, Gs: Tensors) -> list[tf.Tensor | None]:
        # Masks make values infinite that have no gradient.
        rs = [tf.math.multiply_no_nan(y, g) for y, g in zip(Ys, Gs, strict=True)]
        relevance = rule.apply(Xs, Ys, rs, reverse_state)
        return [
            None if r is None or not x.dtype.is_floating else tf.math.divide_no_nan(r, x)
            for x, r in zip(Xs, relevance, strict=True)
        ]

    return of_inputs


def _softmax_axis(layer: keras.layers.Layer) -> int | list[int]:
    if operation(layer) is not None:
        axis = arguments(layer).get("axis")
        return -1 if axis is None else axis
    # The layer called Softmax has one; as an activation, it is over the last axis.
    return getattr(layer, "axis", -1)


def _is_broadcast(x: tf.Tensor, y: tf.Tensor) -> bool:
    """Whether x may have been broadcast to y: an axis of length 1 or of unknown length, but for the batch's."""
    if x.shape.rank != y.shape.rank:
        return True
    sides = zip(x.shape[1:], y.shape[1:], strict=True)
    return any(of_x is None or of_x != of_y for of_x, of_y in sides) or (
        x.shape[0] == 1 and y.shape[0] not in (1, None)
    )


def _sum_where_broadcast(x: tf.Tensor, relevance: tf.Tensor, alone: Callable[[Tensors], Tensors]) -> tf.Tensor:
    """Relevance of an input, given that of what it was broadcast to; `alone` is the layer as a function of it."""
    return pull_back(alone, [x], [relevance])[0] if _is_broadcast(x, relevance) else relevance


def _alone(
    position: int, Xs: Tensors, y: tf.Tensor, state: LayerState, neutral: Callable[[tf.Tensor], tf.Tensor]
) -> Callable[[Tensors], Tensors]:
    """The layer as a function of one input that broadcasts it and no more: the others are made neutral.

    Keras's layers broadcast along other axes than TensorFlow's operations.
    """
    if len(Xs) == 1:
        return lambda xs: [xs[0] + tf.zeros_like(y)]
    return lambda xs: state.call([xs[0] if index == position else neutral(x) for index, x in enumerate(Xs)])


def _as_json(value: Any) -> Any:
    if isinstance(value, Rule):
        return value.to_json()
    return list(value) if isinstance(value, tuple) else value
