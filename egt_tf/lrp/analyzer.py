"""An analyzer with innvestigate's interface that works in TensorFlow 2, eagerly and inside graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import tensorflow as tf

from egt_tf.errors import ExplainError, original_error
from egt_tf.keras_api import AnalyzerBase, compiled, keras
from egt_tf.lrp.canonizers import fold_batch_norm
from egt_tf.lrp.composites import Composite
from egt_tf.lrp.gradient_form import check_engine, reverse_by, reverse_part
from egt_tf.lrp.keras_3 import Keras3Copy, is_keras_3
from egt_tf.lrp.neurons import check_range, chosen, largest, named_by
from egt_tf.lrp.presets import COMPOSITES
from egt_tf.lrp.propagation import Trace, nodes_in_order, record
from egt_tf.lrp.raw_scores import before_softmax, ends_in_softmax, output_layer


class NeuronAnalyzer(AnalyzerBase):
    """What analyzers of neurons have in common: a model, its inputs as tensors, and which neurons are explained.

    Args:
        model: see `LRP`.
        neuron_selection_mode: see `LRP`.
        output: see `LRP`.

    Raises:
        ExplainError, ValueError: see `LRP`.
    """

    def __init__(self, model: keras.Model, neuron_selection_mode: str, output: str | int | None):
        self._copy = Keras3Copy(model) if is_keras_3(model) else None
        model = model if self._copy is None else self._copy.model
        super().__init__(model, neuron_selection_mode=neuron_selection_mode)
        # Refuses what cannot be explained before anything is made of it.
        nodes_in_order(model)
        self.model = model
        self.output = output
        self._position = _position(output, model)
        last = output_layer(self.model, self._position)
        self._has_softmax = ends_in_softmax(last)
        if self._has_softmax:
            warnings.warn(
                f"the model ends in a softmax (layer {last.name!r}): the scores before it are explained", stacklevel=3
            )

    def _inputs(self, X: np.ndarray | Sequence[np.ndarray]) -> tuple[list[tf.Tensor], int]:
        """What the model is given, and how many examples it is of."""
        if self._copy is not None:
            self._copy.follow()
        arrays = X if isinstance(X, (list, tuple)) else [X]
        if len(arrays) != len(self.model.inputs):
            raise ExplainError(f"the model takes {len(self.model.inputs)} inputs. Received: {len(arrays)}")
        named = zip(arrays, self.model.inputs, self.model.input_names, strict=True)
        tensors = [_as_input(x, symbol, name) for x, symbol, name in named]
        batches = {int(x.shape[0]) for x in tensors}
        if len(batches - {1}) > 1:
            raise ExplainError(f"the inputs must have one batch size. Received: {sorted(batches)}")
        if 0 in batches:
            # TensorFlow gives outputs of wrong shapes for no examples at all.
            return [tf.zeros((1, *x.shape[1:]), x.dtype) for x in tensors], 0
        return tensors, max(batches)

    def _recorded(self, inputs: list[tf.Tensor]) -> tuple[Trace, tf.Tensor]:
        """A recorded pass and the scores that are explained."""
        trace = record(self.model, inputs)
        return before_softmax(trace, self._position) if self._has_softmax else (trace, trace.outputs[self._position])

    def _arrays(self, relevance: Sequence[tf.Tensor], layer: str | None) -> np.ndarray | list[np.ndarray]:
        arrays = [r.numpy() for r in relevance]
        return arrays[0] if layer is not None or len(self.model.inputs) == 1 else arrays

    def _selected(self, scores: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
        if self._neuron_selection_mode == "all":
            return tf.ones_like(scores)
        return largest(scores) if self._neuron_selection_mode == "max_activation" else chosen(scores, indices)

    def _indices(self, neuron_selection: Any, batch: int) -> np.ndarray:
        by_index = self._neuron_selection_mode == "index"
        if by_index == (neuron_selection is None):
            raise ExplainError(
                "`neuron_selection` must be given in the mode 'index' and in no other. Received: "
                f"neuron_selection={neuron_selection} in the mode {self._neuron_selection_mode!r}"
            )
        indices = self._named(0 if neuron_selection is None else neuron_selection, "neuron_selection")
        if len(indices) not in (1, batch):
            raise ExplainError(f"`neuron_selection` must hold 1 or {batch} indices. Received: {len(indices)}")
        # Of one shape, so that a graph for all examples is not traced again for each.
        return np.broadcast_to(indices, (batch, indices.shape[1])) if batch else np.zeros((1, indices.shape[1]), int)

    def _named(self, selection: Any, argument: str, several: bool = False) -> np.ndarray:
        shape = self.model.outputs[self._position].shape
        if not shape.rank:
            raise ExplainError(f"the output must be (batch, ...) with known axes. Received: {shape}")
        indices = named_by(selection, shape.rank - 1, argument, several)
        check_range(indices, list(shape[1:]), argument)
        return indices


class LRP(NeuronAnalyzer):
    """Layer-wise relevance propagation through a Functional or Sequential Keras model.

    Every call reads the weights the model has then; the model is not changed and gets no new variables.

    Args:
        model: any number of inputs and outputs. It should end in raw scores; of one that ends in a softmax the scores
            before it are explained, after a warning. A model of Keras 3, which is what `keras` means beside TensorFlow
            2.16 and later, is explained by a copy of it, if it is made of Keras's own layers.
        composite: a name of `COMPOSITES`, or a `Composite`.
        neuron_selection_mode: "max_activation" (the largest of all neurons of each example), "index" (what is given to
            `analyze`) or "all" (every neuron starts with its own value), as in innvestigate.
        canonize: fold batch normalisation into the layers beside it first (`fold_batch_norm`). This makes a copy of
            the model, so that weights which change later are not seen.
        output: which output is explained, by its name or position; needed where there are several.
        engine: "walker" takes relevance back from layer to layer; "gradient" gives the same relevance as activation
            times a modified gradient, with the epsilon rule in less time (see `reverse_gradient` for where it differs);
            "auto" is the latter where every rule between the scores and what is asked for has a form as a gradient, else
            the former.

    Raises:
        ConfigError: an unknown composite.
        ExplainError: the model is no graph of layers, is not built yet or has no such output, or an unknown engine.
        ValueError: an unknown mode (from innvestigate).

    Example:
        >>> dense = keras.layers.Dense(2, weights=[np.array([[1.0, 0.0], [3.0, 1.0]]), np.zeros(2)])
        >>> analyzer = LRP(keras.Sequential([keras.Input((2,)), dense]), "lrp.z")
        >>> analyzer.analyze(np.array([[2.0, 1.0]]))
        array([[2., 3.]], dtype=float32)
    """

    def __init__(
        self,
        model: keras.Model,
        composite: str | Mapping[str, Any] | Composite = "fsc",
        neuron_selection_mode: str = "max_activation",
        canonize: bool = False,
        output: str | int | None = None,
        engine: str = "walker",
    ):
        check_engine(engine)
        super().__init__(model, neuron_selection_mode, output)
        if canonize:
            self.model = fold_batch_norm(self.model)
        self.composite: Composite = COMPOSITES.get(composite)
        self.canonize = canonize
        self.engine = engine
        self._analyze = compiled(self._analyze_in_graph, reduce_retracing=True)
        self._analyze_each = compiled(self._analyze_each_in_graph, reduce_retracing=True)

    def analyze(
        self,
        X: np.ndarray | Sequence[np.ndarray],
        neuron_selection: int | tuple[int, ...] | Sequence[int | tuple[int, ...]] | None = None,
        layer: str | None = None,
    ) -> np.ndarray | list[np.ndarray]:
        """Relevance for a neuron of the output, or for several together.

        Args:
            X: the model's input, or a list of its inputs; the first axis is the batch.
            neuron_selection: with the mode "index". An integer is an index on the output's last axis; where the output
                is `(batch, ..., channels)`, it names all neurons of that channel. A tuple has an index for each axis
                behind the batch, such as `(row, column, channel)`, and names one neuron. A list or an array has one of
                these for each example; what is no list is for all. Of an output `(batch, neurons)` a tuple is a list.
            layer: name of a layer whose output's relevance is wanted, instead of that of the inputs. What lies below
                it is not walked.

        Returns:
            Relevance shaped as `X`, a list if the model has several inputs; or shaped as the layer's output.

        Raises:
            ExplainError: `neuron_selection` is missing in the mode "index", given in another, no integers or out of
                range; an input is not of the model's shape or holds no numbers; there is no such layer; or the engine is
                "gradient" and a rule has no such form.
        """
        inputs, batch = self._inputs(X)
        indices = self._indices(neuron_selection, batch)
        with original_error():
            relevance, shape = self._analyze(inputs, tf.constant(indices), layer)
        check_range(indices, shape.numpy()[1:].tolist(), "neuron_selection")
        return self._arrays([r[:batch] for r in relevance], layer)

    def analyze_each(
        self, X: np.ndarray | Sequence[np.ndarray], neurons: Sequence[int | tuple[int, ...]], layer: str | None = None
    ) -> np.ndarray | list[np.ndarray]:
        """Relevance for several neurons at once: one forward pass, and one walk back for all of them together.

        Args:
            X: see `analyze`.
            neurons: a list of what `neuron_selection` of `analyze` can be for all examples; every example is explained
                for each of them.
            layer: see `analyze`.

        Returns:
            As `analyze`, with a first axis for the neurons.

        Raises:
            ExplainError: see `analyze`.
        """
        inputs, batch = self._inputs(X)
        indices = self._named(neurons, "neurons", several=True)
        with original_error():
            relevance, shape = self._analyze_each(inputs, tf.constant(indices), layer)
        check_range(indices, shape.numpy()[1:].tolist(), "neurons")
        return self._arrays([r[:, :batch] for r in relevance], layer)

    def relevance(self, features: tf.Tensor, output_relevance: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Relevance of the model's single input for a given relevance of its output, as a tensor.

        The copy of a model of Keras 3 has the weights here that it had at the last `analyze`, or when it was made.

        Args:
            features: the model's input.
            output_relevance: relevance of the output, of its shape.
            training: handed to the layers that ask for it. A pass in training is always walked back: there, what a layer
                computes is not what its rule knows of it.

        Returns:
            Shaped as `features`.
        """
        return self.relevance_of(record(self.model, [features], training), output_relevance)[0]

    def relevance_of(
        self, trace: Trace, output_relevance: tf.Tensor, targets: Sequence[tf.Tensor] | None = None
    ) -> list[tf.Tensor]:
        """As `relevance`, for a forward pass that was recorded already; `targets` are the tensors wanted."""
        source = trace.outputs[self._position]
        return reverse_by(self.engine, trace, output_relevance, self.composite, targets, source)

    def get_config(self) -> dict[str, Any]:
        """What, beside the model, makes an equal analyzer: every other argument of the constructor, as JSON types."""
        return {
            "composite": self.composite.to_json(),
            "neuron_selection_mode": self._neuron_selection_mode,
            "canonize": self.canonize,
            "output": self.output,
            "engine": self.engine,
        }

    @classmethod
    def from_config(cls, model: keras.Model, config: Mapping[str, Any]) -> LRP:
        """Makes an analyzer of `model` from `get_config`."""
        return cls(model, **{**config, "composite": Composite.from_json(config["composite"])})

    def _analyze_in_graph(
        self, inputs: list[tf.Tensor], indices: tf.Tensor, layer: str | None
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        trace, scores = self._recorded(inputs)
        back = self._way_back(trace, scores, layer)
        return back(self._selected(scores, indices)), tf.shape(scores)

    def _analyze_each_in_graph(
        self, inputs: list[tf.Tensor], neurons: tf.Tensor, layer: str | None
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        trace, scores = self._recorded(inputs)
        selected = chosen(scores, neurons)[:, None] * tf.ones_like(scores)
        return tf.vectorized_map(self._way_back(trace, scores, layer), selected), tf.shape(scores)

    def _way_back(self, trace: Trace, scores: tf.Tensor, layer: str | None) -> Callable[[tf.Tensor], list[tf.Tensor]]:
        """From the part of each score that is explained to the relevance of what is asked for."""
        wanted = None if layer is None else [trace.output_of(layer)]
        return lambda selected: reverse_part(self.engine, trace, selected, self.composite, wanted, scores)


def _position(output: str | int | None, model: keras.Model) -> int:
    names = list(model.output_names)
    if output is None and len(names) == 1:
        return 0
    if isinstance(output, str) and output in names:
        return names.index(output)
    if isinstance(output, Integral) and not isinstance(output, bool) and 0 <= output < len(names):
        return int(output)
    raise ExplainError(
        f"`output` must be one of {', '.join(map(repr, names))} or a position in 0..{len(names) - 1}. "
        f"Received: output={output!r}"
    )


def _as_input(x: Any, symbol: tf.Tensor, name: str) -> tf.Tensor:
    try:
        # NumPy first, which says of a list what is in it.
        tensor = tf.convert_to_tensor(x if isinstance(x, (tf.Tensor, tf.Variable)) else np.asarray(x))
    except (TypeError, ValueError):
        raise ExplainError(f"input {name!r} must be an array of numbers. Received: {type(x).__name__}") from None
    numbers = tensor.dtype.is_floating or tensor.dtype.is_integer or tensor.dtype.is_bool
    # A Sequential model that was built by a call has the batch size of that call for its own.
    shape = symbol.shape if not symbol.shape.rank else tf.TensorShape([None, *symbol.shape[1:]])
    if not shape.is_compatible_with(tensor.shape) or not tensor.shape.rank:
        raise ExplainError(f"input {name!r} must be shaped {shape}. Received: {tensor.shape}")
    if tensor.dtype != symbol.dtype and not (numbers and (symbol.dtype.is_floating or not tensor.dtype.is_floating)):
        raise ExplainError(f"input {name!r} must hold {symbol.dtype.name}. Received: {tensor.dtype.name}")
    return tf.cast(tensor, symbol.dtype)
