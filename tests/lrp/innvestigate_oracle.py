"""innvestigate's own analyzers as an oracle, run in a process of their own.

innvestigate needs eager execution off, and Keras then changes its base classes for the whole process: an
eager model beside it would break. So this file is two things: a module that tests import (`build_network`,
`ask_innvestigate`, `run_oracle`), and the script that this module runs in a subprocess:

    python tests/lrp/innvestigate_oracle.py REQUEST.npz RESPONSE.npz

The request holds one JSON string ("jobs") and arrays ("0/input", "0/weight/0", ...); the response holds one
array ("0/relevance/LABEL") or one string ("0/error/LABEL") for each analyzer asked for. Neither uses pickle.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

# === Networks ===


@dataclasses.dataclass(frozen=True)
class Network:
    """A small network of a fixed menu, ending in linear scores (n, classes); `layout` is a key of `NETWORKS`.

    `inline_activation` puts the ReLU into the Conv2D or Dense layer instead of an Activation layer.
    """

    layout: str
    input_shape: tuple[int, ...]
    filters: int = 4
    kernel_size: int = 3
    strides: int = 1
    dilation: int = 1
    padding: str = "same"
    pooling: str = "max"
    pool_padding: str = "valid"
    units: tuple[int, ...] = ()
    classes: int = 3
    use_bias: bool = True
    inline_activation: bool = False
    dtype: str = "float32"


class _Builder:
    """Makes the layers of one network; all of them share its options."""

    def __init__(self, network: Network):
        from tensorflow import keras

        self.network = network
        self.layers = keras.layers

    def relu(self, layer_class, x, **arguments):
        """A kernel layer and its ReLU, inside it or after it."""
        options = {"use_bias": self.network.use_bias, "dtype": self.network.dtype, **arguments}
        if self.network.inline_activation:
            return layer_class(**options, activation="relu")(x)
        return self.activation(layer_class(**options)(x))

    def activation(self, x):
        return self.layers.Activation("relu", dtype=self.network.dtype)(x)

    def convolution(self) -> dict[str, Any]:
        net = self.network
        return {
            "filters": net.filters,
            "kernel_size": net.kernel_size,
            "strides": net.strides,
            "dilation_rate": net.dilation,
            "padding": net.padding,
        }

    def pool(self, x):
        pools = {"max": self.layers.MaxPooling2D, "average": self.layers.AveragePooling2D}
        return pools[self.network.pooling](2, padding=self.network.pool_padding, dtype=self.network.dtype)(x)

    def scores(self, x):
        net = self.network
        x = self.layers.Flatten(dtype=net.dtype)(x)
        for units in net.units:
            x = self.relu(self.layers.Dense, x, units=units)
        return self.layers.Dense(net.classes, use_bias=net.use_bias, dtype=net.dtype)(x)


def _dense_network(builder: _Builder, x):
    """[Dense - ReLU]* - Dense."""
    return builder.scores(x)


def _conv_network(builder: _Builder, x):
    """Conv - ReLU - pooling - Flatten - [Dense - ReLU]* - Dense."""
    x = builder.relu(builder.layers.Conv2D, x, **builder.convolution())
    return builder.scores(builder.pool(x))


def _padded_network(builder: _Builder, x):
    """As `_conv_network`, behind padding."""
    return _conv_network(builder, builder.layers.ZeroPadding2D(1, dtype=builder.network.dtype)(x))


def _residual_network(builder: _Builder, x):
    """Conv - BN - ReLU - [Conv - BN] added to its input - ReLU - pooling - Flatten - Dense."""
    layers, net = builder.layers, builder.network

    def conv_bn(x, **changes):
        options = {**builder.convolution(), **changes}
        x = layers.Conv2D(**options, use_bias=net.use_bias, dtype=net.dtype)(x)
        return layers.BatchNormalization(dtype=net.dtype)(x)

    x = builder.activation(conv_bn(x))
    branch = conv_bn(x, strides=1, dilation_rate=1, padding="same")
    x = builder.activation(layers.Add(dtype=net.dtype)([x, branch]))
    return builder.scores(builder.pool(x))


NETWORKS: Mapping[str, Callable] = {
    "dense": _dense_network,
    "conv": _conv_network,
    "padded": _padded_network,
    "residual": _residual_network,
}


def build_network(network: Network):
    """The Keras model of a network; what `get_weights` gives in one process fits it in the other."""
    from tensorflow import keras

    inputs = keras.Input(shape=network.input_shape, dtype=network.dtype)
    return keras.Model(inputs, NETWORKS[network.layout](_Builder(network), inputs))


def random_weights(network: Network, seed: int) -> list[np.ndarray]:
    """Weights with nothing at a neutral value: biases and means of both signs, variances well above 0."""
    rng = np.random.default_rng(seed)

    def draw(variable):
        values = rng.normal(0.0, 0.5, size=tuple(variable.shape))
        if "gamma" in variable.name or "variance" in variable.name:
            values = 0.6 + np.abs(values)
        return values.astype(network.dtype)

    return [draw(variable) for variable in build_network(network).weights]


# === Asking ===


@dataclasses.dataclass(frozen=True)
class Analyzer:
    """An analyzer's name in innvestigate and its arguments (plain JSON values).

    Two arguments that JSON has no word for: {"rule_class": "AlphaBetaX2m100Rule"} is that class of
    innvestigate's rules, {"tuple": [low, high]} is a tuple.
    """

    name: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Job:
    """One network with its weights, inputs (n, ...), analyzers by label, and the output to explain.

    `neuron` is the output's index: one for all inputs, or one for each.
    """

    network: Network
    weights: Sequence[np.ndarray]
    inputs: np.ndarray
    analyzers: Mapping[str, Analyzer]
    neuron: int | Sequence[int] = 0

    def neurons(self) -> list[int]:
        return np.broadcast_to(np.asarray(self.neuron), len(self.inputs)).tolist()


@dataclasses.dataclass(frozen=True)
class Answer:
    """Relevance at the input by label, and the error messages of the analyzers that failed."""

    relevance: dict[str, np.ndarray]
    errors: dict[str, str]


class OracleError(RuntimeError):
    """innvestigate refused, or its process failed."""


def _skip_without_innvestigate() -> None:
    # Here, since the oracle's process has neither.
    import pytest

    from egt_tf.keras_api import LANE

    if LANE != "classic":
        pytest.skip("innvestigate needs TensorFlow 2.14")


def named(*names: str) -> dict[str, Analyzer]:
    """Analyzers without arguments, labelled by their names."""
    return {name: Analyzer(name) for name in names}


def run_oracle(jobs: Sequence[Job]) -> list[Answer]:
    """Analyses all jobs in one subprocess (its start takes seconds: ask for much at once).

    Skips the test that asks on the current lane, for which there is no innvestigate.
    """
    _skip_without_innvestigate()
    with tempfile.TemporaryDirectory() as folder:
        request, response = pathlib.Path(folder, "request.npz"), pathlib.Path(folder, "response.npz")
        _write_request(request, jobs)
        command = [sys.executable, str(pathlib.Path(__file__).resolve()), str(request), str(response)]
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        done = subprocess.run(
            command, env={**os.environ, **quiet}, capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode != 0:
            raise OracleError(f"The oracle's process ended with {done.returncode}:\n{done.stderr[-4000:]}")
        with np.load(response, allow_pickle=False) as arrays:
            return [_read_answer(arrays, i, job) for i, job in enumerate(jobs)]


def ask_innvestigate(
    network: Network,
    weights: Sequence[np.ndarray],
    inputs: np.ndarray,
    analyzers: Mapping[str, Analyzer],
    neuron: int | Sequence[int] = 0,
) -> dict[str, np.ndarray]:
    """Relevance at the inputs for each analyzer's label; an analyzer that fails is an OracleError."""
    (answer,) = run_oracle([Job(network, weights, inputs, analyzers, neuron)])
    if answer.errors:
        raise OracleError(f"innvestigate refused: {answer.errors}")
    return answer.relevance


def _write_request(path: pathlib.Path, jobs: Sequence[Job]) -> None:
    descriptions, arrays = [], {}
    for i, job in enumerate(jobs):
        analyzers = {label: dataclasses.asdict(analyzer) for label, analyzer in job.analyzers.items()}
        descriptions.append(
            {
                "network": dataclasses.asdict(job.network),
                "analyzers": analyzers,
                "neurons": job.neurons(),
                "n_weights": len(job.weights),
            }
        )
        arrays[f"{i}/input"] = job.inputs
        arrays.update({f"{i}/weight/{k}": weight for k, weight in enumerate(job.weights)})
    np.savez(path, jobs=np.array(json.dumps(descriptions)), **arrays)


def _read_answer(arrays, index: int, job: Job) -> Answer:
    def found(what):
        keys = {label: f"{index}/{what}/{label}" for label in job.analyzers}
        return {label: arrays[key] for label, key in keys.items() if key in arrays}

    return Answer(found("relevance"), {label: str(text) for label, text in found("error").items()})


# === The oracle's process ===


def _network_from_json(description: Mapping[str, Any]) -> Network:
    lists = {"input_shape", "units"}
    return Network(**{key: tuple(value) if key in lists else value for key, value in description.items()})


def _argument(value):
    """A JSON value as innvestigate wants it (see `Analyzer`)."""
    import innvestigate.analyzer.relevance_based.relevance_rule as rules

    if isinstance(value, Mapping):
        ((form, content),) = value.items()
        return {"rule_class": lambda: getattr(rules, content), "tuple": lambda: tuple(content)}[form]()
    return [_argument(item) for item in value] if isinstance(value, list) else value


def _analyse(model, analyzer: Mapping[str, Any], inputs, neurons):
    import innvestigate

    arguments = {key: _argument(value) for key, value in analyzer["arguments"].items()}
    made = innvestigate.create_analyzer(analyzer["name"], model, neuron_selection_mode="index", **arguments)
    return made.analyze(inputs, neuron_selection=neurons)


def _answer_job(index: int, description: Mapping[str, Any], request) -> dict[str, np.ndarray]:
    from tensorflow import keras

    network = _network_from_json(description["network"])
    weights = [request[f"{index}/weight/{k}"] for k in range(description["n_weights"])]
    answers = {}
    for label, analyzer in description["analyzers"].items():
        # A fresh graph each time: analyzers add layers to the graph of the model.
        keras.backend.clear_session()
        # Without it the gradient through a BatchNormalization asks for a training flag nobody feeds.
        keras.backend.set_learning_phase(0)
        keras.backend.set_floatx(network.dtype)
        model = build_network(network)
        model.set_weights(weights)
        try:
            relevance = _analyse(model, analyzer, request[f"{index}/input"], description["neurons"])
            answers[f"{index}/relevance/{label}"] = relevance
        except Exception as error:  # whatever innvestigate raises is the answer for this analyzer
            answers[f"{index}/error/{label}"] = np.array(f"{type(error).__name__}: {error}")
    return answers


def main(request_path: str, response_path: str) -> None:
    """Answers all jobs of a request file."""
    import tensorflow as tf

    tf.compat.v1.disable_eager_execution()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    with np.load(request_path, allow_pickle=False) as request:
        answers = {}
        for index, description in enumerate(json.loads(str(request["jobs"]))):
            answers.update(_answer_job(index, description, request))
    np.savez(response_path, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
