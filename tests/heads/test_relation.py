from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.errors import ConfigError
from egt_tf.heads import RelationHead
from egt_tf.heads.weighting import Weighting
from egt_tf.keras_api import keras
from tests.helpers.quick import all_but_slow, quick_ones
from tests.layer_harness import check_layer, close


def episodes(shape=(5, 5, 4), *, count=1, ways=3, shots=2, queries=4, seed=0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    support = np.maximum(rng.normal(size=(count, ways * shots, *shape)), 0).astype(np.float32)
    query = np.maximum(rng.normal(size=(count, queries, *shape)), 0).astype(np.float32)
    labels = np.eye(ways, dtype=np.float32)[np.repeat(np.arange(ways), shots)]
    return [support, np.tile(labels, (count, 1, 1)), query]


def warmed(head: RelationHead, inputs) -> RelationHead:
    """Gives the running averages other values than their first ones."""
    for _ in range(3):
        head(inputs, training=True)
    return head


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{}, {"batch_statistics": False, "hidden": 5, "loss": "cross_entropy"}])
def test_layer(arguments, tmp_path):
    check_layer(
        lambda: RelationHead((5, 5, 4), seed=1, **arguments),
        episodes(count=2),
        [[1], [1, 2], [1]],
        tmp_path,
        rtol=1e-4,
        differentiable=(0, 2),
    )


# === shapes ===


MAPS = [(5, 5, 2), (7, 7, 3), (3, 3, 2), (1, 1, 4), (2, 2, 2), (19, 19, 2), (10, 10, 2), (4, 6, 2)]


@pytest.mark.parametrize("shape", MAPS)
@pytest.mark.parametrize(("ways", "shots", "queries"), all_but_slow([(2, 1, 1), (5, 3, 7)], {(2, 1, 1)}))
def test_any_map_ways_shots_and_queries(shape, ways, shots, queries):
    head = RelationHead(shape, seed=0)
    inputs = episodes(shape, count=2, ways=ways, shots=shots, queries=queries)
    features = head.relate(*inputs)
    assert [x.shape for x in features] == [(2, ways, *shape), (2, queries, *shape)]
    assert head.score(features).shape == (2, queries, ways)
    assert np.isfinite(head(inputs)).all()


@pytest.mark.parametrize(
    ("side", "flat"),
    quick_ones(
        [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (9, 4), (10, 1), (19, 9)],
        {(1, 1), (5, 1), (9, 4), (10, 1), (19, 9)},
    ),
)
def test_the_map_before_the_dense_layers(side, flat):
    # Two blocks halve the side; from 10 on they lose two more before that.
    head = RelationHead((side, side, 3), seed=0)
    assert head.score_model.get_layer("flatten").output_shape[-1] == 3 * flat
    padding = {head.score_model.get_layer(f"block{i}_conv").padding for i in (1, 2)}
    assert padding == {"valid" if side >= 10 else "same"}


def test_parameters_are_those_published():
    head = RelationHead((5, 5, 64))
    expected = (9 * 128 * 64 + 64) + (9 * 64 * 64 + 64) + 2 * 2 * 64 + (64 * 8 + 8) + (8 + 1)
    assert sum(int(np.prod(w.shape)) for w in head.weights) == expected
    assert len(head.trainable_weights) == len(head.weights) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"feature_shape": (10, 2, 4)}, "at least 3x3"),
        ({"feature_shape": (12, 5, 4)}, "at least 3x3"),
        ({"loss": "bce"}, "`loss` must be one of mse, cross_entropy. Received: loss='bce'"),
        ({"hidden": 0}, "`hidden` must be"),
        ({"hidden": "8"}, "`hidden` must be"),
        ({"batch_statistics": "no"}, "`batch_statistics` must be"),
        ({"seed": -1}, "`seed` must be"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        RelationHead(**{"feature_shape": (5, 5, 4), **arguments})


# === values ===


def test_score_model_computes_the_published_formula():
    """One episode against a slow float64 computation: convolution, statistics, ReLU, pooling, dense layers."""
    head = RelationHead((5, 5, 2), hidden=3, seed=2)
    inputs = episodes((5, 5, 2), ways=2, shots=1, queries=3, seed=4)
    weights = {w.name.split(":")[0]: w.numpy().astype(np.float64) for w in head.weights}
    (prototypes,), (queries,) = (x.numpy().astype(np.float64) for x in head.relate(*inputs))
    x = np.array([np.concatenate([p, q], axis=-1) for q in queries for p in prototypes])
    for block in ("block1", "block2"):
        kernel, bias = weights[f"{block}_conv/kernel"], weights[f"{block}_conv/bias"]
        side = x.shape[1]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = sum(padded[:, i : i + side, j : j + side] @ kernel[i, j] for i in range(3) for j in range(3)) + bias
        x = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
        x = np.maximum(x * weights[f"{block}_bn/gamma"] + weights[f"{block}_bn/beta"], 0)
        half = side // 2
        x = x[:, : 2 * half, : 2 * half].reshape(6, half, 2, half, 2, 2).max((2, 4))
    x = np.maximum(x.reshape(6, -1) @ weights["fc1/kernel"] + weights["fc1/bias"], 0)
    x = x @ weights["fc2/kernel"] + weights["fc2/bias"]
    np.testing.assert_allclose(head(inputs)[0], x.reshape(3, 2), atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 5, 4), (12, 12, 3)])
@pytest.mark.parametrize("batch_statistics", [False, True])
def test_weighted_pairs_pass_the_same_layers(shape, batch_statistics):
    inputs = episodes(shape, count=2)
    head = warmed(RelationHead(shape, batch_statistics=batch_statistics, seed=0), inputs)
    features = head.relate(*inputs)
    scores = head.score(features)
    weights = np.ones((2, 4, 3, *shape[:2], 2 * shape[2]), np.float32)
    assert head.training_scores(features, scores) is scores
    close(head.training_scores(features, scores, [Weighting(weights)], training=False), scores, 1e-5)
    # Weights that are the same for a whole prototype or query are those of their maps.
    factors = np.random.default_rng(1).uniform(0.5, 2, size=2).astype(np.float32)
    weights *= np.repeat(factors, shape[2])
    scaled = head.score([x * factor for x, factor in zip(features, factors)])
    close(head.training_scores(features, scores, [Weighting(weights)], training=False), scaled, 1e-5)


def test_initial_weights_follow_the_seed():
    a, b, c = (RelationHead((5, 5, 16), seed=seed) for seed in (1, 1, 2))
    close(a.get_weights(), b.get_weights())
    assert np.any(a.get_weights()[0] != c.get_weights()[0])
    kernel = a.score_model.get_layer("block1_conv").kernel.numpy()
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 16)), rel=0.05)
    dense = a.score_model.get_layer("fc1").kernel.numpy()
    assert 0.8 / 4 < np.abs(dense).max() <= 1 / 4


def test_mse_loss():
    scores = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    labels = np.array([[0, 3, 1], [2, 2, 0]])
    expected = ((1 / (1 + np.exp(-scores)) - np.eye(4)[labels]) ** 2).mean((1, 2))
    np.testing.assert_allclose(RelationHead((1, 1, 1)).loss(scores, labels), expected, rtol=1e-5)


def test_cross_entropy_loss():
    scores = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    labels = np.array([[0, 3, 1], [2, 2, 0]])
    logarithm = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    expected = -np.take_along_axis(logarithm, labels[..., None], -1)[..., 0].mean(1)
    np.testing.assert_allclose(RelationHead((1, 1, 1), loss="cross_entropy").loss(scores, labels), expected, rtol=1e-5)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_loss_of_half_precision_scores_is_float32(loss):
    assert RelationHead((1, 1, 1), loss=loss).loss(tf.zeros((1, 2, 3), tf.float16), [[0, 1]]).dtype == tf.float32


# === independence ===


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("batch_statistics", [False, True])
def test_several_episodes_at_once_equal_each_alone(batch_statistics, training):
    inputs = episodes(count=3)
    head = warmed(RelationHead((5, 5, 4), batch_statistics=batch_statistics, seed=0), inputs)
    together = head(inputs, training=training)
    alone = [head([x[e : e + 1] for x in inputs], training=training) for e in range(3)]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_a_query_among_others(batch_statistics):
    support, labels, query = episodes(queries=6)
    head = warmed(RelationHead((5, 5, 4), batch_statistics=batch_statistics, seed=0), [support, labels, query])
    assert head.uses_batch_statistics is batch_statistics
    difference = np.abs(head([support, labels, query])[:, 2:3] - head([support, labels, query[:, 2:3]])).max()
    assert difference > 1e-3 if batch_statistics else difference < 1e-5


def test_gradients_reach_support_and_query():
    support, labels, query = (tf.constant(x) for x in episodes(count=2))
    head = RelationHead((5, 5, 4), seed=0)
    with tf.GradientTape() as tape:
        tape.watch([support, query])
        loss = tf.reduce_sum(head.loss(head([support, labels, query], training=True), [[0, 1, 2, 0]] * 2))
    for gradient in tape.gradient(loss, [support, query]):
        # Every image of every episode takes part.
        assert (np.abs(gradient).max(axis=(2, 3, 4)) > 0).all()


def test_a_head_learns():
    inputs, labels = episodes(queries=6, seed=1), np.array([[0, 1, 2, 0, 1, 2]])
    head = RelationHead((5, 5, 4), seed=0)
    optimizer = keras.optimizers.Adam(0.01)
    losses = []
    for _ in range(15):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(head.loss(head(inputs, training=True), labels))
        optimizer.minimize(loss, head.trainable_variables, tape=tape)
        losses.append(float(loss))
    assert losses[-1] < 0.8 * losses[0]
