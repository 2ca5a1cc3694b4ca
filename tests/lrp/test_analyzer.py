"""The analyzer's interface, which is innvestigate's."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError, ExplainError
from egt_tf.keras_api import AnalyzerBase, keras
from egt_tf.lrp import COMPOSITES, LRP, Entry
from egt_tf.lrp.rules import Derivative
from tests.helpers.quick import all_but_slow

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


# === Outputs of any rank ===


@pytest.fixture(scope="module")
def maps():
    """A model whose output is a map (batch, 3, 4, 2), and the same model with its neurons side by side."""
    keras.utils.set_random_seed(4)
    x = keras.Input((5, 6, 2))
    y = L.Conv2D(2, 3, bias_initializer="normal")(L.Conv2D(3, 1, activation="relu")(x))
    return keras.Model(x, y), keras.Model(x, L.Flatten()(y))


@pytest.fixture(scope="module")
def pixels():
    # As many as the map is high, and as it is wide: the axes can be mistaken for each other.
    return {n: np.random.default_rng(n).normal(size=(n, 5, 6, 2)).astype(np.float32) for n in (3, 4)}


def _of_neurons(flat, x, rows, composite="lrp.epsilon"):
    """The relevance of each example for the sum of some neurons, `rows` being flat indices for each example."""
    found = LRP(flat, composite, "index").analyze_each(x, range(24))
    return np.stack([found[row, example].sum(0) for example, row in enumerate(rows)])


def _flat(*neurons):
    return [np.ravel_multi_index(neuron, (3, 4, 2)) for neuron in neurons]


@pytest.mark.parametrize("batch", all_but_slow([3, 4], {4}))
def test_neurons_of_a_map_are_those_of_the_same_map_laid_flat(maps, pixels, batch):
    model, flat = maps
    x, analyzer = pixels[batch], LRP(model, "lrp.epsilon", "index")
    channel = [list(range(c, 24, 2)) for c in (0, 1)]
    places = [(0, 1, 1), (2, 3, 0), (1, 0, 1), (2, 2, 1)][:batch]
    cases = {
        "a channel for all": (1, batch * [channel[1]]),
        "a neuron for all": ((2, 3, 0), batch * [_flat((2, 3, 0))]),
        "a channel for each": ([1, 0, 0, 1][:batch], [channel[c] for c in [1, 0, 0, 1][:batch]]),
        "channels as an array": (np.arange(batch) % 2, [channel[c % 2] for c in range(batch)]),
        "a neuron for each": (places, [_flat(place) for place in places]),
        "neurons as an array": (np.array(places), [_flat(place) for place in places]),
        "a tensor": (tf.constant(places), [_flat(place) for place in places]),
        "both": ([1, *places[1:]], [channel[1], *(_flat(place) for place in places[1:])]),
    }
    for case, (selection, rows) in cases.items():
        expected = _of_neurons(flat, x, rows)
        atol = 1e-6 * np.abs(expected).max()
        np.testing.assert_allclose(analyzer.analyze(x, selection), expected, rtol=1e-3, atol=atol, err_msg=case)


def test_several_neurons_of_a_map_at_once(maps, pixels):
    model, flat = maps
    # As many neurons as the map is high.
    neurons = [1, (2, 3, 0), (0, 0, 1)]
    rows = [list(range(1, 24, 2)), _flat((2, 3, 0)), _flat((0, 0, 1))]
    found = LRP(model, "lrp.epsilon", "index").analyze_each(pixels[3], neurons)
    assert found.shape == (3, *pixels[3].shape)
    for each, row in zip(found, rows):
        expected = _of_neurons(flat, pixels[3], 3 * [row])
        np.testing.assert_allclose(each, expected, rtol=1e-3, atol=1e-6 * np.abs(expected).max())


def test_the_largest_of_all_neurons_of_a_map_and_all_of_them(maps, pixels):
    model, flat = maps
    for mode in ("max_activation", "all"):
        expected = LRP(flat, "lrp.epsilon", mode).analyze(pixels[3])
        found = LRP(model, "lrp.epsilon", mode).analyze(pixels[3])
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6 * np.abs(expected).max())


def test_an_output_without_an_axis_of_its_own_is_one_neuron():
    x = keras.Input((4,))
    y = L.Dense(1)(x)
    model, column = keras.Model(x, L.Reshape(())(y)), keras.Model(x, y)
    assert model.output_shape == (None,)
    given = np.random.default_rng(0).normal(size=(3, 4))
    expected = LRP(column, neuron_selection_mode="all").analyze(given)
    assert np.abs(expected).min(axis=1).max() > 0
    for mode, selection in (("all", None), ("max_activation", None), ("index", 0), ("index", [0, 0, 0])):
        found = LRP(model, neuron_selection_mode=mode).analyze(given, selection)
        np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=mode)
    index = LRP(model, neuron_selection_mode="index")
    np.testing.assert_allclose(index.analyze_each(given, [0, 0])[1], expected, rtol=1e-6)
    with pytest.raises(ExplainError, match=r"0\.\.0"):
        index.analyze(given, 1)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ((0, 1), "tuples of 3 integers"),
        ((0, 1, 1, 1), "tuples of 3 integers"),
        ((3, 0, 0), r"0\.\.2 on axis 1"),
        ((0, -1, 0), r"0\.\.3 on axis 2"),
        ([0, (0, 1), 0], "tuples of 3 integers"),
        ({0: 1}, "integers"),
        (2**80, "integers"),
        (1.0, "integers"),
        (True, "integers"),
        ([True, False, True], "integers"),
        ("cat", "integers"),
        ([0, 1], "must hold 1 or 3"),
    ],
)
def test_selections_in_a_map_are_checked(maps, pixels, selection, message):
    with pytest.raises(ExplainError, match=message) as caught:
        LRP(maps[0], neuron_selection_mode="index").analyze(pixels[3], selection)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("neurons", [(0, 1, 1), [], 1, [1.7], [(0, 1)]])
def test_several_neurons_are_a_list(maps, pixels, neurons):
    with pytest.raises(ExplainError, match="`neurons` must be"):
        LRP(maps[0], neuron_selection_mode="index").analyze_each(pixels[3], neurons)


def test_a_size_that_only_the_input_tells_is_checked_too():
    x = keras.Input((None, None, 2))
    analyzer = LRP(keras.Model(x, L.Conv2D(2, 3)(x)), "epsilon", "index")
    given = np.random.default_rng(0).normal(size=(1, 5, 6, 2))
    assert np.any(analyzer.analyze(given, (2, 3, 0)))
    with pytest.raises(ExplainError, match=r"0\.\.2 on axis 1"):
        analyzer.analyze(given, (3, 3, 0))
    with pytest.raises(ExplainError, match=r"0\.\.3 on axis 2"):
        analyzer.analyze_each(given, [(2, 4, 0)])


# === Arguments ===


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


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((8, 8, 2)), r"must be shaped \(None, 8, 8, 2\). Received: \(8, 8, 2\)"),
        (np.zeros((3, 8, 8, 1)), r"Received: \(3, 8, 8, 1\)"),
        (np.zeros((3, 2, 8, 8)), r"Received: \(3, 2, 8, 8\)"),
        (1.0, r"Received: \(\)"),
        ("cat.png", "Received"),
        ({"images": np.zeros((3, 8, 8, 2))}, "must be an array of numbers. Received: dict"),
        ([[np.zeros((8, 8, 2)), np.zeros((4, 8, 2))]], "must be an array of numbers. Received: list"),
        (np.zeros((3, 8, 8, 2), np.complex64), "must hold float32. Received: complex64"),
        ([np.zeros((3, 8, 8, 2)), np.zeros((3, 8, 8, 2))], "takes 1 inputs. Received: 2"),
    ],
)
def test_inputs_are_checked(model, given, message):
    for call in (lambda a: a.analyze(given, 0), lambda a: a.analyze_each(given, [0])):
        with pytest.raises(ExplainError, match=message) as caught:
            call(LRP(model, neuron_selection_mode="index"))
        assert "\n" not in str(caught.value)


def test_inputs_of_other_types_count_as_the_models(model, images):
    analyzer, pixels = LRP(model), np.clip(100 * np.abs(images), 0, 255).astype(np.uint8)
    expected = analyzer.analyze(pixels.astype(np.float32))
    for x in (
        pixels,
        pixels.astype(np.int64),
        tf.constant(pixels),
        tf.constant(pixels, tf.float64),
        tf.constant(pixels, tf.float16),
        tf.Variable(pixels.astype(np.float32)),
        [pixels],
    ):
        np.testing.assert_array_equal(analyzer.analyze(x), expected)


def test_inputs_have_one_batch_size():
    a, b = keras.Input((4,)), keras.Input((4,))
    analyzer = LRP(keras.Model([a, b], L.Dense(2)(L.Concatenate()([a, b]))))
    with pytest.raises(ExplainError, match=r"one batch size. Received: \[2, 3\]"):
        analyzer.analyze([np.ones((2, 4)), np.ones((3, 4))])


def test_no_examples_have_no_relevance(model, maps):
    nothing = np.zeros((0, 8, 8, 2), np.float32)
    for mode, selection in (("all", None), ("max_activation", None), ("index", 1), ("index", [])):
        assert LRP(model, neuron_selection_mode=mode).analyze(nothing, selection).shape == nothing.shape
    index = LRP(model, neuron_selection_mode="index")
    assert index.analyze_each(nothing, [0, 1]).shape == (2, *nothing.shape)
    assert index.analyze(nothing, 0, layer="c").shape == (0, 6, 6, 4)
    assert LRP(maps[0]).analyze(np.zeros((0, 5, 6, 2))).shape == (0, 5, 6, 2)


# === Models ===


def test_models_without_a_graph_of_layers_are_refused():
    class Opaque(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ExplainError, match=r"Functional and Sequential models can be explained. Received.*Opaque"):
        LRP(Opaque())
    for other in (None, "model.h5", L.Dense(2)):
        with pytest.raises(ExplainError, match=r"Functional and Sequential models can be explained. Received"):
            LRP(other)
    model = keras.Sequential([L.Dense(2)])
    with pytest.raises(ExplainError, match=r"must have its input: begin it with keras.Input"):
        LRP(model)
    model(np.ones((1, 4)))
    assert LRP(model).analyze(np.ones((3, 4))).shape == (3, 4)


@pytest.fixture(scope="module")
def two_outputs():
    keras.utils.set_random_seed(5)
    x = keras.Input((4,))
    h = L.BatchNormalization()(L.Dense(3, name="hidden", activation="relu")(x))
    kind, size = L.Dense(2, name="kind")(h), L.Dense(5, name="size")(h)
    return keras.Model(x, {"of size": size, "of kind": kind}), keras.Model(x, kind), keras.Model(x, size)


@pytest.mark.parametrize("canonize", [pytest.param(False, marks=pytest.mark.slow), True])
def test_one_of_several_outputs_is_explained(two_outputs, canonize):
    model, *alone = two_outputs
    x = np.random.default_rng(0).normal(size=(3, 4))
    for name, single in zip(("kind", "size"), alone):
        expected = LRP(single, "lrp.epsilon", "index", canonize)
        for output in (name, model.output_names.index(name)):
            analyzer = LRP(model, "lrp.epsilon", "index", canonize, output=output)
            np.testing.assert_allclose(analyzer.analyze(x, 1), expected.analyze(x, 1), rtol=1e-5, atol=1e-7)
            again = LRP.from_config(model, json.loads(json.dumps(analyzer.get_config())))
            np.testing.assert_allclose(again.analyze_each(x, [0, 1]), expected.analyze_each(x, [0, 1]), rtol=1e-5)
            r = tf.ones((3, single.output_shape[-1]))
            np.testing.assert_allclose(
                analyzer.relevance(tf.constant(x, tf.float32), r),
                expected.relevance(tf.constant(x, tf.float32), r),
                rtol=1e-5,
            )
    with pytest.raises(ExplainError, match=r"must be shaped as what it is of, \(3, 2\). Received: \(3, 5\)"):
        LRP(model, output="kind").relevance(tf.constant(x, tf.float32), tf.ones((3, 5)))


@pytest.mark.parametrize("output", [None, "hue", 2, -1, True, 0.0])
def test_outputs_are_checked(two_outputs, output):
    with pytest.raises(ExplainError, match=r"`output` must be one of .*'kind'.* or a position in 0..1. Received"):
        LRP(two_outputs[0], output=output)


SOFTMAXES = {
    "Softmax": lambda x: L.Softmax()(L.Dense(3, name="scores")(x)),
    "Activation": lambda x: L.Activation("softmax")(L.Dense(3, name="scores")(x)),
    "tf.nn.softmax": lambda x: L.Activation(tf.nn.softmax)(L.Dense(3, name="scores")(x)),
    "Dense": lambda x: L.Dense(3, activation="softmax", name="scores")(x),
    "Dense of tf.nn": lambda x: L.Dense(3, activation=tf.nn.softmax, name="scores")(x),
    "nested": lambda x: keras.Sequential([keras.Input((4,)), L.Dense(3, activation="softmax", name="scores")])(x),
    "operation": lambda x: tf.nn.softmax(L.Dense(3, name="scores")(x)),
    "in another precision": lambda x: L.Activation("linear", dtype="float64")(L.Dense(3, activation="softmax")(x)),
}


@pytest.mark.parametrize("case", SOFTMAXES)
@pytest.mark.parametrize("composite", all_but_slow(["lrp.epsilon", "fsc"], {"lrp.epsilon"}))
def test_a_softmax_at_the_end_is_passed_over(case, composite):
    keras.utils.set_random_seed(6)
    x = keras.Input((4,))
    model = keras.Model(x, SOFTMAXES[case](x))
    plain = keras.Sequential([keras.Input((4,)), L.Dense(3)])
    plain.set_weights(model.get_weights())
    given, weights = np.random.default_rng(0).normal(size=(3, 4)), len(model.weights)
    before = model(given).numpy()
    with pytest.warns(UserWarning, match="ends in a softmax") as caught:
        analyzer = LRP(model, composite, "index")
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for selection in (1, [0, 1, 2]):
            expected = LRP(plain, composite, "index").analyze(given, selection)
            np.testing.assert_allclose(analyzer.analyze(given, selection), expected, rtol=1e-5)
        expected = LRP(plain, composite, "index").analyze_each(given, [0, 2])
        np.testing.assert_allclose(analyzer.analyze_each(given, [0, 2]), expected, rtol=1e-5)
    # The model is as it was.
    assert len(model.weights) == weights
    np.testing.assert_array_equal(model(given), before)


def test_a_layer_between_of_a_model_with_a_softmax():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, name="d"), L.Dense(2, activation="softmax", name="s")])
    with pytest.warns(UserWarning, match="softmax"):
        analyzer = LRP(model, "lrp.z", "index")
    h, (kernel, _) = model.get_layer("d")(np.ones((1, 4))), model.get_layer("s").get_weights()
    np.testing.assert_allclose(analyzer.analyze(np.ones((1, 4)), 1, layer="d"), h * kernel[:, 1], rtol=1e-5)


@pytest.mark.filterwarnings("error:the model ends")
def test_models_that_end_in_scores_are_not_warned_of(model, two_outputs):
    LRP(model)
    LRP(two_outputs[0], output="kind")
    inside = keras.Sequential([keras.Input((4,)), L.Softmax(), L.Dense(2)])
    LRP(inside, "epsilon")


def test_relevance_at_a_layer_does_not_ask_for_rules_below_it():
    x = keras.Input((5,), dtype="int32")
    h = L.GlobalAveragePooling1D(name="mean")(L.Embedding(7, 4, name="embedding")(x))
    scores = L.Dense(2, name="scores")(h)
    model = keras.Model(x, scores)
    analyzer = LRP(model, "lrp.z", "index")
    words = np.array([[1, 2, 3, 4, 5], [6, 0, 0, 1, 2]])
    embedded = model.get_layer("embedding")(words).numpy()
    kernel = model.get_layer("scores").get_weights()[0]
    np.testing.assert_allclose(
        analyzer.analyze(words, 1, layer="embedding"), embedded * kernel[:, 1] / 5, rtol=1e-4, atol=1e-7
    )
    with pytest.raises(ExplainError, match=r"no rule of composite 'lrp.z' fits layer 'embedding'"):
        analyzer.analyze(words, 1)


def test_many_analyzers_are_no_reason_for_a_warning(caplog):
    # TensorFlow warns twice at most in a process: run alone, this fails if it warns at all.
    tf.get_logger().addHandler(caplog.handler)
    try:
        model = keras.Sequential([keras.Input((2,)), L.Dense(2)])
        for _ in range(7):
            LRP(model, "epsilon").analyze(np.ones((1, 2)))
    finally:
        tf.get_logger().removeHandler(caplog.handler)
    assert "retracing" not in caplog.text


class Branching(L.Layer):
    """Doubles inputs whose sum is positive."""

    def call(self, inputs):
        return 2.0 * inputs if tf.reduce_sum(inputs) > 0 else inputs


def test_a_layer_may_branch_by_its_input():
    """In a graph Keras has its code converted by AutoGraph; the analyzer's own code is not."""
    inputs = keras.Input((3,))
    model = keras.Model(inputs, L.Dense(2, use_bias=False)(Branching(name="branching")(inputs)))
    composite = COMPOSITES.get("epsilon").prepend(Entry(Derivative(), layer="branching"))
    positive, negative = (LRP(model, composite, "index").analyze(x, 1) for x in (np.ones((1, 3)), -np.ones((1, 3))))
    kernel = model.layers[-1].kernel.numpy()[:, 1]
    # The derivative of the doubled input doubles what arrives, which is that input times the weights.
    np.testing.assert_allclose(positive[0], 4 * kernel, rtol=1e-4)
    np.testing.assert_allclose(negative[0], -kernel, rtol=1e-4)
