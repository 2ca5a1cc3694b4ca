"""The challenger at the features of heads: what is manipulated, and what takes its place."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.errors import ConfigError
from egt_tf.heads import CosineHead, CrossAttentionHead, GraphHead, Head, RelationHead
from egt_tf.heads.similarity import unit
from egt_tf.lrp import COMPOSITES
from egt_tf.training.guidance import GuidedScores, check_head, guided_scores
from egt_tf.training.guidance_weights import Challenger
from egt_tf.training.manipulation import MANIPULATIONS, blurred, of_examples, rival_examples

FSC = COMPOSITES.get("fsc")
WAYS, QUERIES = 3, 6
LABELS = np.tile(np.repeat(np.arange(WAYS), QUERIES // WAYS), (2, 1))
HEADS = {
    "relation": lambda: RelationHead((4, 4, 8), seed=1),
    "cosine": lambda: CosineHead((4, 4, 8)),
    "cross_attention": lambda: CrossAttentionHead((4, 4, 8), seed=1),
    "graph": lambda: GraphHead((4, 4, 8), ways=WAYS, embedding=6, adjacency_width=5, growth=4, seed=1),
}


def head_and_features(name: str) -> tuple[Head, list[tf.Tensor]]:
    rng = np.random.default_rng(1)
    support, query = (np.maximum(rng.normal(size=(2, n, 4, 4, 8)), 0).astype(np.float32) for n in (WAYS, QUERIES))
    head = HEADS[name]()
    return head, tf.nest.flatten(head.relate(support, tf.tile(tf.eye(WAYS)[None], [2, 1, 1]), query))


def challenged(name: str, **arguments) -> tuple[Head, list[tf.Tensor], GuidedScores]:
    head, features = head_and_features(name)
    return (
        head,
        features,
        guided_scores(head, features, FSC, weights=Challenger(**arguments), labels=tf.constant(LABELS)),
    )


@functools.cache
def left_alone(name: str) -> tf.Tensor:
    _, _, result = challenged(name, share=1e-9, strength=1e-6)
    return result.guided


@pytest.mark.parametrize("manipulation", MANIPULATIONS.names())
@pytest.mark.parametrize("name", [name for name in HEADS if name != "graph"])
def test_every_head_scores_what_is_manipulated(name, manipulation):
    _, _, result = challenged(name, manipulation=manipulation, share=0.3)
    assert np.isfinite(result.guided).all()
    assert np.abs(result.guided - left_alone(name)).max() > 1e-3
    for r, weights in zip(result.relevance, result.weights, strict=True):
        assert r.shape == weights.shape
        assert np.isin(weights, [0, 1]).all() or manipulation == "attenuate"


def test_pairs_are_exchanged_for_those_of_a_query_of_the_strongest_rival_with_the_same_class():
    head, features, result = challenged("relation", manipulation="exchange", share=0.25)
    pairs, (weights,) = head.score_model.get_layer("pairs")(features), result.weights
    seed = tf.random.experimental.stateless_fold_in(tf.constant([0, 0]), 1)
    others = rival_examples(result.plain, tf.constant(LABELS), seed).numpy()
    expected = np.array(pairs)
    for e, q, k in np.ndindex(2, QUERIES, WAYS):
        rivals = [c for c in range(WAYS) if c != LABELS[e, q]]
        assert LABELS[e, others[e, q]] == max(rivals, key=lambda c: result.plain[e, q, c])
        taken = weights[e, q, k].numpy() == 0
        expected[e, q, k][taken] = pairs[e, others[e, q], k].numpy()[taken]
        # What the pair has of its prototype is the same in both.
        np.testing.assert_array_equal(expected[e, q, k][..., :8], pairs[e, q, k][..., :8])
    assert (weights.numpy() == 0).any()
    np.testing.assert_allclose(result.guided, head.weighted_model(expected, training=True), rtol=1e-4, atol=1e-5)


def test_cross_attention_blurs_the_unit_vectors_of_the_query_and_leaves_the_prototype():
    head, (attended, pooled), result = challenged("cross_attention", manipulation="blur", share=0.5)
    first, second = result.weights
    np.testing.assert_array_equal(second, tf.ones_like(second))
    query = unit(attended)
    expected = head.scale * np.einsum("eqkhwc,eqkc->eqhwk", query * first + (1 - first) * blurred(query), unit(pooled))
    np.testing.assert_allclose(result.guided, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_nodes_of_a_graph_have_no_positions_and_get_noise_of_all_their_channels():
    head, (nodes, labels), result = challenged("graph", manipulation="noise", share=0.5)
    (weights,) = result.weights
    positive = (result.relevance[0].numpy() > 0).sum(-1)
    np.testing.assert_array_equal((weights.numpy() == 0).sum(-1), np.ceil(positive / 2))
    assert np.abs(result.guided - head.weighted_model([nodes * weights, labels], training=True)).max() > 1e-3


def test_halves_are_maps_of_their_own():
    head, features = head_and_features("relation")
    result = guided_scores(head, features, FSC, weights=Challenger(manipulation="noise", share=0.2), halves=True)
    taken = result.weights[0].numpy() == 0
    for half, r in zip(np.split(taken, 2, -1), np.split(result.relevance[0].numpy(), 2, -1), strict=True):
        np.testing.assert_array_equal(half.sum((-3, -2, -1)), np.ceil(np.round(0.2 * (r > 0).sum((-3, -2, -1)), 6)))


def test_gradients_reach_the_features_through_what_is_left_of_them():
    head, features = head_and_features("cosine")
    with tf.GradientTape() as tape:
        tape.watch(features)
        result = guided_scores(head, features, FSC, weights=Challenger(manipulation="noise", share=0.5))
        loss = tf.reduce_sum(result.guided)
    (gradient,) = tape.gradient(loss, features)
    taken = result.weights[0].numpy() == 0
    assert (np.abs(gradient.numpy()[taken]) == 0).all()
    assert np.abs(gradient.numpy()[~taken]).max() > 0


def test_the_other_query_is_taken_within_its_episode():
    _, features = head_and_features("cosine")
    taken = of_examples(features[0], tf.constant([[5] * 6, [0] * 6])).numpy()
    np.testing.assert_array_equal(taken[0, 2], features[0][0, 5])
    np.testing.assert_array_equal(taken[1, 2], features[0][1, 0])


@pytest.mark.parametrize(
    ("name", "arguments", "some_classes", "message"),
    [
        ("graph", {"manipulation": "blur"}, False, "must neither blur .* with graph"),
        ("graph", {"unit": "position"}, False, "the unit position .* with graph"),
        ("graph", {"manipulation": "exchange"}, False, "must not exchange .* exchange with graph"),
        ("cosine", {"manipulation": "exchange"}, True, "exchange with classes true_and_rival"),
    ],
)
def test_what_a_head_cannot_have_is_told(name, arguments, some_classes, message):
    with pytest.raises(ConfigError, match=message):
        check_head(HEADS[name](), False, some_classes, Challenger(**arguments))


def test_rivals_need_labels():
    head, features = head_and_features("cosine")
    with pytest.raises(ConfigError, match="must have the `labels` of the queries"):
        guided_scores(head, features, FSC, weights=Challenger(manipulation="exchange"))
