"""Records a forward pass through a Keras model and walks it back, layer by layer.

innvestigate's own walker needs a graph with eager execution switched off; this one keeps the real tensors of one
forward pass and works eagerly, inside a `tf.function` and under a distribution strategy.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from egt_tf.errors import ExplainError
from egt_tf.keras_api import keras, layer_code
from egt_tf.lrp.composites import Composite
from egt_tf.lrp.keras_3 import is_keras_3
from egt_tf.lrp.layer_types import is_layer_type
from egt_tf.lrp.operations import RECIPROCAL, operation
from egt_tf.lrp.resizing import differentiable, resize_type
from egt_tf.lrp.rules import LayerState, Tensors
from egt_tf.lrp.time_axis import Copy, merge_time, split_time
from egt_tf.lrp.value_ranges import ANYTHING, NONNEGATIVE, Interval, output_range
from egt_tf.tensors import is_half, widen


@dataclasses.dataclass(frozen=True)
class LayerCall:
    """One call of one layer.

    Attributes:
        state: the layer, and what the graph says of its inputs.
        inputs: its input tensors.
        outputs: its output tensors.
        first: whether every input is the model's input, as it is or reshaped, padded, cropped or rescaled.
    """

    state: LayerState
    inputs: tuple[tf.Tensor, ...]
    outputs: tuple[tf.Tensor, ...]
    first: bool

    @property
    def layer(self) -> keras.layers.Layer:
        """The Keras layer."""
        return self.state.layer


@dataclasses.dataclass(frozen=True)
class Trace:
    """A recorded forward pass.

    Attributes:
        calls: the calls of its layers in order.
        inputs: its input tensors.
        outputs: its output tensors.
        input_names: the names of the inputs.
        training: whether the layers that ask for it were told that they are trained.
    """

    calls: tuple[LayerCall, ...]
    inputs: tuple[tf.Tensor, ...]
    outputs: tuple[tf.Tensor, ...]
    input_names: tuple[str, ...] = ()
    training: bool = False

    def output_of(self, layer_name: str) -> tf.Tensor:
        """The output of the layer called `layer_name`, or the input of that name.

        Raises:
            ExplainError: no such layer was called.
        """
        if layer_name in self.input_names:
            return self.inputs[self.input_names.index(layer_name)]
        for call in self.calls:
            if call.layer.name == layer_name:
                return call.outputs[0]
        raise ExplainError(
            f"the layer must have been called. Received: {layer_name!r}; "
            f"called were: {', '.join(call.layer.name for call in self.calls)}"
        )

    def detached(self) -> Trace:
        """The same values as constants: no gradient flows through what is computed from them."""
        constants: dict[int, tf.Tensor] = {}

        def detach(tensors: Tensors) -> tuple[tf.Tensor, ...]:
            return tuple(constants.setdefault(id(x), tf.stop_gradient(x)) for x in tensors)

        inputs = detach(self.inputs)
        calls = tuple(
            dataclasses.replace(call, inputs=detach(call.inputs), outputs=detach(call.outputs)) for call in self.calls
        )
        return Trace(calls, inputs, detach(self.outputs), self.input_names, self.training)


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

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="scores")])
        >>> trace = record(model, [tf.ones((1, 2))])
        >>> trace.output_of("scores").shape
        TensorShape([1, 3])
    """
    recorder = _Recorder(training)
    inputs = tuple(tf.identity(x) for x in inputs)
    outputs = recorder.run(model, inputs, _Known(NONNEGATIVE if nonnegative else ANYTHING, raw))
    return Trace(tuple(recorder.calls), inputs, outputs, tuple(model.input_names), bool(training))


def reverse(
    trace: Trace,
    output_relevance: tf.Tensor,
    composite: Composite,
    targets: Sequence[tf.Tensor] | None = None,
    source: tf.Tensor | None = None,
) -> list[tf.Tensor]:
    """Takes relevance from one tensor of a recorded pass back to others.

    Args:
        trace: the recorded pass.
        output_relevance: relevance of the tensor `source`, of its shape.
        composite: gives each layer its rule.
        targets: tensors of the trace whose relevance is wanted; its inputs by default.
        source: where the relevance starts; the first output by default.

    Returns:
        One relevance for each tensor of `targets`, of its shape; zeros where none arrives. It is in the target's
        precision, or float32 where that is less.

    Raises:
        ExplainError: the composite has no rule for a layer between the source and the targets, or the relevance is not
            of the shape of the source.

    Example:
        >>> from egt_tf.lrp.presets import COMPOSITES
        >>> add = keras.layers.Add()
        >>> a, b = keras.Input((1,)), keras.Input((1,))
        >>> trace = record(keras.Model([a, b], add([a, b])), [tf.constant([[1.0]]), tf.constant([[3.0]])])
        >>> [r.numpy().item() for r in reverse(trace, tf.constant([[8.0]]), COMPOSITES.get("lrp.z"))]
        [2.0, 6.0]
    """
    targets = trace.inputs if targets is None else targets
    source = trace.outputs[0] if source is None else source
    relevance = {id(source): as_precise_as(source, shaped_as(source, output_relevance))}
    for call in calls_above(trace, targets):
        if not any(id(y) in relevance for y in call.outputs):
            continue
        xs, ys = wide_tensors(call)
        rs = [relevance.get(id(y), tf.zeros_like(wide)) for y, wide in zip(call.outputs, ys, strict=True)]
        state = dataclasses.replace(call.state, rule_for=composite.rule_for)
        rule = composite.rule_for(call.layer, call.first)
        gather(relevance, call.inputs, rule.apply(xs, ys, rs, state))
    return [relevance.get(id(x), tf.zeros_like(widen(x))) for x in targets]


def shaped_as(source: tf.Tensor, output_relevance: tf.Tensor) -> tf.Tensor:
    """The output relevance as a tensor.

    Raises:
        ExplainError: it is not of the shape of the source.
    """
    output_relevance = tf.convert_to_tensor(output_relevance)
    if not source.shape.is_compatible_with(output_relevance.shape):
        raise ExplainError(
            f"the output relevance must be shaped as what it is of, {source.shape}. Received: {output_relevance.shape}"
        )
    return output_relevance


def calls_above(trace: Trace, targets: Sequence[tf.Tensor]) -> list[LayerCall]:
    """The calls that compute something from the targets, last first: no relevance is wanted below."""
    above, calls = {id(x) for x in targets}, []
    for call in trace.calls:
        if any(id(x) in above for x in call.inputs):
            above.update(id(y) for y in call.outputs)
            calls.append(call)
    return calls[::-1]


def wide_tensors(call: LayerCall) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """A call's inputs and outputs: rules divide by sums that can be tiny, so they never work in half precision."""
    ys = [widen(y) for y in call.outputs]
    return [as_precise_as(ys[0], x) for x in call.inputs], ys


def gather(found: dict[int, tf.Tensor], tensors: Tensors, arriving: Sequence[tf.Tensor | None]) -> None:
    """Adds what arrives at tensors to what was found for them, by their identity."""
    for x, r in zip(tensors, arriving, strict=True):
        # Sizes and indices have no relevance.
        if r is None or not x.dtype.is_floating:
            continue
        r = as_precise_as(x, r)
        found[id(x)] = found[id(x)] + r if id(x) in found else r


Call = Callable[[Tensors], list[tf.Tensor]]
# Makes a call of a function that takes what a layer takes.
Calling = Callable[[Callable[..., Any]], Call]


def as_precise_as(other: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """`x` in the precision of another tensor, or in float32 where that is less; what is no floating number stays."""
    if not (other.dtype.is_floating and x.dtype.is_floating):
        return widen(x)
    return tf.cast(x, tf.float32 if is_half(other.dtype) else other.dtype)


class _Known(NamedTuple):
    """What the graph says of a tensor."""

    values: Interval
    raw: bool
    present: tf.Tensor | None = None
    rescaled: Callable[[tf.Tensor], tf.Tensor] | None = None
    reciprocal: bool = False


# The graph of any other class of models, or of a subclass with a `call` of its own, is not what the model computes.
_CALLS_OF_GRAPHS = (keras.Sequential.call, keras.Sequential.__base__.call)


def nodes_in_order(model: keras.Model) -> list[Any]:
    """The calls of layers in the graph of a Functional or Sequential model, inputs first.

    Raises:
        ExplainError: the model is no graph of layers, or not built yet.
    """
    if is_keras_3(model):
        raise ExplainError(
            "a model of Keras 3 is explained by `LRP(model)`, which makes a copy of it; everywhere else it must be of "
            f"Keras 2: build it with tf_keras. Received: {model.name!r} of Keras 3"
        )
    if not isinstance(model, keras.Model) or type(model).call not in _CALLS_OF_GRAPHS:
        raise ExplainError(
            "only Functional and Sequential models can be explained. "
            f"Received: {getattr(model, 'name', model)!r} of class {type(model).__name__}"
        )
    if not hasattr(model, "_nodes_by_depth"):
        raise ExplainError(
            "the model must have its input: begin it with keras.Input(shape), or call it once. "
            f"Received: {model.name!r} of class {type(model).__name__}, not built yet"
        )
    return [node for depth in sorted(model._nodes_by_depth, reverse=True) for node in model._nodes_by_depth[depth]]


def training_of(node: Any) -> Any:
    """What the graph says of the argument `training` in a call of a layer; None: what the whole model is told."""
    names = inspect.signature(node.outbound_layer.call).parameters
    return node.call_kwargs.get("training", dict(zip(names, node.call_args, strict=False)).get("training"))


@dataclasses.dataclass(frozen=True)
class _Recorder:
    """Calls layers one by one and keeps the calls."""

    training: bool
    calls: list[LayerCall] = dataclasses.field(default_factory=list)
    # By the identity of tensors, which `calls` keeps alive.
    known: dict[int, _Known] = dataclasses.field(default_factory=dict)

    def run(self, model: keras.Model, inputs: Tensors, of_inputs: _Known | None = None) -> tuple[tf.Tensor, ...]:
        """The outputs of a model; `of_inputs` is what is known of the inputs of the outermost one."""
        nodes = nodes_in_order(model)
        if len(inputs) != len(model.inputs):
            raise ExplainError(f"model {model.name!r} takes {len(model.inputs)} inputs. Received: {len(inputs)}")
        if of_inputs is not None:
            self.known.update((id(x), of_inputs) for x in inputs)
        values = {id(symbol): x for symbol, x in zip(model.inputs, inputs, strict=True)}
        for node in nodes:
            if not node.is_input:
                outputs = self._run_node(node, values)
                values.update((id(symbol), y) for symbol, y in zip(tf.nest.flatten(node.outputs), outputs, strict=True))
        return tuple(values[id(symbol)] for symbol in model.outputs)

    def _run_node(self, node: Any, values: dict[int, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        layer = node.outbound_layer
        xs = tuple(values[id(symbol)] for symbol in tf.nest.flatten(node.keras_inputs))
        if isinstance(layer, keras.Model):
            said = training_of(node)
            return (self if said is None else dataclasses.replace(self, training=said)).run(layer, xs)
        if isinstance(layer, keras.layers.TimeDistributed):
            return self._run_over_time(layer, xs)
        return self._record(layer, xs, functools.partial(_call, node, self.training))

    def _record(self, layer: keras.layers.Layer, xs: tuple[tf.Tensor, ...], calling: Calling) -> tuple[tf.Tensor, ...]:
        # A layer may hand back its very input (Dropout, linear activations); tensors are told apart by identity.
        ys = tuple(tf.identity(y) for y in calling(layer)(xs))
        known = [self.known[id(x)] for x in xs]
        state = LayerState(
            layer,
            in_wide(layer, calling(differentiable(layer, _uncast(layer)))),
            nonnegative=tuple(each.values.nonnegative for each in known),
            present=tuple(each.present for each in known),
            rescaled=tuple(each.rescaled for each in known),
            gates=tuple(each.values.is_gate or each.reciprocal for each in known),
            calling=calling,
        )
        first = all(each.raw for each in known)
        self.calls.append(LayerCall(state, xs, ys, first))
        rescales = first and any(is_layer_type(layer, each) for each in ("rescaling", "channel_order"))
        of_outputs = _Known(
            values=output_range(layer, [each.values for each in known]),
            # A mean of pixels lies within their bounds.
            raw=rescales or (first and (is_layer_type(layer, "route") or resize_type(layer) == "mean")),
            present=_padded(state, xs[0]) if is_layer_type(layer, "padding") else None,
            rescaled=_rescaled(state) if rescales else state.rescaled[0] if first else None,
            reciprocal=operation(layer) in RECIPROCAL
            or (is_layer_type(layer, "route") and all(each.reciprocal for each in known)),
        )
        self.known.update((id(y), of_outputs) for y in ys)
        return ys

    def _run_over_time(self, layer: keras.layers.TimeDistributed, xs: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        """The layer or model inside, on all time steps as one batch."""
        if len(xs) != 1:
            raise ExplainError(
                f"a TimeDistributed layer is explained with one input. Received: layer {layer.name!r} with {len(xs)}"
            )
        inner, steps = layer.layer, tf.shape(xs[0])[:2]
        merged = self._record_copy(f"{layer.name}_merged", merge_time, xs)
        if isinstance(inner, keras.Model):
            outputs = self.run(inner, merged)
        else:
            outputs = self._record(inner, merged, functools.partial(_call_alone, inner, self.training))
        return self._record_copy(layer.name, lambda y: split_time(y, steps, xs[0].shape[1]), outputs[:1])

    def _record_copy(
        self, name: str, function: Callable[[tf.Tensor], tf.Tensor], xs: tuple[tf.Tensor, ...]
    ) -> tuple[tf.Tensor, ...]:
        layer = Copy(function, name=name)
        # Past Keras, which would cast what it copies.
        return self._record(layer, xs, lambda _: _call_alone(layer, self.training, layer.call))


def _padded(state: LayerState, x: tf.Tensor) -> tf.Tensor:
    """Where the output of a padding layer is no padding, for one example and one channel."""
    before = state.present[0]
    return state.call([tf.ones_like(x[:1, ..., :1]) if before is None else before])[0]


def _rescaled(state: LayerState) -> Callable[[tf.Tensor], tf.Tensor]:
    """What a rescaling layer makes of a value of the model's input."""
    before = state.rescaled[0]
    return lambda value: state.call([value if before is None else before(value)])[0]


def _uncast(layer: keras.layers.Layer) -> Callable[..., Any]:
    """A layer without its own __call__, which would cast the inputs down under a mixed precision policy."""
    # A dense layer casts them once more itself, and then needs its kernel cast too.
    casts = isinstance(layer, keras.layers.Dense) and is_half(tf.as_dtype(layer.compute_dtype))
    return layer if casts else layer_code(layer)


def in_wide(layer: keras.layers.Layer, call: Call) -> Call:
    """`call` of a layer for inputs and outputs in float32 at least, whatever precision the layer computes in."""
    # Keras hands out the weights of a layer of a mixed policy in float32; those of other layers are what they are.
    dtype = tf.as_dtype(layer.variable_dtype or tf.float32)
    if not (is_half(dtype) and layer.weights):
        return lambda xs: [widen(y) for y in call(xs)]
    return lambda xs: [widen(y) for y in call([tf.cast(x, dtype) if x.dtype.is_floating else x for x in xs])]


def _takes_training(layer: keras.layers.Layer) -> bool:
    return "training" in inspect.signature(layer.call).parameters


def _call_alone(layer: keras.layers.Layer, training: bool, function: Callable[..., Any]) -> Call:
    """`function` of one input, which the layer has no node in the graph for."""
    kwargs = {"training": training} if _takes_training(layer) else {}
    return lambda xs: tf.nest.flatten(function(*xs, **kwargs))


def _call(node: Any, training: bool, function: Callable[..., Any]) -> Call:
    """`function` of flat inputs, called with the arguments that the node's layer has in its graph."""
    positions = {id(symbol): index for index, symbol in enumerate(tf.nest.flatten(node.keras_inputs))}
    takes_training = _takes_training(node.outbound_layer) and training_of(node) is None

    def call(xs: Tensors) -> list[tf.Tensor]:
        def argument(value: Any) -> Any:
            return xs[positions[id(value)]] if id(value) in positions else _constant(value, xs)

        args, kwargs = tf.nest.map_structure(argument, (node.call_args, node.call_kwargs))
        if takes_training:
            kwargs["training"] = training
        return tf.nest.flatten(function(*args, **kwargs))

    return call


def _constant(value: Any, xs: Tensors) -> Any:
    """A constant beside the tensors of an operation, in the precision that rules work in."""
    in_precision = tf.is_tensor(value) and value.dtype.is_floating and xs and xs[0].dtype.is_floating
    return tf.cast(value, xs[0].dtype) if in_precision else value
