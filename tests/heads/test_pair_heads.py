"""What the heads without weights of their own have in common."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.episodic_model import EpisodicModel
from egt_tf.heads import HEADS
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES
from egt_tf.training.guidance import guided_scores
from egt_tf.training.guided_model import GuidedModel
from egt_tf.weights import assign_weights, weight_arrays
from tests.heads.feature_episodes import episodes
from tests.helpers.quick import quick_ones

NAMES = ("prototype", "cosine", "ridge")
LABELS = np.array([[2, 0, 1, 2], [1, 1, 1, 0]])


def make(name: str, shape=(4, 4, 5)):
    return HEADS.get(name, feature_shape=shape)


@pytest.mark.parametrize("name", NAMES)
def test_several_episodes_equal_each_alone_and_each_query_alone(name):
    head, inputs = make(name), episodes(count=3)
    together = head(inputs)
    alone = [head([x[e : e + 1] for x in inputs]) for e in range(3)]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-4, atol=1e-5)
    support, labels, query = inputs
    np.testing.assert_allclose(together[:, 2:3], head([support, labels, query[:, 2:3]]), rtol=1e-4, atol=1e-5)
    assert not head.uses_batch_statistics
    assert not head.weights


@pytest.mark.parametrize("name", NAMES)
def test_loss_is_cross_entropy(name):
    scores = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    logarithm = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    expected = -np.take_along_axis(logarithm, LABELS[..., None], -1)[..., 0].mean(1)
    np.testing.assert_allclose(make(name).loss(scores, LABELS), expected, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_guidance_weights_the_pairs(name):
    head, inputs = make(name), episodes()
    pairs = head.relate(*inputs)
    assert pairs.shape == (2, 4, 3, 4, 4, 10)
    result = guided_scores(head, pairs, COMPOSITES.get("fsc"))
    weights = result.weights[0].numpy()
    assert weights.shape == pairs.shape
    assert weights.min() >= 0
    assert weights.max() <= 2
    assert np.any(weights != 1)
    np.testing.assert_allclose(result.guided, head.score(pairs * weights), rtol=1e-4, atol=1e-5)


def gradient(name: str, detach: bool):
    head, inputs = make(name), [tf.constant(x) for x in episodes()]
    with tf.GradientTape() as tape:
        tape.watch(inputs[2])
        result = guided_scores(head, head.relate(*inputs), COMPOSITES.get("fsc"), detach=detach)
        loss = tf.reduce_sum(head.loss(result.guided, LABELS))
    return tape.gradient(loss, inputs[2]).numpy()


@pytest.mark.parametrize("name", NAMES)
def test_gradients_through_the_explanation_differ(name):
    constant, through = gradient(name, True), gradient(name, False)
    assert np.isfinite(through).all()
    assert np.abs(through - constant).max() > 0.01 * np.abs(constant).max()


@pytest.mark.parametrize("name", quick_ones(NAMES, {"prototype"}))
def test_guided_training_lowers_the_loss(name):
    rng = np.random.default_rng(0)
    model = EpisodicModel.build_from({"name": "conv4", "width": 8}, name, 16, seed=0)
    shell = GuidedModel(model)
    shell.compile(optimizer=keras.optimizers.Adam(0.01))
    images = [rng.normal(size=(2, count, 16, 16, 3)).astype(np.float32) for count in (3, 4)]
    inputs = {
        "support_images": images[0],
        "support_labels": np.tile(np.eye(3, dtype=np.float32), (2, 1, 1)),
        "query_images": images[1],
    }
    data = tf.data.Dataset.from_tensors((inputs, LABELS.astype(np.int32))).repeat(8)
    first, last = (shell.fit(data, verbose=0).history for _ in range(2))
    for loss in ("loss", "plain_loss", "guided_loss"):
        assert last[loss][0] < first[loss][0], loss
    other = EpisodicModel.build_from({"name": "conv4", "width": 8}, name, 16)
    assign_weights(other, weight_arrays(model), "test")
    inputs = {name: tf.constant(x) for name, x in inputs.items()}
    np.testing.assert_allclose(other(inputs), model(inputs), rtol=1e-5)
