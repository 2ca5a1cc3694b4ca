"""Records a forward pass through a Keras model and walks it back, layer by layer.

innvestigate's own walker needs a graph with eager execution switched off; this one keeps the real tensors of one
forward pass and works eagerly, inside a `tf.function` and under a distribution strategy.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence

import tensorflow as tf
from tensorflow import keras

from egt_tf.errors import ExplainError
from egt_tf.explain.composites import Composite
from egt_tf.explain.kinds import output_nonnegative


@dataclasses.dataclass(frozen=True)
class Step:
    """One call of one layer.

    Attributes:
        layer: the Keras layer.
        inputs: its input tensors.
        outputs: its output tensors.
        nonnegative: for each input, whether it is known to have no negative values.
        call: runs the layer again on other inputs.
    """

    layer: keras.layers.Layer
    inputs: tuple[tf.Tensor, ...]
    outputs: tuple[tf.Tensor, ...]
    nonnegative: tuple[bool, ...]
    call: Callable[[Sequence[tf.Tensor]], list[tf.Tensor]]


@dataclasses.dataclass(frozen=True)
class Trace:
    """A recorded forward pass: its steps in order, its inputs and its outputs."""

    steps: tuple[Step, ...]
    inputs: tuple[tf.Tensor, ...]
    outputs: tuple[tf.Tensor, ...]

    def output_of(self, layer_name: str) -> tf.Tensor:
        """The output of the layer called `layer_name`.

        Raises:
            ExplainError: no such layer was called.
        """
        for step in self.steps:
            if step.layer.name == layer_name:
                return step.outputs[0]
        raise ExplainError(f"the layer must have been called. Received: {layer_name!r}; "
                           f"called were: {', '.join(step.layer.name for step in self.steps)}")

    def detached(self) -> Trace:
        """The same values as constants: no gradient flows through what is computed from them."""
        constants: dict[int, tf.Tensor] = {}

        def detach(tensors):
            return tuple(constants.setdefault(id(x), tf.stop_gradient(x)) for x in tensors)

        inputs = detach(self.inputs)
        steps = tuple(dataclasses.replace(step, inputs=detach(step.inputs), outputs=detach(step.outputs))
                      for step in self.steps)
        return Trace(steps, inputs, detach(self.outputs))


def record(model: keras.Model, inputs: Sequence[tf.Tensor], training: bool = False,
           nonnegative: bool = False) -> Trace:
    """Runs a Functional (or Sequential) Keras model and keeps every layer's inputs and outputs.

    Nested models are unrolled.

    Args:
        model: the model.
        inputs: one tensor for each of `model.inputs`, in that order.
        training: handed to the layers that ask for it.
        nonnegative: whether the inputs are known to have no negative values.

    Raises:
        ExplainError: the model is no graph of layers, or the number of inputs is wrong.
    """
    recorder = _Recorder(training)
    inputs = tuple(tf.identity(x) for x in inputs)
    outputs = recorder.run(model, inputs, (nonnegative,) * len(inputs))
    return Trace(tuple(recorder.steps), inputs, outputs)


def reverse(trace: Trace, start: tf.Tensor, composite: Composite,
            at: Sequence[tf.Tensor] | None = None) -> list[tf.Tensor]:
    """Takes relevance from the output of a recorded pass back to other tensors of it.

    Args:
        trace: of a model with one output.
        start: relevance of the output, of its shape.
        composite: gives each layer its rule.
        at: tensors of the trace whose relevance is wanted; its inputs by default.

    Returns:
        One relevance for each tensor of `at`, of its shape; zeros where none arrives.

    Raises:
        ExplainError: the composite has no rule for a layer.
    """
    wanted = trace.inputs if at is None else at
    relevance: dict[int, tf.Tensor] = {id(trace.outputs[0]): start}
    for step in reversed(trace.steps):
        if not any(id(y) in relevance for y in step.outputs):
            continue
        outputs_relevance = [relevance.get(id(y), tf.zeros_like(y)) for y in step.outputs]
        state = {"layer": step.layer, "call": step.call, "nonnegative": step.nonnegative}
        rule = composite.rule_for(step.layer)
        for x, r in zip(step.inputs, rule.apply(step.inputs, step.outputs, outputs_relevance, state)):
            relevance[id(x)] = relevance[id(x)] + r if id(x) in relevance else r
    return [relevance.get(id(x), tf.zeros_like(x)) for x in wanted]


class _Recorder:
    """Calls layers one by one and keeps the steps."""

    def __init__(self, training: bool):
        self.training = training
        self.steps: list[Step] = []
        # Known signs, by the identity of tensors that `steps` keeps alive.
        self.nonnegative: dict[int, bool] = {}

    def run(self, model, inputs, signs):
        if not hasattr(model, "_nodes_by_depth"):
            raise ExplainError("only Functional and Sequential models can be explained. "
                               f"Received: {model.name!r} of class {type(model).__name__}")
        if len(inputs) != len(model.inputs):
            raise ExplainError(f"model {model.name!r} takes {len(model.inputs)} inputs. Received: {len(inputs)}")
        for x, sign in zip(inputs, signs):
            self.nonnegative.setdefault(id(x), sign)
        values = {id(symbol): x for symbol, x in zip(model.inputs, inputs)}
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if not node.is_input:
                    outputs = self._run_node(node, values)
                    values.update((id(symbol), y) for symbol, y in zip(tf.nest.flatten(node.outputs), outputs))
        return tuple(values[id(symbol)] for symbol in model.outputs)

    def _run_node(self, node, values):
        layer = node.outbound_layer
        xs = tuple(values[id(symbol)] for symbol in tf.nest.flatten(node.keras_inputs))
        if isinstance(layer, keras.Model):
            return self.run(layer, xs, tuple(self.nonnegative[id(x)] for x in xs))
        call = _repeatable_call(node, self.training)
        # A layer may hand back its very input (Dropout, linear activations); tensors are told apart by identity.
        ys = tuple(tf.identity(y) for y in call(xs))
        signs = tuple(self.nonnegative[id(x)] for x in xs)
        self.steps.append(Step(layer, xs, ys, signs, call))
        self.nonnegative.update((id(y), output_nonnegative(layer, signs)) for y in ys)
        return ys


def _repeatable_call(node, training):
    """A function that calls the node's layer as the graph does, on given flat inputs."""
    layer = node.outbound_layer
    positions = {id(symbol): index for index, symbol in enumerate(tf.nest.flatten(node.keras_inputs))}
    takes_training = "training" in inspect.signature(layer.call).parameters

    def call(xs):
        args, kwargs = tf.nest.map_structure(lambda a: xs[positions[id(a)]] if id(a) in positions else a,
                                             (node.call_args, node.call_kwargs))
        if takes_training:
            kwargs["training"] = training
        return tf.nest.flatten(layer(*args, **kwargs))

    return call
