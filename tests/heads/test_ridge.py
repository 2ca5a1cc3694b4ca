from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError
from egt_tf.heads import HEADS, RidgeHead
from egt_tf.lrp import COMPOSITES
from egt_tf.training.guidance import guided_scores
from tests.heads.feature_episodes import episodes
from tests.layer_harness import check_layer


def test_layer(tmp_path):
    check_layer(
        lambda: RidgeHead((4, 3, 5), penalty=0.5, scale=4.0, centre=True, seed=1),
        episodes((4, 3, 5)),
        [[1], [1, 2], [1]],
        tmp_path,
        differentiable=(0, 2),
    )


def slow_scores(inputs, penalty: float, scale: float, centre: bool) -> np.ndarray:
    """Of one episode, in the primal form: a system of one equation a channel."""
    support, labels, query = (np.asarray(x, np.float64) for x in inputs)
    support, query = support.mean((1, 2)), query.mean((1, 2))
    middle = support.mean(0) if centre else 0.0
    support, query = (
        np.array([x / np.linalg.norm(x) if np.linalg.norm(x) else x for x in maps - middle])
        for maps in (support, query)
    )
    weights = np.linalg.inv(support.T @ support + penalty * np.eye(support.shape[1])) @ support.T @ labels
    return scale * query @ weights


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize(
    ("shape", "ways", "shots", "penalty", "scale"),
    [((4, 3, 5), 3, 2, 1.0, 10), ((1, 1, 8), 2, 1, 0.05, 1), ((6, 6, 24), 5, 4, 30, 0.5)],
)
def test_scores_are_those_of_ridge_regression(shape, ways, shots, penalty, scale, centre):
    inputs = episodes(shape, ways=ways, shots=shots)
    scores = RidgeHead(shape, penalty=penalty, scale=scale, centre=centre)(inputs)
    expected = [slow_scores([x[e] for x in inputs], penalty, scale, centre) for e in range(2)]
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_classes_of_different_sizes():
    rng = np.random.default_rng(0)
    classes = np.array([0, 0, 0, 0, 0, 1, 2, 2])
    inputs = [rng.uniform(size=(8, 3, 3, 16)), np.eye(3)[classes], rng.uniform(size=(4, 3, 3, 16))]
    scores = RidgeHead((3, 3, 16))([x[None].astype(np.float32) for x in inputs])[0]
    np.testing.assert_allclose(scores, slow_scores(inputs, 1.0, 10.0, False), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("centre", [False, True])
def test_it_stays_accurate_where_float32_is_worst(centre):
    """The smallest penalty, 200 images, each of them ten times: the system alone would have no solution."""
    rng = np.random.default_rng(1)
    maps = np.tile(rng.uniform(size=(20, 1, 1, 64)), (10, 1, 1, 1))
    inputs = [maps, np.eye(5)[np.tile(np.repeat(np.arange(5), 4), 10)], rng.uniform(size=(9, 1, 1, 64))]
    scores = RidgeHead((1, 1, 64), penalty=1e-3, scale=1.0, centre=centre)([x[None].astype(np.float32) for x in inputs])
    expected = slow_scores(inputs, 1e-3, 1.0, centre)
    np.testing.assert_allclose(scores[0], expected, atol=0.01 * np.abs(expected).max())


def test_support_without_features_scores_nothing():
    inputs = episodes()
    assert not np.any(RidgeHead((4, 4, 5))([np.zeros_like(inputs[0]), *inputs[1:]]))
    assert not np.any(RidgeHead((4, 4, 5))([*inputs[:2], np.zeros_like(inputs[2])]))


def test_relevance_is_what_each_pixel_contributes(float64):
    """From a class's score to its pairs, channel by channel and position by position, under small stabilisers."""
    inputs = [x.astype(np.float64) for x in episodes()]
    head = RidgeHead((4, 4, 5))
    pairs = head.relate(*inputs)
    result = guided_scores(head, pairs, COMPOSITES.get("epsilon"))
    prototype, query = np.split(np.asarray(pairs), 2, axis=-1)
    w, q = prototype.mean((3, 4), keepdims=True), query.mean((3, 4), keepdims=True)
    start = np.asarray(result.output_relevance)[..., None, None, None]
    share = start / (w * q).sum(-1, keepdims=True) / 2 / 16
    expected = np.concatenate([share * q * prototype, share * w * query], axis=-1)
    np.testing.assert_allclose(result.relevance[0], expected, rtol=1e-2, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("centre", [False, True])
def test_images_of_other_classes_speak_for_a_class_by_what_they_lack(centre):
    """Their coefficients have the other sign, and a class's vector is the sum of all."""
    inputs = episodes(shots=1, count=1)
    head = RidgeHead((4, 4, 5), penalty=0.1, centre=centre)
    coefficients = head.relate_model.get_layer("coefficients")(inputs[:2])[0].numpy()
    own = inputs[1][0].astype(bool)
    assert coefficients[own].min() > 0
    assert coefficients[~own].max() < 0 or not centre
    prototypes = head.relate(*inputs)[0, 0, ..., :5]
    np.testing.assert_allclose(prototypes, np.einsum("nk,nhwc->khwc", coefficients, inputs[0][0]), atol=1e-5)


@pytest.mark.parametrize("centre", [False, True])
def test_guidance_and_relevance_of_a_whole_model_are_finite(centre):
    model = EpisodicModel.build_from({"name": "conv4", "width": 4}, {"name": "ridge", "centre": centre}, 16, seed=0)
    inputs = [tf.constant(x) for x in episodes(model.head.feature_shape)]
    result = guided_scores(model.head, model.head.relate(*inputs), COMPOSITES.get("fsc"))
    assert np.isfinite(result.guided).all()
    assert np.any(result.guided != result.plain)


@pytest.mark.parametrize(
    ("argument", "value", "words"),
    [
        ("penalty", 0, "`penalty` must be a number > 0. Received: penalty=0"),
        ("penalty", "1", "`penalty` must be a number > 0"),
        ("penalty", 1e-4, "`penalty` must be between 0.001 and 1000000. Received: penalty=0.0001"),
        ("penalty", 1e7, "`penalty` must be between"),
        ("scale", -1, "`scale` must be a number > 0"),
        ("centre", 1, "`centre` must be true or false. Received: centre=1"),
    ],
)
def test_bad_arguments_are_refused(argument, value, words):
    with pytest.raises(ConfigError, match=words):
        HEADS.get({"name": "ridge", "feature_shape": (6, 6, 4), argument: value})
