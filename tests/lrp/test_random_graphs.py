"""Random graphs of everyday layers: relevance by rules equals activation times gradient of a modified forward pass.

Both forms are known for every operation (see `docs/explaining.md`): the epsilon rule is the gradient, a gate and a
deviation are constants, a product of two signals has half its gradient, an activation the slope `f(x) / x`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, record, reverse
from egt_tf.lrp.gradient_form import NoGradientForm, reverse_gradient

L = keras.layers
CHANNELS, SIDE = 4, 3

pytestmark = pytest.mark.usefixtures("float64")

constant = tf.stop_gradient


def _as_slope(function):
    return lambda x: x * constant(tf.math.divide_no_nan(function(x), x))


def _same(make: Callable[[], L.Layer]):
    """A layer that the modified pass leaves as it is."""
    return lambda: _twice(make())


def _twice(layer):
    return layer, layer


def _deviation_constant(make, axes_of_groups):
    """A normalisation by own statistics, and the same with a constant deviation; shift and scale are at 0 and 1."""

    def pair():
        layer = make()

        def modified(x):
            grouped, axes = axes_of_groups(x)
            centred = grouped - tf.reduce_mean(grouped, axes, keepdims=True)
            deviation = tf.sqrt(tf.reduce_mean(tf.square(centred), axes, keepdims=True) + layer.epsilon)
            return tf.reshape(centred / constant(deviation), tf.shape(x))

        return layer, modified

    return pair


def _activation(function):
    return lambda: (L.Activation(function), _as_slope(function))


def _operation(function, modified=None):
    return lambda: (function, modified or function)


# Each makes a layer or an operation on Keras tensors, and what it is in the modified pass. Shapes stay.
OF_ONE = {
    "convolution": _same(lambda: L.Conv2D(CHANNELS, 3, padding="same")),
    "convolution with groups": _same(lambda: L.Conv2D(CHANNELS, 3, padding="same", groups=2)),
    "depthwise convolution": _same(lambda: L.DepthwiseConv2D(3, padding="same")),
    "transposed convolution": _same(lambda: L.Conv2DTranspose(CHANNELS, 3, padding="same")),
    "dense": _same(lambda: L.Dense(CHANNELS, "relu")),
    "dense of every row": _same(lambda: L.TimeDistributed(L.Dense(CHANNELS))),
    "einsum": _same(lambda: L.EinsumDense("abcd,de->abce", (SIDE, SIDE, CHANNELS), bias_axes="e")),
    "batch normalisation": _same(L.BatchNormalization),
    "relu": _same(L.ReLU),
    "pooling": _same(lambda: L.AveragePooling2D(2, 1, "same")),
    "max pooling": _same(lambda: L.MaxPooling2D(2, 1, "same")),
    "upsampling": lambda: _twice(lambda x: L.Cropping2D(((0, SIDE), (SIDE, 0)))(L.UpSampling2D(2)(x))),
    "permutation": _same(lambda: L.Permute((2, 1, 3))),
    "identity": _same(L.Identity),
    "layer normalisation": _deviation_constant(L.LayerNormalization, lambda x: (x, [3])),
    "group normalisation": _deviation_constant(
        lambda: L.GroupNormalization(2), lambda x: (tf.reshape(x, (-1, SIDE, SIDE, 2, CHANNELS // 2)), [1, 2, 4])
    ),
    "softmax": _same(L.Softmax),
    **{f.__name__: _activation(f) for f in (tf.nn.gelu, tf.nn.silu, tf.nn.elu, tf.nn.selu, tf.math.tanh)},
    "relu, an operation": _operation(tf.nn.relu),
    "slices": _operation(lambda x: tf.concat([x[..., 2:], x[..., :2]], axis=-1)),
    "turned": _operation(lambda x: tf.transpose(x, (0, 2, 1, 3))),
    "half": _operation(lambda x: x / 2.0),
    "a constant more": _operation(lambda x: x + 3.0),
    "from a constant": _operation(lambda x: 3.0 - x),
}


def _halved(product):
    return lambda ab: 0.5 * product(ab) + constant(0.5 * product(ab))


OF_TWO = {
    "sum": _same(L.Add),
    "sum, an operation": _operation(lambda ab: ab[0] + ab[1]),
    "difference": _same(L.Subtract),
    "difference, an operation": _operation(lambda ab: ab[0] - ab[1]),
    "average": _same(L.Average),
    "maximum": _same(L.Maximum),
    "minimum": _same(L.Minimum),
    "product": lambda: (L.Multiply(), _halved(lambda ab: ab[0] * ab[1])),
    "gate in front": lambda: (
        lambda ab: L.Multiply()([L.Activation("sigmoid")(ab[0]), ab[1]]),
        lambda ab: constant(tf.sigmoid(ab[0])) * ab[1],
    ),
    "gate behind": lambda: (
        lambda ab: ab[0] * tf.sigmoid(ab[1]),
        lambda ab: ab[0] * constant(tf.sigmoid(ab[1])),
    ),
    "squeeze and excitation": lambda: (
        lambda ab: L.Multiply()([L.GlobalAveragePooling2D(keepdims=True)(L.Activation("sigmoid")(ab[0])), ab[1]]),
        lambda ab: constant(tf.reduce_mean(tf.sigmoid(ab[0]), [1, 2], keepdims=True)) * ab[1],
    ),
    "sum with a vector": lambda: _twice(lambda ab: L.Add()([ab[0], L.GlobalAveragePooling2D(keepdims=True)(ab[1])])),
}
STEPS = st.lists(
    st.tuples(st.sampled_from([*OF_ONE, *OF_TWO]), st.integers(0, 99), st.integers(0, 99)), min_size=2, max_size=7
)


def _built(steps: Sequence[tuple[str, int, int]]) -> tuple[keras.Model, Callable[[tf.Tensor], tf.Tensor]]:
    """A graph of the steps, each reading what earlier ones made, and its modified forward pass."""
    inputs = keras.Input((SIDE, SIDE, CHANNELS))
    pool, plan = [inputs], []
    for name, first, second in steps:
        layer, modified = (OF_ONE if name in OF_ONE else OF_TWO)[name]()
        # The newest is always read, so that graphs are deep.
        read = [len(pool) - 1] if name in OF_ONE else [len(pool) - 1, first % len(pool)][:: 1 - 2 * (second % 2)]
        pool.append(layer(pool[read[0]] if name in OF_ONE else [pool[place] for place in read]))
        plan.append((modified, read, name in OF_ONE))
    scores = L.Dense(3)
    model = keras.Model(inputs, scores(L.Flatten()(pool[-1])))

    def modified_pass(x: tf.Tensor) -> tf.Tensor:
        values = [x]
        for modified, read, of_one in plan:
            values.append(modified(values[read[0]] if of_one else [values[place] for place in read]))
        return scores(tf.reshape(values[-1], (len(x), -1)))

    return model, modified_pass


# A failing graph is small already; making it smaller takes minutes.
@settings(
    deadline=None,
    max_examples=60,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
@given(steps=STEPS, seed=st.integers(0, 999))
def test_rules_are_the_gradient_of_the_modified_pass(steps, seed):
    rng = np.random.default_rng(seed)
    model, modified_pass = _built(steps)
    for variable in model.weights:
        if "variance" not in variable.name and "gamma" not in variable.name:
            variable.assign(rng.normal(size=variable.shape) * (0.0 if "norm" in variable.name else 0.5))
    x = tf.constant(rng.normal(size=(1, SIDE, SIDE, CHANNELS)))
    with tf.GradientTape() as tape:
        tape.watch(x)
        modified = modified_pass(x)
        score = modified[:, 1]
    expected = x * tape.gradient(score, x)
    # As features: of pixels in other units, the relevance would be that of the pixels.
    trace = record(model, [x], raw=False)
    np.testing.assert_allclose(trace.outputs[0], modified, rtol=1e-8, atol=1e-10)
    chosen, composite = tf.one_hot([1], 3, dtype=tf.float64), COMPOSITES.get({"name": "lrp.epsilon", "epsilon": 1e-14})
    (got,) = reverse(trace, trace.outputs[0] * chosen, composite)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6 * max(1e-9, np.abs(expected).max()))
    # An activation behind a ReLU may have no form as a gradient.
    with contextlib.suppress(NoGradientForm):
        (got,) = reverse_gradient(trace, chosen, composite)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6 * max(1e-9, np.abs(expected).max()))
