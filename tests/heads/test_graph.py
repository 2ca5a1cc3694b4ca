from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError
from egt_tf.heads import HEADS, GraphHead
from egt_tf.heads.weighting import Weighting
from egt_tf.keras_api import keras, layers_in
from egt_tf.lrp import COMPOSITES
from egt_tf.training.guidance import guided_scores
from egt_tf.training.guided_model import GuidedModel
from tests import graph_reference as reference
from tests.layer_harness import check_layer, close

# A softmax does not see a constant, nor does a normalisation by the statistics of the call.
IDLE = [
    *(f"graph{i}_adjacency_last/bias" for i in (1, 2, 3)),
    *(f"graph{i}_adjacency{step}/bias" for i in (1, 2, 3) for step in (1, 2, 3, 4)),
    "embedding/bias",
    "graph1/bias",
    "graph2/bias",
]
SMALL = {"embedding": 6, "adjacency_width": 4, "growth": 3}


def episodes(shape=(3, 3, 4), *, count=1, ways=3, shots=2, queries=6, seed=0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    support, query = (rng.normal(size=(count, number, *shape)).astype(np.float32) for number in (ways * shots, queries))
    labels = np.eye(ways, dtype=np.float32)[np.repeat(np.arange(ways), shots)]
    return [support, np.tile(labels, (count, 1, 1)), query]


def small(ways=3, shape=(3, 3, 4), **arguments) -> GraphHead:
    return GraphHead(shape, ways, **{**SMALL, "seed": 1, **arguments})


def warmed(head: GraphHead, inputs) -> GraphHead:
    """Gives the running averages other values than their first ones."""
    for _ in range(5):
        head(inputs, training=True)
    return head


def jittered(head: GraphHead) -> GraphHead:
    """Gives the normalisations scales and shifts that are not their neutral first ones."""
    rng = np.random.default_rng(5)
    head.set_weights([w + 0.2 * rng.normal(size=w.shape) for w in head.get_weights()])
    return head


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{}, {"batch_statistics": False, "queries_per_graph": "one"}])
def test_layer(arguments, tmp_path):
    check_layer(
        lambda: small(**arguments),
        episodes(count=2),
        [[1], [1, 2], [1]],
        tmp_path,
        rtol=1e-4,
        differentiable=(0, 2),
        idle=IDLE,
    )


# === shapes ===


@pytest.mark.parametrize(
    ("ways", "shots", "queries", "per_graph"),
    [
        pytest.param(2, 1, 2, "ways", marks=pytest.mark.slow),
        (3, 2, 9, "ways"),
        pytest.param(5, 5, 5, "ways", marks=pytest.mark.slow),
        pytest.param(3, 2, 1, "one", marks=pytest.mark.slow),
        pytest.param(2, 3, 7, "one", marks=pytest.mark.slow),
    ],
)
def test_any_shots_and_queries(ways, shots, queries, per_graph):
    head = small(ways, queries_per_graph=per_graph)
    inputs = episodes(count=2, ways=ways, shots=shots, queries=queries)
    nodes, labels = head.relate(*inputs)
    in_graph = ways if per_graph == "ways" else 1
    graphs, size = queries // in_graph, ways * shots + in_graph
    assert nodes.shape == (2, graphs, size, 6)
    assert labels.shape == (2, graphs, size, ways)
    assert head.query_multiple(ways) == in_graph
    assert head.score([nodes, labels]).shape == (2, queries, ways)
    assert np.isfinite(head(inputs)).all()


@pytest.mark.slow
def test_classes_may_have_different_shots():
    support, _, query = episodes()
    labels = np.eye(3, dtype=np.float32)[[[2, 0, 2, 1, 2, 2]]]
    assert np.isfinite(small()([support, labels, query])).all()


def test_parameters_are_those_published():
    head = GraphHead((1, 1, 512))
    expected = 512 * 128 + 128 + 2 * 128 + 2 * 229 * 5 + 5
    for width, new in ((133, 48), (181, 48), (229, None)):
        sizes = [width, 192, 192, 96, 96]
        expected += sum(a * b + 3 * b for a, b in itertools.pairwise(sizes)) + 96 + 1
        expected += (2 * width + 3) * new if new else 0
    assert sum(int(np.prod(w.shape)) for w in head.weights) == expected
    assert head.needs_ways
    assert HEADS.get({"name": "graph", "ways": 3}, feature_shape=(1, 1, 4)).ways == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ways": 1}, "`ways` must be"),
        ({"ways": 5.0}, "`ways` must be"),
        ({"embedding": 0}, "`embedding` must be"),
        ({"adjacency_width": "96"}, "`adjacency_width` must be"),
        ({"growth": -1}, "`growth` must be"),
        (
            {"queries_per_graph": "all"},
            "`queries_per_graph` must be one of ways, one. Received: queries_per_graph='all'",
        ),
        ({"batch_statistics": 1}, "`batch_statistics` must be"),
        ({"seed": -1}, "`seed` must be"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        GraphHead((5, 5, 4), **arguments)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"ways": 4, "queries": 8}, "made for episodes of 3 ways. Received: 4 ways"),
        ({"queries": 7}, "a multiple of 3 queries in an episode.* Received: 7 queries"),
    ],
)
def test_other_episodes_are_refused_in_one_line(sizes, message):
    with pytest.raises(ConfigError, match=message) as raised:
        small().relate(*episodes(**sizes))
    assert "\n" not in str(raised.value)


# === values ===


@pytest.mark.parametrize(
    ("ways", "shots", "queries", "per_graph"),
    [
        (3, 2, 6, "ways"),
        (2, 1, 4, "one"),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in ((3, 2, 6, "one"), (2, 1, 4, "ways"), (5, 1, 10, "ways"), (5, 1, 10, "one"))
        ),
    ],
)
def test_the_formula(ways, shots, queries, per_graph):
    head = jittered(small(ways, queries_per_graph=per_graph))
    support, labels, query = episodes(ways=ways, shots=shots, queries=queries, seed=4)
    expected = reference.forward(head, support[0], labels[0], query[0])
    nodes, node_labels = head.relate(support, labels, query)
    np.testing.assert_allclose(np.concatenate([nodes[0], node_labels[0]], axis=-1), expected.levels[0], atol=1e-5)
    np.testing.assert_allclose(head([support, labels, query])[0], expected.scores, atol=1e-4)


@pytest.mark.slow
def test_initial_weights_follow_the_seed():
    a, b, c = (small(seed=seed) for seed in (1, 1, 2))
    close(a.get_weights(), b.get_weights())
    assert np.any(a.get_weights()[0] != c.get_weights()[0])
    layer = GraphHead((1, 1, 512), seed=0).score_model.get_layer("graph1_adjacency2")
    for values in (layer.kernel.numpy(), layer.bias.numpy()):
        assert 0.95 / np.sqrt(192) < np.abs(values).max() <= 1 / np.sqrt(192)


@pytest.mark.slow
def test_cross_entropy_loss():
    scores = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    labels = np.array([[0, 3, 1], [2, 2, 0]])
    logarithm = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    expected = -np.take_along_axis(logarithm, labels[..., None], -1)[..., 0].mean(1)
    np.testing.assert_allclose(small().loss(scores, labels), expected, rtol=1e-5)
    assert small().loss(tf.zeros((1, 2, 3), tf.float16), [[0, 1]]).dtype == tf.float32


# === independence ===


# The others are slow.
QUICKEST = {("one", True, False)}


@pytest.mark.parametrize(
    ("per_graph", "batch_statistics", "training"),
    [
        pytest.param(*each, marks=[pytest.mark.slow] * (each not in QUICKEST))
        for each in itertools.product(("ways", "one"), (False, True), (False, True))
    ],
)
def test_several_episodes_at_once_equal_each_alone(per_graph, batch_statistics, training):
    inputs = episodes(count=3)
    head = warmed(small(batch_statistics=batch_statistics, queries_per_graph=per_graph), inputs)
    together = head(inputs, training=training)
    alone = [head([x[e : e + 1] for x in inputs], training=training) for e in range(3)]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("per_graph", ["ways", "one"])
def test_the_order_of_the_support_images_does_not_matter(per_graph):
    support, labels, query = episodes()
    head = jittered(small(queries_per_graph=per_graph))
    order = np.random.default_rng(2).permutation(support.shape[1])
    shuffled = head([support[:, order], labels[:, order], query])
    np.testing.assert_allclose(shuffled, head([support, labels, query]), rtol=1e-4, atol=1e-5)


def _changed_queries(head, inputs, position):
    """Which queries' scores change with the map of one of them."""
    support, labels, query = inputs
    other = query.copy()
    other[0, position] += 3.0
    return np.flatnonzero(np.abs(head(inputs) - head([support, labels, other])).max((0, 2)) > 1e-5).tolist()


@pytest.mark.slow
def test_queries_see_those_of_their_graph():
    inputs = episodes(queries=9)
    head = warmed(small(batch_statistics=False), inputs)
    # Three graphs; the fifth query is the second of its class.
    assert _changed_queries(head, inputs, 4) == [1, 4, 7]
    assert head.uses_batch_statistics


@pytest.mark.slow
def test_a_query_with_a_graph_of_its_own_is_scored_alone():
    support, labels, query = inputs = episodes(queries=5)
    head = warmed(small(batch_statistics=False, queries_per_graph="one"), inputs)
    assert _changed_queries(head, inputs, 3) == [3]
    assert not head.uses_batch_statistics
    np.testing.assert_allclose(head([support, labels, query[:, 3:4]]), head(inputs)[:, 3:4], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_with_batch_statistics_all_queries_see_each_other():
    inputs = episodes()
    for per_graph in ("ways", "one"):
        head = jittered(small(queries_per_graph=per_graph))
        assert _changed_queries(head, inputs, 3) == [0, 1, 2, 3, 4, 5]
        assert head.uses_batch_statistics


# === training ===


def test_gradients_reach_support_and_query():
    support, labels, query = (tf.constant(x) for x in episodes(count=2))
    head = small()
    with tf.GradientTape() as tape:
        tape.watch([support, query])
        loss = tf.reduce_sum(head.loss(head([support, labels, query], training=True), [[0, 0, 1, 1, 2, 2]] * 2))
    for gradient in tape.gradient(loss, [support, query]):
        assert (np.abs(gradient).max(axis=(2, 3, 4)) > 0).all()


@pytest.mark.parametrize("per_graph", ["ways", pytest.param("one", marks=pytest.mark.slow)])
def test_guidance_explains_all_nodes_and_weights_those(per_graph):
    inputs = episodes(count=2)
    head = small(queries_per_graph=per_graph)
    features = head.relate(*inputs)
    result = guided_scores(head, features, COMPOSITES.get("fsc"))
    nodes, labels = features
    assert result.output_relevance.shape == (*nodes.shape[:3], 3)
    assert result.relevance[0].shape == result.weights[0].shape == nodes.shape
    # Support nodes are explained and weighted too.
    assert (np.abs(result.weights[0] - 1).max(axis=-1) > 0.99).all()
    np.testing.assert_allclose(result.plain, head.score(features, training=True), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        result.guided, head.weighted_model([nodes * result.weights[0], labels], training=True), rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("per_graph", ["ways", "one"])
def test_weighted_nodes_may_differ_from_graph_to_graph(per_graph, float64):
    inputs = [x.astype(np.float64) for x in episodes(seed=4)]
    head = jittered(small(queries_per_graph=per_graph))
    nodes, labels = head.relate(*inputs)
    np.testing.assert_allclose(head.weighted_model([nodes, labels]), head.score([nodes, labels]), rtol=1e-9)
    weights = np.random.default_rng(1).uniform(0, 2, nodes.shape)
    scores = head.training_scores([nodes, labels], head.score([nodes, labels]), [Weighting(weights)])
    expected = reference.of_nodes(head, np.concatenate([nodes * weights, labels], axis=-1)[0])
    np.testing.assert_allclose(scores[0], expected.scores, rtol=1e-6)


# The gradients of such a step are compared in training/test_straightforward.py, such a training is run in
# cli/test_heads.py.
@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{}, {"queries_per_graph": "one", "batch_statistics": False}], ids=str)
def test_guided_training_lowers_both_losses(arguments):
    size, ways, shots, queries = 32, 3, 1, 2
    head = {"name": "graph", "ways": ways, **SMALL, "embedding": 16, **arguments}
    model = GuidedModel(EpisodicModel.build_from({"name": "conv4", "width": 8}, head, size, seed=3))
    model.compile(keras.optimizers.Adam(0.01))
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, ways * (shots + queries), size, size, 3)).astype(np.float32)
    labels = np.tile(np.eye(ways, dtype=np.float32), (2, 1, 1))
    batch = {"support_images": images[:, :ways], "support_labels": labels, "query_images": images[:, ways:]}
    targets = np.tile(np.repeat(np.arange(ways), queries), (2, 1))
    dataset = tf.data.Dataset.from_tensors((batch, targets, targets)).repeat(12)
    history = [model.fit(dataset, verbose=0).history for _ in range(2)]
    for loss in ("plain_loss", "guided_loss"):
        assert history[1][loss][0] < 0.9 * history[0][loss][0]


@pytest.mark.slow
def test_the_model_of_weighted_nodes_has_the_precision_of_the_head():
    with layers_in("mixed_bfloat16"):
        head = GraphHead((2, 2, 4), ways=2, embedding=3, adjacency_width=2, growth=2, seed=1)
    plain, weighted = (
        {layer.name: layer.compute_dtype for layer in model.layers} for model in (head.score_model, head.weighted_model)
    )
    assert weighted == plain
