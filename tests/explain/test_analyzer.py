"""The analyzer's interface, which is innvestigate's."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from innvestigate.analyzer.base import AnalyzerBase
from tensorflow import keras

from egt_tf.errors import ConfigError, ExplainError
from egt_tf.explain import COMPOSITES, LRP

L = keras.layers


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input((8, 8, 2)), L.Conv2D(4, 3, name="c"), L.Activation("relu"), L.MaxPooling2D(2),
                             L.Flatten(), L.Dense(3, name="d")])


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(3, 8, 8, 2)).astype(np.float32)


def test_it_is_an_innvestigate_analyzer(model):
    assert isinstance(LRP(model), AnalyzerBase)


def test_index_selects_one_neuron_for_all_or_one_for_each(model, images):
    analyzer = LRP(model, neuron_selection_mode="index")
    each = analyzer.analyze(images, [0, 1, 2])
    assert isinstance(each, np.ndarray) and each.shape == images.shape
    for neuron in range(3):
        np.testing.assert_allclose(analyzer.analyze(images, neuron)[neuron], each[neuron], rtol=1e-5, atol=1e-7)


def test_max_activation_is_the_index_of_the_largest_score(model, images):
    best = model.predict(images, verbose=0).argmax(1)
    expected = LRP(model, neuron_selection_mode="index").analyze(images, best)
    np.testing.assert_allclose(LRP(model).analyze(images), expected, rtol=1e-5, atol=1e-7)


def test_all_is_the_sum_over_the_indices(model, images):
    index = LRP(model, neuron_selection_mode="index")
    expected = sum(index.analyze(images, neuron) for neuron in range(3))
    np.testing.assert_allclose(LRP(model, neuron_selection_mode="all").analyze(images), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mode, selection, message", [
    ("index", None, "must be given"), ("all", 1, "in no other"), ("index", [0, 1], "1 or 3"), ("index", 3, "0..2"),
    ("index", -1, "0..2")])
def test_selections_are_checked(model, images, mode, selection, message):
    with pytest.raises(ExplainError, match=message):
        LRP(model, neuron_selection_mode=mode).analyze(images, selection)


def test_unknown_modes_and_composites_are_refused(model):
    with pytest.raises(ValueError, match="neuron_selection_mode"):
        LRP(model, neuron_selection_mode="largest")
    with pytest.raises(ConfigError, match="did you mean 'fsc'"):
        LRP(model, "fcs")


def test_relevance_starts_where_it_is_told(model, images):
    analyzer = LRP(model, COMPOSITES.get("fsc"), neuron_selection_mode="index")
    scores = model(images)
    start = tf.one_hot([2, 2, 2], 3) * scores
    expected = analyzer.analyze(images, 2)
    np.testing.assert_allclose(analyzer.relevance(tf.constant(images), start), expected, rtol=1e-5, atol=1e-7)
    # Relevance is linear in its start.
    np.testing.assert_allclose(analyzer.relevance(tf.constant(images), 2 * start), 2 * expected, rtol=1e-4, atol=1e-6)


def test_several_inputs_give_several_relevances():
    a, b = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([a, b], L.Dense(2)(L.Concatenate()([a, b])))
    first, second = LRP(model, neuron_selection_mode="index").analyze([np.ones((2, 4)), np.zeros((2, 4))], 0)
    assert first.shape == second.shape == (2, 4)
    assert np.any(first) and not np.any(second)


def test_repeated_calls_do_not_trace_again_and_add_no_variables(model, images):
    analyzer = LRP(model)
    analyzer.analyze(images)
    traces, variables = analyzer._analyze.experimental_get_tracing_count(), len(model.variables)
    analyzer.analyze(images + 1)
    assert analyzer._analyze.experimental_get_tracing_count() == traces and len(model.variables) == variables
