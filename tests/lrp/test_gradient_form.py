"""Relevance as activation times a modified gradient is the relevance that is walked back."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.backbones import resnet10
from egt_tf.backbones.batch_noise import FixedNoise
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ExplainError
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, LRP, Composite, Entry, record, reverse
from egt_tf.lrp.gradient_form import NoGradientForm, reverse_by, reverse_gradient
from egt_tf.lrp.linear_rules import Epsilon, Flat, LinearRule, ProportionalRule, ZPlus
from egt_tf.lrp.plain_operations import with_plain_operations
from egt_tf.lrp.rules import Derivative, Guided, LayerState, Mask, Pass
from tests.helpers.quick import all_but_slow, quick_ones

L = keras.layers
# These give relevance to zeros in every layer.
WITHOUT_FORM = ("lrp.flat", "lrp.w_square")
WITH_FORM = [name for name in COMPOSITES.names() if name not in WITHOUT_FORM]


def _randomize(model: keras.Model, seed: int = 1) -> keras.Model:
    rng = np.random.default_rng(seed)
    for v in model.weights:
        if "variance" in v.name or "gamma" in v.name:
            v.assign(rng.uniform(0.5, 1.5, v.shape))
        elif "kernel" not in v.name:
            v.assign(rng.normal(0.0, 0.3, v.shape))
    return model


def _everyday() -> keras.Model:
    """Pixels in other units, padding, convolutions of all sorts, a residual sum, a gate, pooling, dense layers."""
    keras.utils.set_random_seed(5)
    images = keras.Input((8, 8, 3))
    x = L.Conv2D(4, 3)(L.ZeroPadding2D(1)(L.Rescaling(2.0, -1.0)(images)))
    x = L.ReLU(6.0, name="stem")(L.BatchNormalization()(x))
    y = L.BatchNormalization()(L.SeparableConv2D(4, 3, padding="same")(x))
    x = L.MaxPooling2D(2)(L.ReLU()(L.Add()([x, y])))
    gate = L.Dense(4, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(x))
    x = L.Multiply()([gate, L.Conv2D(4, 1, activation="swish")(L.Conv2D(4, 1, activation="relu")(x))])
    x = L.Concatenate()([L.Flatten()(x), L.GlobalMaxPooling2D()(x)])
    x = L.LayerNormalization()(L.Dropout(0.5)(L.Dense(6, activation="tanh")(x)))
    return _randomize(keras.Model(images, L.Dense(3)(L.LeakyReLU()(L.Dense(5)(x)))))


def _images(side: int = 8, count: int = 2) -> np.ndarray:
    return np.random.default_rng(4).normal(size=(count, side, side, 3))


def _gap(got, expected) -> float:
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def _both(model, images, composite, dtype, target=None):
    """Relevance for the second output, by the walker and as a gradient."""
    trace = record(model, [tf.constant(images, dtype)])
    weights = tf.one_hot(len(images) * [1], model.output_shape[-1], dtype=dtype)
    targets = None if target is None else [trace.output_of(target)]
    (walked,) = reverse(trace, weights * trace.outputs[0], composite, targets)
    (got,) = reverse_gradient(trace, weights, composite, targets)
    return walked.numpy(), got.numpy()


# === Equal to the walker ===


@pytest.mark.parametrize("name", WITH_FORM)
def test_every_composite_with_a_form_gives_the_walkers_relevance(name, float64):
    model = _everyday()
    walked, got = _both(model, _images(), COMPOSITES.get(name), "float64")
    assert np.abs(walked).max() > 0
    assert _gap(got, walked) < 1e-10


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": "epsilon", "epsilon": 1e-12},
        {"name": "epsilon", "epsilon": 0.25, "bias": False},
        {"name": "epsilon_plus", "bias": False},
        {"name": "lrp.sequential_preset_a", "innvestigate_batch_norm": True},
    ],
    ids=str,
)
def test_so_it_does_with_other_arguments(arguments, float64):
    walked, got = _both(_everyday(), _images(), COMPOSITES.get(arguments), "float64")
    assert _gap(got, walked) < 1e-10


@pytest.mark.parametrize("name", ["attn_lrp", "cp_lrp", "vit_gamma", "epsilon"])
def test_attention_has_a_form(name, float64):
    x = keras.Input((5, 6))
    y = x + L.MultiHeadAttention(2, 4)(L.LayerNormalization()(x), x)
    y += tf.matmul(tf.nn.softmax(tf.matmul(y, y, transpose_b=True)), L.Dense(6, "gelu")(y))
    model = _randomize(keras.Model(x, L.Dense(3)(L.Flatten()(y))))
    walked, got = _both(model, np.random.default_rng(0).normal(size=(2, 5, 6)), COMPOSITES.get(name), "float64")
    assert _gap(got, walked) < 1e-10


@pytest.mark.parametrize("name", all_but_slow(["fsc", "epsilon", "epsilon_gamma_box"], {"fsc"}))
def test_a_residual_network_is_as_close_in_float32_as_the_walker_is_to_float64(name):
    images, composite = _images(32, 1), COMPOSITES.get(name)
    walked = {}
    for dtype in ("float64", "float32"):
        keras.backend.set_floatx(dtype)
        try:
            model = _randomize(resnet10(image_size=32, stem="small", widths=(8, 8, 8, 8), seed=0))
            head = L.Dense(2, kernel_initializer=keras.initializers.RandomNormal(seed=2))
            network = keras.Sequential([model, L.Flatten(), head])
            walked[dtype], got = _both(network, images, composite, dtype)
        finally:
            keras.backend.set_floatx("float32")
        if dtype == "float64":
            assert _gap(got, walked[dtype]) < 1e-8
    assert _gap(got, walked["float32"]) < 10 * _gap(walked["float32"], walked["float64"])


def test_relevance_of_an_inner_layer(float64):
    walked, got = _both(_everyday(), _images(), COMPOSITES.get("epsilon"), "float64", target="stem")
    assert got.shape == (2, 8, 8, 4)
    assert _gap(got, walked) < 1e-10


def test_plain_operations_have_the_same_forms(float64):
    plain = with_plain_operations(COMPOSITES.get("fsc"))
    walked, got = _both(_everyday(), _images(), plain, "float64")
    assert _gap(got, walked) < 1e-10


def test_masked_attention_keeps_its_relevance_finite():
    x = keras.Input((3,))
    attention = L.Softmax()(L.Add()([L.Dense(3)(x), L.Dense(3, name="mask")(x)]))
    model = keras.Model(x, L.Dense(1)(attention))
    model.get_layer("mask").set_weights([np.zeros((3, 3)), np.array([0.0, -np.inf, 0.0])])
    trace = record(model, [tf.constant([[1.0, 2.0, 3.0]])])
    (got,) = reverse_gradient(trace, tf.ones((1, 1)), COMPOSITES.get("epsilon"))
    assert np.isfinite(got).all()
    assert np.any(got)


HEADS = {
    "relation": {},
    "graph": {"ways": 2, "queries_per_graph": "one"},
    "cross_attention": {},
    "prototype": {},
    "cosine": {},
    "ridge": {},
}


@pytest.mark.parametrize("head", all_but_slow(HEADS, {"graph"}))
def test_complete_models_with_every_head(head, float64):
    model = EpisodicModel.build_from({"name": "conv4", "width": 8}, {"name": head, **HEADS[head]}, 20, seed=3)
    rng = np.random.default_rng(5)
    arrays = {
        "support_images": rng.uniform(-1, 1, size=(1, 2, 20, 20, 3)),
        "support_labels": np.eye(2)[None],
        "query_images": rng.uniform(-1, 1, size=(1, 1, 20, 20, 3)),
    }
    trace = record(_randomize(model), [tf.constant(arrays[name]) for name in model.input_names])
    weights, wanted = (
        tf.constant([[[0.0, 1.0]]], tf.float64),
        [trace.output_of(f"{x}_images") for x in ("support", "query")],
    )
    for name in ("fsc", "epsilon"):
        composite = COMPOSITES.get(name)
        walked = reverse(trace, weights * trace.outputs[0], composite, wanted)
        got = reverse_gradient(trace, weights, composite, wanted)
        for each, expected in zip(got, walked, strict=True):
            assert np.abs(expected).max() > 0
            assert _gap(each, expected) < 1e-8


# === What has no form ===


@pytest.mark.parametrize("name", WITHOUT_FORM)
def test_rules_that_give_relevance_to_zeros_are_refused_by_name(name):
    analyzer = LRP(_everyday(), name, engine="gradient")
    rule = "Flat" if name == "lrp.flat" else "WSquare"
    with pytest.raises(
        ExplainError, match=rf"modified gradient .* Received: layer 'dense\w*' of class Dense with {rule}\("
    ):
        analyzer.analyze(_images())


@pytest.mark.parametrize("name", ["lrp.flat", "fsc"])
def test_auto_takes_what_there_is(name):
    model, images = _everyday(), _images()
    expected = LRP(model, name, engine="walker").analyze(images)
    np.testing.assert_allclose(
        LRP(model, name, engine="auto").analyze(images), expected, rtol=0, atol=1e-5 * np.abs(expected).max()
    )


def test_a_shift_of_values_that_are_zero_in_many_places_has_no_form():
    x = keras.Input((4,))
    model = _randomize(keras.Model(x, L.Dense(1)(L.BatchNormalization()(L.ReLU()(L.Dense(4)(x))))))
    trace = record(model, [tf.constant([[1.0, -2.0, 3.0, 0.5]])])
    with pytest.raises(NoGradientForm, match=r"class BatchNormalization with Pass\(\)"):
        reverse_gradient(trace, tf.ones((1, 1)), COMPOSITES.get("fsc"))
    assert np.isfinite(reverse_gradient(trace, tf.ones((1, 1)), COMPOSITES.get("epsilon"))[0]).all()


@pytest.mark.parametrize(
    ("rule", "layer"),
    [
        (Derivative(), L.Dense(2)),
        (Derivative(), L.Activation("tanh")),
        (Guided(), L.ReLU()),
        (Mask(), L.Activation("tanh")),
        (Pass(), L.Lambda(lambda x: x + 1.0)),
        (Flat(), L.Dense(2)),
        (Epsilon(), L.Dense(2, activation="tanh")),
    ],
    # A layer is called by its address, which is another one in every process.
    ids=lambda value: type(value).__name__,
)
def test_rules_without_a_form(rule, layer):
    state = LayerState(layer, lambda xs: [layer(*xs)], rule_for=lambda _: Derivative())
    assert rule.gradient(state) is None


def test_a_rule_of_ones_own_is_walked():
    class Halved(LinearRule):
        def redistribute(self, signal, relevance, part):
            return 0.5 * Epsilon().redistribute(signal, relevance, part)

    model = keras.Sequential([keras.Input((3,)), L.Dense(4), L.Dense(2, name="scores")])
    composite = Composite([Entry(Halved(), layer="scores"), Entry(ZPlus(), layer_type="dense")])
    x = np.ones((1, 3), np.float32)
    expected = LRP(model, composite, engine="walker").analyze(x)
    np.testing.assert_array_equal(LRP(model, composite, engine="auto").analyze(x), expected)
    with pytest.raises(ExplainError, match="layer 'scores'"):
        LRP(model, composite, engine="gradient").analyze(x)


def test_a_rule_in_proportion_to_the_inputs_says_its_slope_alone():
    class Doubled(ProportionalRule):
        def slope(self, signal, relevance, part):
            return 2.0 * Epsilon().slope(signal, relevance, part)

    model = keras.Sequential([keras.Input((3,)), L.Dense(4), L.Dense(2)])
    walked, got = _both(model, np.ones((1, 3)), Composite([Entry(Doubled(), layer_type="dense")]), "float32")
    assert _gap(got, walked) < 1e-5


# === The analyzer ===


@pytest.mark.parametrize("mode", quick_ones(["max_activation", "index", "all"], {"index"}))
def test_the_analyzer_has_engines(mode):
    model, images = _everyday(), _images()
    selection = [1, 2] if mode == "index" else None
    walked, got = (
        LRP(model, "epsilon", mode, engine=engine).analyze(images, selection) for engine in ("walker", "gradient")
    )
    assert _gap(got, walked) < 1e-4


@pytest.mark.slow
def test_several_neurons_and_inner_layers():
    model, images = _everyday(), _images()
    walked, got = (
        LRP(model, "epsilon", engine=engine).analyze_each(images, [0, 2], layer="stem")
        for engine in ("walker", "gradient")
    )
    assert got.shape == (2, 2, 8, 8, 4)
    assert _gap(got, walked) < 1e-4


def test_relevance_for_a_given_output_relevance():
    model, x = _everyday(), tf.constant(_images(), tf.float32)
    start = tf.constant([[1.0, -2.0, 0.0], [0.5, 0.0, 3.0]])
    walked, got = (LRP(model, "epsilon", engine=engine).relevance(x, start) for engine in ("walker", "gradient"))
    assert _gap(got, walked) < 1e-4
    with pytest.raises(ExplainError, match="shaped as what it is of"):
        LRP(model, "epsilon", engine="gradient").relevance(x, start[:, :2])
    # In training, each layer's outputs are of the batch at hand: always walked.
    walked, got = (
        LRP(model, "lrp.flat", engine=engine).relevance(x, start, training=True) for engine in ("walker", "gradient")
    )
    assert got.shape == walked.shape


def test_a_softmax_at_the_end_is_left_out():
    model = _everyday()
    with pytest.warns(UserWarning, match="softmax"):
        analyzer = LRP(keras.Sequential([model, L.Softmax()]), "epsilon", engine="gradient")
    assert _gap(analyzer.analyze(_images()), LRP(model, "epsilon").analyze(_images())) < 1e-4


def test_current_weights_are_used_and_nothing_is_traced_again():
    model, images = _everyday(), _images()
    analyzer = LRP(model, "epsilon", engine="gradient")
    before, variables = analyzer.analyze(images), len(model.weights)
    kernel = model.layers[-1].kernel
    kernel.assign(2.0 * kernel + 0.1)
    after = analyzer.analyze(images)
    assert _gap(after, LRP(model, "epsilon", engine="walker").analyze(images)) < 1e-4
    assert not np.allclose(after, before)
    assert analyzer._analyze.experimental_get_tracing_count() == 1
    assert len(model.weights) == variables


def test_it_can_be_exported(tmp_path):
    model, x = _everyday(), tf.constant(_images(), tf.float32)
    module, analyzer = tf.Module(), LRP(model, "epsilon", engine="gradient")
    module.model = model

    # The code has no branches that AutoGraph would have to find, which takes longer than all the rest.
    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3))], autograph=False)
    def explain(images):
        trace = record(model, [images])
        return analyzer.relevance_of(trace, trace.outputs[0])[0]

    module.explain = explain
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    assert _gap(loaded.explain(x).numpy(), LRP(model, "epsilon", "all").analyze(_images())) < 1e-4


def test_the_engine_is_an_argument_like_the_others():
    model = _everyday()
    analyzer = LRP(model, "epsilon", engine="gradient")
    config = json.loads(json.dumps(analyzer.get_config()))
    assert config["engine"] == "gradient"
    assert LRP.from_config(model, config).engine == "gradient"
    message = r"`engine` must be one of walker, gradient, auto. Received: engine='fast'"
    with pytest.raises(ExplainError, match=message):
        LRP(model, "epsilon", engine="fast")
    trace = record(model, [tf.constant(_images(), tf.float32)])
    with pytest.raises(ExplainError, match=message):
        reverse_by("fast", trace, trace.outputs[0], COMPOSITES.get("epsilon"))


# === Where the two could differ ===


def _alike(model, composite, *arrays):
    """Relevance by `auto`, after it was found to be the walker's."""
    walked, got = (
        tf.nest.flatten(LRP(model, composite, engine=engine).analyze([*arrays])) for engine in ("walker", "auto")
    )
    for one, other in zip(walked, got, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-5 * np.abs(one).max())
    return got


@pytest.mark.parametrize("composite", ["epsilon", "fsc"])
def test_what_is_added_behind_zeros_keeps_its_relevance(composite):
    x = keras.Input((4, 4, 2))
    noise = FixedNoise()
    y = noise(L.Conv2D(3, 3, activation="relu", padding="same")(x))
    model = _randomize(keras.Model(x, L.Dense(2)(L.Flatten()(L.Conv2D(2, 3)(y)))))
    noise.set_weights([np.random.default_rng(1).normal(size=(4, 4, 3))])
    _alike(model, composite, np.random.default_rng(0).normal(size=(2, 4, 4, 2)))


def test_a_black_background_keeps_its_relevance():
    x = keras.Input((4,))
    model = _randomize(keras.Model(x, L.Dense(2)(L.BatchNormalization()(x))))
    (got,) = _alike(model, "fsc", np.array([[0.0, 0.0, 3.0, 1.0]]))
    assert (got[0, :2] != 0).all()


@pytest.mark.parametrize("composite", ["lrp.z", "fsc"])
def test_a_difference_of_nothing_has_no_relevance(composite):
    a, b = keras.Input((2,)), keras.Input((2,))
    model = _randomize(keras.Model([a, b], L.Dense(1)(L.Subtract()([a, b]))))
    got = _alike(model, composite, np.array([[5.0, 2.0]]), np.array([[5.0, 1.0]]))
    assert got[0][0, 0] == 0


def test_masks_of_minus_infinity_leave_the_rest_finite():
    x, allowed = keras.Input((3,)), keras.Input((3,), dtype=tf.bool)
    weights = tf.nn.softmax(tf.where(allowed, L.Dense(3)(x), -np.inf))
    model = _randomize(keras.Model([x, allowed], L.Dense(2)(weights * L.Dense(3)(x))))
    got = _alike(model, "attn_lrp", np.array([[1.0, 2.0, 3.0]]), np.array([[True, False, True]]))
    assert np.isfinite(got[0]).all()


@pytest.mark.parametrize("composite", ["cp_lrp", "vit_gamma"])
def test_nothing_passes_the_softmax_of_a_layer_within(composite):
    x = keras.Input((4,))
    model = _randomize(keras.Model(x, L.Dense(2)(L.Dense(3, activation="softmax")(L.Dense(3)(x)))))
    (got,) = _alike(model, composite, np.array([[1.0, 2.0, 3.0, 4.0]]))
    assert not got.any()


def test_a_pass_in_training_is_walked():
    x = keras.Input((4,))
    model = _randomize(keras.Model(x, L.Dense(2)(L.BatchNormalization()(L.Dense(4)(x)))))
    trace = record(model, [tf.constant(np.random.default_rng(0).normal(size=(5, 4)), tf.float32)], training=True)
    start = tf.ones((5, 2))
    (walked,), (got,) = (
        LRP(model, "epsilon", engine=engine).relevance_of(trace, start) for engine in ("walker", "auto")
    )
    np.testing.assert_array_equal(walked, got)


def test_the_error_of_an_unknown_layer_is_the_walkers():
    class Odd(L.Layer):
        def call(self, inputs):
            return inputs

    x = keras.Input((4,))
    y = L.Dense(2)(L.BatchNormalization()(tf.nn.relu(Odd(name="odd")(L.Dense(4)(x)))))
    with pytest.raises(ExplainError, match=r"no rule of composite 'fsc' fits layer 'odd'"):
        LRP(keras.Model(x, y), "fsc", engine="auto").analyze(np.ones((1, 4)))
