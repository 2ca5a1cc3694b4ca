from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.errors import ConfigError
from egt_tf.heads import CosineHead, CrossAttentionHead, GraphHead, Head, PrototypeHead, RelationHead, RidgeHead
from egt_tf.heads.base import take_classes
from egt_tf.lrp import COMPOSITES
from egt_tf.training.chosen_classes import true_and_rival
from egt_tf.training.guidance import guided_scores

FSC = COMPOSITES.get("fsc")
WAYS, QUERIES = 3, 6
HEADS = {
    "relation": RelationHead,
    "relation_running": lambda shape, **kw: RelationHead(shape, batch_statistics=False, **kw),
    "cross_attention": CrossAttentionHead,
    "cosine": CosineHead,
    "prototype": PrototypeHead,
    "ridge": RidgeHead,
}


def head_and_features(name: str) -> tuple[Head, list[tf.Tensor], tf.Tensor]:
    rng = np.random.default_rng(1)
    support, query = (np.maximum(rng.normal(size=(2, n, 4, 4, 8)), 0).astype(np.float32) for n in (WAYS, QUERIES))
    labels = np.repeat(np.arange(WAYS), QUERIES // WAYS)
    head = HEADS[name]((4, 4, 8), seed=1)
    one_hot = tf.tile(tf.eye(WAYS)[None], [2, 1, 1])
    return head, tf.nest.flatten(head.relate(support, one_hot, query)), tf.constant(np.stack([labels, labels[::-1]]))


def test_the_true_class_comes_first_and_the_best_other_behind_it():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(3, 7, 5)), rng.integers(0, 5, (3, 7))
    chosen = true_and_rival(tf.constant(scores), tf.constant(labels)).numpy()
    for e, q in np.ndindex(3, 7):
        others = [k for k in range(5) if k != labels[e, q]]
        assert chosen[e, q].tolist() == [labels[e, q], max(others, key=lambda k: scores[e, q, k])]


def test_scores_of_any_size_have_a_rival():
    chosen = true_and_rival(tf.constant([[[-1e38, -3e38, -2e38]]]), tf.constant([[0]]))
    assert chosen.numpy().tolist() == [[[0, 2]]]


@pytest.mark.parametrize("name", HEADS)
def test_relevance_and_weights_are_those_of_all_classes_for_the_chosen_ones(name):
    head, features, labels = head_and_features(name)
    every, some = (guided_scores(head, features, FSC, labels=labels, some_classes=some) for some in (False, True))
    classes = true_and_rival(every.plain, labels)
    np.testing.assert_array_equal(some.plain, every.plain)
    for a, b in ((some.relevance, every.relevance), (some.weights, every.weights)):
        for x, y in zip(a, b, strict=True):
            expected = take_classes(y, classes)
            np.testing.assert_allclose(x, expected, atol=2e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("name", [name for name in HEADS if name != "relation"])
def test_scores_of_the_second_pass_are_those_of_all_classes_where_no_pair_sees_another(name):
    head, features, labels = head_and_features(name)
    every, some = (
        guided_scores(head, features, FSC, training=False, labels=labels, some_classes=some) for some in (False, True)
    )
    classes = true_and_rival(every.plain, labels)
    spread = every.guided
    if len(spread.shape) == 5:
        # At every position of the map, classes last.
        expected = tf.gather(tf.transpose(spread, [0, 1, 4, 2, 3]), classes, axis=2, batch_dims=2)
        expected = tf.transpose(expected, [0, 1, 3, 4, 2])
    else:
        expected = take_classes(spread, classes)
    np.testing.assert_allclose(some.guided, expected, rtol=1e-4, atol=1e-4)


def test_the_second_pass_of_relation_net_takes_its_statistics_from_the_chosen_pairs():
    head, features, labels = head_and_features("relation")
    some = guided_scores(head, features, FSC, labels=labels, some_classes=True)
    pairs = take_classes(head.score_model.get_layer("pairs")(features), true_and_rival(some.plain, labels))
    np.testing.assert_allclose(some.guided, head.weighted_model(pairs * some.weights[0]), rtol=1e-4, atol=1e-5)
    every = guided_scores(head, features, FSC)
    assert np.abs(some.guided - take_classes(every.guided, true_and_rival(every.plain, labels))).max() > 1e-3


@pytest.mark.parametrize("setting", [{"halves": True}, {"labels": tf.zeros((1, 4), tf.int32), "some_classes": True}])
def test_heads_that_it_is_not_for_are_named(setting):
    head = GraphHead((4, 4, 8), ways=2, seed=1)
    maps = tf.ones((1, 2, 4, 4, 8))
    features = head.relate(maps, tf.eye(2)[None], tf.ones((1, 4, 4, 4, 8)))
    with pytest.raises(ConfigError, match=r"`guidance\.(normalize|classes)` must be (joint|all) .* with graph"):
        guided_scores(head, features, FSC, **setting)
