"""Which of the two sets of packages is faster: training steps and explanations on both, by turns.

    python benchmarks/lanes.py OTHER_PYTHON [--rounds 9] [--case relation_conv4 relation_resnet10] [--json FILE]

OTHER_PYTHON is that of an environment of the other lane (docs/installing.md). Each has one process, which is asked for one
piece of work at a time; no two ever work at once. Every round asks one and the other for each piece, in turn first, so
that the machine's speed drifts for both alike. What is printed is the median of the rounds' ratios, current lane over
classic lane: above 1 the classic lane is faster. `import` is the time from the start of a process until `egt_tf` has
made a model.

The training steps are "fast plain" and "fast guided" of benchmarks/train_step.py; `forward` and `fsc` are those of
benchmarks/explain_cost.py, of ResNet-10 at 84 px with 16 images.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

FIRST_MODEL = "import egt_tf; egt_tf.EpisodicModel.build_from('conv4', 'prototype', image_size=32)"


class Lane:
    """A process of one lane that works when it is asked."""

    def __init__(self, python: str, cases: list[str]):
        self.python = python
        command = [python, __file__, "--worker", "--case", *cases]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.described = json.loads(self._read())

    def _read(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.python} has ended; what it said is above")
        return line

    def seconds(self, work: str) -> float:
        """What a piece of work takes."""
        if work == "import":
            began = time.perf_counter()
            subprocess.run([self.python, "-c", FIRST_MODEL], check=True)
            return time.perf_counter() - began
        self.process.stdin.write(f"{work}\n")
        self.process.stdin.flush()
        return float(self._read())


def pieces(cases: list[str]) -> dict[str, Callable[[], object]]:
    """Everything a process can be asked for, compiled."""
    import tensorflow as tf
    from explain_cost import by_walker, relevance_of
    from train_step import CASES, make

    from egt_tf.backbones import resnet10
    from egt_tf.explain import get_method
    from egt_tf.lrp import COMPOSITES

    work = {
        f"{case}, {step}": make(CASES[case], step, False) for case in cases for step in ("fast plain", "fast guided")
    }
    backbone = resnet10(84, seed=0)
    images = tf.random.stateless_normal((16, 84, 84, 3), (0, 1))
    forward = tf.function(lambda x: backbone(x, training=False))
    explain = relevance_of(get_method("fsc").prepared(backbone), COMPOSITES.get("fsc"), by_walker)
    return work | {"forward": lambda: forward(images).numpy(), "fsc": lambda: explain(images).numpy()}


def worker(cases: list[str]) -> None:
    """Answers requests until there are none."""
    import tensorflow as tf

    from egt_tf.keras_api import LANE

    work = pieces(cases)
    for one in work.values():
        one()
        one()
    print(json.dumps({"lane": LANE, "tensorflow": tf.__version__, "work": list(work)}), flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        work[line.strip()]()
        print(time.perf_counter() - began, flush=True)


def measured(lanes: dict[str, Lane], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of each piece of work on each lane, round by round."""
    work = ["import", *lanes["classic"].described["work"]]
    seconds: dict[str, dict[str, list[float]]] = {one: {name: [] for name in lanes} for one in work}
    for number in range(rounds):
        order = list(lanes) if number % 2 else list(reversed(lanes))
        for one in work:
            for name in order:
                seconds[one][name].append(lanes[name].seconds(one))
    return seconds


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", nargs="?")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--case", nargs="+", default=["relation_conv4", "relation_resnet10"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return worker(arguments.case)
    if not arguments.other:
        parser.error("name a Python of the other lane")
    both = [Lane(python, arguments.case) for python in (sys.executable, arguments.other)]
    lanes = {lane.described["lane"]: lane for lane in both}
    if len(lanes) != 2:
        parser.error(f"the two must be of different lanes. Received: {both[0].described['lane']} twice")
    seconds = measured(lanes, arguments.rounds)
    versions = {name: lane.described["tensorflow"] for name, lane in lanes.items()}
    print(f"TensorFlow {versions['current']} over TensorFlow {versions['classic']}, {arguments.rounds} rounds")
    print(f"{'':36s}{'ratio':>7s}{'least':>7s}{'most':>7s}{'classic':>11s}{'current':>11s}")
    for one, of_lane in seconds.items():
        ratios = np.array(of_lane["current"]) / np.array(of_lane["classic"])
        middle = {name: np.median(values) for name, values in of_lane.items()}
        print(
            f"{one:36s}{np.median(ratios):7.2f}{ratios.min():7.2f}{ratios.max():7.2f}"
            f"{middle['classic']:9.3f} s{middle['current']:9.3f} s"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"versions": versions, "seconds": seconds}, indent=2))


if __name__ == "__main__":
    main()
