"""What guidance costs: the straightforward and the package's own training step, plain and guided, by turns.

    python benchmarks/train_step.py [--case relation_resnet10 ...] [--rounds 7] [--eager] [--json FILE]

5-way 5-shot 16-query, one episode a step, random images, each case in a process of its own; of the frozen case 8 queries
and the maps of the embedding, 7x7x112. Every round runs the steps one after the other, so that the machine's speed drifts
for all alike; the ratios are medians of the rounds' ratios. `true and rival` is guidance of the true class and its
hardest rival alone (guidance.classes), for heads that can. `counted` are multiply-adds, `peak` is the largest resident memory of a process that runs that step alone. All
steps are compiled by `tf.function`, which merges passes that are repeated; with --eager the straightforward ones run
operation by operation, as the published code does.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

WAYS, SHOTS = 5, 5


@dataclasses.dataclass(frozen=True)
class Case:
    """What is trained.

    Attributes:
        backbone: a registered name, or name and arguments.
        head: name and arguments.
        size: side of the images in pixels.
        queries: of each class.
        composite: rules of the explanation.
        weights: of the plain and of the guided loss when guided.
        detach: whether the weights are constants.
    """

    backbone: str | dict
    head: dict
    size: int
    queries: int = 16
    composite: str = "fsc"
    weights: tuple[float, float] = (1.0, 1.0)
    detach: bool = True


# Of which the maps are given; its weights take no part.
FROZEN = {"name": "efficientnet_lite0", "weights": "none", "output": 16, "trainable": False, "neck": 64}
CASES = {
    "relation_resnet10": Case("resnet10", {"name": "relation"}, 112),
    "relation_conv4": Case("conv4np", {"name": "relation"}, 84),
    "graph_resnet10": Case("resnet10", {"name": "graph"}, 84),
    "attention_resnet12": Case(
        "resnet12", {"name": "cross_attention", "base_classes": 64}, 84, 16, "fsc_can", (0.0, 1.0), detach=False
    ),
    "relation_frozen": Case(FROZEN, {"name": "relation"}, 112, queries=8),
    "attention_frozen": Case(
        FROZEN, {"name": "cross_attention", "base_classes": 64}, 112, 8, weights=(0.0, 1.0), detach=False
    ),
}
# (own, guided, of which classes)
STEPS = {
    "straightforward plain": (False, False, "all"),
    "straightforward guided": (False, True, "all"),
    "fast plain": (True, False, "all"),
    "fast guided": (True, True, "all"),
    "true and rival": (True, True, "true_and_rival"),
}


def steps_of(case: Case) -> list[str]:
    """Names of the steps of `STEPS` that a case has."""
    return [name for name in STEPS if name != "true and rival" or case.head["name"] == "relation"]


def episode(case: Case, shape: Sequence[int]):
    """Random images, or maps, of one episode, its labels and base labels."""
    import tensorflow as tf

    rng = np.random.default_rng(0)

    def images(count):
        return tf.constant(rng.normal(size=(1, count, *shape)).astype(np.float32))

    classes = np.eye(WAYS, dtype=np.float32)
    labels = tf.constant(np.repeat(np.arange(WAYS), case.queries)[None].astype(np.int32))
    return (
        {
            "support_images": images(WAYS * SHOTS),
            "support_labels": tf.constant(np.repeat(classes, SHOTS, 0)[None]),
            "query_images": images(WAYS * case.queries),
        },
        labels,
        labels,
    )


def own_step(case: Case, guided: bool, classes: str) -> Callable[[], float]:
    """One update by the package."""
    import tensorflow as tf

    model = _model(case, guided, classes)
    step = tf.function(model.train_step)
    data = episode(case, model.classifier.backbone.input_shape[1:])
    return lambda: float(step(data)["loss"])


def straightforward_step(case: Case, guided: bool, eager: bool) -> Callable[[], float]:
    """One update as the formulas are written."""
    import tensorflow as tf
    from straightforward import scores_of

    model = _model(case, guided, "all")
    classifier, weights = model.classifier, model.loss_weights
    inputs, labels, base_labels = episode(case, classifier.backbone.input_shape[1:])

    def step(inputs, labels, base_labels, beta):
        head = classifier.head
        with tf.GradientTape() as tape:
            features = tf.nest.flatten(classifier.relate(inputs, training=True))
            plain, explained = scores_of(head, features, guided, beta)
            loss = tf.reduce_sum(head.auxiliary_loss(features, labels, base_labels))
            if weights.plain:
                loss += weights.plain * tf.reduce_sum(head.loss(plain, labels))
            if guided:
                loss += weights.guided * tf.reduce_sum(head.loss(explained, labels))
        model.optimizer.minimize(loss, classifier.trainable_variables, tape=tape)
        return loss

    run = step if eager else tf.function(step)
    return lambda: float(run(inputs, labels, base_labels, tf.constant(0.0)))


def _model(case: Case, guided: bool, classes: str):
    from egt_tf.backbones.base import is_frozen
    from egt_tf.episodic_model import EpisodicModel
    from egt_tf.keras_api import keras
    from egt_tf.training.cached_maps import classifier_of_maps
    from egt_tf.training.guided_model import GuidedModel

    classifier = EpisodicModel.build_from(case.backbone, case.head, case.size, seed=0)
    if is_frozen({"name": case.backbone} if isinstance(case.backbone, str) else case.backbone):
        classifier = classifier_of_maps(classifier)
    plain_weight, guided_weight = case.weights if guided else (1.0, 0.0)
    model = GuidedModel(classifier, plain_weight, guided_weight, case.composite, detach=case.detach, classes=classes)
    model.compile(optimizer=keras.optimizers.Adam(1e-3, epsilon=1e-8))
    return model


def make(case: Case, name: str, eager: bool) -> Callable[[], float]:
    """The step called `name` of `STEPS`."""
    own, guided, classes = STEPS[name]
    return own_step(case, guided, classes) if own else straightforward_step(case, guided, eager)


def times(case: Case, rounds: int, eager: bool) -> dict[str, list[float]]:
    """Seconds of each step in each round."""
    steps = {name: make(case, name, eager) for name in steps_of(case)}
    for step in steps.values():
        step()
        step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def peak_mib(case: Case, name: str, eager: bool) -> float:
    """Largest resident memory of this process after two steps, in MiB."""
    step = make(case, name, eager)
    step()
    step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_own_process(arguments: list[str]) -> str:
    """What this script prints for other arguments."""
    return subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True).stdout


def counted(case: Case) -> dict[str, float]:
    """Multiply-adds of the convolutions of each step, in 1e9; for RelationNet, whose convolutions are nearly all of it.

    A layer that is trained runs three times: forward, and backward to its input and to its weights. The straightforward
    guided step runs the relation module twice more, its rules convolve eight times (two products a branch, forward and
    transposed, two branches), and the weighted pass runs three times; the package's own rules convolve twice. Of the
    true class and its rival, what follows the plain pass is of two of five pairs.
    """
    classifier = _model(case, False, "all").classifier
    images, pairs = WAYS * (SHOTS + case.queries), WAYS * WAYS * case.queries
    backbone = images * sum(_multiply_adds(layer) for layer in classifier.backbone.layers)
    first, second = (pairs * _multiply_adds(classifier.head.weighted_model.get_layer(f"block{i}_conv")) for i in (1, 2))
    # Prototypes and queries in place of pairs, and half of the channels.
    factored = first * (WAYS + WAYS * case.queries) / pairs / 2
    whole, own = first + second, factored + second
    plain, fast = 3 * (backbone + whole), 3 * (backbone + own)
    guided = first + 2 * second + 3 * whole
    steps = {
        "straightforward plain": plain,
        "straightforward guided": plain + (2 + 8 + 3) * whole,
        "fast plain": fast,
        "fast guided": fast + factored + guided,
        "true and rival": fast + factored + 2 / WAYS * guided,
    }
    return {name: value / 1e9 for name, value in steps.items()}


def _multiply_adds(layer) -> float:
    """Of one map through a convolution; 0 for other layers."""
    from egt_tf.keras_api import keras

    if not isinstance(layer, keras.layers.Conv2D):
        return 0.0
    # A layer of the head is called on pairs too, which have the same map.
    height, width = layer.get_output_shape_at(0)[-3:-1]
    return float(np.prod(layer.kernel.shape)) * height * width


# === The table ===


def row(name: str, rounds: int, eager: bool) -> dict:
    """Medians, ratios and memory of one case."""
    more = ["--eager"] if eager else []
    seconds = {
        key: np.array(value)
        for key, value in json.loads(in_own_process(["--worker", name, "--rounds", str(rounds), *more])).items()
    }
    guided, reference = seconds["fast guided"], seconds["straightforward plain"]
    counts = counted(CASES[name]) if CASES[name].head["name"] == "relation" else {}
    return {
        "case": name,
        "counted": counts,
        "seconds": {key: float(np.median(value)) for key, value in seconds.items()},
        "straightforward guided / fast guided": float(np.median(seconds["straightforward guided"] / guided)),
        "fast guided / straightforward plain": float(np.median(guided / reference)),
        "fast guided / fast plain": float(np.median(guided / seconds["fast plain"])),
        "straightforward guided / plain": float(np.median(seconds["straightforward guided"] / reference)),
        **_of_two_classes(seconds),
        "peak_mib": {key: float(in_own_process(["--worker", name, "--peak", key, *more])) for key in seconds},
    }


def _of_two_classes(seconds: dict[str, np.ndarray]) -> dict[str, float]:
    """The ratio to the plain step, where there is such a step."""
    some = seconds.get("true and rival")
    return {} if some is None else {"true and rival / fast plain": float(np.median(some / seconds["fast plain"]))}


def show(result: dict) -> None:
    """Prints one case."""
    print(f"\n{result['case']}")
    for key in result["seconds"]:
        count = f"   counted {result['counted'][key]:6.1f} GMAC" if result["counted"] else ""
        print(f"  {key:24s} {result['seconds'][key]:8.3f} s   peak {result['peak_mib'][key]:7.0f} MiB{count}")
    for key, value in result.items():
        if " / " in key:
            print(f"  {key:40s} {value:6.2f}")
    if result["counted"]:
        counts = result["counted"]
        print(
            f"  {'counted straightforward / fast guided':40s} "
            f"{counts['straightforward guided'] / counts['fast guided']:6.2f}"
        )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--eager", action="store_true", help="the straightforward steps without compilation")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--peak", choices=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        case = CASES[arguments.worker]
        print(
            peak_mib(case, arguments.peak, arguments.eager)
            if arguments.peak
            else json.dumps(times(case, arguments.rounds, arguments.eager))
        )
        return
    results = []
    for name in arguments.case:
        results.append(row(name, arguments.rounds, arguments.eager))
        show(results[-1])
    if arguments.json:
        from egt_tf.files import write_json

        write_json(arguments.json, results)


if __name__ == "__main__":
    main()
