from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.backbones import BACKBONES, conv4, resnet10
from egt_tf.backbones.feature_transformation import (
    FeatureTransformation,
    Transformations,
    softplus,
    transformations,
    without_transformations,
)
from egt_tf.errors import ConfigError
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, record, reverse
from egt_tf.lrp.canonizers import fold_batch_norm
from tests.helpers.quick import quick_ones
from tests.layer_harness import check_layer

SMALL = {
    "conv4": {"width": 3},
    "conv4np": {"width": 3},
    "resnet10": {"widths": [2, 3, 4, 5], "stem": "small"},
    "resnet12": {"widths": [2, 3, 4, 5]},
    "resnet18": {"widths": [2, 3, 4, 5], "stem": "small"},
}
# The last normalisation of every block, and those of the shortcuts, which the first block of ResNet-10 and 18 has not.
COUNTS = {"conv4": 4, "conv4np": 4, "resnet10": 4 + 3, "resnet12": 4 + 4, "resnet18": 8 + 3}


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def test_it_is_a_layer_like_any_other(tmp_path):
    check_layer(lambda: FeatureTransformation(0.2, 0.4, seed=5, name="t"), [normal(4, 3, 3, 6)], [[1, 2]], tmp_path)


@pytest.mark.parametrize("x", [-1.0, -0.01, 0.0, 0.01, 0.3, 2.0])
def test_softplus_is_that_of_sharpness_100(x):
    assert float(softplus(tf.constant(x, tf.float64))) == pytest.approx(np.log1p(np.exp(100 * x)) / 100, rel=1e-12)


def test_inference_changes_nothing():
    layer, x = FeatureTransformation(), normal(2, 3, 3, 4)
    for _ in range(2):
        np.testing.assert_array_equal(layer(x), x)
    assert int(layer.calls) == 0


def test_one_scale_and_shift_a_channel_and_call():
    layer, x = FeatureTransformation(seed=1), normal(5, 4, 3, 6)
    seen = []
    for _ in range(2):
        y = layer(x, training=True).numpy()
        scale = (y[1, 0, 0] - y[0, 0, 0]) / (x[1, 0, 0] - x[0, 0, 0])
        shift = y[0, 0, 0] - scale * x[0, 0, 0]
        np.testing.assert_allclose(y, scale * x + shift, atol=1e-4)
        seen.append((scale, shift))
    assert np.abs(np.subtract(*seen)).min() > 0


def test_the_noise_is_normal_with_the_softplus_as_its_deviation():
    layer, x = FeatureTransformation(0.3, 0.5, seed=2), np.stack([np.zeros((1, 4000)), np.ones((1, 4000))], axis=1)
    y = layer(x.astype(np.float32), training=True).numpy()[0]
    shift, scale = y[0], y[1] - y[0] - 1
    for noise, deviation in ((scale, 0.3), (shift, 0.5)):
        assert noise.mean() == pytest.approx(0, abs=4 * deviation / np.sqrt(4000))
        assert noise.std() == pytest.approx(deviation, rel=0.05)
    assert abs(np.corrcoef(scale, shift)[0, 1]) < 0.07


def test_the_noise_is_a_function_of_the_seed_and_the_number_of_calls():
    x = normal(2, 3, 4)

    def outputs(layer, calls):
        return [layer(x, training=True).numpy() for _ in range(calls)]

    first = outputs(FeatureTransformation(seed=1), 3)
    np.testing.assert_array_equal(first, outputs(FeatureTransformation(seed=1), 3))
    assert np.any(first[0] != outputs(FeatureTransformation(seed=2), 1)[0])
    resumed = FeatureTransformation(seed=1)
    resumed(x)
    resumed.calls.assign(2)
    np.testing.assert_array_equal(outputs(resumed, 1)[0], first[2])


def test_a_graph_draws_anew_at_every_call():
    layer = FeatureTransformation(seed=1)
    graph = tf.function(lambda x: layer(x, training=True))
    x = tf.constant(normal(2, 3, 4))
    one, other = graph(x), graph(x)
    assert np.any(one != other)
    assert int(layer.calls) == 2
    fresh = FeatureTransformation(seed=1)
    np.testing.assert_allclose(fresh(x, training=True), one, atol=1e-6)


def test_thetas_are_not_trained_but_a_gradient_reaches_them():
    layer = FeatureTransformation()
    layer(normal(1, 2, 3))
    assert layer.trainable_variables == []
    with tf.GradientTape() as tape:
        tape.watch([layer.theta_gamma, layer.theta_beta])
        y = tf.reduce_sum(layer(normal(1, 2, 3), training=True) ** 2)
    assert all(np.all(g) for g in tape.gradient(y, [layer.theta_gamma, layer.theta_beta]))


@pytest.mark.parametrize("name", SMALL)
def test_it_stands_behind_the_last_normalisation_of_every_block(name):
    plain, changed = (
        BACKBONES.get({"name": name, "feature_transformation": option, **SMALL[name]}, image_size=32, seed=1)
        for option in (False, {"gamma": 0.1, "beta": 0.2})
    )
    layers = transformations(changed)
    assert len(layers) == COUNTS[name]
    assert transformations(plain) == []
    assert len({layer.seed for layer in layers}) == len(layers)
    assert {(layer.gamma, layer.beta) for layer in layers} == {(0.1, 0.2)}
    sources = {layer.input._keras_history.layer.name for layer in layers}
    assert all(isinstance(changed.get_layer(source), keras.layers.BatchNormalization) for source in sources)
    # The weights of equal seeds are equal, and so is inference.
    x = normal(2, 32, 32, 3)
    np.testing.assert_array_equal(plain(x), changed(x))
    assert np.any(plain(x, training=True) != changed(x, training=True))
    assert len(plain.trainable_variables) == len(changed.trainable_variables)


def test_a_backbone_with_it_is_saved_and_loaded(tmp_path):
    model, x = conv4(16, width=3, feature_transformation=True), normal(2, 16, 16, 3)
    model(x, training=True)
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(copy(x), model(x))
    np.testing.assert_array_equal(copy(x, training=True), model(x, training=True))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("yes", "must be true, false or a mapping"),
        ({"gama": 1.0}, "must be true, false or a mapping"),
        (0.3, "mapping"),
        ({"gamma": 0}, "`gamma` must be a number > 0"),
        ({"beta": "big"}, "`beta` must be a number > 0"),
    ],
)
def test_other_options_are_refused(option, message):
    with pytest.raises(ConfigError, match=message):
        conv4(16, width=2, feature_transformation=option)


def test_no_option_is_no_layer():
    x = keras.Input((3,))
    for option in (None, False):
        assert Transformations(option, 1)(x, "t") is x


@pytest.mark.parametrize(
    "composite",
    quick_ones(
        ["fsc", "fsc_can", "epsilon", "epsilon_plus", "epsilon_gamma_box", "lrp.z"], {"fsc", "epsilon_gamma_box"}
    ),
)
def test_relevance_passes_it_unchanged(composite):
    x, rules = normal(2, 32, 32, 3), COMPOSITES.get(composite)
    relevance = []
    for option in (False, True):
        trace = record(resnet10(32, "small", (2, 3, 4, 5), 1, option), [tf.constant(x)])
        relevance += reverse(trace, trace.outputs[0], rules)
    np.testing.assert_array_equal(*relevance)
    assert np.any(relevance[0])


def test_normalisations_before_it_are_folded():
    model, x = conv4(16, width=3, seed=1, feature_transformation=True), normal(2, 16, 16, 3)
    model(x, training=True)
    folded = fold_batch_norm(model)
    np.testing.assert_allclose(folded(x), model(x), rtol=1e-4, atol=1e-5)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in folded.layers)


def test_without_transformations_there_are_keras_layers_only():
    model, x = resnet10(32, "small", (2, 3, 4, 5), 1, True), normal(2, 32, 32, 3)
    model(x, training=True)
    copy = without_transformations(model)
    np.testing.assert_array_equal(copy(x), model(x))
    assert transformations(copy) == []
    assert len(transformations(model)) == 7
