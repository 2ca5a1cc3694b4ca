"""The composites that have names: they can be written down, and those of innvestigate give its numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.errors import ConfigError, ExplainError
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, LRP, Composite, Entry, record, reverse
from egt_tf.lrp.linear_rules import AlphaBeta, Bounded, Epsilon, Flat, Gamma, ZPlus
from egt_tf.lrp.presets import BRIGHTEST, DARKEST
from egt_tf.lrp.rules import ZENNIT_STABILIZER, Derivative, Mask, Pass, Share, ShareSum
from tests.lrp import reference_rules as ref
from tests.lrp.innvestigate_oracle import Job, Network, build_network, named, random_weights, run_oracle
from tests.lrp.test_reference_rules import IV_ALPHA2, IV_FLAT, IV_RULES, _everywhere, _preset, _ReferenceWalk

L = keras.layers
PRESETS = [name for name in COMPOSITES.names() if name.startswith("lrp.")]


# === Every composite ===


@pytest.fixture(scope="module")
def example():
    """A recorded pass of float32 images through every kind of layer that composites decide about."""
    keras.utils.set_random_seed(5)
    images = keras.Input((8, 8, 3))
    x = L.Activation("relu")(L.BatchNormalization()(L.Conv2D(4, 3)(L.ZeroPadding2D(1)(images))))
    y = L.BatchNormalization()(L.Conv2D(4, 3, padding="same", activation="relu")(x))
    x = L.MaxPooling2D(2)(L.ReLU()(L.Add()([x, y])))
    gate = L.Dense(4, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(x))
    x = L.Dropout(0.5)(L.Flatten()(L.Multiply()([x, gate])))
    model = keras.Model(images, L.Dense(3)(L.LeakyReLU()(L.Dense(5)(x))))
    rng = np.random.default_rng(6)
    model.set_weights(
        [rng.uniform(0.5, 1.5, v.shape) if "variance" in v.name else rng.normal(0, 0.5, v.shape) for v in model.weights]
    )
    return record(model, [tf.constant(rng.normal(size=(2, 8, 8, 3)), tf.float32)])


def _explain(trace, composite):
    return reverse(trace, trace.outputs[0], composite)[0].numpy()


@pytest.mark.parametrize("name", COMPOSITES.names())
def test_a_composite_survives_being_written_down(example, name):
    composite = COMPOSITES.get(name)
    assert isinstance(composite, Composite)
    assert composite.name == name
    again = Composite.from_json(json.loads(json.dumps(composite.to_json(), allow_nan=False)))
    assert again.entries == composite.entries
    assert again.name == name
    assert again.to_json() == composite.to_json()
    expected = _explain(example, composite)
    assert np.isfinite(expected).all()
    assert np.any(expected)
    np.testing.assert_array_equal(_explain(example, again), expected)


# On batch normalisation they share k^2 / k^2 or max(x k, 0) / max(x k, 0): the same however k is understood.
BLIND_TO_SCALE = ("lrp.flat", "lrp.w_square", "lrp.z_plus")
ARGUMENTS = [
    {"name": "fsc_gamma", "gamma": 1.0},
    {"name": "epsilon", "epsilon": 0.25, "bias": False},
    {"name": "epsilon_plus", "bias": False},
    {"name": "epsilon_alpha2_beta1_flat", "bias": False},
    {"name": "epsilon_gamma_box", "low": [-3.0, -2.0, -1.0], "high": 3.0},
    {"name": "lrp.epsilon", "epsilon": 0.5},
    {"name": "cp_lrp", "bias": False},
    {"name": "attn_lrp", "epsilon": 0.25},
    {"name": "vit_gamma", "conv_gamma": 0, "dense_gamma": 1.0},
    {"name": "lrp.sequential_preset_b", "epsilon": 0.5},
    *({"name": name, "innvestigate_batch_norm": True} for name in PRESETS),
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_arguments_change_the_relevance_and_survive_too(example, arguments):
    composite = COMPOSITES.get(arguments)
    again = Composite.from_json(json.loads(json.dumps(composite.to_json())))
    assert again.entries == composite.entries != COMPOSITES.get(arguments["name"]).entries
    changed = _explain(example, composite)
    np.testing.assert_array_equal(_explain(example, again), changed)
    if arguments["name"] not in BLIND_TO_SCALE:
        assert not np.allclose(changed, _explain(example, COMPOSITES.get(arguments["name"])), rtol=1e-3)


def test_bounds_may_be_arrays():
    low, high = np.array([-2.0, -1.0]), np.float32(1.5)
    composite = COMPOSITES.get({"name": "epsilon_gamma_box", "low": low, "high": high})
    assert json.loads(json.dumps(composite.to_json())) == composite.to_json()
    assert composite.rule_for(L.Conv2D(1, 1), first=True) == Bounded((-2.0, -1.0), 1.5, ZENNIT_STABILIZER)


def test_names_and_arguments_are_checked():
    with pytest.raises(ConfigError, match=r"did you mean 'lrp.sequential_preset_a'"):
        COMPOSITES.get("lrp.sequential_preset_aa")
    with pytest.raises(ConfigError, match="'fsc' takes no argument 'gamma'"):
        COMPOSITES.get({"name": "fsc", "gamma": 1.0})


# === Rules by layer ===

S = ZENNIT_STABILIZER
LAYERS = {
    "first": (L.Conv2D(1, 1), True),
    "convolution": (L.DepthwiseConv2D(1), False),
    "dense": (L.Dense(1), False),
    "relu": (L.ReLU(), False),
    "max_pool": (L.GlobalMaxPooling2D(), False),
    "add": (L.Add(), False),
    "mean": (L.AveragePooling2D(), False),
}
PUBLISHED = {
    "dense": Epsilon(0.01, bias=False),
    "relu": Mask(),
    "max_pool": Share(),
    "add": ShareSum(0.01),
    "mean": Share(),
}
ZENNIT = {"dense": Epsilon(S), "relu": Pass(), "max_pool": Derivative(), "add": ShareSum(S), "mean": Share(S)}
INNVESTIGATE = {"dense": Epsilon(0.1), "relu": Pass(), "max_pool": Derivative(), "add": Share(), "mean": Share()}
BOX, FLAT = Bounded(DARKEST, BRIGHTEST, S), Flat(S)
CHOICES = {
    "fsc": (*2 * (AlphaBeta(1.0, 0.0, bias=False),), PUBLISHED),
    "fsc_gamma": (*2 * (Gamma(0.25, bias=False, bias_in_sign=False),), PUBLISHED),
    "fsc_can": (*2 * (AlphaBeta(1.5, 0.5, bias=False),), PUBLISHED),
    "epsilon": (*2 * (Epsilon(S),), ZENNIT),
    "epsilon_plus": (*2 * (ZPlus(True, S),), ZENNIT),
    "epsilon_gamma_box": (BOX, Gamma(0.25, True, S), ZENNIT),
    "epsilon_alpha2_beta1_flat": (FLAT, AlphaBeta(2.0, 1.0, stabilizer=S), ZENNIT),
    "lrp.sequential_preset_a": (*2 * (AlphaBeta(1.0, 0.0, whole_bias=True),), INNVESTIGATE),
    "lrp.sequential_preset_b": (*2 * (AlphaBeta(2.0, 1.0, whole_bias=True),), INNVESTIGATE),
    "lrp.sequential_preset_a_flat": (Flat(padding=True), AlphaBeta(1.0, 0.0, whole_bias=True), INNVESTIGATE),
    "lrp.sequential_preset_b_flat": (Flat(padding=True), AlphaBeta(2.0, 1.0, whole_bias=True), INNVESTIGATE),
}


@pytest.mark.parametrize("name", CHOICES)
def test_which_rule_a_layer_gets(name):
    first, convolution, others = CHOICES[name]
    composite = COMPOSITES.get(name)
    got = {kind: composite.rule_for(layer, is_first) for kind, (layer, is_first) in LAYERS.items()}
    assert got == {"first": first, "convolution": convolution, **others}


# === innvestigate ===

NETWORKS = {
    "conv": Network("conv", (8, 7, 2), units=(5,), dtype="float64"),
    "dense": Network("dense", (6,), units=(5, 4), dtype="float64"),
    "residual": Network("residual", (7, 6, 2), 3, pooling="average", dtype="float64"),
    "padded": Network(
        "padded", (6, 6, 2), strides=2, padding="valid", pool_padding="same", inline_activation=True, dtype="float64"
    ),
}
# innvestigate looks for the first layer through reshaping, ours through padding too.
SEEN_OTHERWISE = ("lrp.sequential_preset_a_flat", "lrp.sequential_preset_b_flat")


@pytest.fixture(scope="module")
def oracle():
    """Jobs and innvestigate's answers by network, all from one subprocess."""
    rng = np.random.default_rng(8)
    jobs = {
        name: Job(
            network,
            random_weights(network, seed=9),
            rng.normal(size=(2, *network.input_shape)),
            named(*PRESETS),
            [0, 2],
        )
        for name, network in NETWORKS.items()
    }
    return {name: (job, answer) for (name, job), answer in zip(jobs.items(), run_oracle(list(jobs.values())))}


def _model(job):
    model = build_network(job.network)
    model.set_weights(job.weights)
    return model


def _ours(job, composite, model=None):
    analyzer = LRP(model or _model(job), composite, neuron_selection_mode="index")
    return analyzer.analyze(job.inputs, job.neurons())


def _same(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "network"),
    [
        (name, network)
        for name in PRESETS
        for network in ("conv", "dense", "padded")
        if network != "padded" or name not in SEEN_OTHERWISE
    ],
)
def test_a_preset_gives_innvestigates_numbers(float64, oracle, name, network):
    job, answer = oracle[network]
    _same(_ours(job, name), answer.relevance[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_gives_innvestigates_numbers_behind_its_batch_normalisation(float64, oracle, name):
    job, answer = oracle["residual"]
    _same(_ours(job, {"name": name, "innvestigate_batch_norm": True}), answer.relevance[name])


REFERENCES = {
    **IV_RULES,
    "lrp.epsilon": _everywhere(ref.epsilon),
    "lrp.alpha_2_beta_1": _everywhere(IV_ALPHA2),
    "lrp.sequential_preset_b_flat": {**_preset(IV_ALPHA2), "first": IV_FLAT},
}


class _TrueWalk(_ReferenceWalk):
    """Batch normalisation as the layer computes it: the variance not squared, the mean scaled by gamma."""

    def linear(self, layer, kind, shape):
        if kind == "BatchNormalization":
            k, b = ref.batch_norm_affine(*layer.get_weights(), layer.epsilon)
            return ref.scale_matrix(k, shape), b
        return super().linear(layer, kind, shape)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_batch_normalisation_is_what_the_layer_computes(float64, oracle, name):
    job, answer = oracle["residual"]
    model = _model(job)
    got = _ours(job, name)
    for example, neuron, relevance in zip(job.inputs, job.neurons(), got):
        _same(relevance, _TrueWalk(model, REFERENCES[name], example).run(neuron))
    assert np.allclose(got, answer.relevance[name], rtol=1e-6, atol=0) == (name in BLIND_TO_SCALE)


@pytest.mark.slow
@pytest.mark.parametrize("name", SEEN_OTHERWISE)
def test_the_first_layer_is_seen_through_padding(float64, oracle, name):
    job, answer = oracle["padded"]
    plain = name.removesuffix("_flat")
    # innvestigate finds no first layer behind padding, and its flat preset is the plain one.
    _same(answer.relevance[name], answer.relevance[plain])
    _same(_ours(job, plain), answer.relevance[plain])
    model = _model(job)
    first = next(layer.name for layer in model.layers if layer.weights)
    expected = _ours(job, COMPOSITES.get(plain).prepend(Entry(Flat(padding=True), layer=first)), model)
    _same(_ours(job, name), expected)
    assert not np.allclose(expected, answer.relevance[plain], rtol=0.1)


# === The box of z^B ===


@pytest.mark.parametrize(
    "box",
    [
        {"low": 2.0, "high": 1.0},
        {"low": [0.0, 2.0, 0.0], "high": 1.0},
        {"low": [0.0, 0.0], "high": [1.0, 1.0, 1.0]},
        {"low": float("nan"), "high": 1.0},
        {"low": -1.0, "high": float("inf")},
        {"low": None},
        {"high": "white"},
        {"low": [[-1.0]], "high": 1.0},
    ],
)
def test_boxes_are_checked(box):
    with pytest.raises(ExplainError, match=r"`(low|high)` must .*Received"):
        COMPOSITES.get({"name": "epsilon_gamma_box", **box})


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_a_box_has_a_value_for_each_channel_or_one_for_all(channels):
    keras.utils.set_random_seed(1)
    x = np.random.default_rng(0).uniform(-1, 1, (2, 5, 5, channels))
    model = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Conv2D(3, 3), keras.layers.Flatten()])
    with pytest.raises(ExplainError, match=rf"one for each channel of the input, {channels}. Received: low=\(-2.1"):
        LRP(model, "epsilon_gamma_box").analyze(x)
    boxes = [(-1.0, 1.0), (channels * [-1.0], 1.0), (channels * [-1.0], channels * [1.0])]
    first, *others = (
        LRP(model, {"name": "epsilon_gamma_box", "low": low, "high": high}).analyze(x) for low, high in boxes
    )
    # All that the largest neuron has arrives, for there are no biases and no activations.
    np.testing.assert_allclose(first.sum((1, 2, 3)), model(x).numpy().max(1), rtol=1e-4)
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-5, atol=1e-7)
