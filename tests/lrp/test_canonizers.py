"""Folding batch normalisation."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from egt_tf.backbones import conv4, resnet10
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ExplainError
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, record, reverse
from egt_tf.lrp.canonizers import fold_batch_norm, has_foldable
from egt_tf.lrp.layer_types import is_layer_type
from tests.helpers.quick import all_but_slow

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
    "before grouped convolution": ((6, 6, 4), lambda x: L.Conv2D(6, 3, groups=2)(L.BatchNormalization()(x))),
    "behind grouped convolution": ((6, 6, 4), lambda x: L.BatchNormalization()(L.Conv2D(6, 3, groups=2)(x))),
    "with the statistics that it keeps": ((5,), lambda x: L.BatchNormalization()(L.Dense(3)(x), training=False)),
}
KEPT = {
    "padded convolution after it": ((6, 6, 3), lambda x: L.Conv2D(2, 3, padding="same")(L.BatchNormalization()(x))),
    "activation between": ((5,), lambda x: L.BatchNormalization()(L.Dense(3, activation="relu")(x))),
    "along another axis": ((4, 3), lambda x: L.BatchNormalization(axis=1)(L.Conv1D(4, 1)(x))),
    "read by two": ((5,), lambda x: _branch(L.BatchNormalization()(x))),
    "sum read by another": ((5,), lambda x: _sum_and_norm(L.Dense(3)(x))),
    "two branches into one dense": ((4,), lambda x: _two_into_one(L.Dense(4), x)),
    "two branches into one 1x1 convolution": ((3, 3, 4), lambda x: _two_into_one(L.Conv2D(4, 1), x)),
    "a dense used with and without it": ((4,), lambda x: _with_and_without(L.Dense(4), x)),
    "a 1x1 convolution used with and without it": ((3, 3, 4), lambda x: _with_and_without(L.Conv2D(4, 1), x)),
    "used twice": ((4,), lambda x: _twice(L.BatchNormalization(), L.Dense(4)(x))),
    "with the statistics of the batch": ((5,), lambda x: L.BatchNormalization()(L.Dense(3)(x), training=True)),
    "with the statistics of the batch, by position": ((5,), lambda x: L.BatchNormalization()(L.Dense(3)(x), True)),
    "of a class that computes something else": ((5,), lambda x: _Doubled()(L.Dense(3)(x))),
}


class _Doubled(L.BatchNormalization):
    def call(self, inputs, training=None):
        return 2.0 * super().call(inputs, training=training)


def _two_into_one(layer, x):
    return L.Add()([layer(L.BatchNormalization()(x)), layer(L.BatchNormalization()(L.Activation("tanh")(x)))])


def _with_and_without(layer, x):
    return L.Add()([layer(L.BatchNormalization()(x)), layer(x)])


def _twice(norm, x):
    return norm(L.Activation("tanh")(norm(x)))


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


STEPS = ("sum", "norm", "norm of the batch", "add", "relu", "again", "again", "nested")
SUMS = (
    lambda: L.Dense(4),
    lambda: L.Conv2D(4, 1),
    lambda: L.Conv2D(4, 1, groups=2, use_bias=False),
    lambda: L.Conv2D(4, 3, padding="same"),
    lambda: L.DepthwiseConv2D(1),
    lambda: L.Dense(4, activation="tanh"),
)


def _norm():
    # Its statistics stay as they are when it is called with those of the batch.
    return L.BatchNormalization(momentum=1.0)


def _nested(draw, shared):
    x = keras.Input((3, 3, 4))
    return keras.Model(x, _random_graph(draw, x, shared, depth=1))


def _random_graph(draw, x, shared, depth=0):
    """A graph of layers that keep their input's shape; layers of `shared` are called again, and so are new ones."""
    tensors = [x]
    for _ in range(draw(st.integers(2, 5 if depth else 9))):
        # Mostly the newest one, so that chains are long.
        x = tensors[draw(st.sampled_from((-1, -1, -1, 0)))]
        step = draw(st.sampled_from(STEPS[: 7 if depth else 8]))
        if step == "add":
            y = L.Add()([x, tensors[draw(st.integers(0, len(tensors) - 1))]])
        elif step == "relu":
            y = L.ReLU()(x)
        elif step == "norm of the batch":
            y = _norm()(x, training=True)
        elif step == "again" and shared:
            y = shared[draw(st.integers(0, len(shared) - 1))](x)
        else:
            sums = SUMS[draw(st.integers(0, len(SUMS) - 1))]
            new = {"nested": lambda: _nested(draw, shared), "norm": _norm}.get(step, sums)()
            shared.append(new)
            y = new(x, training=True) if step == "nested" and draw(st.booleans()) else new(x)
        tensors.append(y)
    return L.Add()([tensors[-1], L.Activation("linear")(tensors[draw(st.integers(0, len(tensors) - 1))])])


# Without shrinking, which builds models for minutes.
@settings(max_examples=25, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
@given(st.data())
def test_folding_keeps_the_outputs_of_any_graph(data):
    keras.utils.set_random_seed(data.draw(st.integers(0, 99)))
    inputs = keras.Input((3, 3, 4))
    model = _with_random_statistics(keras.Model(inputs, _random_graph(data.draw, inputs, [])))
    x = tf.random.stateless_normal((4, 3, 3, 4), (3, 4))
    before, folded = model(x).numpy(), fold_batch_norm(model)
    np.testing.assert_allclose(folded(x), before, rtol=1e-5, atol=1e-5 * np.abs(before).max())
    np.testing.assert_array_equal(model(x), before)
    assert not has_foldable(folded)
    # Nor does a pass that is recorded go another way than the model.
    trace = record(model, [x])
    np.testing.assert_allclose(trace.outputs[0], before, rtol=1e-5, atol=1e-5 * np.abs(before).max())


def test_what_is_no_graph_of_layers_is_refused():
    with pytest.raises(ExplainError, match="must have its input"):
        fold_batch_norm(keras.Sequential([L.Dense(3)]))

    class Doubled(keras.Model):
        def call(self, inputs):
            return 2.0 * super().call(inputs)

    x = keras.Input((3,))
    with pytest.raises(ExplainError, match="of class Doubled"):
        fold_batch_norm(Doubled(x, L.Dense(3)(x)))


def test_layers_that_models_of_two_sizes_share_are_folded_for_each():
    shared = [L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU(), L.GlobalAveragePooling2D()]
    models = []
    for size in (6, 9):
        x = y = keras.Input((size, size, 3))
        for layer in shared:
            y = layer(y)
        models.append(_with_random_statistics(keras.Model(x, y)))
    for model in models:
        x = tf.random.stateless_normal((2, *model.input_shape[1:]), (3, 4))
        folded = fold_batch_norm(model)
        np.testing.assert_allclose(folded(x), model(x), rtol=1e-4, atol=1e-6)
        assert not _norms(folded)


class _Times(L.Layer):
    """Has no `get_config`: Keras writes down `factor` alone if it is a number, and nothing of other arguments."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return x * self.factor


def test_layers_without_a_configuration_of_their_own():
    models = [_model(lambda x, f=f: L.BatchNormalization()(L.Dense(3)(_Times(f)(x))), (4,)) for f in (2.0, np.ones(4))]
    x = tf.random.stateless_normal((2, 4), (3, 4))
    np.testing.assert_allclose(fold_batch_norm(models[0])(x), models[0](x), rtol=1e-5, atol=1e-6)
    with pytest.raises(ExplainError, match=r"' of class _Times, which needs a `get_config`"):
        fold_batch_norm(models[1])


@pytest.mark.slow
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
@pytest.mark.parametrize("stem", all_but_slow(["small", "imagenet"], {"small"}))
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
