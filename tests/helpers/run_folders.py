"""Run folders as a training and its measurements leave them, written by hand: nothing is trained."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from egt_tf.config import EpisodeConfig, RunConfig
from egt_tf.evaluation.accuracy import Accuracy
from egt_tf.evaluation.adversarial import Robustness
from egt_tf.evaluation.attack_report import attack_record
from egt_tf.evaluation.attack_trial import AttackTrial
from egt_tf.evaluation.attacks import fgsm
from egt_tf.evaluation.calibration import Calibration, confidence_bins, expected_calibration_error
from egt_tf.evaluation.confusion import count_confusion
from egt_tf.evaluation.explanation_report import to_json
from egt_tf.evaluation.explanations import ExplanationQuality
from egt_tf.evaluation.report import evaluation_record, save_evaluation
from egt_tf.figures.curves import curves_figure
from egt_tf.files import write_json
from egt_tf.runs import RunFolder
from egt_tf.weights import save_arrays

ENVIRONMENT = {
    "packages": {"egt-tf": "0.1.0", "tensorflow": "2.14.1", "tf-keras": None},
    "python": "3.11.7",
    "platform": "Linux",
    "command": ["/somewhere/bin/egt-tf", "train", "--config", "demo", "--run", "runs/a b"],
    "started": "2026-11-27T18:24:51+0000",
    "seed": 1,
}


def write_run(path: Path, config: RunConfig = RunConfig(), epochs: int = 3) -> RunFolder:
    """A run that has finished some epochs; its weights are no model's."""
    run = RunFolder(path)
    run.create(config)
    write_json(run.environment_file, ENVIRONMENT)
    rows = [
        {
            "epoch": number,
            "loss": 3.0 / number,
            "plain_loss": 1.6 / number,
            "guided_loss": 1.4 / number,
            "auxiliary_loss": 0.0,
            "accuracy": 0.2 + 0.1 * number,
            "seconds": 20.0,
            "val_accuracy": 0.25 + 0.1 * number,
            "val_interval": 0.02,
        }
        for number in range(1, epochs + 1)
    ]
    run.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    save_arrays(run.best_file, {"a": np.zeros(2, np.float32)})
    return run


def add_evaluation(run: RunFolder, source: str = "synthetic:sketch", classes: int = 6, name: str = "class") -> Path:
    """An evaluation with random answers, surer than they are right; the path of its file."""
    rng = np.random.default_rng(classes)
    drawn = np.stack([rng.choice(classes, 3, replace=False) for _ in range(40)])
    truth = np.repeat(np.arange(3), 4)
    predicted = np.where(rng.random((40, 12)) < 0.6, truth, rng.integers(3, size=(40, 12)))
    right, confidences = predicted == truth, rng.uniform(0.4, 1.0, size=(40, 12))
    accuracy = Accuracy(
        right.mean(axis=1),
        Calibration(
            expected_calibration_error(confidences.ravel(), right.ravel()),
            1.25,
            confidence_bins(confidences.ravel(), right.ravel()),
        ),
        tied=0.01,
        confusion=count_confusion([f"{name}{number:02d}" for number in range(classes)], drawn, predicted),
    )
    record = evaluation_record(run.path, source, "novel", EpisodeConfig(3, 1, 4), 0, accuracy)
    return save_evaluation(record, run.evaluation_file(record["name"]))


def add_explanations(run: RunFolder) -> Path:
    """Judged explanations of two methods; the path of their file."""
    values = {"aupc": np.array([[1.0, 3.0], [4.0, 5.0]]), "insertion": np.array([[0.5, 0.75], [np.nan, np.nan]])}
    found = ExplanationQuality(("fsc", "random"), ("aupc", "insertion"), values, None)
    circumstances = {"run": "a", "data": "synthetic:fog", "split": "novel", "ways": 5, "shots": 1, "seed": 0}
    folder = run.path / "explanations"
    write_json(folder / "explanations.json", to_json(found, {**circumstances, "quick": True}))
    picture = curves_figure({"fsc": np.ones((2, 3))}, "random", "curves", "x", "y")
    (folder / "perturbation.png").write_bytes(picture)
    return folder / "explanations.json"


def add_attacks(run: RunFolder) -> list[Path]:
    """One attack, and the same at two degrees of noise with the file of both."""
    clean, attacked = Accuracy(np.array([0.5, 0.75])), Accuracy(np.array([0.25, 0.25]))
    found = Robustness(clean, attacked, np.array([0.5, 0.25]), samples=1)
    trial = AttackTrial("a", "synthetic:fog", "novel", EpisodeConfig(5, 1, 3), 2, 0, "", fgsm())
    records = [attack_record(dataclasses.replace(trial, degree=degree), found) for degree in (None, 0.0, 0.5)]
    trend = {"name": "trend", "degrees": [0.0, 0.5], "results": records[1:]}
    return [save_evaluation(record, run.attack_file(record["name"])) for record in (*records, trend)]


def write_full_run(path: Path, config: RunConfig = RunConfig()) -> RunFolder:
    """A run with everything but images."""
    run = write_run(path, config)
    add_evaluation(run)
    add_evaluation(run, "folder:/a/long/way/to/some birds", classes=20)
    add_explanations(run)
    add_attacks(run)
    return run
