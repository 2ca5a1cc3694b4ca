"""The analyzer's interface, which is innvestigate's."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf
from innvestigate.analyzer.base import AnalyzerBase
from tensorflow import keras

from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError, ExplainError
from egt_tf.lrp import COMPOSITES, LRP

L = keras.layers


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            L.Conv2D(4, 3, name="c"),
            L.Activation("relu"),
            L.MaxPooling2D(2),
            L.Flatten(),
            L.Dense(3, name="d"),
        ]
    )


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(3, 8, 8, 2)).astype(np.float32)


def test_it_is_an_innvestigate_analyzer(model):
    assert isinstance(LRP(model), AnalyzerBase)


def test_index_selects_one_neuron_for_all_or_one_for_each(model, images):
    analyzer = LRP(model, neuron_selection_mode="index")
    each = analyzer.analyze(images, [0, 1, 2])
    assert isinstance(each, np.ndarray)
    assert each.shape == images.shape
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


@pytest.mark.parametrize(
    ("mode", "selection", "message"),
    [
        ("index", None, "must be given"),
        ("all", 1, "in no other"),
        ("index", [0, 1], "1 or 3"),
        ("index", 3, "0..2"),
        ("index", -1, "0..2"),
    ],
)
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
    assert np.any(first)
    assert not np.any(second)


def test_repeated_calls_do_not_trace_again_and_add_no_variables(model, images):
    analyzer = LRP(model)
    analyzer.analyze(images)
    traces, variables = analyzer._analyze.experimental_get_tracing_count(), len(model.variables)
    analyzer.analyze(images + 1)
    assert analyzer._analyze.experimental_get_tracing_count() == traces
    assert len(model.variables) == variables


def test_several_neurons_at_once_are_each_alone(model, images):
    analyzer = LRP(model, neuron_selection_mode="index")
    together = analyzer.analyze_each(images, [2, 0])
    assert together.shape == (2, *images.shape)
    for row, neuron in enumerate([2, 0]):
        np.testing.assert_allclose(together[row], analyzer.analyze(images, neuron), rtol=1e-5, atol=1e-7)
    with pytest.raises(ExplainError, match=r"0..2"):
        analyzer.analyze_each(images, [3])


def test_relevance_of_a_layer_in_between(model, images):
    analyzer = LRP(model, "epsilon", neuron_selection_mode="index")
    between = analyzer.analyze(images, 1, layer="c")
    assert between.shape == (3, 6, 6, 4)
    assert analyzer.analyze_each(images, [1], layer="c").shape == (1, 3, 6, 6, 4)
    with pytest.raises(ExplainError, match="'nowhere'"):
        analyzer.analyze(images, 1, layer="nowhere")


def test_configurations_make_equal_analyzers(model, images):
    analyzer = LRP(model, {"name": "epsilon_gamma_box", "low": -3.0, "high": 3.0}, "all", canonize=True)
    again = LRP.from_config(model, json.loads(json.dumps(analyzer.get_config())))
    assert again.get_config() == analyzer.get_config()
    np.testing.assert_array_equal(again.analyze(images), analyzer.analyze(images))


def test_an_episode_is_a_model_with_three_inputs():
    model = EpisodicModel.build_from({"name": "conv4", "width": 4}, "relation", 16, seed=1)
    rng = np.random.default_rng(0)
    given = {
        "support_images": rng.normal(size=(1, 4, 16, 16, 3)),
        "support_labels": np.eye(2)[None, [0, 0, 1, 1]],
        "query_images": rng.normal(size=(1, 3, 16, 16, 3)),
    }
    relevance = dict(
        zip(
            model.input_names,
            LRP(model, neuron_selection_mode="all").analyze([given[name] for name in model.input_names]),
        )
    )
    assert {name: r.shape for name, r in relevance.items()} == {name: a.shape for name, a in given.items()}
    assert np.any(relevance["support_images"])
    assert np.any(relevance["query_images"])
