"""What relevance down to the pixels costs here and in zennit 1.0, side by side.

    python benchmarks/zennit_cost.py [--oracle-python PYTHON] [--cases resnet10:84:1 ...] [--rounds 7] [--threads 1]

Each framework has a process of its own, and they take turns, one explanation or one forward pass at a time, so that the
machine's speed drifts for both alike. A case is NETWORK:SIZE:BATCH. The networks have the same layers, with random weights
and batch normalisation folded; ours are compiled, with the walker as the engine, zennit's are PyTorch's as usual, with
its hooks registered before the clock starts. Both have so many threads. For each composite are printed: the median seconds
of both, the median of zennit's over ours (and its least and largest value) round by round, and how many of its own
forward passes each takes.

zennit's Python is what --oracle-python or EGT_TF_ORACLE_PYTHON names; `make test-oracles` makes one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.turns import Worker, serve  # noqa: E402

CASES = ("resnet10:84:1", "resnet10:84:16", "vgg16:224:1", "resnet50:224:1")
COMPOSITES = ("epsilon_plus", "epsilon_gamma_box")
TURNS = ("forward", *COMPOSITES)
CLASSES = 1000


# === Our process ===


def scores_network(name: str, size: int):
    """A network of Keras that ends in scores of 1000 classes, its batch normalisation folded."""
    from egt_tf import fold_batch_norm, keras
    from egt_tf.backbones import resnet10

    if name == "resnet10":
        backbone = resnet10(size, seed=0)
        pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
        return fold_batch_norm(keras.Model(backbone.input, keras.layers.Dense(CLASSES)(pooled)))
    networks = {"vgg16": keras.applications.VGG16, "resnet50": keras.applications.ResNet50}
    return fold_batch_norm(
        networks[name](weights=None, classes=CLASSES, classifier_activation=None, input_shape=(size, size, 3))
    )


def run_ours(name: str, size: int, batch: int) -> None:
    """Takes its turns until its input ends."""
    import tensorflow as tf

    from egt_tf import LRP

    model = scores_network(name, size)
    images = np.random.default_rng(0).normal(size=(batch, size, size, 3)).astype(np.float32)
    compiled = tf.function(lambda x: model(x, training=False))
    composites = {
        "epsilon_plus": "epsilon_plus",
        "epsilon_gamma_box": {"name": "epsilon_gamma_box", "low": -3.0, "high": 3.0},
    }

    def explaining(composite) -> Callable[[], np.ndarray]:
        analyzer = LRP(model, composite, "index")
        return lambda: analyzer.analyze(images, 3)

    explanations = {name: (None, explaining(composite)) for name, composite in composites.items()}
    serve({"forward": (None, lambda: compiled(images).numpy()), **explanations})


# === The parent ===


def workers(case: tuple[str, int, int], oracle_python: str, threads: int) -> dict[str, Worker]:
    """Both processes of a case."""
    variables = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), str(threads)),
    }
    name, *numbers = map(str, case)
    theirs = [oracle_python, str(ROOT / "benchmarks" / "zennit_worker.py"), name, *numbers, str(threads)]
    ours = [sys.executable, str(Path(__file__).resolve()), "--worker", ":".join([name, *numbers])]
    return {"ours": Worker(ours, variables), "zennit": Worker(theirs, variables)}


def measured(case: tuple[str, int, int], oracle_python: str, rounds: int, threads: int) -> dict[str, np.ndarray]:
    """Seconds `(turns, rounds)` of both."""
    with contextlib.ExitStack() as stack:
        both = {name: stack.enter_context(worker) for name, worker in workers(case, oracle_python, threads).items()}
        for worker in both.values():
            worker.wait_until_ready()
        taken = [[[both[name].seconds(turn) for name in both] for turn in TURNS] for _ in range(rounds)]
    return dict(zip(both, np.array(taken).transpose(2, 1, 0), strict=True))


def rows(case: tuple[str, int, int], seconds: dict[str, np.ndarray]) -> list[str]:
    """A line for the forward pass and for each composite."""
    ours, theirs = seconds["ours"], seconds["zennit"]
    ratio = theirs / ours
    multiples = [np.median(each / each[0], axis=1) for each in (ours, theirs)]
    name, size, batch = case
    return [
        f"| {name} | {size} | {batch} | {turn} | {np.median(ours[k]):.3f} | {np.median(theirs[k]):.3f} | "
        f"{np.median(ratio[k]):.2f} ({ratio[k].min():.2f}-{ratio[k].max():.2f}) | {multiples[0][k]:.1f} | {multiples[1][k]:.1f} |"
        for k, turn in enumerate(TURNS)
    ]


def parsed_case(text: str) -> tuple[str, int, int]:
    """NETWORK:SIZE:BATCH."""
    name, size, batch = text.split(":")
    if name not in ("resnet10", "vgg16", "resnet50"):
        raise ValueError(name)
    return name, int(size), int(batch)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--oracle-python", default=os.environ.get("EGT_TF_ORACLE_PYTHON"))
    parser.add_argument("--cases", nargs="+", type=parsed_case, default=[parsed_case(each) for each in CASES])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--worker", type=parsed_case, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        return run_ours(*arguments.worker)
    if arguments.oracle_python is None:
        parser.error("zennit's Python must be named by --oracle-python or EGT_TF_ORACLE_PYTHON")
    print(
        "| network | px | batch | | ours, s | zennit, s | zennit / ours (least-largest) | ours / forward | zennit / forward |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for case in arguments.cases:
        seconds = measured(case, arguments.oracle_python, arguments.rounds, arguments.threads)
        print("\n".join(rows(case, seconds)), flush=True)
    load = os.getloadavg()[1]
    print(
        f"\n{arguments.rounds} rounds, {arguments.threads} threads each; load of the machine over 5 minutes {load:.1f}"
    )


if __name__ == "__main__":
    main()
