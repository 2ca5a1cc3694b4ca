from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.backbones import build_backbone
from egt_tf.backbones.batch_noise import (
    BatchNoise,
    FixedNoise,
    Noise,
    noise_layers,
    set_noise,
    with_degree,
    with_fixed_noise,
)
from egt_tf.backbones.neck import embedding_of
from egt_tf.errors import ConfigError
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, LRP, record, reverse
from egt_tf.lrp.canonizers import fold_batch_norm
from egt_tf.lrp.value_ranges import NONNEGATIVE, output_range, outputs_nonnegative
from egt_tf.training.health import Statistics
from tests.layer_harness import check_layer

CONV4 = {"name": "conv4", "width": 3}


def normal(*shape: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def trained_layer(**arguments) -> BatchNoise:
    """With running deviations."""
    layer = BatchNoise(**arguments)
    layer(normal(8, 3, 3, 4), training=True)
    return layer


def trained_backbone(noise=0.3) -> keras.Model:
    backbone = build_backbone({**CONV4, "noise": noise}, image_size=16, seed=1)
    backbone(normal(4, 16, 16, 3), training=True)
    return backbone


@pytest.mark.parametrize(
    "make", [lambda: BatchNoise(0.2, seed=5, momentum=0.5, name="n"), lambda: FixedNoise(name="n")]
)
def test_it_is_a_layer_like_any_other(make, tmp_path):
    check_layer(make, [normal(4, 3, 3, 6)], [[]], tmp_path)


def test_training_adds_normal_noise_of_the_deviation_of_each_channel():
    x = normal(500, 5, 5, 3) * [1.0, 3.0, 10.0] + [0.0, 5.0, -5.0]
    x = x.astype(np.float32)
    noise = BatchNoise(0.2, seed=1)(x, training=True).numpy() - x
    expected = 0.2 * x.std(axis=(0, 1, 2))
    np.testing.assert_allclose(noise.std(axis=(0, 1, 2)), expected, rtol=0.03)
    assert np.abs(noise.mean(axis=(0, 1, 2)) / expected).max() < 4 / np.sqrt(500 * 25)
    # Of its own for every image and place.
    flat = noise[:, 0, 0, 0], noise[:, 0, 1, 0]
    assert abs(np.corrcoef(*flat)[0, 1]) < 0.2


def test_the_running_deviations_are_the_weighted_mean_of_what_was_seen():
    layer, momentum = BatchNoise(momentum=0.9), 0.9
    batches = [normal(16, 2, 2, 3, seed=seed) * (1 + seed) for seed in range(4)]
    for batch in batches:
        layer(batch, training=True)
    weights = (1 - momentum) * momentum ** np.arange(3, -1, -1)
    slow = sum(w * b.std(axis=(0, 1, 2)) for w, b in zip(weights, batches)) / weights.sum()
    np.testing.assert_allclose(layer.running_deviations(), slow, rtol=1e-5)


def test_before_the_first_step_there_is_no_noise():
    x = normal(2, 3, 3, 4)
    np.testing.assert_array_equal(BatchNoise(0.5)(x), x)


def test_the_training_noise_is_a_function_of_the_seed_and_the_number_of_calls():
    x = normal(2, 3, 3, 4)

    def outputs(layer, calls):
        return [layer(x, training=True).numpy() for _ in range(calls)]

    first = outputs(BatchNoise(seed=1), 3)
    assert np.any(first[0] != first[1])
    np.testing.assert_array_equal(first, outputs(BatchNoise(seed=1), 3))
    assert np.any(first[0] != outputs(BatchNoise(seed=2), 1)[0])
    resumed = BatchNoise(seed=1)
    resumed(x)
    resumed.calls.assign(2)
    np.testing.assert_array_equal(outputs(resumed, 1)[0], first[2])


def test_the_noise_is_a_constant_for_the_gradient():
    x = tf.constant(normal(4, 2, 2, 4))
    layer = trained_layer(degree=0.5)
    for training in (True, False):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(layer(x, training=training) * 3.0)
        np.testing.assert_array_equal(tape.gradient(y, x), np.full(x.shape, 3.0))


def test_shared_noise_depends_on_neither_the_batch_nor_the_place_in_it():
    layer, x = trained_layer(), normal(5, 3, 3, 4)
    together = layer(x).numpy()
    np.testing.assert_allclose(together - x, np.broadcast_to((together - x)[:1], x.shape), atol=1e-6)
    for index in range(5):
        np.testing.assert_array_equal(layer(x[index : index + 1])[0], together[index])
    assert np.any(together != x)


def test_shared_noise_is_another_one_for_every_draw_and_the_same_when_it_comes_again():
    model = trained_backbone()
    x, seen = normal(2, 16, 16, 3), []
    for draw in (0, 1, 0):
        set_noise(model, Noise.SHARED, draw)
        seen.append(model(x).numpy())
    np.testing.assert_array_equal(seen[0], seen[2])
    assert np.any(seen[0] != seen[1])


def test_own_noise_differs_from_image_to_image_and_comes_again():
    layer, x = trained_layer(), np.zeros((3, 4, 4, 4), np.float32)
    layer.mode.assign(Noise.OWN)
    first = layer(x).numpy()
    np.testing.assert_array_equal(first, layer(x))
    assert np.any(first[0] != first[1])
    layer.draw.assign(1)
    assert np.any(first != layer(x))


def test_fresh_noise_differs_at_every_call_also_of_a_graph():
    layer, x = trained_layer(degree=0.5), np.zeros((2000, 1, 1, 4), np.float32)
    layer.mode.assign(Noise.FRESH)
    graph = tf.function(lambda x: layer(x))
    one, other = graph(tf.constant(x)).numpy(), graph(tf.constant(x)).numpy()
    assert np.any(one != other)
    np.testing.assert_allclose(one.std(axis=0).ravel(), 0.5 * layer.running_deviations(), rtol=0.08)


def test_degree_0_changes_nothing():
    layer, x = trained_layer(degree=0.0), normal(2, 3, 3, 4)
    for mode in Noise:
        layer.mode.assign(mode)
        np.testing.assert_array_equal(layer(x), x)
    np.testing.assert_array_equal(layer(x, training=True), x)


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ({"degree": 1.5}, "degree=1.5"),
        ({"degree": -0.1}, "degree=-0.1"),
        ({"degree": float("nan")}, "degree=nan"),
        ({"degree": True}, "degree=True"),
        ({"degree": "0.1"}, "degree='0.1'"),
        ({"seed": -1}, "seed=-1"),
        ({"momentum": 1.0}, "momentum=1.0"),
    ],
)
def test_what_is_refused(arguments, received):
    with pytest.raises(ConfigError, match=f"Received: {received}"):
        BatchNoise(**arguments)


def test_no_sign_is_known_behind_noise():
    assert not output_range(BatchNoise(0.1), [NONNEGATIVE]).nonnegative
    assert not output_range(FixedNoise(), [NONNEGATIVE]).nonnegative
    plain, noisy = (build_backbone({**CONV4, **noise}, 16, seed=1) for noise in ({}, {"noise": 1.0}))
    assert outputs_nonnegative(plain, [False]) == (True,)
    assert outputs_nonnegative(noisy, [False]) == (False,)
    set_noise(noisy, Noise.OWN)
    noisy(normal(40, 16, 16, 3), training=True)
    assert float(tf.reduce_min(noisy(normal(40, 16, 16, 3)))) < 0


def test_relevance_passes_unchanged():
    layer = trained_layer(degree=0.5)
    x = keras.Input((3, 3, 4))
    model = keras.Model(x, layer(x))
    trace = record(model, [tf.constant(normal(2, 3, 3, 4))])
    relevance = tf.constant(normal(2, 3, 3, 4, seed=5))
    for name in ("fsc", "epsilon_plus", "lrp.sequential_preset_a"):
        np.testing.assert_array_equal(reverse(trace, relevance, COMPOSITES.get(name))[0], relevance)


def test_a_backbone_with_noise_is_explained_the_same_twice():
    backbone = trained_backbone()
    model = keras.Sequential([keras.Input((16, 16, 3)), backbone, keras.layers.Flatten(), keras.layers.Dense(4)])
    analyzer = LRP(model, COMPOSITES.get("fsc"), neuron_selection_mode="index")
    x = normal(2, 16, 16, 3)
    first = analyzer.analyze(x, neuron_selection=1)
    assert np.isfinite(first).all()
    assert np.any(first)
    np.testing.assert_array_equal(first, analyzer.analyze(x, neuron_selection=1))


def test_folding_gives_the_same_outputs():
    backbone = trained_backbone()
    folded = fold_batch_norm(backbone)
    assert len(noise_layers(folded)) == 4
    assert not [layer for layer in folded.layers if isinstance(layer, keras.layers.BatchNormalization)]
    x = normal(3, 16, 16, 3)
    np.testing.assert_allclose(folded(x), backbone(x), atol=1e-5)


def test_with_another_degree_the_weights_are_the_same():
    backbone, x = trained_backbone(0.3), normal(3, 16, 16, 3)
    without = with_degree(backbone, 0.0)
    assert {layer.degree for layer in noise_layers(without)} == {0.0}
    assert {layer.degree for layer in noise_layers(backbone)} == {0.3}
    for one, other in zip(without.get_weights(), backbone.get_weights()):
        np.testing.assert_array_equal(one, other)
    assert np.abs(without(x) - backbone(x)).max() > 1e-3
    np.testing.assert_allclose(with_degree(without, 0.3)(x), backbone(x), atol=1e-6)
    with pytest.raises(ConfigError, match="degree=2"):
        with_degree(backbone, 2)


def test_with_fixed_noise_the_outputs_are_those_of_the_draw():
    backbone, x = trained_backbone(0.3), normal(3, 16, 16, 3)
    set_noise(backbone, Noise.SHARED, 7)
    fixed = with_fixed_noise(backbone)
    assert noise_layers(fixed) == []
    np.testing.assert_allclose(fixed(x), backbone(x), atol=1e-6)


def test_copies_reach_into_the_embedding_of_a_neck():
    backbone = build_backbone({**CONV4, "noise": 0.2, "neck": 5}, image_size=16, seed=1)
    assert len(noise_layers(embedding_of(backbone))) == 4
    backbone(normal(4, 16, 16, 3), training=True)
    x = normal(3, 16, 16, 3)
    np.testing.assert_allclose(with_fixed_noise(backbone)(x), backbone(x), atol=1e-5)


def test_float64_draws_the_same_noise():
    x, layer = normal(2, 3, 3, 4), trained_layer(degree=0.3)
    keras.backend.set_floatx("float64")
    try:
        wide = trained_layer(degree=0.3)
        assert wide(x.astype(np.float64)).dtype == tf.float64
        np.testing.assert_allclose(wide(x.astype(np.float64)), layer(x), atol=1e-5)
    finally:
        keras.backend.set_floatx("float32")


def test_averages_that_are_set_back_are_set_back_whole():
    layer = BatchNoise(0.2, momentum=0.9)
    x = normal(64, 3, 3, 2)
    layer(x, training=True)
    model = keras.Sequential([keras.Input((3, 3, 2)), layer])
    expected = layer.running_deviations().numpy()
    for _ in range(3):
        averages = Statistics(model)
        layer(5 * x, training=True)
        averages.restore()
    np.testing.assert_allclose(layer.running_deviations(), expected, rtol=1e-5)


def test_each_replica_has_noise_of_its_own():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        layer = BatchNoise(1.0, seed=3)
        layer.build((None, 4))
    x = tf.constant(normal(8, 4))
    noise = tf.function(lambda: strategy.run(lambda: layer(x, training=True) - x))
    first, second = strategy.experimental_local_results(noise())
    assert np.abs(first - second).max() > 0.1


@pytest.mark.parametrize(("given", "degree"), [("1e-3", 0.001), ({"degree": "2e-1", "momentum": "9e-1"}, 0.2)])
def test_numbers_may_be_text(given, degree):
    backbone = build_backbone({"name": "conv4", "width": 2, "noise": given}, image_size=16, seed=0)
    assert {layer.degree for layer in noise_layers(backbone)} == {degree}
