"""Pre-trainings with the challenger at the input, against plain ones and against manipulations at random places.

    python benchmarks/challenger_pretraining.py --out runs/challenger [--seeds 3] [--epochs 20]

A narrow Conv4 learns the base classes of the drawn shapes from half of their images; the other half is the validation.
Printed are the accuracy, the calibration error and the negative log-likelihood of the last epoch: means over the seeds
with half of their 95 % t interval, and the differences of the same seed from plain and, for a manipulation, from its
control. Called again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from egt_tf.config import MANIPULATION_NAMES, RunConfig, config_from_dict
from egt_tf.runs import RunFolder
from egt_tf.study.statistics import mean_over_seeds
from egt_tf.training.pretraining import pretrain

MEASURES = {"accuracy": 100.0, "calibration_error": 100.0, "negative_log_likelihood": 1.0}
# Which arm each is compared with.
CONTROLS = {name: f"{name}_shuffled" for name in MANIPULATION_NAMES}
ARMS = {
    "plain": None,
    **{name: {"manipulation": name} for name in MANIPULATION_NAMES},
    **{control: {"manipulation": name, "shuffled": True} for name, control in CONTROLS.items()},
}


def config_of(challenger: dict | None, seed: int, epochs: int) -> RunConfig:
    """The configuration of a pre-training."""
    parts = {
        "data": {"train": "synthetic:shapes", "image_size": 32},
        "model": {"backbone": {"name": "conv4", "width": 16}},
        "training": {"learning_rate": 0.003, "seed": seed, "checkpoint_every": 0},
        "pretrain": {"epochs": epochs, "validation_share": 0.5, "challenger": challenger},
    }
    return config_from_dict(parts, "the benchmark")


def measured(run: RunFolder, config: RunConfig) -> dict[str, float]:
    """What the last epoch gave, after what there is left to train."""
    pretrain(config, run, resume=run.config_file.exists())
    return {name: factor * run.metrics()[-1][f"val_{name}"] for name, factor in MEASURES.items()}


def cells(values: list[dict[str, float]], sign: str = "") -> str:
    """A mean and half of its interval for each measure."""
    texts = []
    for name in MEASURES:
        found = mean_over_seeds([each[name] for each in values])
        digits = 3 if MEASURES[name] == 1 else 1
        half = "" if found.interval is None else f" +- {found.interval:.{digits}f}"
        texts.append(f"{found.mean:{sign}.{digits}f}{half}")
    return "".join(f"{text:>20s}" for text in texts)


def difference(first: list[dict[str, float]], second: list[dict[str, float]]) -> str:
    """As `cells`, of the differences of equal seeds."""
    return cells([{name: a[name] - b[name] for name in MEASURES} for a, b in zip(first, second, strict=True)], "+")


def main() -> None:
    """Trains what is left to train, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ARMS}
    for seed in range(1, arguments.seeds + 1):
        for name, challenger in ARMS.items():
            run = RunFolder(arguments.out / f"{name}-seed{seed}")
            found[name].append(measured(run, config_of(challenger, seed, arguments.epochs)))
            print(f"{name}, seed {seed}: {cells(found[name][-1:])}", flush=True)
    header = "".join(f"{name:>20s}" for name in ("accuracy, %", "ECE, %", "NLL"))
    print(f"\n{arguments.epochs} epochs, {arguments.seeds} seeds\n{'':32s}{header}")
    for name, values in found.items():
        print(f"{name:32s}{cells(values)}")
    print()
    for name, control in CONTROLS.items():
        for other in ("plain", control):
            print(f"{name + ' - ' + other:32s}{difference(found[name], found[other])}")


if __name__ == "__main__":
    main()
