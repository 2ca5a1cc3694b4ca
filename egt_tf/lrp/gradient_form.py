"""Relevance as activation times a modified gradient: the same numbers as by walking relevance back, often for less.

At every tensor x of a recorded pass, relevance is `x g`. At the scores g is what is asked for (1 for the score that is
explained), and each rule with such a form takes it through its layer (`Rule.gradient`). For the epsilon rule that is
the layer's derivative: no sum is computed again, and nothing divided by it.

Sources: Shrikumar et al., 2016 (arXiv 1605.01713), and Ancona et al., ICLR 2018 (the epsilon rule as a modified
gradient); Achtibat et al., ICML 2024 (attention).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from egt_tf.errors import ExplainError
from egt_tf.lrp.composites import Composite
from egt_tf.lrp.propagation import (
    LayerCall,
    Trace,
    as_precise_as,
    calls_above,
    gather,
    reverse,
    shaped_as,
    wide_tensors,
)
from egt_tf.lrp.rules import Gradient, LayerState, Pass, Rule
from egt_tf.tensors import widen

ENGINES = ("walker", "gradient", "auto")


class NoGradientForm(ExplainError):
    """A rule on the way back has no form as a modified gradient."""


def check_engine(engine: str) -> None:
    """Raises an ExplainError unless `engine` is one of `ENGINES`.

    Example:
        >>> check_engine("auto")
    """
    if engine not in ENGINES:
        raise ExplainError(f"`engine` must be one of {', '.join(ENGINES)}. Received: engine={engine!r}")


def reverse_by(
    engine: str,
    trace: Trace,
    output_relevance: tf.Tensor,
    composite: Composite,
    targets: Sequence[tf.Tensor] | None = None,
    source: tf.Tensor | None = None,
) -> list[tf.Tensor]:
    """`reverse`, by one of the two engines.

    Args:
        engine: "walker" takes relevance through every layer, "gradient" is `reverse_gradient`, "auto" the latter where
            all rules have a form as a gradient.
        trace: see `reverse`.
        output_relevance: see `reverse`. Where the source is exactly 0, "gradient" has none.
        composite: see `reverse`.
        targets: see `reverse`.
        source: see `reverse`.

    Raises:
        ExplainError: an unknown engine; or see `reverse` and `reverse_gradient`.

    Example:
        >>> from egt_tf.lrp.presets import COMPOSITES
        >>> from egt_tf.lrp.propagation import record
        >>> from egt_tf.keras_api import keras
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones")])
        >>> trace = record(model, [tf.constant([[3.0, 1.0]])])
        >>> [reverse_by(each, trace, tf.constant([[8.0]]), COMPOSITES.get("lrp.z"))[0].numpy() for each in ENGINES[:2]]
        [array([[6., 2.]], dtype=float32), array([[6., 2.]], dtype=float32)]
    """
    source = trace.outputs[0] if source is None else source

    def as_gradient() -> list[tf.Tensor]:
        wide = as_precise_as(source, shaped_as(source, output_relevance))
        return reverse_gradient(trace, tf.math.divide_no_nan(wide, widen(source)), composite, targets, source)

    if _takes_gradient(engine, trace, composite, targets, source):
        return as_gradient()
    return reverse(trace, output_relevance, composite, targets, source)


def reverse_part(
    engine: str,
    trace: Trace,
    weights: tf.Tensor,
    composite: Composite,
    targets: Sequence[tf.Tensor] | None,
    source: tf.Tensor,
) -> list[tf.Tensor]:
    """`reverse_by` for the output relevance `weights * source`: for the arguments see `reverse_gradient`."""
    if _takes_gradient(engine, trace, composite, targets, source):
        return reverse_gradient(trace, weights, composite, targets, source)
    return reverse(trace, source * weights, composite, targets, source)


def _takes_gradient(
    engine: str,
    trace: Trace,
    composite: Composite,
    targets: Sequence[tf.Tensor] | None,
    source: tf.Tensor,
) -> bool:
    """Whether relevance is taken back as a gradient: decided before anything is computed."""
    check_engine(engine)
    # In training, what a layer computes is not what its rule knows of it.
    if engine == "walker" or trace.training:
        return False
    return engine == "gradient" or has_form(trace, composite, targets, source)


def has_form(trace: Trace, composite: Composite, targets: Sequence[tf.Tensor] | None, source: tf.Tensor) -> bool:
    """Whether every rule on the way has a form as a gradient; layers that see the model's input need none.

    Args:
        trace, composite, targets, source: see `reverse_gradient`.

    Example:
        >>> from egt_tf.lrp.presets import COMPOSITES
        >>> from egt_tf.lrp.propagation import record
        >>> from egt_tf.keras_api import keras
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.Dense(1)])
        >>> trace = record(model, [tf.ones((1, 2))])
        >>> [has_form(trace, COMPOSITES.get(name), None, trace.outputs[0]) for name in ("lrp.epsilon", "lrp.flat")]
        [True, False]
    """
    reached = {id(source)}
    for call in calls_above(trace, trace.inputs if targets is None else targets):
        if not any(id(y) in reached for y in call.outputs):
            continue
        if not call.first and _step(call, composite).gradient is None:
            return False
        reached.update(map(id, call.inputs))
    return True


def reverse_gradient(
    trace: Trace,
    weights: tf.Tensor,
    composite: Composite,
    targets: Sequence[tf.Tensor] | None = None,
    source: tf.Tensor | None = None,
) -> list[tf.Tensor]:
    """Relevance of tensors of a recorded pass, as each of them times a modified gradient.

    Args:
        trace: the recorded pass, of a model that was not in training.
        weights: relevance of the tensor `source` over its values, of its shape: 1 for a score that is explained, 0 for
            the others.
        composite: gives each layer its rule.
        targets: tensors of the trace whose relevance is wanted; its inputs by default.
        source: where the relevance starts; the first output by default.

    Returns:
        What `reverse` returns for the output relevance `weights * source`, up to rounding.

    Raises:
        NoGradientForm: a rule has no such form.
        ExplainError: the composite has no rule for a layer, or the weights are not of the shape of the source.

    Notes:
        What relevance a rule gives to an input of exactly zero is lost. The rules that have a form give none there, but for
        `Pass` on a layer that shifts (batch normalisation) behind values of which the graph does not say that many are
        zero, as a concatenation with the output of a ReLU. Layers that see the model's input may have any rule: behind
        them relevance itself is walked on.

    Example:
        >>> from egt_tf.lrp.presets import COMPOSITES
        >>> from egt_tf.lrp.propagation import record
        >>> from egt_tf.keras_api import keras
        >>> a, b = keras.Input((1,)), keras.Input((1,))
        >>> trace = record(keras.Model([a, b], a - b), [tf.constant([[5.0]]), tf.constant([[3.0]])])
        >>> [r.numpy().item() for r in reverse_gradient(trace, tf.ones((1, 1)), COMPOSITES.get("lrp.z"))]
        [5.0, -3.0]
    """
    targets = trace.inputs if targets is None else targets
    source = trace.outputs[0] if source is None else source
    found = _Found({id(source): as_precise_as(source, shaped_as(source, weights))}, {})
    for call in calls_above(trace, targets):
        if not found.at_any(call.outputs):
            continue
        step = _step(call, composite)
        walked = any(id(y) in found.relevance for y in call.outputs)
        # A black background is a value like any other: what changes pixels value by value hands on what they have.
        if call.first and (step.gradient is None or walked or isinstance(step.rule, Pass)):
            found.walk(step)
        elif step.gradient is None:
            raise NoGradientForm(_lacking(step))
        else:
            found.pull(step, step.gradient)
    return [found.relevance_of(x) for x in targets]


@dataclasses.dataclass(frozen=True)
class _Step:
    """One layer on the way back, with its rule and the form that the rule has as a gradient."""

    call: LayerCall
    state: LayerState
    rule: Rule
    gradient: Gradient | None


def _step(call: LayerCall, composite: Composite) -> _Step:
    state = dataclasses.replace(call.state, rule_for=composite.rule_for)
    rule = composite.rule_for(call.layer, call.first)
    return _Step(call, state, rule, rule.gradient(state))


def _lacking(step: _Step) -> str:
    return (
        "the engine 'gradient' needs rules that have a form as a modified gradient (the engine 'walker' takes all). "
        f"Received: layer {step.call.layer.name!r} of class {type(step.call.layer).__name__} with {step.rule!r}"
    )


@dataclasses.dataclass(frozen=True)
class _Found:
    """What is known so far, by the identity of tensors: gradients, and relevance where rules were walked."""

    gradients: dict[int, tf.Tensor]
    relevance: dict[int, tf.Tensor]

    def at_any(self, tensors: Sequence[tf.Tensor]) -> bool:
        """Whether something arrived at any of the tensors."""
        return any(id(x) in each for x in tensors for each in (self.gradients, self.relevance))

    def relevance_of(self, x: tf.Tensor) -> tf.Tensor:
        """Relevance of a tensor, zeros where none arrived."""
        wide = widen(x)
        walked = self.relevance.get(id(x))
        if id(x) not in self.gradients:
            return tf.zeros_like(wide) if walked is None else walked
        # Masks make scores infinite that have no gradient.
        product = tf.math.multiply_no_nan(wide, self.gradients[id(x)])
        return product if walked is None else walked + product

    def walk(self, step: _Step) -> None:
        """Takes relevance through a layer, by its rule."""
        xs, ys = wide_tensors(step.call)
        rs = [self.relevance_of(y) for y in step.call.outputs]
        gather(self.relevance, step.call.inputs, step.rule.apply(xs, ys, rs, step.state))

    def pull(self, step: _Step, gradient: Gradient) -> None:
        """Takes the gradient through a layer."""
        xs, ys = wide_tensors(step.call)
        gs = [self.gradients.get(id(y), tf.zeros_like(wide)) for y, wide in zip(step.call.outputs, ys, strict=True)]
        gather(self.gradients, step.call.inputs, gradient(xs, ys, gs))
