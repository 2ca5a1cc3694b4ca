"""One measurement of an attack, and the same of one model with several degrees of noise."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from egt_tf.backbones.batch_noise import noise_layers, with_degree
from egt_tf.data.image_set import ImageSet, OnProgress
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError
from egt_tf.evaluation.adversarial import default_samples, evaluate_attack
from egt_tf.evaluation.attack_report import attack_record
from egt_tf.evaluation.attack_trial import AttackTrial, weights_identity
from egt_tf.files import write_json


def measured(
    model: EpisodicModel,
    images: ImageSet,
    trial: AttackTrial,
    samples: int | None = None,
    progress: OnProgress | None = None,
) -> dict[str, Any]:
    """The record of a trial, see `attack_record`; its degree, samples and weights are filled in.

    Args:
        model: the classifier.
        images: to draw the episodes from.
        trial: what is measured.
        samples: see `evaluate_attack`.
        progress: called with (episodes done, episodes).
    """
    trial = _of_model(trial, model, default_samples(model) if samples is None else samples)
    found = evaluate_attack(
        model,
        images,
        trial.episode,
        trial.episodes,
        trial.seed,
        trial.attack,
        samples=trial.samples,
        attack_support=trial.attack_support,
        progress=progress,
    )
    return attack_record(trial, found)


def trend(
    model: EpisodicModel,
    images: ImageSet,
    trial: AttackTrial,
    degrees: Sequence[float],
    file_of: Callable[[str], Path],
    samples: int | None = None,
    progress: OnProgress | None = None,
) -> Iterator[dict[str, Any]]:
    """The records of one model, its weights as they are, with several degrees of noise, each as soon as it is there.

    Each is written when it is measured. Where a file holds what an earlier call has measured of the same weights and
    episodes, that is taken.

    Args:
        model: with noise.
        images, trial, samples, progress: see `measured`.
        degrees: rising, see `check_degrees`.
        file_of: from the name of a record to its file.

    Raises:
        ConfigError: see `check_degrees`.
    """
    check_degrees(model, degrees)
    for degree in degrees:
        changed = EpisodicModel(with_degree(model.backbone, degree), model.head, name=model.name)
        each = _of_model(trial, changed, default_samples(changed) if samples is None else samples)
        path = file_of(each.name)
        record = known_record(path, each)
        if record is None:
            record = measured(changed, images, trial, samples, progress)
            write_json(path, record)
        yield record


def _of_model(trial: AttackTrial, model: EpisodicModel, samples: int) -> AttackTrial:
    noise = noise_layers(model.backbone)
    degree = noise[0].degree if noise else None
    return dataclasses.replace(trial, degree=degree, samples=samples, weights=weights_identity(model))


def known_record(path: Path, trial: AttackTrial) -> dict[str, Any] | None:
    """The record of a trial in a file, if the file is whole and of the same weights and episodes; else None.

    Example:
        >>> from egt_tf.config import EpisodeConfig
        >>> from egt_tf.evaluation.attacks import fgsm
        >>> trial = AttackTrial("runs/a", "s", "novel", EpisodeConfig(), 2, 0, "", fgsm())
        >>> known_record(Path("no such file"), trial) is None
        True
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        same = record["weights"] == trial.weights and record["episodes_id"] == trial.episodes_id
        return record if same and {"clean", "attacked", "success"} <= set(record) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_degrees(model: EpisodicModel, degrees: Sequence[float]) -> None:
    """Checks that a trend over degrees of noise can be measured.

    Raises:
        ConfigError: the backbone has no noise, or there are less than two degrees, or they do not rise within [0, 1].

    Example:
        >>> check_degrees(EpisodicModel.build_from({"name": "conv4", "noise": 0.1}, "prototype", 16, seed=1), [0.0, 0.5])
    """
    if not noise_layers(model.backbone):
        raise ConfigError("a trend over degrees is of a backbone with noise. Received: one without; see egt-tf harden")
    rising = all(a < b for a, b in itertools.pairwise(degrees))
    if len(degrees) < 2 or not rising or not all(0 <= degree <= 1 for degree in degrees):
        told = ", ".join(f"{degree:g}" for degree in degrees)
        raise ConfigError(f"degrees must be at least two rising numbers in [0, 1]. Received: {told}")
