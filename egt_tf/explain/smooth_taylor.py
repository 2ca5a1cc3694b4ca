"""SmoothTaylor for any Keras model.

Source: Goh, Lapuschkin, Weber, Samek and Binder, "Understanding Integrated Gradients with SmoothTaylor for deep neural
network attribution", ICPR 2020, arXiv 2004.10484.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from egt_tf.errors import original_error
from egt_tf.explain.gradients import DERIVATIVE
from egt_tf.explain.noise import Noise, NoisyInput, mean_over_copies
from egt_tf.explain.versions import MEMORY, merged, versions_at_once
from egt_tf.keras_api import compiled, keras
from egt_tf.lrp.analyzer import NeuronAnalyzer
from egt_tf.lrp.neurons import check_range
from egt_tf.lrp.propagation import reverse


def taylor_term(x: tf.Tensor, z: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    """`(x - z) df/dz`: the first term of f's Taylor series about z, at x, spread over the parts of x."""
    return (x - z) * slope


class SmoothTaylor(NeuronAnalyzer):
    """Attribution by the mean of first Taylor terms about noisy copies of the input; it needs no baseline.

    `ST(x)_i = 1/R sum_r (x_i - z_ri) df(z_r)/dz_ri` with `z_r = x + sigma e_r`, `e_r` normal with deviation 1, and f the
    raw score of the explained neuron.

    Args:
        model: Functional or Sequential, with any number of inputs; see `LRP`. Inputs of integers get no noise, and have no
            attribution. Queries of a few-shot model are explained by the method "smooth_taylor" of `explain_image`.
        sigma: deviation of the noise, > 0, in units of the model's input.
        samples: R, copies of the input, >= 1.
        percent: whether `sigma` is a share of the range of each example, `max(x) - min(x)`.
        seed: of the noise.
        neuron_selection_mode: see `LRP`.
        output: see `LRP`.
        memory: bytes that the layers of the copies of one pass may put out; it changes the time, and results by
            rounding only.

    Raises:
        ExplainError: the model cannot be explained (see `LRP`), or `sigma` or `samples` is out of range.
        ValueError: an unknown mode.

    Example:
        >>> dense = keras.layers.Dense(1, weights=[np.array([[2.0], [0.0]]), np.zeros(1)])
        >>> analyzer = SmoothTaylor(keras.Sequential([keras.Input((2,)), dense]), samples=4)
        >>> analyzer.analyze(np.array([[1.0, 1.0]]))[0, 1].item()  # the second part has no weight
        0.0
    """

    def __init__(
        self,
        model: keras.Model,
        sigma: float = 0.5,
        samples: int = 150,
        percent: bool = False,
        seed: int = 0,
        neuron_selection_mode: str = "max_activation",
        output: str | int | None = None,
        memory: int = MEMORY,
    ):
        self.noise = Noise(sigma, samples, percent, seed)
        super().__init__(model, neuron_selection_mode, output)
        self.memory = memory
        self._analyze = compiled(self._analyze_in_graph)

    def analyze(
        self,
        X: np.ndarray | Sequence[np.ndarray],
        neuron_selection: int | tuple[int, ...] | Sequence[int | tuple[int, ...]] | None = None,
    ) -> np.ndarray | list[np.ndarray]:
        """The attribution of a neuron of the output, or of several together.

        Args:
            X, neuron_selection: see `LRP.analyze`. With the mode "max_activation" the neuron is that of x itself, for all
                copies.

        Returns:
            Shaped as `X`, a list if the model has several inputs.

        Raises:
            ExplainError: see `LRP.analyze`.
        """
        inputs, batch = self._inputs(X)
        indices = self._indices(neuron_selection, batch)
        with original_error():
            maps, shape = self._analyze(inputs, tf.constant(indices))
        check_range(indices, shape.numpy()[1:].tolist(), "neuron_selection")
        return self._arrays([each[:batch] for each in maps], None)

    def get_config(self) -> dict[str, Any]:
        """What, beside the model, makes an equal analyzer: every other argument of the constructor, as JSON types."""
        return {
            "sigma": self.noise.sigma,
            "samples": self.noise.samples,
            "percent": self.noise.percent,
            "seed": self.noise.seed,
            "neuron_selection_mode": self._neuron_selection_mode,
            "output": self.output,
            "memory": self.memory,
        }

    def _analyze_in_graph(self, inputs: list[tf.Tensor], indices: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        trace, scores = self._recorded(inputs)
        weights = tf.broadcast_to(self._selected(scores, indices), tf.shape(scores))
        together = versions_at_once(trace, self.noise.samples, self.memory)
        of_copies = merged(tf.repeat(weights[None], together, axis=0))

        def slopes(points: list[tf.Tensor]) -> list[tf.Tensor]:
            there, its_scores = self._recorded(points)
            return reverse(there, of_copies, DERIVATIVE, source=its_scores)

        # What counts or chooses has no noise.
        noisy = [NoisyInput(x) if x.dtype.is_floating else NoisyInput(x, None) for x in inputs]
        return mean_over_copies(noisy, self.noise, slopes, taylor_term, together), tf.shape(scores)
