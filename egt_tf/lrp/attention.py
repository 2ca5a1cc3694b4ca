"""Attention: sums of products of two activations, and Keras's multi-head attention as one layer.

Sources: Ali et al., ICML 2022 (relevance by the values alone, CP-LRP); Achtibat et al., ICML 2024 (through the softmax
too, AttnLRP).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from egt_tf.errors import ExplainError
from egt_tf.keras_api import keras
from egt_tf.lrp.linear_parts import linear_parts
from egt_tf.lrp.rules import RULES, LayerState, SparingRule, Tensors, divide, pull_back, signals_among

L = keras.layers


@RULES.register("matrix_product")
class MatrixProduct(SparingRule):
    """Sums of products of activations, as `y = A B`: `R_A = A (dy/dA)^T R / (n (y + epsilon sign(y)))`, n signals.

    Gates, which the graph says lie between 0 and 1, get none: of attention times values, all goes to the values.

    Args:
        epsilon: stabiliser, >= 0; 0 guards exact zeros only.
        gates: False: gates are factors like any other, and two factors get half each.

    Raises:
        ExplainError: a negative `epsilon`.

    Notes:
        The norms of `Dot(normalize=True)` count as constants. Sources: Ali et al., 2022 (all to the values), Achtibat
        et al., 2024 (halves).

    Example:
        >>> layer = keras.layers.Dot(axes=1)
        >>> xs, r = [tf.constant([[1.0, 2.0]]), tf.constant([[3.0, 1.0]])], tf.constant([[10.0]])
        >>> state = LayerState(layer, lambda xs: [layer(xs)], gates=(False, False))
        >>> [x.numpy() for x in MatrixProduct().apply(xs, state.call(xs), [r], state)]
        [array([[3., 2.]], dtype=float32), array([[3., 2.]], dtype=float32)]
    """

    def __init__(self, epsilon: float = 0.0, gates: bool = True):
        if epsilon < 0:
            raise ExplainError(f"`epsilon` must be >= 0. Received: epsilon={epsilon}")
        self.epsilon = epsilon
        self.gates = gates

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors, reverse_state: LayerState) -> list[tf.Tensor | None]:
        signals = signals_among(len(Xs), reverse_state) if self.gates else list(range(len(Xs)))
        share = divide(Rs[0], Ys[0], self.epsilon, reverse_state.one_sign) / len(signals)
        factors, call = _as_product(Xs, reverse_state)
        shares = [x * s for x, s in zip(factors, pull_back(call, factors, [share]), strict=True)]
        return [each if position in signals else None for position, each in enumerate(shares)]


def _as_product(Xs: Tensors, state: LayerState) -> tuple[Tensors, Callable[[Tensors], Tensors]]:
    """Factors whose products the layer sums, and how: those of a cosine are unit vectors."""
    layer = state.layer
    if not (isinstance(layer, L.Dot) and layer.normalize):
        return Xs, state.call
    axes = layer.axes if isinstance(layer.axes, (list, tuple)) else 2 * (layer.axes,)
    units = [tf.math.l2_normalize(x, axis=axis) for x, axis in zip(Xs, axes, strict=True)]
    plain = L.Dot(layer.axes, dtype=units[0].dtype)
    return units, lambda xs: [plain(list(xs))]


@RULES.register("attention")
class Attention(SparingRule):
    """Multi-head attention as one layer: `R_x = x (dy'/dx)^T R / (y + epsilon sign(y))`.

    y' has the values of the layer's output y and a gradient of its own: its attention is a constant, so that relevance
    passes the values alone; with `softmax`, it goes to queries and keys too, and each product of two activations has
    half its gradient. This is what the rules for the same attention in plain layers add up to, but that these have a
    stabiliser in every step.

    Args:
        epsilon: stabiliser, >= 0; 0 guards exact zeros only.
        softmax: whether relevance passes the softmax. It conserves nothing there, see `SoftmaxShare`.
        bias: whether the biases of the projections keep their share.

    Raises:
        ExplainError: a negative `epsilon`, or a subclass of `MultiHeadAttention` that attends in a way of its own.

    Notes:
        Dropout counts as switched off. Masks get none. Sources: Ali et al., 2022 (CP-LRP), Achtibat et al., 2024
        (AttnLRP).

    Example:
        >>> layer, x = keras.layers.MultiHeadAttention(1, 2), tf.constant([[[1.0, 2.0], [3.0, -1.0]]])
        >>> y = layer(x, x)
        >>> state = LayerState(layer, lambda xs: [layer(*xs)])
        >>> query, value = Attention().apply([x, x], [y], [y], state)
        >>> bool(np.allclose(tf.reduce_sum(value), tf.reduce_sum(y), atol=1e-5)), float(tf.reduce_sum(abs(query)))
        (True, 0.0)
    """

    def __init__(self, epsilon: float = 0.0, softmax: bool = False, bias: bool = True):
        if epsilon < 0:
            raise ExplainError(f"`epsilon` must be >= 0. Received: epsilon={epsilon}")
        self.epsilon = epsilon
        self.softmax = softmax
        self.bias = bias

    def apply(self, Xs: Tensors, Ys: Tensors, Rs: Tensors, reverse_state: LayerState) -> list[tf.Tensor | None]:
        _check_known(reverse_state.layer)
        call = reverse_state.calling(functools.partial(self._surrogate, reverse_state.layer))
        shares = [divide(r, y, self.epsilon, one_sign=False) for r, y in zip(Rs, Ys, strict=True)]
        pulled = pull_back(call, Xs, shares)
        return [x * s if x.dtype.is_floating else None for x, s in zip(Xs, pulled, strict=True)]

    def _surrogate(
        self,
        layer: keras.layers.MultiHeadAttention,
        query: tf.Tensor,
        value: tf.Tensor,
        key: tf.Tensor | None = None,
        attention_mask: tf.Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
    ) -> Any:
        """The values of the layer's outputs, with the gradient of the rule; the arguments are those of its `call`."""
        key = value if key is None else key
        mask = layer._compute_attention_mask(query, value, key, attention_mask, use_causal_mask)
        q, k, v = (
            self._projected(projection, x)
            for projection, x in ((layer._query_dense, query), (layer._key_dense, key), (layer._value_dense, value))
        )
        # Two factors have half the gradient each; with a constant for attention, the values have all.
        products, scale = tf.einsum(layer._dot_product_equation, k, q), 1.0 / math.sqrt(layer._key_dim)
        weights = _softmax(layer, _passing(scale * products, products, 0.5 * scale), mask)
        weights = weights if self.softmax else tf.stop_gradient(weights)
        attended = tf.einsum(layer._combine_equation, weights, v)
        attended = _passing(attended, attended, 0.5) if self.softmax else attended
        y = self._projected(layer._output_dense, attended)
        return (y, weights) if return_attention_scores else y

    def _projected(self, layer: keras.layers.EinsumDense, x: tf.Tensor) -> tf.Tensor:
        """A weighted sum; where its bias keeps no share, its gradient is larger by the ratio of output and sum."""
        (part,) = linear_parts(layer, x)
        z = part.forward(x, part.kernel)
        if part.bias is None:
            return z
        y = z + part.bias
        # The sum alone may nearly cancel where the output does not.
        return _passing(y, z, 1.0 if self.bias else divide(y, z, self.epsilon, one_sign=False))


def _check_known(layer: keras.layers.Layer) -> None:
    known = L.MultiHeadAttention
    if (type(layer).call, type(layer)._compute_attention) != (known.call, known._compute_attention):
        raise ExplainError(
            "attention is explained as Keras's MultiHeadAttention computes it. "
            f"Received: layer {layer.name!r} of class {type(layer).__name__} with a way of its own; register a rule for it"
        )


def _passing(y: tf.Tensor, z: tf.Tensor, factor: tf.Tensor | float) -> tf.Tensor:
    """The values of y, whose gradient goes to z, of the same shape, times a constant factor.

    Sums and products would do the same by operations of TensorFlow alone, which undo broadcasts.
    """

    @tf.custom_gradient
    def passing(z: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return tf.identity(y), lambda upstream: upstream * factor

    return passing(z)


def _softmax(layer: keras.layers.MultiHeadAttention, logits: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """Attention `(batch, heads, ..., ...)`; a mask has no axis for the heads."""
    if mask is not None:
        mask = tf.stop_gradient(mask)
        for _ in range(logits.shape.rank - mask.shape.rank):
            mask = tf.expand_dims(mask, -2 * len(layer._attention_axes) - 1)
    # Past Keras, which would cast to half precision under a mixed policy.
    return layer._softmax.call(logits, mask)
