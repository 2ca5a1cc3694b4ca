"""Gradient methods."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.errors import ExplainError
from egt_tf.explain import gradients as methods
from egt_tf.explain import noisy_gradients
from egt_tf.keras_api import keras

L = keras.layers


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(5)
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            L.Conv2D(4, 3, name="c"),
            L.BatchNormalization(),
            L.Activation("relu"),
            L.MaxPooling2D(2),
            L.Conv2D(3, 2, activation="relu"),
            L.Flatten(),
            L.Dense(3),
        ]
    )


@pytest.fixture(scope="module")
def images():
    return tf.constant(np.random.default_rng(0).normal(size=(2, 8, 8, 2)), tf.float32)


def _first(scores):
    return tf.one_hot([0, 0], 3)


def _tape(model, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        scores = model(x)
    return tape.gradient(scores, x, output_gradients=_first(scores))


def test_gradient_is_the_tapes(model, images):
    np.testing.assert_allclose(methods.gradient(model, [images], _first)[0], _tape(model, images), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(
        methods.input_times_gradient(model, [images], _first)[0], images * _tape(model, images), rtol=1e-4, atol=1e-7
    )


def test_guided_backprop_lets_nothing_negative_back(model, images):
    @tf.custom_gradient
    def guided_relu(x):
        y = tf.nn.relu(x)
        return y, lambda dy: tf.where(y > 0, tf.nn.relu(dy), tf.zeros_like(dy))

    convolution, norm, _, pool, second, flat, dense = model.layers
    with tf.GradientTape() as tape:
        tape.watch(images)
        x = pool(guided_relu(norm(convolution(images), training=False)))
        x = guided_relu(tf.nn.conv2d(x, second.kernel, 1, "VALID") + second.bias)
        scores = dense(flat(x))
    expected = tape.gradient(scores, images, output_gradients=_first(scores))
    np.testing.assert_allclose(methods.guided_backprop(model, [images], _first)[0], expected, rtol=1e-4, atol=1e-7)


def test_integrated_gradients_are_complete(model, images):
    (maps,) = methods.integrated_gradients(model, [images], _first, steps=200)
    difference = model(images)[:, 0] - model(tf.zeros_like(images))[:, 0]
    np.testing.assert_allclose(tf.reduce_sum(maps, [1, 2, 3]), difference, rtol=0.02, atol=1e-3)


def test_fixed_inputs_stay_where_they_are():
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    model = keras.Model([a, b], L.Dense(1, use_bias=False)(L.Multiply()([a, b])))
    x = [tf.ones((1, 2)), tf.fill((1, 2), 3.0)]
    (kernel,) = model.get_weights()
    moving, _ = methods.integrated_gradients(model, x, lambda s: tf.ones_like(s), fixed=("b",))
    np.testing.assert_allclose(moving[0], 3 * kernel[:, 0], rtol=1e-5)
    half, _ = methods.integrated_gradients(model, x, lambda s: tf.ones_like(s))
    np.testing.assert_allclose(half[0], 1.5 * kernel[:, 0], rtol=1e-5)


def test_smoothgrad_is_a_seeded_mean(model, images):
    def call(**arguments):
        return noisy_gradients.smoothgrad(model, [images], _first, **arguments)[0].numpy()

    np.testing.assert_array_equal(call(samples=3, seed=1), call(samples=3, seed=1))
    assert not np.array_equal(call(samples=3, seed=1), call(samples=3, seed=2))
    np.testing.assert_allclose(call(samples=2, noise=1e-6), _tape(model, images), rtol=1e-3, atol=1e-6)


def test_grad_cam_is_the_weighted_map_scaled_up(model, images):
    (maps,) = methods.grad_cam(model, [images], _first)
    head = keras.Sequential(model.layers[5:])
    features = keras.Sequential(model.layers[:5])(images)
    with tf.GradientTape() as tape:
        tape.watch(features)
        scores = head(features)
    slope = tape.gradient(scores, features, output_gradients=_first(scores))
    heat = tf.nn.relu(tf.reduce_sum(tf.reduce_mean(slope, [1, 2], keepdims=True) * features, -1, keepdims=True))
    expected = tf.image.resize(heat, (8, 8)) / 2
    np.testing.assert_allclose(maps, tf.broadcast_to(expected, maps.shape), rtol=1e-4, atol=1e-7)
    assert np.all(maps >= 0)


def test_wrong_counts_and_models_are_refused(model, images):
    with pytest.raises(ExplainError, match="`steps` must be an integer >= 1"):
        methods.integrated_gradients(model, [images], _first, steps=0)
    with pytest.raises(ExplainError, match="`samples` must be an integer >= 1"):
        noisy_gradients.smoothgrad(model, [images], _first, samples=0)
    flat = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    with pytest.raises(ExplainError, match="feature maps"):
        methods.grad_cam(flat, [tf.ones((1, 3))], lambda s: tf.ones_like(s))
