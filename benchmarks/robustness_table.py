"""Guidance and robustness together: plain, guided, challenger, and the stochastic student of each, in one table.

    python benchmarks/robustness_table.py --work DIR                     # drawn images, about half an hour on two cores
    python benchmarks/robustness_table.py --work DIR --photographs ROOT  # photographs, the attack through the embedding

Trains what is not trained yet (`egt-tf train`, `egt-tf harden`), attacks it (`egt-tf evaluate --attack pgd`), judges one
explanation (`egt-tf evaluate-explanations`), and prints a table in Markdown: accuracy without and under the attack,
calibration error without it, and AUPC of `epsilon_plus`, with 95 % intervals over episodes or queries. All models get the
same episodes. Stopped and started again, it goes on; DIR keeps the runs and what was measured.

Drawn images: the configuration `demo`, measured on synthetic:sketch. Photographs: miniImagenet to flowers17, both below
ROOT, each with one folder a class; a frozen EfficientNet-Lite0 with a trained neck and the cosine head, attacked through
the embedding to the pixels. Its students train the embedding too: a frozen one takes no noise.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from egt_tf.wording import accuracy_text

ARMS = {
    "plain": ["guidance.mode=none"],
    "guided": ["guidance.mode=guided"],
    "challenger": ["guidance.mode=guided", "guidance.weights=challenger"],
}
DRAWN = {"config": "demo", "data": "synthetic:sketch", "split": "novel", "train": [], "harden": []}
METHOD = "epsilon_plus"


def photographs(root: Path) -> dict[str, Any]:
    """As `DRAWN`."""
    backbone = "{name: efficientnet_lite0, output: 16, trainable: false, neck: 64}"
    train = [
        f"data.train=folder:{root}/miniImagenet",
        "data.image_size=112",
        "data.augmentation=none",
        f"model.backbone={backbone}",
        "model.head={name: cosine}",
        "training.epochs=2",
        "training.episodes_per_epoch=500",
        "training.validation_episodes=20",
    ]
    # Through the whole network now, so few episodes and small steps.
    harden = [
        "model.backbone.trainable=true",
        "training.epochs=1",
        "training.episodes_per_epoch=100",
        "training.learning_rate=0.0001",
    ]
    return {"config": "demo", "data": f"folder:{root}/flowers17", "split": "all", "train": train, "harden": harden}


def command(*arguments: str | Path | int) -> None:
    """Runs one command of the suite; what it prints goes to stderr, beside the table."""
    subprocess.run([Path(sys.executable).with_name("egt-tf"), *map(str, arguments)], check=True, stdout=sys.stderr)


def sets(overrides: list[str]) -> list[str]:
    """As options of a command."""
    return [part for override in overrides for part in ("--set", override)]


def measured(run: Path, setting: dict[str, Any], options: argparse.Namespace) -> tuple[dict[str, Any], np.ndarray]:
    """What the attack did to a run, and the AUPC of each query."""
    data, samples = ("--data", setting["data"], "--split", setting["split"]), options.samples(run)
    # What was measured with other options is another file.
    said = f"{options.epsilon.replace('/', 'of')}-{options.episodes}-{options.queries}-{samples}"
    attacked, judged = run / f"pgd-{said}.json", run / f"judged-{options.judged}"
    if not attacked.exists():
        size = ("--episodes", options.episodes, "--queries", options.queries, "--samples", samples)
        command("evaluate", run, *data, "--attack", "pgd", "--epsilon", options.epsilon, *size, "--out", attacked)
    if not (judged / "explanations.json").exists():
        methods = ("--methods", METHOD, "--measures", "aupc", "--quick")
        command("evaluate-explanations", run, *data, *methods, "--queries", options.judged, "--out", judged)
    values = json.loads((judged / "explanations.json").read_text())["measures"]["aupc"]["queries"][METHOD]
    return json.loads(attacked.read_text()), np.array(values, np.float64)


def row(name: str, attacked: dict[str, Any], aupc: np.ndarray) -> str:
    """One line of the table."""
    clean, under = (
        accuracy_text(attacked[part]["accuracy"], attacked[part]["interval"]) for part in ("clean", "attacked")
    )
    calibration, defined = 100 * attacked["clean"]["calibration_error"], aupc[np.isfinite(aupc)]
    spread = 1.96 * defined.std(ddof=1) / len(defined) ** 0.5
    return f"| {name} | {clean} | {under} | {calibration:.1f} | {defined.mean():.2f} +- {spread:.2f} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--photographs", type=Path, metavar="ROOT")
    parser.add_argument("--epsilon", default="4/255")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--queries", type=int, default=5, help="of a class")
    parser.add_argument("--judged", type=int, default=30, help="queries whose explanation is judged")
    parser.add_argument("--draws", type=int, default=5, help="of the noise of students, for each answer and gradient")
    options = parser.parse_args()
    options.samples = lambda run: options.draws if run.name.endswith("_student") else 1
    setting = DRAWN if options.photographs is None else photographs(options.photographs)
    lines = []
    for arm, overrides in ARMS.items():
        run, student = options.work / arm, options.work / f"{arm}_student"
        changes = [*setting["train"], *overrides]
        command("train", "--config", setting["config"], *sets(changes), "--run", run, "--resume")
        command("harden", run, "--out", student, *sets(setting["harden"]), "--resume")
        lines += [
            row(name, *measured(path, setting, options))
            for name, path in ((arm, run), (f"its student, {arm}", student))
        ]
    print(
        f"{setting['data'].rpartition('/')[2]}, PGD, epsilon {options.epsilon}: {options.episodes} episodes with "
        f"{options.queries} queries a class, {options.draws} draws of a student's noise; AUPC of {options.judged} queries\n"
    )
    print("| model | accuracy | under attack | calibration error in % | AUPC |\n|---|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
