"""An analyzer with innvestigate's interface that works in TensorFlow 2, eagerly and inside graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from innvestigate.analyzer.base import AnalyzerBase
from tensorflow import keras

from egt_tf.errors import ExplainError
from egt_tf.explain.composites import Composite
from egt_tf.explain.presets import COMPOSITES
from egt_tf.explain.reverse import Trace, record, reverse


class LRP(AnalyzerBase):
    """Layer-wise relevance propagation through a Functional or Sequential Keras model.

    Every call reads the weights the model has then; the model is not changed and gets no new variables.

    Args:
        model: one output, any number of inputs. It should end in scores, without a softmax.
        composite: a name of `COMPOSITES`, or a `Composite`.
        neuron_selection_mode: "max_activation" (each example's largest output), "index" (the output given to
            `analyze`) or "all" (every output starts with its own value), as in innvestigate.

    Raises:
        ConfigError: an unknown composite.
        ValueError: an unknown mode (from innvestigate).
    """

    def __init__(self, model: keras.Model, composite: str | Mapping[str, Any] | Composite = "fsc",
                 neuron_selection_mode: str = "max_activation"):
        super().__init__(model, neuron_selection_mode=neuron_selection_mode)
        self.model = model
        self.composite: Composite = COMPOSITES.get(composite)
        self._analyze = tf.function(self._analyze_in_graph, reduce_retracing=True)

    def analyze(self, X: np.ndarray | Sequence[np.ndarray],
                neuron_selection: int | Sequence[int] | None = None) -> np.ndarray | list[np.ndarray]:
        """Relevance of the inputs for a neuron of the output.

        Args:
            X: the model's input, or a list of its inputs; the first axis is the batch.
            neuron_selection: with the mode "index": one index for all examples, or one for each.

        Returns:
            Relevance shaped as `X`; a list if the model has several inputs.

        Raises:
            ExplainError: `neuron_selection` is missing in the mode "index", given in another, or out of range.
        """
        inputs = [tf.convert_to_tensor(x, self.model.inputs[i].dtype)
                  for i, x in enumerate(tf.nest.flatten(X) if isinstance(X, (list, tuple)) else [X])]
        indices = self._indices(neuron_selection, int(inputs[0].shape[0]))
        relevance = [r.numpy() for r in self._analyze(inputs, indices)]
        return relevance[0] if len(self.model.inputs) == 1 else relevance

    def relevance(self, features: tf.Tensor, start: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Relevance of the model's single input for a given relevance of its output, as a tensor.

        Args:
            features: the model's input.
            start: relevance of the output, of its shape.
            training: handed to the layers that ask for it.

        Returns:
            Shaped as `features`.
        """
        return self.relevance_of(record(self.model, [features], training), start)[0]

    def relevance_of(self, trace: Trace, start: tf.Tensor, at: Sequence[tf.Tensor] | None = None) -> list[tf.Tensor]:
        """As `relevance`, for a forward pass that was recorded already; `at` names the tensors wanted."""
        return reverse(trace, start, self.composite, at)

    def _analyze_in_graph(self, inputs, indices):
        trace = record(self.model, inputs)
        scores = trace.outputs[0]
        return self.relevance_of(trace, scores * self._selected(scores, indices))

    def _selected(self, scores, indices):
        if self._neuron_selection_mode == "all":
            return tf.ones_like(scores)
        if self._neuron_selection_mode == "max_activation":
            indices = tf.argmax(scores, axis=-1)
        return tf.one_hot(indices, tf.shape(scores)[-1], dtype=scores.dtype)

    def _indices(self, neuron_selection, batch):
        by_index = self._neuron_selection_mode == "index"
        if by_index == (neuron_selection is None):
            raise ExplainError("`neuron_selection` must be given in the mode 'index' and in no other. Received: "
                               f"neuron_selection={neuron_selection} in the mode {self._neuron_selection_mode!r}")
        indices = np.asarray(0 if neuron_selection is None else neuron_selection).reshape(-1)
        if indices.size not in (1, batch):
            raise ExplainError(f"`neuron_selection` must hold 1 or {batch} indices. Received: {indices.size}")
        neurons = self.model.output_shape[-1]
        if neurons is not None and (indices.min() < 0 or indices.max() >= neurons):
            raise ExplainError(f"`neuron_selection` must be in 0..{neurons - 1}. Received: {neuron_selection}")
        return tf.constant(np.broadcast_to(indices, batch), tf.int64)
