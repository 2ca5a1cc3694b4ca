"""Models of Keras 3 beside ours: relevance of a copy, which follows their weights."""

from __future__ import annotations

import numpy as np
import pytest

from egt_tf.errors import ExplainError
from egt_tf.keras_api import LANE, keras
from egt_tf.lrp import LRP, fold_batch_norm

SIZE = 8


@pytest.fixture(scope="module")
def keras_3():
    """The module; the tests are skipped where Keras is Keras 2."""
    if LANE == "classic":
        pytest.skip("TensorFlow 2.14 has no Keras 3 beside it")
    import keras as module

    return module


def build(module):
    """A network of two inputs with a nested model, by either Keras."""
    L = module.layers
    images, codes = module.Input((SIZE, SIZE, 3), name="images"), module.Input((4,), name="codes")
    x = L.BatchNormalization(epsilon=0.01, name="norm")(L.Conv2D(4, 3, padding="same", name="first")(images))
    x = L.LeakyReLU(0.1, name="leaky")(x)
    x = L.Add(name="sum")([x, L.Conv2D(4, 1, activation="relu", name="beside")(images)])
    x = L.LayerNormalization(name="by_itself")(L.AveragePooling2D(2, name="mean")(x))
    x = L.Concatenate(name="both")([L.Flatten(name="flat")(x), codes])
    inner = module.Sequential(
        [module.Input((68,)), L.Dense(6, activation="silu", name="hidden"), L.Dense(3, name="scores")], name="inner"
    )
    return module.Model([images, codes], inner(x), name="network")


def weights_of(model, seed):
    rng = np.random.default_rng(seed)
    return [rng.uniform(0.1, 0.9, weight.shape).astype(np.float32) for weight in model.get_weights()]


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(1)
    return [rng.normal(size=(2, SIZE, SIZE, 3)).astype(np.float32), rng.normal(size=(2, 4)).astype(np.float32)]


@pytest.mark.parametrize("canonize", [False, True])
@pytest.mark.parametrize("composite", ["fsc", "lrp.epsilon"])
def test_both_kerases_have_one_relevance(keras_3, inputs, composite, canonize):
    of_3, of_2 = build(keras_3), build(keras)
    weights = weights_of(of_2, 2)
    of_2.set_weights(weights)
    of_3.set_weights(weights)
    np.testing.assert_allclose(np.asarray(of_3(inputs)), of_2(inputs), rtol=1e-5, atol=1e-6)
    expected = LRP(of_2, composite, canonize=canonize).analyze(inputs)
    for ours, theirs in zip(LRP(of_3, composite, canonize=canonize).analyze(inputs), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6 * np.abs(theirs).max())


def test_weights_that_change_later_are_seen(keras_3, inputs):
    model = build(keras_3)
    analyzer = LRP(model, "lrp.epsilon")
    analyzer.analyze(inputs)
    model.set_weights(weights_of(model, 3))
    for ours, theirs in zip(analyzer.analyze(inputs), LRP(model, "lrp.epsilon").analyze(inputs), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_model_that_was_trained_by_keras_3(keras_3):
    L = keras_3.layers
    model = keras_3.Sequential([keras_3.Input((5,)), L.Dense(8, activation="relu"), L.Dense(2)])
    model.compile("adam", keras_3.losses.SparseCategoricalCrossentropy(from_logits=True))
    analyzer = LRP(model, "lrp.z", neuron_selection_mode="index")
    x = np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32)
    model.fit(x, (x[:, 0] > 0).astype(int), epochs=2, verbose=0)
    # Without biases that have moved far, the relevance of a ReLU net adds up to the score but for them.
    for layer in model.layers:
        layer.bias.assign(0 * layer.bias)
    np.testing.assert_allclose(analyzer.analyze(x, 1).sum(-1), np.asarray(model(x))[:, 1], rtol=1e-4, atol=1e-5)


def test_what_cannot_be_copied_says_what_to_do(keras_3):
    L = keras_3.layers

    class Subclassed(keras_3.Model):
        def call(self, x):
            return x

    x = keras_3.Input((4, 6))
    subclassed = Subclassed()
    subclassed(np.ones((1, 2)))
    for model, message in (
        (keras_3.Model(x, L.MultiHeadAttention(2, 3)(x, x)), "a layer 'MultiHeadAttention'.*tf_keras"),
        (keras_3.Model(x, x + x), "'Add' of 'keras.src.ops.numpy', which is not loaded"),
        (keras_3.Model(x, keras_3.ops.sin(x)), "'Sin' of"),
        (keras_3.Model(x, L.Dense(2, activation="hard_sigmoid")(x)), "'hard_sigmoid'"),
        (keras_3.Sequential([L.Dense(2)]), "begin it with keras.Input"),
        (subclassed, "Functional or Sequential model. Received: 'Subclassed'"),
    ):
        with pytest.raises(ExplainError, match=message):
            LRP(model)


def test_elsewhere_a_model_of_keras_3_is_refused(keras_3):
    with pytest.raises(ExplainError, match=r"explained by `LRP\(model\)`.*tf_keras"):
        fold_batch_norm(build(keras_3))


def test_of_keras_2_nothing_is_a_copy():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    assert LRP(model).model is model
