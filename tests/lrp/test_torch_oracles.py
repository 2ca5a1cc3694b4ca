"""Relevance against two independent programs in PyTorch: zennit 1.0 (convolutional networks) and lxt 2.1 (attention).

They run in a process of their own, in the Python that EGT_TF_ORACLE_PYTHON names or else in this one: see
`torch_oracle.py`. The weights are the same numbers, and both compute in float64; the relevance must agree to 1e-8 of
its largest value. No tolerance is wider: where definitions differ, the parameters are chosen so that they do not, or
the difference itself is tested. They are these:

- zennit's ZPlus, Gamma, AlphaBeta, WSquare and Epsilon count the bias unless `zero_params="bias"`; `ZPlus()` and
  `WSquare()` here do not unless `bias=True`. The bias cancels in its ZBox, and its Flat leaves it out, as here.
- zennit's Gamma always takes the sign of a unit from what the layer computes, bias included; so does `Gamma` here unless
  `bias_in_sign=False`, which the composites with `bias=False` have.
- zennit's stabilisers are as here: added with the sign of the denominator, that of 0 being 1; 1e-6 unless told
  otherwise. Those of lxt are added without a sign: the two agree where denominators are positive, at any size, or where
  the stabiliser is next to nothing. Of a matrix product lxt stabilises twice the sum, and of a mean the sum.
- Where all summands of a sum are exactly 0, zennit gives them nothing, `ShareSum` here the same part each. It matters
  below rules that give relevance to zeros.
- zennit's composites hand relevance through batch normalisation unchanged, those here by the epsilon rule; so it is
  folded first. zennit folds into the module that was registered before, here neighbours in the graph are folded.
- "First" is, in zennit, the one module that was registered first, and here every layer that sees the input.
- Max-pooling is the derivative in both. zennit's layers for averages have its Norm rule; averages that are written as
  operations are differentiated.
- lxt's RMS normalisation hands relevance on unchanged; that here by the epsilon rule, which is the same but for the
  stabiliser.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.backbones import BACKBONES
from egt_tf.backbones.layers import BatchNormalization, RMSNormalization
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, Composite, Entry, fold_batch_norm, record, reverse
from egt_tf.lrp.gradient_form import has_form, reverse_by
from egt_tf.lrp.linear_rules import AlphaBeta, Bounded, Epsilon, Flat, Gamma, WSquare, ZPlus
from egt_tf.lrp.presets import structural_entries
from egt_tf.lrp.propagation import Trace
from egt_tf.lrp.rules import ZENNIT_STABILIZER, Derivative, Pass, Share, ShareSum

L = keras.layers
SCRIPT = Path(__file__).with_name("torch_oracle.py")
TOLERANCE = 1e-8
S = ZENNIT_STABILIZER

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def in_double():
    """Keras in double precision for all that the fixtures of this file make."""
    before = keras.backend.floatx()
    keras.backend.set_floatx("float64")
    yield
    keras.backend.set_floatx(before)


# === The other Python ===


def oracle_python(package: str) -> str:
    """A Python with PyTorch and `package`; the test is skipped without one."""
    named = os.environ.get("EGT_TF_ORACLE_PYTHON")
    if named:
        # A name that leads nowhere is a mistake, and skipping would hide it.
        assert Path(named).is_file(), f"EGT_TF_ORACLE_PYTHON must name a Python with torch. Received: {named}"
        return named
    if any(importlib.util.find_spec(each) is None for each in ("torch", package)):
        pytest.skip(f"needs torch and {package}: make test-oracles, or name a Python of theirs by EGT_TF_ORACLE_PYTHON")
    return sys.executable


def ask(folder: Path, jobs: list[tuple[dict, dict[str, np.ndarray]]]) -> list[dict[str, np.ndarray]]:
    """The oracle's answers to pairs of a job and its arrays, from one process: its start takes seconds."""
    request, response = folder / "request.npz", folder / "response.npz"
    arrays = {f"{i}/{key}": array for i, (_, arrays) in enumerate(jobs) for key, array in arrays.items()}
    np.savez(request, jobs=np.array(json.dumps([job for job, _ in jobs])), **arrays)
    command = [oracle_python(jobs[0][0]["oracle"]), str(SCRIPT), str(request), str(response)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    with np.load(response, allow_pickle=False) as file:
        return [
            {key.removeprefix(f"{i}/"): file[key] for key in file.files if key.startswith(f"{i}/")}
            for i in range(len(jobs))
        ]


def assert_equal(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert np.any(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE * np.abs(theirs).max())


# === Keras's layers, described ===


def of_convolution(layer: keras.layers.Layer) -> dict:
    # TensorFlow's "same" is that of PyTorch with a stride of 1 only.
    assert layer.padding == "valid" or layer.strides == (1, 1)
    padding = [0, 0] if layer.padding == "valid" else [side // 2 for side in layer.kernel_size]
    return {"strides": layer.strides, "padding": padding, "depthwise": isinstance(layer, L.DepthwiseConv2D)}


def of_pooling(layer: keras.layers.Layer) -> dict:
    return {"size": layer.pool_size, "strides": layer.strides, "padding": [0, 0]}


def of_nothing_else(layer: keras.layers.Layer) -> dict:
    return {}


# What `torch_oracle.py` calls a class of layers, and what it must know beside the weights.
LAYERS = {
    L.InputLayer: ("Input", of_nothing_else),
    L.Conv2D: ("Conv2D", of_convolution),
    L.DepthwiseConv2D: ("Conv2D", of_convolution),
    L.Dense: ("Dense", of_nothing_else),
    **dict.fromkeys(
        (L.BatchNormalization, BatchNormalization),
        ("BatchNormalization", lambda layer: {"epsilon": layer.epsilon}),
    ),
    L.Activation: ("Activation", lambda layer: {"function": layer.activation.__name__}),
    L.MaxPooling2D: ("MaxPooling2D", of_pooling),
    L.AveragePooling2D: ("AveragePooling2D", of_pooling),
    L.GlobalAveragePooling2D: ("GlobalAveragePooling2D", of_nothing_else),
    L.Flatten: ("Flatten", of_nothing_else),
    L.Add: ("Add", of_nothing_else),
}


def described(model: keras.Model) -> list[dict]:
    """The steps of a model for `torch_oracle.py`: a padding layer is part of the layer behind it, as in PyTorch."""
    steps: list[dict] = []
    padding: dict[str, tuple[str, list[int]]] = {}
    for layer in model.layers:
        inputs = [x._keras_history.layer.name for x in tf.nest.flatten(layer.input)] if steps else []
        if isinstance(layer, L.ZeroPadding2D):
            padding[layer.name] = inputs[0], [before for before, _ in layer.padding]
            continue
        kind, options_of = LAYERS[type(layer)]
        options = {**options_of(layer), "weights": len(layer.weights)}
        if inputs and inputs[0] in padding:
            inputs[0], options["padding"] = padding[inputs[0]]
        steps.append({"name": layer.name, "kind": kind, "inputs": inputs, "options": options})
    return steps


def weights_of(model: keras.Model) -> dict[str, np.ndarray]:
    return {
        f"weight/{layer.name}/{k}": weight for layer in model.layers for k, weight in enumerate(layer.get_weights())
    }


def filled(model: keras.Model) -> keras.Model:
    """Weights of both signs, biases and statistics among them; outputs neither explode nor vanish."""
    rng = np.random.default_rng(7)

    def values(weight):
        if "variance" in weight.name or "gamma" in weight.name:
            return rng.uniform(0.5, 1.5, weight.shape)
        kernel = len(weight.shape) > 1
        return rng.normal(size=weight.shape) * (1.4 / np.sqrt(np.prod(weight.shape[:-1])) if kernel else 0.3)

    model.set_weights([values(weight) for weight in model.weights])
    return model


# === Networks for zennit ===


def pooled() -> keras.Model:
    """Convolutions with biases, max-pooling and average pooling, two dense layers."""
    images = keras.Input((12, 12, 3))
    x = L.Activation("relu")(L.Conv2D(5, 3, padding="same")(images))
    x = L.MaxPooling2D(2)(x)
    x = L.Activation("relu")(L.Conv2D(6, 3, strides=2)(L.ZeroPadding2D(1)(x)))
    x = L.Flatten()(L.AveragePooling2D(2, strides=1)(x))
    return keras.Model(images, L.Dense(4)(L.Activation("relu")(L.Dense(12)(x))))


def signed() -> keras.Model:
    """Values of both signs before every layer but the first pooling."""
    images = keras.Input((8, 8, 3))
    x = L.Activation("tanh")(L.Conv2D(5, 3)(images))
    x = L.Activation("swish")(L.Conv2D(6, 3, padding="same", use_bias=False)(x))
    x = L.Flatten()(L.Conv2D(4, 2, strides=2)(x))
    return keras.Model(images, L.Dense(3)(L.Activation("tanh")(L.Dense(5)(x))))


def inverted() -> keras.Model:
    """Depthwise convolutions with a stride and with a multiplier, between 1x1 ones, and a shortcut; normalised."""
    images = keras.Input((10, 10, 3))
    x = L.Activation("relu")(L.BatchNormalization()(L.Conv2D(4, 3, strides=2, use_bias=False)(images)))
    y = L.Activation("relu")(L.BatchNormalization()(L.Conv2D(6, 1, use_bias=False)(x)))
    y = L.Activation("relu")(L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(y)))
    x = L.Add()([x, L.BatchNormalization()(L.Conv2D(4, 1)(y))])
    x = L.Activation("relu")(L.DepthwiseConv2D(3, strides=2)(L.ZeroPadding2D(1)(x)))
    return keras.Model(images, L.Dense(3)(L.GlobalAveragePooling2D()(x)))


def resnet() -> keras.Model:
    """ResNet-10 of this package, narrow, and scores."""
    backbone = BACKBONES.get({"name": "resnet10", "widths": [4, 5, 6, 7]}, image_size=36, seed=0)
    return keras.Model(backbone.input, L.Dense(3)(L.GlobalAveragePooling2D()(backbone.output)))


def conv4() -> keras.Model:
    """The backbone of four convolutions of this package, narrow, and scores."""
    backbone = BACKBONES.get({"name": "conv4", "width": 5}, image_size=32, seed=0)
    return keras.Model(backbone.input, L.Dense(3)(L.Flatten()(backbone.output)))


NETWORKS = {network.__name__: network for network in (pooled, signed, inverted, resnet, conv4)}


# === Rules in two spellings ===


def by_rules(convolution, dense, first=None) -> Composite:
    """Rules for weighted sums, and zennit's for all other layers."""
    return Composite(
        [
            *([] if first is None else [Entry(first, layer_type="convolution", first=True)]),
            Entry(convolution, layer_type="convolution"),
            Entry(dense, layer_type="dense"),
            Entry(ShareSum(S), layer_type="add"),
            Entry(Share(S), layer_type="mean"),
            *structural_entries(max_pool=Derivative(), relu=Pass()),
        ]
    )


NO_BIAS = {"zero_params": ["bias"]}
LOW, HIGH = [-3.0, -2.5, -2.0], [3.0, 2.0, 2.5]
EPSILON = ("Epsilon", {})
PAIRS = {  # ours and theirs: of convolutions, of dense layers and perhaps of the first convolution
    "epsilon 0.25": (2 * (Epsilon(0.25),), 2 * (("Epsilon", {"epsilon": 0.25}),)),
    "epsilon without biases": (
        2 * (Epsilon(0.05, bias=False),),
        2 * (("Epsilon", {"epsilon": 0.05, **NO_BIAS}),),
    ),
    "z+": (2 * (ZPlus(True, S),), 2 * (("ZPlus", {}),)),
    "z+ without biases": ((ZPlus(False, S), Epsilon(S)), (("ZPlus", NO_BIAS), EPSILON)),
    "alpha 1 beta 0": (
        (AlphaBeta(1.0, 0.0, stabilizer=S), Epsilon(S)),
        (("AlphaBeta", {"alpha": 1.0, "beta": 0.0}), EPSILON),
    ),
    "alpha 2 beta 1": (2 * (AlphaBeta(2.0, 1.0, stabilizer=S),), 2 * (("AlphaBeta", {"alpha": 2.0, "beta": 1.0}),)),
    "alpha 1.5 beta 0.5 without biases": (
        (AlphaBeta(1.5, 0.5, bias=False, stabilizer=S), Epsilon(S)),
        (("AlphaBeta", {"alpha": 1.5, "beta": 0.5, **NO_BIAS}), EPSILON),
    ),
    "gamma 0.25": (2 * (Gamma(0.25, stabilizer=S),), 2 * (("Gamma", {"gamma": 0.25}),)),
    "gamma 100": ((Gamma(100.0, stabilizer=S), Epsilon(S)), (("Gamma", {"gamma": 100.0}), EPSILON)),
    "gamma 1 without biases": (
        (Gamma(1.0, bias=False, stabilizer=S), Epsilon(S)),
        (("Gamma", {"gamma": 1.0, **NO_BIAS}), EPSILON),
    ),
    "w^2": (2 * (WSquare(True, S),), 2 * (("WSquare", {}),)),
    "w^2 without biases": ((WSquare(False, S), Epsilon(S)), (("WSquare", NO_BIAS), EPSILON)),
    "flat": (2 * (Flat(S),), 2 * (("Flat", {}),)),
    "z^B of channels": (
        (ZPlus(True, S), Epsilon(S), Bounded(LOW, HIGH, S)),
        (("ZPlus", {}), EPSILON, ("ZBox", {"low": LOW, "high": HIGH})),
    ),
}
NAMED = {  # ours, and zennit's composite with its arguments
    "epsilon_plus": (COMPOSITES.get("epsilon_plus"), ("epsilon_plus", {})),
    "epsilon_plus without biases": (
        COMPOSITES.get({"name": "epsilon_plus", "bias": False}),
        ("epsilon_plus", NO_BIAS),
    ),
    "epsilon_plus_flat": (
        COMPOSITES.get("epsilon_plus").prepend(Entry(Flat(S), layer_type="convolution", first=True)),
        ("epsilon_plus_flat", {}),
    ),
    "epsilon_gamma_box": (
        COMPOSITES.get({"name": "epsilon_gamma_box", "low": LOW, "high": HIGH}),
        ("epsilon_gamma_box", {"low": LOW, "high": HIGH}),
    ),
    "epsilon_alpha2_beta1_flat": (COMPOSITES.get("epsilon_alpha2_beta1_flat"), ("epsilon_alpha2_beta1_flat", {})),
}
OURS = {
    "epsilon": COMPOSITES.get("epsilon"),
    **{name: by_rules(*ours) for name, (ours, _) in PAIRS.items()},
    **{name: ours for name, (ours, _) in NAMED.items()},
}
THEIRS = {
    "epsilon": {"convolution": EPSILON, "dense": EPSILON},
    **{name: dict(zip(("convolution", "dense", "first"), theirs)) for name, (_, theirs) in PAIRS.items()},
    **{name: {"name": theirs, "arguments": arguments} for name, (_, (theirs, arguments)) in NAMED.items()},
}


# === zennit ===


@pytest.fixture(scope="module")
def networks() -> dict[str, keras.Model]:
    oracle_python("zennit")
    return {name: filled(network()) for name, network in NETWORKS.items()}


def arrays_for(model: keras.Model, seed: int = 1) -> dict[str, np.ndarray]:
    """Two images, and one of the scores of each as what is explained."""
    rng = np.random.default_rng(seed)
    start = np.eye(model.output_shape[-1])[[1, 2]]
    return {"input": rng.uniform(-1.8, 1.9, (2, *model.input_shape[1:])), "start": start, **weights_of(model)}


def zennit_job(model: keras.Model, composite: dict) -> tuple[dict, dict[str, np.ndarray]]:
    return {"oracle": "zennit", "steps": described(model), "composite": composite}, arrays_for(model)


@pytest.fixture(scope="module")
def zennit(networks, tmp_path_factory) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """zennit's answer for each network and composite."""
    cases = [(network, composite) for network in NETWORKS for composite in THEIRS]
    jobs = [zennit_job(networks[network], THEIRS[composite]) for network, composite in cases]
    return dict(zip(cases, ask(tmp_path_factory.mktemp("zennit"), jobs)))


def traced(model: keras.Model, arrays: dict[str, np.ndarray]) -> tuple[Trace, tf.Tensor]:
    """A recorded pass, and the output relevance that is asked for."""
    trace = record(model, [tf.constant(arrays["input"])])
    return trace, trace.outputs[0] * tf.constant(arrays["start"])


@pytest.fixture(scope="module")
def passes(networks) -> dict[str, tuple[Trace, tf.Tensor]]:
    return {name: traced(fold_batch_norm(model), arrays_for(model)) for name, model in networks.items()}


@pytest.mark.parametrize("network", NETWORKS)
def test_the_networks_are_the_same(networks, passes, zennit, network):
    theirs = zennit[network, "epsilon_plus"]["output"]
    model = networks[network]
    np.testing.assert_allclose(model(arrays_for(model)["input"]), theirs, rtol=1e-9)
    np.testing.assert_allclose(passes[network][0].outputs[0], theirs, rtol=1e-9)


@pytest.mark.parametrize("composite", THEIRS)
@pytest.mark.parametrize("network", NETWORKS)
def test_relevance_is_that_of_zennit(passes, zennit, network, composite):
    trace, start = passes[network]
    theirs = zennit[network, composite]["relevance"]
    assert_equal(reverse(trace, start, OURS[composite])[0], theirs)
    if has_form(trace, OURS[composite], None, trace.outputs[0]):
        assert_equal(reverse_by("gradient", trace, start, OURS[composite])[0], theirs)


# === Where zennit's definitions differ ===


def two_branches() -> keras.Model:
    """Two convolutions that see the image, and a sum whose summands often are 0 together; normalised."""
    images = keras.Input((6, 6, 3))
    branches = [
        L.Activation("relu")(L.BatchNormalization()(L.Conv2D(4, 3, name=name)(images))) for name in ("one", "other")
    ]
    x = L.Conv2D(4, 3)(L.Add()(branches))
    return keras.Model(images, L.Dense(3)(L.Flatten()(x)))


def differing(tmp_path: Path, composite: dict) -> tuple[keras.Model, np.ndarray]:
    oracle_python("zennit")
    model = filled(two_branches())
    (answer,) = ask(tmp_path, [zennit_job(model, composite)])
    return model, answer["relevance"]


def test_summands_of_zero_get_nothing_in_zennit(tmp_path):
    model, theirs = differing(tmp_path, THEIRS["flat"])
    trace, start = traced(fold_batch_norm(model), arrays_for(model))
    flat = OURS["flat"]
    assert_equal(reverse(trace, start, flat.prepend(Entry(Share(S), layer_type="add")))[0], theirs)
    assert np.abs(reverse(trace, start, flat)[0] - theirs).max() > 0.01 * np.abs(theirs).max()


def test_relevance_passes_normalisation_unchanged_in_zennit(tmp_path):
    model, theirs = differing(tmp_path, {**THEIRS["epsilon_plus"], "fold": False})
    trace, start = traced(model, arrays_for(model))
    ours = OURS["epsilon_plus"]
    assert_equal(reverse(trace, start, ours.prepend(Entry(Pass(), layer_type="batch_norm")))[0], theirs)
    assert np.abs(reverse(trace, start, ours)[0] - theirs).max() > 0.01 * np.abs(theirs).max()


def test_one_convolution_is_the_first_in_zennit(tmp_path):
    model, theirs = differing(tmp_path, THEIRS["epsilon_plus_flat"])
    trace, start = traced(fold_batch_norm(model), arrays_for(model))
    first = next(layer.name for layer in model.layers if isinstance(layer, L.Conv2D))
    ours = OURS["epsilon_plus"].prepend(Entry(Flat(S), layer=first), Entry(Share(S), layer_type="add"))
    assert_equal(reverse(trace, start, ours)[0], theirs)
    assert np.abs(reverse(trace, start, OURS["epsilon_plus_flat"])[0] - theirs).max() > 0.01 * np.abs(theirs).max()


# === lxt ===


# Of a stabiliser of this size, the sign is nothing; sums of both signs need it as small.
NEXT_TO_NOTHING = 1e-14


@dataclasses.dataclass(frozen=True)
class Operation:
    """A function of lxt, and the same in Keras.

    Attributes:
        build: from Keras tensors to one.
        shapes: of the inputs, without the batch.
        times: what lxt stabilises, as a multiple of the operation's output.
        positive: whether values and weights are made positive, so that any stabiliser's sign is plus.
    """

    build: Callable[..., tf.Tensor]
    shapes: tuple[tuple[int, ...], ...]
    times: int = 1
    positive: bool = True


def attn_lrp(epsilon: float) -> Composite:
    """The composite, with the same stabiliser in sums as everywhere."""
    composite = COMPOSITES.get({"name": "attn_lrp", "epsilon": epsilon})
    shares = [Entry(Share(epsilon), layer_type=layer_type) for layer_type in ("mean", "linear")]
    return composite.prepend(Entry(ShareSum(epsilon), layer_type="add"), *shares)


OPERATIONS = {
    "softmax": Operation(lambda x: L.Softmax()(x), ((5,),), positive=False),
    "matmul": Operation(lambda *xs: tf.matmul(*xs), ((3, 4), (4, 5)), times=2),
    "mul2": Operation(lambda *xs: L.Multiply()(xs), ((3, 4), (3, 4)), positive=False),
    "add2": Operation(lambda *xs: L.Add()(xs), ((3, 4), (3, 4))),
    "mean": Operation(lambda x: L.GlobalAveragePooling1D()(x), ((6, 4),), times=6),
    "dense": Operation(lambda x: L.Dense(4)(x), ((5,),)),
    "layer_norm": Operation(lambda x: L.LayerNormalization(epsilon=1e-6)(x), ((3, 6),), positive=False),
    "rms_norm": Operation(lambda x: RMSNormalization()(x), ((3, 6),), positive=False),
    "attention": Operation(lambda x: L.MultiHeadAttention(2, 4)(x, x), ((3, 6),), positive=False),
}


def lxt_job(
    function: str, model: keras.Model, inputs: Sequence[np.ndarray], start: np.ndarray, **numbers: float
) -> tuple[dict, dict[str, np.ndarray]]:
    job = {"oracle": "lxt", "function": function, "inputs": len(inputs), "variance_epsilon": 1e-6, **numbers}
    named = {f"input/{k}": x for k, x in enumerate(inputs)}
    return job, {"start": start, **named, **weights_of(model)}


@dataclasses.dataclass(frozen=True)
class Case:
    """An operation on numbers: what lxt is asked, and what it is compared with."""

    model: keras.Model
    inputs: list[np.ndarray]
    start: np.ndarray
    operation: Operation

    @classmethod
    def of(cls, operation: Operation) -> Case:
        rng = np.random.default_rng(11)
        inputs = [keras.Input(shape) for shape in operation.shapes]
        model = filled(keras.Model(inputs, operation.build(*inputs)))
        arrays = [rng.normal(size=(2, *shape)) for shape in operation.shapes]
        if operation.positive:
            arrays = [np.abs(x) for x in arrays]
            model.set_weights([np.abs(w) for w in model.get_weights()])
        start = rng.normal(size=(2, *model.output_shape[1:]))
        return cls(model, arrays, start, operation)

    @property
    def epsilon(self) -> float:
        return 0.1 if self.operation.positive else NEXT_TO_NOTHING

    def job(self, name: str) -> tuple[dict, dict[str, np.ndarray]]:
        theirs = self.epsilon * self.operation.times
        return lxt_job(name, self.model, self.inputs, self.start, epsilon=theirs)


@pytest.fixture(scope="module")
def lxt(tmp_path_factory) -> dict[str, tuple[Case, dict[str, np.ndarray]]]:
    """Each operation's numbers, and lxt's answer."""
    oracle_python("lxt")
    cases = {name: Case.of(operation) for name, operation in OPERATIONS.items()}
    answers = ask(tmp_path_factory.mktemp("lxt"), [case.job(name) for name, case in cases.items()])
    return dict(zip(cases, zip(cases.values(), answers)))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_is_that_of_lxt(lxt, operation):
    case, theirs = lxt[operation]
    trace = record(case.model, [tf.constant(x) for x in case.inputs], raw=False)
    # lxt's RMS normalisation computes in float32.
    np.testing.assert_allclose(trace.outputs[0], theirs["output"], rtol=1e-5 if operation == "rms_norm" else 1e-9)
    for k, ours in enumerate(reverse(trace, tf.constant(case.start), attn_lrp(case.epsilon))):
        assert_equal(ours, theirs[f"relevance/{k}"])


def test_a_vision_transformer_is_that_of_lxt(tmp_path):
    oracle_python("lxt")
    patch = 8
    backbone = BACKBONES.get(
        {"name": "vit_tiny", "patch": patch, "width": 12, "depth": 1, "heads": 3}, image_size=16, seed=1
    )
    model = filled(keras.Model(backbone.input, L.Dense(3, name="scores")(L.Flatten()(backbone.output))))
    rng = np.random.default_rng(5)
    images, start = rng.normal(size=(2, 16, 16, 3)), rng.normal(size=(2, 3))
    job = lxt_job("vit", model, [images], start, patch=patch, epsilon=NEXT_TO_NOTHING)
    (theirs,) = ask(tmp_path, [job])
    trace = record(model, [tf.constant(images)])
    np.testing.assert_allclose(trace.outputs[0], theirs["output"], rtol=1e-9)
    for engine in ("walker", "gradient"):
        (ours,) = reverse_by(engine, trace, tf.constant(start), attn_lrp(NEXT_TO_NOTHING))
        assert_equal(ours, theirs["relevance/0"])
