"""What attacks did, as JSON, and over the degrees of noise as a table and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from egt_tf.evaluation.accuracy import Accuracy
from egt_tf.evaluation.adversarial import Robustness
from egt_tf.evaluation.attack_trial import AttackTrial
from egt_tf.figures.curves import curves_figure
from egt_tf.wording import accuracy_text


def attack_record(trial: AttackTrial, found: Robustness) -> dict[str, Any]:
    """What was measured and on what, as JSON types.

    Returns:
        The attributes of the trial and its `name`; `clean` and `attacked`, each with `accuracy`, `interval`,
        `calibration_error`, `negative_log_likelihood` and `episode_accuracies`; `success`, `success_interval` and
        `episode_success`, null where it is not defined.

    Example:
        >>> from egt_tf.config import EpisodeConfig
        >>> from egt_tf.evaluation.attacks import fgsm
        >>> trial = AttackTrial("runs/a", "s", "novel", EpisodeConfig(), 2, 0, "", fgsm())
        >>> accuracy = Accuracy(np.array([0.5, 0.5]))
        >>> attack_record(trial, Robustness(accuracy, accuracy, np.zeros(2), samples=1))["success"]
        0.0
    """
    return {
        **trial.to_json(),
        "clean": _accuracy(found.clean),
        "attacked": _accuracy(found.attacked),
        "success": found.success_rate,
        "success_interval": found.success_interval,
        "episode_success": [float(each) if np.isfinite(each) else None for each in found.success],
    }


def _accuracy(accuracy: Accuracy) -> dict[str, Any]:
    calibration = accuracy.calibration
    return {
        "accuracy": accuracy.mean,
        "interval": accuracy.interval,
        "calibration_error": None if calibration is None else calibration.error,
        "negative_log_likelihood": None if calibration is None else calibration.negative_log_likelihood,
        "episode_accuracies": [float(each) for each in accuracy.episodes],
    }


def result_lines(record: Mapping[str, Any]) -> list[str]:
    """What a record says, for a reader."""
    chance = 1 / record["ways"]
    clean, attacked = record["clean"], record["attacked"]
    return [
        f"accuracy without attack: {accuracy_text(clean['accuracy'], clean['interval'], chance=chance)}",
        f"accuracy under attack: {accuracy_text(attacked['accuracy'], attacked['interval'])}",
        f"attack success, of the queries answered rightly: {_share(record['success'], record['success_interval'])}",
        f"calibration error: {accuracy_text(clean['calibration_error'])} without attack, "
        f"{accuracy_text(attacked['calibration_error'])} under it",
    ]


def _share(share: float | None, interval: float | None) -> str:
    return "none was right" if share is None else accuracy_text(share, interval)


def trend_rows(records: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """A row for each degree: the degree, both accuracies and the success of the attack, with intervals."""
    return [
        (
            f"{record['degree']:g}",
            accuracy_text(record["clean"]["accuracy"], record["clean"]["interval"]),
            accuracy_text(record["attacked"]["accuracy"], record["attacked"]["interval"]),
            _share(record["success"], record["success_interval"]),
        )
        for record in records
    ]


def trend_figure(records: Sequence[Mapping[str, Any]], title: str) -> bytes:
    """Both accuracies and the success of the attack over the degree of noise, in per cent, with 95 % intervals.

    Args:
        records: one for each degree, rising, of the same episodes.
        title: above the picture.

    Returns:
        The content of a PNG file.
    """
    curves = {
        "accuracy without attack": [record["clean"]["episode_accuracies"] for record in records],
        "accuracy under attack": [record["attacked"]["episode_accuracies"] for record in records],
        "attack success": [record["episode_success"] for record in records],
    }
    return curves_figure(
        {name: 100.0 * np.array(values, np.float64).T for name, values in curves.items()},
        "",
        title,
        "degree of noise",
        "share in %",
        [record["degree"] for record in records],
    )
