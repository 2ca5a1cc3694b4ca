"""SmoothTaylor against loops over its copies and closed forms, for Keras models and for few-shot ones."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ExplainError
from egt_tf.explain.methods import get_method
from egt_tf.explain.noise import Noise, NoisyInput, mean_over_copies
from egt_tf.explain.noisy_gradients import smooth_taylor
from egt_tf.explain.query import explain_image
from egt_tf.explain.smooth_taylor import SmoothTaylor
from egt_tf.keras_api import keras
from tests.helpers.quick import all_but_slow
from tests.helpers.random_images import random_image, random_support

L = keras.layers
SIGMA, SAMPLES, SEED = 0.4, 6, 3


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(5)
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            L.Conv2D(4, 3, activation="relu"),
            L.BatchNormalization(),
            L.MaxPooling2D(2),
            L.Flatten(),
            L.Dense(3),
        ]
    )


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(2, 8, 8, 2)).astype(np.float32)


def drawn(shape, sample: int, seed: int = SEED) -> np.ndarray:
    """The noise of one copy, of the first input."""
    return tf.random.stateless_normal(shape, (seed, sample)).numpy()


def slope(model, z: np.ndarray, neurons) -> np.ndarray:
    with tf.GradientTape() as tape:
        z = tf.constant(z)
        tape.watch(z)
        score = tf.reduce_sum(tf.gather(model(z), neurons, axis=1, batch_dims=1))
    return tape.gradient(score, z).numpy()


def in_a_loop(model, x: np.ndarray, neurons, sigma) -> np.ndarray:
    total = np.zeros_like(x)
    for sample in range(SAMPLES):
        z = x + sigma * drawn(x.shape, sample)
        total += (x - z) * slope(model, z, neurons)
    return total / SAMPLES


def analyzer(model, **arguments) -> SmoothTaylor:
    return SmoothTaylor(model, **{"sigma": SIGMA, "samples": SAMPLES, "seed": SEED, **arguments})


@pytest.mark.parametrize("memory", [1, 2**29])
def test_the_mean_of_taylor_terms(model, images, memory):
    found = analyzer(model, neuron_selection_mode="index", memory=memory).analyze(images, [2, 0])
    np.testing.assert_allclose(found, in_a_loop(model, images, [2, 0], SIGMA), rtol=1e-4, atol=1e-6)


def test_the_neuron_is_that_of_the_image_itself(model, images):
    best = model(images).numpy().argmax(1)
    # Noise so strong that copies have another best neuron.
    found = analyzer(model, sigma=20.0).analyze(images)
    np.testing.assert_allclose(found, in_a_loop(model, images, best, 20.0), rtol=1e-4, atol=1e-4)


def test_a_share_of_the_range_of_each_example(model, images):
    images = images * np.array([1.0, 5.0], np.float32)[:, None, None, None]
    sigma = 0.1 * (images.max((1, 2, 3), keepdims=True) - images.min((1, 2, 3), keepdims=True))
    found = analyzer(model, sigma=0.1, percent=True, neuron_selection_mode="index").analyze(images, 1)
    np.testing.assert_allclose(found, in_a_loop(model, images, [1, 1], sigma), rtol=1e-4, atol=1e-5)


def test_a_linear_function():
    kernel = np.array([[2.0], [-3.0], [0.0]], np.float32)
    linear = keras.Sequential([keras.Input((3,)), L.Dense(1, weights=[kernel, np.ones(1)])])
    x = np.array([[1.0, 2.0, 3.0]], np.float32)
    mean = -SIGMA * np.mean([drawn(x.shape, sample) for sample in range(SAMPLES)], axis=0)
    np.testing.assert_allclose(analyzer(linear).analyze(x), kernel[:, 0] * mean, rtol=1e-5)


def test_a_quadratic_function():
    """`f = sum a x^2`, so that ST = -2 a sigma (x mean(e) + sigma mean(e^2))."""
    a = np.array([[2.0], [-3.0]], np.float32)
    inputs = keras.Input((2,))
    squares = L.Multiply()([inputs, inputs])
    quadratic = keras.Model(inputs, L.Dense(1, use_bias=False, weights=[a])(squares))
    x = np.array([[1.0, 2.0]], np.float32)
    e = np.stack([drawn(x.shape, sample) for sample in range(SAMPLES)])
    expected = -2 * a[:, 0] * SIGMA * (x * e.mean(0) + SIGMA * (e**2).mean(0))
    np.testing.assert_allclose(analyzer(quadratic).analyze(x), expected, rtol=1e-5)


def test_the_noise_hangs_on_its_seed_alone(model, images):
    one = analyzer(model).analyze(images)
    np.testing.assert_array_equal(analyzer(model).analyze(images), one)
    assert not np.allclose(analyzer(model, seed=4).analyze(images), one)


def test_in_a_function_of_tensorflow(images):
    inputs, noise = [NoisyInput(tf.constant(images))], Noise(SIGMA, SAMPLES, seed=SEED)

    def mean():
        return mean_over_copies(inputs, noise, lambda zs: [tf.sin(zs[0])], lambda x, z, slope: (x - z) * slope, 3)[0]

    np.testing.assert_allclose(tf.function(mean)(), mean(), rtol=1e-5, atol=1e-6)


def test_a_configuration_makes_an_equal_one(model, images):
    one = analyzer(model, percent=True, neuron_selection_mode="index", output=0)
    other = SmoothTaylor(model, **one.get_config())
    np.testing.assert_array_equal(one.analyze(images, 1), other.analyze(images, 1))


# === Few-shot models ===

SIZE = 16


@pytest.fixture(scope="module")
def support():
    return random_support(3, 2, SIZE)


def episodic(head) -> EpisodicModel:
    return EpisodicModel.build_from({"name": "conv4", "width": 4}, head, SIZE, seed=1)


def test_copies_of_the_query_share_the_support(support):
    """Of a head whose queries do not see each other the copies are queries of one episode: the numbers of a loop."""
    classifier = episodic("prototype")
    ways, shots = 3, 2
    rng = np.random.default_rng(2)
    images = tf.constant(rng.normal(size=(1, ways * shots, SIZE, SIZE, 3)).astype(np.float32))
    labels = tf.one_hot([np.repeat(np.arange(ways), shots)], ways)
    query = rng.normal(size=(1, 1, SIZE, SIZE, 3)).astype(np.float32)
    by_name = {"support_images": images, "support_labels": labels}
    expected = np.zeros_like(query)
    for sample in range(SAMPLES):
        place = classifier.input_names.index("query_images")
        z = tf.constant(query + SIGMA * drawn(query.shape, sample, SEED))
        with tf.GradientTape() as tape:
            tape.watch(z)
            score = classifier({**by_name, "query_images": z})[0, 0, 1]
        expected += (query - z.numpy()) * tape.gradient(score, z).numpy() / SAMPLES
    inputs = [{**by_name, "query_images": tf.constant(query)}[name] for name in classifier.input_names]
    found = smooth_taylor(
        classifier, inputs, lambda scores: tf.one_hot([[1]], ways), SIGMA, SAMPLES, seed=SEED, fixed=("support_labels",)
    )
    np.testing.assert_allclose(found[place], expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    assert not np.any(found[classifier.input_names.index("support_images")])


@pytest.mark.parametrize("copies", all_but_slow([1, 2], {1}))
def test_queries_beside_the_first_one_get_no_noise(copies):
    """Of a head whose queries see each other: the others are the same in every copy."""
    classifier = episodic("relation")
    ways, shots = 2, 1
    rng = np.random.default_rng(2)
    images = tf.constant(rng.normal(size=(copies, ways * shots, SIZE, SIZE, 3)).astype(np.float32))
    by_name = {"support_images": images, "support_labels": tf.one_hot(copies * [[0, 1]], ways)}
    query = rng.normal(size=(copies, 3, SIZE, SIZE, 3)).astype(np.float32)
    expected = np.zeros_like(query)
    place = classifier.input_names.index("query_images")
    for sample in range(SAMPLES):
        noise = tf.random.stateless_normal(query.shape, (SEED + place, sample)).numpy()
        noise[:, 1:] = 0
        z = tf.constant(query + SIGMA * noise)
        with tf.GradientTape() as tape:
            tape.watch(z)
            score = tf.reduce_sum(classifier({**by_name, "query_images": z})[:, 0, 1])
        expected += (query - z.numpy()) * tape.gradient(score, z).numpy() / SAMPLES
    inputs = [{**by_name, "query_images": tf.constant(query)}[name] for name in classifier.input_names]

    def select(scores):
        return tf.one_hot(copies * [[1, -1, -1]], ways)

    found = smooth_taylor(classifier, inputs, select, SIGMA, SAMPLES, seed=SEED, fixed=("support_labels",))[place]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_inputs_of_integers_have_no_noise():
    codes, values = keras.Input((1,), dtype="int32"), keras.Input((2,))
    looked_up = L.Flatten()(L.Embedding(3, 2)(codes))
    mixed = keras.Model([codes, values], L.Dense(1)(L.Concatenate()([looked_up, values])))
    try:
        found = analyzer(mixed).analyze([np.array([[1]]), np.ones((1, 2), np.float32)])
    except ExplainError as error:
        assert "Embedding" in str(error)
    else:
        assert not np.any(found[0])
        assert np.any(found[1])


@pytest.mark.parametrize(
    "head",
    ["prototype", pytest.param({"name": "graph", "ways": 3}, marks=pytest.mark.slow)],
    ids=["prototype", "graph"],
)
def test_it_explains_a_query(support, head):
    explanation = explain_image(
        episodic(head), support, random_image(SIZE), method={"name": "smooth_taylor", "samples": 4}
    )
    assert explanation.method_name == "smooth_taylor"
    assert np.any(explanation.query_relevance)
    assert not np.any(explanation.support_relevance)


def test_the_support_gets_noise_when_asked(support):
    method = get_method({"name": "smooth_taylor", "samples": 4, "support": True})
    assert np.any(explain_image(episodic("prototype"), support, random_image(SIZE), method=method).support_relevance)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma": 0}, "`sigma` must be a number > 0. Received: sigma=0"),
        ({"sigma": -1.0}, "`sigma` must be"),
        ({"sigma": float("nan")}, "`sigma` must be"),
        ({"samples": 0}, "`samples` must be an integer >= 1. Received: samples=0"),
        ({"samples": 2.5}, "`samples` must be an integer"),
        ({"seed": "abc"}, "`seed` must be an integer >= 0. Received: seed='abc'"),
        ({"percent": "maybe"}, "`percent` must be true or false. Received: percent='maybe'"),
    ],
)
def test_what_cannot_be(model, support, arguments, message):
    with pytest.raises(ExplainError, match=message):
        SmoothTaylor(model, **arguments)
    with pytest.raises(ExplainError, match=message):
        explain_image(episodic("prototype"), support, random_image(SIZE), method={"name": "smooth_taylor", **arguments})


def test_an_argument_that_it_has_not():
    with pytest.raises(ExplainError, match="has no argument 'sgima'; did you mean 'sigma'"):
        get_method({"name": "smooth_taylor", "sgima": 1.0})
