"""Records a forward pass through a Keras model and walks it back, layer by layer.

innvestigate's own walker needs a graph with eager execution switched off; this one keeps the real tensors of one
forward pass and works eagerly, inside a `tf.function` and under a distribution strategy.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf
from tensorflow import keras

from egt_tf.errors import ExplainError
from egt_tf.lrp.composites import Composite
from egt_tf.lrp.layer_types import is_kind, output_nonnegative
from egt_tf.lrp.linear_parts import weighted_sum
from egt_tf.lrp.linear_rules import LinearRule
from egt_tf.tensors import widen


@dataclasses.dataclass(frozen=True)
class Step:
    """One call of one layer.

    Attributes:
        layer: the Keras layer.
        inputs: its input tensors.
        outputs: its output tensors.
        nonnegative: for each input, whether it is known to have no negative values.
        present: for each input, 1 where it is a value and 0 where it is padding, of a shape that broadcasts to the
            input's; None where a padding layer did not make it. Rules that share relevance out without looking at the
            values (flat, w^2, z^B) would else give a share to the padding, which is lost.
        first: whether every input is the model's input, as it is or reshaped, padded or cropped.
        call: runs the layer again on other inputs.
    """

    layer: keras.layers.Layer
    inputs: tuple[tf.Tensor, ...]
    outputs: tuple[tf.Tensor, ...]
    nonnegative: tuple[bool, ...]
    present: tuple[tf.Tensor | None, ...]
    first: bool
    call: Callable[[Sequence[tf.Tensor]], list[tf.Tensor]]


@dataclasses.dataclass(frozen=True)
class Trace:
    """A recorded forward pass: its steps in order, its inputs and its outputs, and the names of the inputs."""

    steps: tuple[Step, ...]
    inputs: tuple[tf.Tensor, ...]
    outputs: tuple[tf.Tensor, ...]
    input_names: tuple[str, ...] = ()

    def output_of(self, layer_name: str) -> tf.Tensor:
        """The output of the layer called `layer_name`, or the input of that name.

        Raises:
            ExplainError: no such layer was called.
        """
        if layer_name in self.input_names:
            return self.inputs[self.input_names.index(layer_name)]
        for step in self.steps:
            if step.layer.name == layer_name:
                return step.outputs[0]
        raise ExplainError(
            f"the layer must have been called. Received: {layer_name!r}; "
            f"called were: {', '.join(step.layer.name for step in self.steps)}"
        )

    def detached(self) -> Trace:
        """The same values as constants: no gradient flows through what is computed from them."""
        constants: dict[int, tf.Tensor] = {}

        def detach(tensors):
            return tuple(constants.setdefault(id(x), tf.stop_gradient(x)) for x in tensors)

        inputs = detach(self.inputs)
        steps = tuple(
            dataclasses.replace(step, inputs=detach(step.inputs), outputs=detach(step.outputs)) for step in self.steps
        )
        return Trace(steps, inputs, detach(self.outputs), self.input_names)


def record(
    model: keras.Model, inputs: Sequence[tf.Tensor], training: bool = False, nonnegative: bool = False, raw: bool = True
) -> Trace:
    """Runs a Functional (or Sequential) Keras model and keeps every layer's inputs and outputs.

    Nested models are unrolled.

    Args:
        model: the model.
        inputs: one tensor for each of `model.inputs`, in that order.
        training: handed to the layers that ask for it.
        nonnegative: whether the inputs are known to have no negative values.
        raw: whether the inputs are what a model is given (pixels), not features; composites may treat the layers that
            see them in a way of their own.

    Raises:
        ExplainError: the model is no graph of layers, or the number of inputs is wrong.
    """
    recorder = _Recorder(training)
    inputs = tuple(tf.identity(x) for x in inputs)
    outputs = recorder.run(model, inputs, _Known(nonnegative, raw))
    return Trace(tuple(recorder.steps), inputs, outputs, tuple(model.input_names))


def reverse(
    trace: Trace,
    start: tf.Tensor,
    composite: Composite,
    at: Sequence[tf.Tensor] | None = None,
    of: tf.Tensor | None = None,
) -> list[tf.Tensor]:
    """Takes relevance from one tensor of a recorded pass back to others.

    Args:
        trace: the recorded pass.
        start: relevance of the tensor `of`, of its shape.
        composite: gives each layer its rule.
        at: tensors of the trace whose relevance is wanted; its inputs by default.
        of: where the relevance starts; the first output by default.

    Returns:
        One relevance for each tensor of `at`, of its shape; zeros where none arrives.

    Raises:
        ExplainError: the composite has no rule for a layer.
    """
    wanted = trace.inputs if at is None else at
    relevance: dict[int, tf.Tensor] = {id(trace.outputs[0] if of is None else of): widen(start)}
    for step in reversed(trace.steps):
        if not any(id(y) in relevance for y in step.outputs):
            continue
        # Rules divide by sums that can be tiny, so they never work in half precision.
        xs, ys = [widen(x) for x in step.inputs], [widen(y) for y in step.outputs]
        rs = [relevance.get(id(y), tf.zeros_like(wide)) for y, wide in zip(step.outputs, ys, strict=True)]
        state = {"layer": step.layer, "call": step.call, "nonnegative": step.nonnegative, "present": step.present}
        rule = composite.rule_for(step.layer, step.first)
        if isinstance(rule, LinearRule):
            rs = _before_activation(step, xs, ys, rs, composite)
        for x, r in zip(step.inputs, rule.apply(xs, ys, rs, state), strict=True):
            if r is None:
                continue
            relevance[id(x)] = relevance[id(x)] + r if id(x) in relevance else r
    return [relevance.get(id(x), tf.zeros_like(widen(x))) for x in wanted]


def _before_activation(step: Step, xs, ys, rs, composite: Composite) -> list[tf.Tensor]:
    """Relevance of a weighted sum, given that of its layer's outputs: the layer's own activation lies between.

    It gets the rule of an activation layer, so that Dense(activation="relu") is Dense and Activation("relu").
    """
    function = getattr(step.layer, "activation", None)
    if function in (None, keras.activations.linear):
        return rs
    activation = (
        function
        if isinstance(function, keras.layers.Layer)
        else keras.layers.Activation(function, name=f"{step.layer.name}_activation")
    )
    state = {"layer": activation, "call": lambda zs: [function(zs[0])], "nonnegative": (False,), "present": (None,)}
    return composite.rule_for(activation).apply([weighted_sum(step.layer, *xs)], ys, rs, state)


class _Known(NamedTuple):
    """What the graph says of a tensor."""

    nonnegative: bool
    raw: bool
    present: tf.Tensor | None = None


class _Recorder:
    """Calls layers one by one and keeps the steps."""

    def __init__(self, training: bool):
        self.training = training
        self.steps: list[Step] = []
        # By the identity of tensors, which `steps` keeps alive.
        self.known: dict[int, _Known] = {}

    def run(self, model, inputs, of_inputs=None):
        if not hasattr(model, "_nodes_by_depth"):
            raise ExplainError(
                "only Functional and Sequential models can be explained. "
                f"Received: {model.name!r} of class {type(model).__name__}"
            )
        if len(inputs) != len(model.inputs):
            raise ExplainError(f"model {model.name!r} takes {len(model.inputs)} inputs. Received: {len(inputs)}")
        for x in inputs:
            self.known.setdefault(id(x), of_inputs)
        values = {id(symbol): x for symbol, x in zip(model.inputs, inputs, strict=True)}
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if not node.is_input:
                    outputs = self._run_node(node, values)
                    values.update(
                        (id(symbol), y) for symbol, y in zip(tf.nest.flatten(node.outputs), outputs, strict=True)
                    )
        return tuple(values[id(symbol)] for symbol in model.outputs)

    def _run_node(self, node, values):
        layer = node.outbound_layer
        xs = tuple(values[id(symbol)] for symbol in tf.nest.flatten(node.keras_inputs))
        if isinstance(layer, keras.Model):
            return self.run(layer, xs)
        # A layer may hand back its very input (Dropout, linear activations); tensors are told apart by identity.
        ys = tuple(tf.identity(y) for y in _call(node, self.training, layer)(xs))
        # Without the layer's own __call__, which would cast the inputs down under a mixed precision policy.
        call = _call(node, self.training, layer.call)
        signs = tuple(self.known[id(x)].nonnegative for x in xs)
        present = tuple(self.known[id(x)].present for x in xs)
        first = all(self.known[id(x)].raw for x in xs)
        self.steps.append(Step(layer, xs, ys, signs, present, first, call))
        padded = _padded(call, xs[0], present[0]) if is_kind(layer, "padding") else None
        known = _Known(output_nonnegative(layer, signs), first and is_kind(layer, "route"), padded)
        self.known.update((id(y), known) for y in ys)
        return ys


def _padded(call, x, present):
    """Where the output of a padding layer is no padding, for one example and one channel."""
    return call([tf.ones_like(x[:1, ..., :1]) if present is None else present])[0]


def _call(node, training, function):
    """`function` of flat inputs, called with the arguments that the node's layer has in its graph."""
    positions = {id(symbol): index for index, symbol in enumerate(tf.nest.flatten(node.keras_inputs))}
    takes_training = "training" in inspect.signature(node.outbound_layer.call).parameters

    def call(xs):
        args, kwargs = tf.nest.map_structure(
            lambda a: xs[positions[id(a)]] if id(a) in positions else a, (node.call_args, node.call_kwargs)
        )
        if takes_training:
            kwargs["training"] = training
        return tf.nest.flatten(function(*args, **kwargs))

    return call
