"""Folding batch normalisation."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from egt_tf.backbones import conv4, resnet10
from egt_tf.episodic_model import EpisodicModel
from egt_tf.lrp import COMPOSITES, record, reverse
from egt_tf.lrp.canonizers import fold_batch_norm, has_foldable
from egt_tf.lrp.layer_types import is_layer_type

L = keras.layers


def _with_random_statistics(model, seed=0):
    rng = np.random.default_rng(seed)
    for layer in model.submodules:
        if isinstance(layer, keras.layers.Layer) and is_layer_type(layer, "batch_norm"):
            layer.set_weights(
                [
                    rng.uniform(0.5, 1.5, w.shape) if "mean" not in name else rng.normal(size=w.shape)
                    for w, name in zip(layer.get_weights(), (v.name for v in layer.weights))
                ]
            )
    return model


def _norms(model):
    return [layer.name for layer in model.layers if is_layer_type(layer, "batch_norm")]


@pytest.mark.parametrize(
    "build", [lambda: conv4(16, width=4, seed=0), lambda: resnet10(32, stem="small", widths=(4, 6, 8, 10), seed=0)]
)
def test_backbones_keep_their_outputs_and_lose_their_norms(build):
    model = _with_random_statistics(build())
    images = tf.random.stateless_normal((2, *model.input_shape[1:]), (1, 2))
    before = model(images).numpy()
    weights = model.get_weights()
    folded = fold_batch_norm(model)
    np.testing.assert_allclose(folded(images), before, rtol=1e-5, atol=1e-5 * np.abs(before).max())
    assert _norms(model)
    assert not _norms(folded)
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(model(images), before)


def _model(build, shape):
    inputs = keras.Input(shape)
    return _with_random_statistics(keras.Model(inputs, build(inputs)))


FOLDED = {
    "dense": ((5,), lambda x: L.BatchNormalization()(L.Dense(3)(x))),
    "without bias": ((5,), lambda x: L.BatchNormalization()(L.Dense(3, use_bias=False)(x))),
    "without gamma and beta": ((5,), lambda x: L.BatchNormalization(scale=False, center=False)(L.Dense(3)(x))),
    "depthwise": ((6, 6, 3), lambda x: L.BatchNormalization()(L.DepthwiseConv2D(3, depth_multiplier=2)(x))),
    "before dense": ((5,), lambda x: L.Dense(3)(L.BatchNormalization()(x))),
    "before unpadded convolution": ((6, 6, 3), lambda x: L.Conv2D(2, 3)(L.BatchNormalization()(x))),
}
KEPT = {
    "padded convolution after it": ((6, 6, 3), lambda x: L.Conv2D(2, 3, padding="same")(L.BatchNormalization()(x))),
    "activation between": ((5,), lambda x: L.BatchNormalization()(L.Dense(3, activation="relu")(x))),
    "along another axis": ((4, 3), lambda x: L.BatchNormalization(axis=1)(L.Conv1D(4, 1)(x))),
    "read by two": ((5,), lambda x: _branch(L.BatchNormalization()(x))),
    "sum read by another": ((5,), lambda x: _sum_and_norm(L.Dense(3)(x))),
}


def _branch(x):
    return L.Add()([L.Dense(3)(x), L.Dense(3)(x)])


def _sum_and_norm(x):
    return L.Add()([x, L.BatchNormalization()(x)])


@pytest.mark.parametrize("case", [*FOLDED, *KEPT])
def test_what_is_folded_and_what_is_kept(case):
    model = _model(*reversed({**FOLDED, **KEPT}[case]))
    x = tf.random.stateless_normal((4, *model.input_shape[1:]), (3, 4))
    folded = fold_batch_norm(model)
    np.testing.assert_allclose(folded(x), model(x), rtol=1e-4, atol=1e-5)
    assert bool(_norms(folded)) == (case in KEPT)


def test_nested_and_few_shot_models():
    model = EpisodicModel.build_from({"name": "conv4", "width": 4}, {"name": "relation", "batch_statistics": False}, 16)
    _with_random_statistics(model)
    inputs = {
        "support_images": tf.random.stateless_normal((1, 4, 16, 16, 3), (1, 1)),
        "support_labels": tf.one_hot([[0, 0, 1, 1]], 2),
        "query_images": tf.random.stateless_normal((1, 3, 16, 16, 3), (1, 2)),
    }
    folded = fold_batch_norm(model)
    np.testing.assert_allclose(folded(inputs), model(inputs), rtol=1e-4, atol=1e-5)
    assert not _norms(folded.backbone)
    assert not _norms(folded.head.score_model)
    assert isinstance(folded, EpisodicModel)
    published = EpisodicModel.build_from({"name": "conv4", "width": 4}, "relation", 16)
    assert _norms(fold_batch_norm(published).head.score_model)


def test_relevance_is_conserved_through_a_folded_resnet():
    model = fold_batch_norm(_with_random_statistics(resnet10(32, stem="small", widths=(4, 6, 8, 10), seed=0)))
    trace = record(model, [tf.random.stateless_normal((2, 32, 32, 3), (5, 6))])
    composite = COMPOSITES.get({"name": "epsilon", "bias": False})
    stages = [trace.output_of(f"stage{stage}_block1_relu") for stage in (3, 2, 1)] + [trace.output_of("stem_relu")]
    start = trace.outputs[0]
    for r in reverse(trace, start, composite, stages):
        # Positive and negative relevance grow on the way down; their sum is as exact as they are.
        atol = 1e-6 * tf.reduce_sum(tf.abs(r)).numpy()
        np.testing.assert_allclose(tf.reduce_sum(r), tf.reduce_sum(start), rtol=0.01, atol=atol)


@pytest.mark.parametrize("name", ["epsilon_plus", "epsilon_gamma_box", "epsilon_alpha2_beta1_flat"])
@pytest.mark.parametrize("stem", ["small", "imagenet"])
def test_composites_conserve_relevance_down_to_the_pixels(name, stem):
    # Wide enough that no unit fires by its bias alone, which would have no inputs to give its relevance to.
    model = fold_batch_norm(_with_random_statistics(resnet10(48, stem=stem, widths=(16, 16, 16, 16), seed=0)))
    # Within the box of epsilon_gamma_box.
    trace = record(model, [tf.random.stateless_uniform((2, 48, 48, 3), (5, 6), -1.5, 1.5)])
    stages = [trace.output_of(f"stage{stage}_block1_relu") for stage in (3, 2, 1)] + [trace.inputs[0]]
    start = trace.outputs[0]
    for r in reverse(trace, start, COMPOSITES.get({"name": name, "bias": False}), stages):
        np.testing.assert_allclose(tf.reduce_sum(r), tf.reduce_sum(start), rtol=0.01)


def test_what_has_nothing_to_fold_is_said_to_have_nothing():
    model = EpisodicModel.build_from({"name": "conv4", "width": 4}, "relation", 16)
    assert has_foldable(model)
    assert not has_foldable(fold_batch_norm(model))
    nested = keras.Sequential([keras.Input((16, 16, 3)), model.backbone])
    assert has_foldable(nested)
    assert not has_foldable(fold_batch_norm(nested))
    assert not has_foldable(_model(*reversed(KEPT["read by two"])))
