"""The package's training steps against steps written straight down from the formulas."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.straightforward import scores_of
from egt_tf.heads import CrossAttentionHead, GraphHead, Head, RelationHead
from egt_tf.lrp import COMPOSITES
from egt_tf.training.guidance import guided_scores

WAYS, SHOTS, QUERIES = 3, 2, 2
LABELS = np.repeat(np.arange(WAYS), QUERIES)[None]
HEADS = {
    "relation": lambda: RelationHead((5, 5, 4), seed=0),
    "relation unpadded": lambda: RelationHead((12, 12, 3), seed=0),
    "relation without pooling": lambda: RelationHead((3, 2, 4), seed=0),
    "graph": lambda: GraphHead((3, 3, 8), ways=WAYS, embedding=6, adjacency_width=5, growth=4, seed=0),
    "attention": lambda: CrossAttentionHead((3, 3, 8), base_classes=5, seed=0),
}


def episode(shape) -> list[tf.Tensor]:
    rng = np.random.default_rng(0)
    maps = [np.maximum(rng.normal(size=(1, WAYS * n, *shape)), 0).astype(np.float32) for n in (SHOTS, QUERIES)]
    labels = np.repeat(np.eye(WAYS, dtype=np.float32), SHOTS, axis=0)[None]
    return [tf.constant(x) for x in (maps[0], labels, maps[1])]


def own(head: Head, features, guided: bool):
    if not guided:
        return head.training_scores(features, head.score(features, training=True)), None
    attention = isinstance(head, CrossAttentionHead)
    composite = COMPOSITES.get("fsc_can" if attention else "fsc")
    result = guided_scores(head, features, composite, detach=not attention, nonnegative=not isinstance(head, GraphHead))
    return head.training_scores(features, result.plain), result.guided


def loss_and_gradients(head: Head, scores, guided: bool):
    support, labels, query = episode(head.feature_shape)
    weights = [w for w in head.trainable_variables if "base_scores" not in w.name]
    with tf.GradientTape() as tape:
        tape.watch([support, query])
        plain, explained = scores(head, head.relate(support, labels, query, training=True), guided)
        loss = tf.reduce_sum(head.loss(explained if guided else plain, LABELS))
        if guided and not isinstance(head, CrossAttentionHead):
            loss += tf.reduce_sum(head.loss(plain, LABELS))
    return loss, tape.gradient(loss, [support, query, *weights])


@pytest.mark.parametrize(
    ("name", "guided"),
    [
        # The graph of a graph takes longest to make.
        pytest.param(name, guided, marks=[pytest.mark.slow] * (name == "graph"))
        for name in HEADS
        for guided in (False, True)
    ],
)
def test_losses_and_gradients_are_those_of_the_straightforward_step(name, guided):
    ours, gradients = loss_and_gradients(HEADS[name](), own, guided)
    loss, expected = loss_and_gradients(HEADS[name](), scores_of, guided)
    np.testing.assert_allclose(ours, loss, rtol=1e-6)
    largest = max(float(tf.reduce_max(tf.abs(g))) for g in expected)
    for a, b in zip(gradients, expected, strict=True):
        # Biases before a normalisation have gradients of pure rounding.
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * float(tf.reduce_max(tf.abs(b))) + 1e-6 * largest)


@pytest.mark.slow
def test_guidance_makes_a_difference():
    # Or the comparison above would say nothing of it.
    for name, make in HEADS.items():
        head = make()
        features = head.relate(*episode(head.feature_shape), training=True)
        plain, guided = scores_of(head, features, True)
        if name != "attention":
            assert np.abs(guided - plain).max() > 1e-3
        else:
            assert np.abs(guided - scores_of(head, features, False)[0]).max() > 1e-3
