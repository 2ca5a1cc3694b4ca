"""Relevance through the graph head: its rules, the whole head against NumPy, conservation, and down to the pixels."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.data.preprocessing import normalize
from egt_tf.data.support import SupportSet
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError, ExplainError
from egt_tf.explain.gradients import DERIVATIVE
from egt_tf.explain.methods import get_method
from egt_tf.explain.query import explain_image, query_inputs, relevance_of_query
from egt_tf.heads.graph_layers import GraphNodes, Neighbourhood, QueryScores, SkipConcatenate
from egt_tf.heads.layers import EpisodeBatchNormalization, MapMean
from egt_tf.heads.lrp_rules import NeighbourhoodShare
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, Composite, record, reverse
from egt_tf.lrp.layer_types import is_layer_type
from egt_tf.lrp.linear_rules import Epsilon
from egt_tf.lrp.rules import Derivative, LayerState, Pass, RouteWithout
from tests import graph_reference as reference
from tests.heads.test_graph import SMALL, episodes, jittered, small
from tests.helpers.random_images import random_image, random_support

L = keras.layers
KEEPS_SKIP = [name for name in COMPOSITES.names() if name not in ("fsc", "fsc_gamma")]


# === Rules ===


def _neighbourhood(rule, x, a, r):
    layer = Neighbourhood()
    y = layer([tf.constant(x), tf.constant(a)])
    state = LayerState(layer, lambda xs: [layer(xs)], (False, False))
    return rule.apply([tf.constant(x), tf.constant(a)], [y], [tf.constant(r)], state)


@pytest.mark.parametrize("exact_identity", [False, True])
@pytest.mark.parametrize("epsilon", [0.01, 0.3])
def test_neighbourhood_shares_what_it_summed(epsilon, exact_identity, float64):
    rng = np.random.default_rng(0)
    x, a, r = rng.normal(size=(4, 3)), reference.softmax(rng.normal(size=(4, 4))), rng.normal(size=(4, 6))
    x[1, 2] = 0.0
    relevance, of_weights = _neighbourhood(NeighbourhoodShare(epsilon, exact_identity), x[None], a[None], r[None])
    assert of_weights is None

    def stabilised(z):
        return z + epsilon if z >= 0 else z - epsilon

    expected = np.zeros((4, 3))
    for i in range(4):
        for c in range(3):
            own = r[i, c] if exact_identity else r[i, c] * x[i, c] / stabilised(x[i, c])
            shared = sum(
                a[j, i] * x[i, c] * r[j, 3 + c] / stabilised(sum(a[j, k] * x[k, c] for k in range(4))) for j in range(4)
            )
            expected[i, c] = own + shared
    np.testing.assert_allclose(relevance[0], expected, rtol=1e-10)


def test_without_a_stabiliser_exact_zeros_are_guarded():
    x, a = np.zeros((1, 2, 3), np.float32), np.full((1, 2, 2), 0.5, np.float32)
    r = np.ones((1, 2, 6), np.float32)
    np.testing.assert_array_equal(_neighbourhood(NeighbourhoodShare(0.0), x, a, r)[0], np.zeros((1, 2, 3)))
    np.testing.assert_array_equal(_neighbourhood(NeighbourhoodShare(0.0, True), x, a, r)[0], np.ones((1, 2, 3)))
    with pytest.raises(ExplainError, match="`epsilon` must be >= 0"):
        NeighbourhoodShare(-0.1)


def test_route_without_drops_inputs():
    xs = [tf.ones((1, width)) for width in (2, 1, 3)]
    layer = SkipConcatenate()
    state = LayerState(layer, lambda inputs: [layer(inputs)], (False,) * 3)
    r = tf.constant([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    first, dropped, last = RouteWithout([1]).apply(xs, [layer(xs)], [r], state)
    np.testing.assert_array_equal(first, [[1, 2]])
    np.testing.assert_array_equal(last, [[4, 5, 6]])
    assert dropped is None


# === Which layer gets which ===


def test_fsc_is_the_published_choice_for_the_graph_head():
    fsc = COMPOSITES.get("fsc")
    assert fsc.rule_for(L.Dense(1)) == Epsilon(0.01, bias=False)
    assert fsc.rule_for(EpisodeBatchNormalization()) == fsc.rule_for(L.LeakyReLU(0.01)) == Pass()
    assert fsc.rule_for(Neighbourhood()) == NeighbourhoodShare(0.01)
    for name in ("fsc", "fsc_gamma"):
        assert COMPOSITES.get(name).rule_for(SkipConcatenate()) == RouteWithout((1,))
        assert COMPOSITES.get({"name": name, "skip_relevance": True}).rule_for(SkipConcatenate()) == Derivative()


@pytest.mark.parametrize("name", KEEPS_SKIP)
def test_other_composites_keep_the_relevance_of_skips(name):
    composite = COMPOSITES.get(name)
    assert composite.rule_for(SkipConcatenate()) == composite.rule_for(L.Concatenate()) == Derivative()
    assert composite.rule_for(Neighbourhood()).exact_identity is (name != "fsc_can")


def test_types_of_the_layers():
    assert is_layer_type(MapMean(), "mean")
    assert is_layer_type(SkipConcatenate(), "skip")
    assert all(is_layer_type(layer, "route") for layer in (GraphNodes(3), QueryScores(), SkipConcatenate()))


@pytest.mark.parametrize("name", COMPOSITES.names())
def test_composites_survive_json(name):
    composite = COMPOSITES.get(name)
    restored = Composite.from_json(json.loads(json.dumps(composite.to_json())))
    for layer in (Neighbourhood(), SkipConcatenate()):
        assert restored.rule_for(layer) == composite.rule_for(layer)


# === The whole head ===


def _recorded(head, inputs):
    return record(head.score_model, head.relate(*inputs), raw=False)


@pytest.mark.parametrize(
    ("skip_relevance", "per_graph"),
    [
        (False, "ways"),
        (True, "one"),
        pytest.param(False, "one", marks=pytest.mark.slow),
        pytest.param(True, "ways", marks=pytest.mark.slow),
    ],
)
def test_the_head_against_numpy(skip_relevance, per_graph, float64):
    head = jittered(small(queries_per_graph=per_graph))
    inputs = [x.astype(np.float64) for x in episodes(seed=4)]
    state = reference.forward(head, *(x[0] for x in inputs))
    start = np.random.default_rng(6).normal(size=state.node_scores.shape)
    trace = _recorded(head, inputs)
    composite = COMPOSITES.get({"name": "fsc", "skip_relevance": skip_relevance})
    nodes, labels = reverse(trace, tf.constant(start[None]), composite, source=trace.output_of("node_scores"))
    expected = reference.relevance(state, start, skip_relevance=skip_relevance)
    np.testing.assert_allclose(np.concatenate([nodes[0], labels[0]], axis=-1), expected, rtol=1e-9, atol=1e-9)


def test_what_the_skip_brings_makes_a_difference():
    head, inputs = jittered(small()), episodes()
    trace = _recorded(head, inputs)
    results = [
        reverse(trace, trace.outputs[0], COMPOSITES.get({"name": "fsc", "skip_relevance": keep}))[0].numpy()
        for keep in (False, True)
    ]
    assert np.abs(results[0] - results[1]).max() > 0.01 * np.abs(results[1]).max()


@pytest.mark.slow
def test_episodes_are_explained_as_each_alone():
    head, inputs = jittered(small()), episodes(count=2)
    together = _recorded(head, inputs)
    both = reverse(together, together.outputs[0], COMPOSITES.get("fsc"))[0]
    for e in range(2):
        alone = _recorded(head, [x[e : e + 1] for x in inputs])
        (one, _) = reverse(alone, alone.outputs[0], COMPOSITES.get("fsc"))
        np.testing.assert_allclose(both[e : e + 1], one, rtol=1e-3, atol=1e-4 * np.abs(one).max())


CONSERVING = {
    "epsilon": {"name": "epsilon", "epsilon": 1e-9, "bias": False},
    "epsilon_plus": {"name": "epsilon_plus", "bias": False},
}


@pytest.mark.parametrize("name", CONSERVING)
def test_relevance_is_conserved(name, float64):
    """Nodes and their labels together hold what the scores started with: biases do not take part, nothing is lost."""
    head, inputs = jittered(small()), [x.astype(np.float64) for x in episodes(seed=2)]
    trace = _recorded(head, inputs)
    source = trace.output_of("node_scores")
    start = np.random.default_rng(1).uniform(0.5, 1.5, source.shape)
    relevance = reverse(trace, tf.constant(start), COMPOSITES.get(CONSERVING[name]), source=source)
    assert sum(float(tf.reduce_sum(r)) for r in relevance) == pytest.approx(start.sum(), rel=0.01)
    # As published, what skips a level is lost.
    lost = reverse(trace, tf.constant(start), COMPOSITES.get("fsc"), source=source)
    assert abs(sum(float(tf.reduce_sum(r)) for r in lost) - start.sum()) > 0.02 * start.sum()


def test_the_gradient_goes_through_the_weights_of_neighbours():
    head, inputs = jittered(small()), episodes(count=2)
    features = head.relate(*inputs)
    start = tf.random.stateless_normal((2, 6, 3), (1, 2))
    with tf.GradientTape() as tape:
        tape.watch(features)
        scores = head.score(features)
    expected = tape.gradient(scores, features, output_gradients=start)
    for got, slope in zip(reverse(_recorded(head, inputs), start, DERIVATIVE), expected):
        np.testing.assert_allclose(got, slope, rtol=1e-3, atol=1e-4 * np.abs(slope).max())


@pytest.mark.slow
def test_relevance_inside_a_graph():
    head, inputs = jittered(small()), episodes()

    def explain(*features):
        trace = record(head.score_model, features, raw=False)
        return reverse(trace, trace.outputs[0], COMPOSITES.get("fsc"))

    features = head.relate(*inputs)
    free = [tf.TensorSpec((None, None, None, x.shape[-1])) for x in features]
    for eager, compiled in zip(
        explain(*features), tf.function(explain, input_signature=free, autograph=False)(*features)
    ):
        np.testing.assert_allclose(compiled, eager, rtol=1e-3, atol=1e-4 * np.abs(eager).max())


# === Down to the pixels ===

SIZE, WAYS, SHOTS = 32, 3, 2


@functools.cache
def _model(**head) -> EpisodicModel:
    """Not to be changed."""
    head = {"name": "graph", "ways": WAYS, **SMALL, "embedding": 16, **head}
    return EpisodicModel.build_from({"name": "conv4", "width": 8}, head, SIZE, seed=2)


@pytest.fixture(scope="module")
def support():
    return random_support(WAYS, SHOTS, SIZE)


@pytest.fixture(scope="module")
def image():
    return random_image(SIZE)


SLOW = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("epsilon_plus", "fsc_can", "lrp.sequential_preset_a", "gradient")
]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fsc", *SLOW])
def test_query_and_support_images_have_maps(method, support, image):
    model = _model()
    method = get_method(method)
    result = relevance_of_query(model, support, query_inputs(model, support, image), [0, 2], method)
    assert result.query.shape == (2, SIZE, SIZE, 3)
    assert result.support.shape == (2, WAYS, SHOTS, SIZE, SIZE, 3)
    for maps in (result.query, result.support):
        assert np.isfinite(maps).all()
        assert np.any(maps[0])
        assert np.any(maps[1])
    # Every support image is a neighbour of the query.
    assert np.all(np.abs(result.support).max((-3, -2, -1)) > 0)


@pytest.mark.slow
def test_grad_cam_finds_the_maps_of_the_backbone(support, image):
    model = _model()
    result = relevance_of_query(model, support, query_inputs(model, support, image), [0, 1, 2], get_method("grad_cam"))
    # It shows what speaks for a class alone, and the classes share the images.
    for maps in (result.query, result.support):
        assert np.isfinite(maps).all()
        assert np.all(maps >= 0)
        assert np.any(maps)


@pytest.mark.parametrize(
    ("head", "count"),
    [
        pytest.param({}, 9, marks=pytest.mark.slow),
        pytest.param({"queries_per_graph": "one"}, 7, marks=pytest.mark.slow),
        pytest.param({"batch_statistics": False}, 9, marks=pytest.mark.slow),
        ({"batch_statistics": False, "queries_per_graph": "one"}, 1),
    ],
)
def test_support_images_fill_up_the_queries(head, count, support, image):
    model = _model(**head)
    queries = dict(zip(model.input_names, query_inputs(model, support, image)))["query_images"][0].numpy()
    flat = support.images.reshape(-1, SIZE, SIZE, 3)
    np.testing.assert_array_equal(queries, normalize(np.concatenate([image[None], flat, flat])[:count]))


def test_an_explanation_of_one_image(support, image):
    explanation = explain_image(_model(), support, image, target="cow")
    assert explanation.explained[0] == 2
    assert np.isclose(explanation.probabilities.sum(), 1.0)


def test_a_support_set_of_other_ways_is_refused_in_one_line(support, image):
    two = SupportSet(support.class_names[:2], support.images[:2])
    with pytest.raises(ConfigError, match=r"made for episodes of 3 ways. Received: 2 ways") as raised:
        explain_image(_model(), two, image)
    assert "\n" not in str(raised.value)
