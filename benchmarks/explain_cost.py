"""What relevance down to the pixels costs, as a multiple of one inference forward pass.

    python benchmarks/explain_cost.py [--network resnet10] [--batch 16] [--size 84] [--rounds 15] [--cpu-time]
        [--composites fsc epsilon ...] [--innvestigate]

Each composite by both engines, if its rules have a form for both: relevance walked back, and activation times a modified
gradient. With --cpu-time,
seconds of the processor are counted instead of those of the clock, for a machine that does other work meanwhile.
ResNet-10 with the ImageNet stem, or another backbone, with random weights. Composites that `egt-tf explain` uses on
folded networks get one, whose own forward pass is part of what they cost; the one they are measured by is that of the
network as it is. The forward pass and the composites take turns, so that the machine's
speed drifts for all alike; the ratio of each round is taken, and their median printed. The forward pass is part of
every relevance. The row "convolutions alone" is what fsc cannot do without: the forward pass, each convolution once
more with positive kernels and once transposed, and nothing in between. With --innvestigate, its stock preset A explains
ResNet-10 in a process of its own, which times its own forward pass.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from egt_tf.backbones import BACKBONES, resnet10
from egt_tf.backbones.base import without_pretrained
from egt_tf.explain import get_method
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, linear_parts, record, reverse
from egt_tf.lrp.gradient_form import has_form, reverse_gradient

COMPOSITE_NAMES = (
    "fsc",
    "fsc_gamma",
    "epsilon",
    "epsilon_plus",
    "epsilon_gamma_box",
    "lrp.epsilon",
    "lrp.sequential_preset_a",
)


Clock = Callable[[], float]


def timed(function: Callable[[], object], clock: Clock) -> float:
    """Seconds of one call."""
    began = clock()
    function()
    return clock() - began


def by_walker(trace, composite):
    """Relevance of the pixels, each output having its own value."""
    return reverse(trace, trace.outputs[0], composite)[0]


def by_gradient(trace, composite):
    """The same by the other engine."""
    return reverse_gradient(trace, tf.ones_like(trace.outputs[0]), composite)[0]


ENGINES = {"walker": by_walker, "gradient": by_gradient}


def relevance_of(backbone, composite, engine):
    """A compiled function from images to the relevance of their pixels."""

    @tf.function
    def explain(images):
        return engine(record(backbone, [images]), composite)

    return explain


def takes(backbone, composite, engine, images):
    """Whether an engine takes the rules of a composite."""
    if engine is by_walker:
        return True
    trace = record(backbone, [images[:1]])
    return has_form(trace, composite, None, trace.outputs[0])


def convolutions_alone(backbone):
    """A compiled function that runs the convolutions of the fsc composite, and no rule."""

    @tf.function
    def run(images):
        trace = record(backbone, [images])
        sums = [tf.reduce_sum(trace.outputs[0])]
        for call in trace.calls:
            if isinstance(call.layer, keras.layers.Conv2D):
                (part,) = linear_parts(call.layer, *call.inputs)
                kernel = tf.maximum(part.kernel, 0)
                share = part.forward(call.inputs[0], kernel)
                # Summed, so that none is left out as unused.
                sums.append(tf.reduce_sum(part.backward(call.inputs[0], kernel, share)))
        return tf.add_n(sums)

    return run


def ratios(
    forward: Callable[[], object],
    others: dict[str, Callable[[], object]],
    rounds: int,
    clock: Clock = time.perf_counter,
) -> dict[str, np.ndarray]:
    """For each function, its time over that of `forward`, round by round."""
    times: dict[str, list[float]] = {name: [] for name in others}
    for function in (forward, *others.values()):
        function()
        function()
    for _ in range(rounds):
        base = timed(forward, clock)
        for name, function in others.items():
            times[name].append(timed(function, clock) / base)
    return {name: np.array(values) for name, values in times.items()}


def innvestigate_ratio(batch: int, size: int, rounds: int) -> str:
    """innvestigate's preset A on the same model, over its own forward pass, from a process in graph mode."""
    command = [
        sys.executable,
        __file__,
        "--batch",
        str(batch),
        "--size",
        str(size),
        "--rounds",
        str(rounds),
        "--graph-mode",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def graph_mode(batch: int, size: int, rounds: int) -> None:
    """Runs in the other process."""
    import innvestigate

    tf.compat.v1.disable_eager_execution()
    tf.keras.backend.set_learning_phase(0)
    backbone = resnet10(size, seed=0)
    flat = tf.keras.layers.Flatten()(backbone.output)
    model = tf.keras.Model(backbone.input, tf.keras.layers.Dense(1)(flat))
    began = time.perf_counter()
    analyzer = innvestigate.create_analyzer("lrp.sequential_preset_a", model)
    images = np.random.default_rng(0).normal(size=(batch, size, size, 3)).astype(np.float32)
    analyzer.analyze(images)
    built = time.perf_counter() - began
    values = ratios(lambda: model.predict_on_batch(images), {"": lambda: analyzer.analyze(images)}, rounds)[""]
    print(f"{np.median(values):10.2f}  {values.min():6.2f}  {values.max():6.2f}   (built in {built:.0f} s)")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="resnet10")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=84)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--composites", nargs="+", default=COMPOSITE_NAMES, choices=COMPOSITES.names())
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--innvestigate", action="store_true")
    parser.add_argument("--graph-mode", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.graph_mode:
        return graph_mode(arguments.batch, arguments.size, arguments.rounds)
    backbone = BACKBONES.get(without_pretrained(arguments.network), image_size=arguments.size, seed=0)
    images = tf.random.stateless_normal((arguments.batch, arguments.size, arguments.size, 3), (0, 1))
    forward = tf.function(lambda x: backbone(x, training=False))
    prepared = {name: get_method(name).prepared(backbone) for name in arguments.composites}
    explain = {
        f"{name}, {engine}": relevance_of(model, COMPOSITES.get(name), function)
        for name, model in prepared.items()
        for engine, function in ENGINES.items()
        if takes(model, COMPOSITES.get(name), function, images)
    }
    explain["(convolutions alone)"] = convolutions_alone(backbone)
    table = ratios(
        lambda: forward(images).numpy(),
        {n: lambda f=f: f(images).numpy() for n, f in explain.items()},
        arguments.rounds,
        time.process_time if arguments.cpu_time else time.perf_counter,
    )
    print(
        f"relevance to the pixels / inference forward; {arguments.network}, {arguments.size} px, batch {arguments.batch}, "
        f"{arguments.rounds} rounds"
    )
    print(f"{'composite, engine':40s}  {'median':>8s}  {'min':>6s}  {'max':>6s}")
    for name, values in table.items():
        print(f"{name:40s}  {np.median(values):8.2f}  {values.min():6.2f}  {values.max():6.2f}")
    if arguments.innvestigate:
        print(
            f"{'innvestigate lrp.sequential_preset_a':38s}"
            f"{innvestigate_ratio(arguments.batch, arguments.size, arguments.rounds)}"
        )


if __name__ == "__main__":
    main()
