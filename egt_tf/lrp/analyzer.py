"""An analyzer with innvestigate's interface that works in TensorFlow 2, eagerly and inside graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from innvestigate.analyzer.base import AnalyzerBase
from tensorflow import keras

from egt_tf.errors import ExplainError, original_error
from egt_tf.lrp.canonizers import fold_batch_norm
from egt_tf.lrp.composites import Composite
from egt_tf.lrp.presets import COMPOSITES
from egt_tf.lrp.propagation import Trace, record, reverse


class LRP(AnalyzerBase):
    """Layer-wise relevance propagation through a Functional or Sequential Keras model.

    Every call reads the weights the model has then; the model is not changed and gets no new variables.

    Args:
        model: one output, any number of inputs. It should end in scores, without a softmax.
        composite: a name of `COMPOSITES`, or a `Composite`.
        neuron_selection_mode: "max_activation" (each example's largest output), "index" (the output given to
            `analyze`) or "all" (every output starts with its own value), as in innvestigate.
        canonize: fold batch normalisation into the layers beside it first (`fold_batch_norm`). This makes a copy of
            the model, so that weights which change later are not seen.

    Raises:
        ConfigError: an unknown composite.
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
    ):
        super().__init__(model, neuron_selection_mode=neuron_selection_mode)
        self.model = fold_batch_norm(model) if canonize else model
        self.composite: Composite = COMPOSITES.get(composite)
        self.canonize = canonize
        self._analyze = tf.function(self._analyze_in_graph, reduce_retracing=True)
        self._analyze_each = tf.function(self._analyze_each_in_graph, reduce_retracing=True)

    def analyze(
        self,
        X: np.ndarray | Sequence[np.ndarray],
        neuron_selection: int | Sequence[int] | None = None,
        layer: str | None = None,
    ) -> np.ndarray | list[np.ndarray]:
        """Relevance for a neuron of the output.

        Args:
            X: the model's input, or a list of its inputs; the first axis is the batch.
            neuron_selection: with the mode "index": one index for all examples, or one for each.
            layer: name of a layer whose output's relevance is wanted, instead of that of the inputs.

        Returns:
            Relevance shaped as `X`, a list if the model has several inputs; or shaped as the layer's output.

        Raises:
            ExplainError: `neuron_selection` is missing in the mode "index", given in another, or out of range; or
                there is no such layer.
        """
        inputs = self._tensors(X)
        indices = self._indices(neuron_selection, int(inputs[0].shape[0]))
        with original_error():
            return self._arrays(self._analyze(inputs, indices, layer), layer)

    def analyze_each(
        self, X: np.ndarray | Sequence[np.ndarray], neurons: Sequence[int], layer: str | None = None
    ) -> np.ndarray | list[np.ndarray]:
        """Relevance for several neurons at once: one forward pass, and one walk back for all of them together.

        Args:
            X: see `analyze`.
            neurons: indices of the output; every example is explained for each of them.
            layer: see `analyze`.

        Returns:
            As `analyze`, with a first axis for the neurons.

        Raises:
            ExplainError: see `analyze`.
        """
        self._check_range(np.asarray(neurons))
        with original_error():
            return self._arrays(self._analyze_each(self._tensors(X), tf.constant(neurons, tf.int64), layer), layer)

    def relevance(self, features: tf.Tensor, output_relevance: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Relevance of the model's single input for a given relevance of its output, as a tensor.

        Args:
            features: the model's input.
            output_relevance: relevance of the output, of its shape.
            training: handed to the layers that ask for it.

        Returns:
            Shaped as `features`.
        """
        return self.relevance_of(record(self.model, [features], training), output_relevance)[0]

    def relevance_of(
        self, trace: Trace, output_relevance: tf.Tensor, targets: Sequence[tf.Tensor] | None = None
    ) -> list[tf.Tensor]:
        """As `relevance`, for a forward pass that was recorded already; `targets` are the tensors wanted."""
        return reverse(trace, output_relevance, self.composite, targets)

    def get_config(self) -> dict[str, Any]:
        """What, beside the model, makes an equal analyzer: every other argument of the constructor, as JSON types."""
        return {
            "composite": self.composite.to_json(),
            "neuron_selection_mode": self._neuron_selection_mode,
            "canonize": self.canonize,
        }

    @classmethod
    def from_config(cls, model: keras.Model, config: Mapping[str, Any]) -> LRP:
        """Makes an analyzer of `model` from `get_config`."""
        return cls(model, **{**config, "composite": Composite.from_json(config["composite"])})

    def _tensors(self, X: np.ndarray | Sequence[np.ndarray]) -> list[tf.Tensor]:
        arrays = X if isinstance(X, (list, tuple)) else [X]
        if len(arrays) != len(self.model.inputs):
            raise ExplainError(f"the model takes {len(self.model.inputs)} inputs. Received: {len(arrays)}")
        return [tf.convert_to_tensor(x, symbol.dtype) for x, symbol in zip(arrays, self.model.inputs, strict=True)]

    def _arrays(self, relevance: Sequence[tf.Tensor], layer: str | None) -> np.ndarray | list[np.ndarray]:
        arrays = [r.numpy() for r in relevance]
        return arrays[0] if layer is not None or len(self.model.inputs) == 1 else arrays

    def _analyze_in_graph(self, inputs: list[tf.Tensor], indices: tf.Tensor, layer: str | None) -> list[tf.Tensor]:
        trace = record(self.model, inputs)
        scores = trace.outputs[0]
        return self.relevance_of(trace, scores * self._selected(scores, indices), self._wanted(trace, layer))

    def _analyze_each_in_graph(self, inputs: list[tf.Tensor], neurons: tf.Tensor, layer: str | None) -> list[tf.Tensor]:
        trace = record(self.model, inputs)
        scores = trace.outputs[0]
        of_neurons = tf.one_hot(neurons, tf.shape(scores)[-1], dtype=scores.dtype)[:, None] * scores
        return tf.vectorized_map(lambda r: self.relevance_of(trace, r, self._wanted(trace, layer)), of_neurons)

    @staticmethod
    def _wanted(trace: Trace, layer: str | None) -> list[tf.Tensor] | None:
        return None if layer is None else [trace.output_of(layer)]

    def _selected(self, scores: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
        if self._neuron_selection_mode == "all":
            return tf.ones_like(scores)
        if self._neuron_selection_mode == "max_activation":
            indices = tf.argmax(scores, axis=-1)
        return tf.one_hot(indices, tf.shape(scores)[-1], dtype=scores.dtype)

    def _indices(self, neuron_selection: int | Sequence[int] | None, batch: int) -> tf.Tensor:
        by_index = self._neuron_selection_mode == "index"
        if by_index == (neuron_selection is None):
            raise ExplainError(
                "`neuron_selection` must be given in the mode 'index' and in no other. Received: "
                f"neuron_selection={neuron_selection} in the mode {self._neuron_selection_mode!r}"
            )
        indices = np.asarray(0 if neuron_selection is None else neuron_selection).reshape(-1)
        if indices.size not in (1, batch):
            raise ExplainError(f"`neuron_selection` must hold 1 or {batch} indices. Received: {indices.size}")
        self._check_range(indices)
        return tf.constant(np.broadcast_to(indices, batch), tf.int64)

    def _check_range(self, indices: np.ndarray) -> None:
        neurons = self.model.output_shape[-1]
        if not indices.size:
            raise ExplainError("at least one neuron must be named. Received: none")
        if neurons is not None and (indices.min() < 0 or indices.max() >= neurons):
            raise ExplainError(f"neurons must be in 0..{neurons - 1}. Received: {indices.tolist()}")
