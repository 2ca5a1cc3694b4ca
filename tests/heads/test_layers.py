from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.heads.layers import (
    DropLastAxis,
    EpisodeBatchNormalization,
    FlattenMap,
    MapMaxPooling2D,
    MapMean,
    PairConcat,
    PairConvolution2D,
    PrototypeMean,
)
from egt_tf.keras_api import keras
from tests.layer_harness import check_layer, close

RNG = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def one_hot(labels: list[list[int]], ways: int) -> np.ndarray:
    return np.eye(ways, dtype=np.float32)[np.array(labels)]


# === every layer ===


CASES = {
    "prototypes": (
        lambda: PrototypeMean(name="p"),
        [normal(2, 6, 3, 4, 5), one_hot([[0, 0, 1, 1, 2, 2], [2, 0, 1, 1, 1, 1]], 3)],
        [[1], [1, 2]],
        (0,),
    ),
    "prototypes of vectors": (
        lambda: PrototypeMean(),
        [normal(2, 4, 5), one_hot([[0, 0, 1, 1], [1, 0, 1, 1]], 2)],
        [[1], [1, 2]],
        (0,),
    ),
    "pairs": (lambda: PairConcat(), [normal(2, 3, 4, 4, 5), normal(2, 7, 4, 4, 5)], [[1], [1]], (0, 1)),
    "convolution of pairs": (
        lambda: PairConvolution2D(3, 2, padding="same"),
        [normal(2, 7, 3, 4, 4, 10), normal(2, 3, 4, 4, 5), normal(2, 7, 4, 4, 5)],
        [[1, 2], [1], [1]],
        (1, 2),
    ),
    "convolution of changed pairs": (
        lambda: PairConvolution2D(3, 2, activation="tanh", use_bias=False),
        [normal(2, 7, 3, 4, 4, 10)],
        [[1, 2]],
        (0,),
    ),
    "normalisation": (lambda: EpisodeBatchNormalization(epsilon=1e-3), [normal(2, 3, 4, 4, 5)], [[1, 2]], (0,)),
    "normalisation with averages": (
        lambda: EpisodeBatchNormalization(epsilon=1e-3, batch_statistics=False, momentum=0.7),
        [normal(2, 3, 4, 5)],
        [[1, 2]],
        (0,),
    ),
    "pooling": (lambda: MapMaxPooling2D(3, 2, padding="same"), [normal(2, 3, 4, 7, 6, 5)], [[1, 2]], (0,)),
    "mean": (lambda: MapMean(), [normal(2, 3, 4, 5, 6)], [[1, 2]], (0,)),
    "flatten": (lambda: FlattenMap(), [normal(2, 3, 4, 5, 6)], [[1]], (0,)),
    "flatten free maps": (lambda: FlattenMap(), [normal(2, 3, 4, 5, 6)], [[1, 2]], (0,)),
    "drop": (lambda: DropLastAxis(), [normal(2, 3, 4, 1)], [[1, 2]], (0,)),
}


@pytest.mark.parametrize("case", CASES)
def test_layer(case, tmp_path):
    make, inputs, free_axes, differentiable = CASES[case]
    check_layer(make, inputs, free_axes, tmp_path, differentiable=differentiable)


# === PrototypeMean ===


def test_prototype_is_the_mean_of_its_class_in_any_order_and_with_unequal_shots():
    labels = np.array([[2, 0, 1, 1, 2, 1, 1]])
    features = normal(1, 7, 2, 2, 3)
    prototypes = PrototypeMean()([features, one_hot(labels.tolist(), 3)])
    expected = [features[0, labels[0] == k].mean(axis=0) for k in range(3)]
    np.testing.assert_allclose(prototypes[0], expected, rtol=1e-5, atol=1e-6)


def test_each_episode_has_its_own_labels():
    features = np.tile(normal(1, 3, 4), (2, 1, 1))
    prototypes = PrototypeMean()([features, one_hot([[0, 1, 1], [1, 1, 0]], 2)])
    np.testing.assert_allclose(prototypes[0], [features[0, 0], features[0, 1:].mean(0)], rtol=1e-5)
    np.testing.assert_allclose(prototypes[1], [features[0, 2], features[0, :2].mean(0)], rtol=1e-5)


def test_class_without_support_is_zero_and_not_nan():
    prototypes = PrototypeMean()([normal(1, 2, 4), one_hot([[0, 2]], 3)])
    np.testing.assert_array_equal(prototypes[0, 1], np.zeros(4))


# === PairConcat and PairConvolution2D ===


@pytest.mark.parametrize(
    "arguments",
    [{"padding": "same"}, {"activation": "relu"}, {"use_bias": False}, {"strides": 2}, {"dilation_rate": 2}],
)
def test_the_convolution_of_pairs_is_that_of_each_pair(arguments):
    prototypes, queries = normal(2, 3, 6, 5, 4), normal(2, 4, 6, 5, 4)
    pairs = PairConcat()([prototypes, queries])
    layer = PairConvolution2D(5, 3, bias_initializer="ones", **arguments)
    by_parts = layer([pairs, prototypes, queries])
    plain = keras.layers.Conv2D(5, 3, **arguments)
    plain.build(pairs.shape)
    plain.set_weights(layer.get_weights())
    close(by_parts, plain(pairs), 1e-5)
    close(layer(pairs), plain(pairs), 1e-5)


def test_pairs_have_the_prototype_first_and_queries_in_the_outer_axis():
    prototypes, queries = normal(2, 3, 2, 2, 4), normal(2, 5, 2, 2, 4)
    pairs = PairConcat()([prototypes, queries]).numpy()
    assert pairs.shape == (2, 5, 3, 2, 2, 8)
    rows = pairs.reshape(2, 15, 2, 2, 8)
    for e in range(2):
        for j in range(5):
            for k in range(3):
                np.testing.assert_array_equal(rows[e, j * 3 + k, ..., :4], prototypes[e, k])
                np.testing.assert_array_equal(rows[e, j * 3 + k, ..., 4:], queries[e, j])


# === EpisodeBatchNormalization ===


def built(**kwargs) -> EpisodeBatchNormalization:
    layer = EpisodeBatchNormalization(**kwargs)
    layer.build((None, None, None, 3))
    layer.gamma.assign([0.5, 2.0, -1.0])
    layer.beta.assign([1.0, 0.0, 3.0])
    return layer


def normalised(x: np.ndarray, epsilon: float = 1e-5) -> np.ndarray:
    """One episode in float64."""
    flat = x.astype(np.float64).reshape(-1, 3)
    return (x - flat.mean(0)) / np.sqrt(flat.var(0) + epsilon) * [0.5, 2.0, -1.0] + [1.0, 0.0, 3.0]


@pytest.mark.parametrize("training", [False, True])
def test_batch_statistics_are_those_of_the_episode_in_training_and_inference(training):
    episodes = normal(2, 5, 4, 3) * 3 + np.array([[[[1.0]]], [[[-7.0]]]], np.float32)
    layer = built()
    together = layer(episodes, training=training)
    np.testing.assert_allclose(together, [normalised(x) for x in episodes], atol=2e-5)
    for e in range(2):
        np.testing.assert_allclose(together[e : e + 1], layer(episodes[e : e + 1], training=training), atol=1e-6)
    assert len(layer.weights) == 2


def test_a_channel_without_variance_gives_its_beta():
    np.testing.assert_allclose(
        built()(np.full((1, 4, 2, 3), 5.0, np.float32)), np.broadcast_to([1.0, 0.0, 3.0], (1, 4, 2, 3)), atol=1e-5
    )


def test_running_averages_follow_torch():
    layer = built(batch_statistics=False, momentum=0.9)
    mean, variance = np.zeros(3), np.ones(3)
    for _ in range(3):
        x = normal(1, 5, 4, 3) * 2 + 1
        np.testing.assert_allclose(layer(x, training=True), [normalised(x[0])], atol=2e-5)
        flat = x.astype(np.float64).reshape(-1, 3)
        mean = 0.9 * mean + 0.1 * flat.mean(0)
        variance = 0.9 * variance + 0.1 * flat.var(0, ddof=1)
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-5)


def test_several_episodes_update_the_averages_by_their_mean():
    layer = built(batch_statistics=False, momentum=0.0)
    episodes = np.stack([normal(6, 3) + 4, normal(6, 3) * 5])
    layer(episodes, training=True)
    np.testing.assert_allclose(layer.moving_mean, episodes.mean(axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, episodes.var(axis=1, ddof=1).mean(0), rtol=1e-5)


def test_with_running_averages_inference_does_not_depend_on_company_and_updates_nothing():
    layer = built(batch_statistics=False)
    layer.moving_mean.assign([1.0, 2.0, 3.0])
    layer.moving_variance.assign([4.0, 0.25, 1.0])
    before = layer.get_weights()
    x = normal(2, 5, 4, 3)
    together = layer(x, training=False)
    expected = (x - [1, 2, 3]) / np.sqrt(np.array([4, 0.25, 1]) + 1e-5) * [0.5, 2, -1] + [1, 0, 3]
    np.testing.assert_allclose(together, expected, atol=1e-5)
    np.testing.assert_allclose(together[1:, 2:3], layer(x[1:, 2:3], training=False), atol=1e-6)
    for old, new in zip(before, layer.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_statistics_of_large_float16_maps_do_not_overflow():
    layer = EpisodeBatchNormalization(dtype="mixed_float16")
    y = layer(tf.cast(normal(1, 40, 50, 3) * 10 + 1000, tf.float16))
    assert y.dtype == tf.float16
    np.testing.assert_allclose(np.asarray(y, np.float32).std(axis=(0, 1, 2)), 1.0, rtol=0.02)


# === MapMaxPooling2D ===


@pytest.mark.parametrize("leading", [(3,), (2, 3), (2, 3, 2)])
@pytest.mark.parametrize("arguments", [{"pool_size": 2}, {"pool_size": 3, "strides": 2, "padding": "same"}])
def test_pooling_treats_each_map_as_keras_does(leading, arguments):
    maps = normal(*leading, 7, 5, 4)
    expected = keras.layers.MaxPooling2D(**arguments)(maps.reshape(-1, 7, 5, 4)).numpy()
    pooled = MapMaxPooling2D(**arguments)(maps)
    np.testing.assert_array_equal(pooled, expected.reshape(*leading, *expected.shape[1:]))


def test_pooling_needs_maps():
    with pytest.raises(ValueError, match="min_ndim=4"):
        MapMaxPooling2D(2)(normal(3, 4, 5))


# === FlattenMap, DropLastAxis ===


def test_flatten_is_row_major():
    maps = normal(2, 3, 2, 4, 5)
    np.testing.assert_array_equal(FlattenMap()(maps), maps.reshape(2, 3, 40))


def test_drop_last_axis_refuses_an_axis_that_is_not_one():
    close(DropLastAxis()(normal(2, 3, 1) * 0 + 7), np.full((2, 3), 7.0))
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        DropLastAxis()(normal(2, 3, 2))
