"""Evaluation results as files, and what tells two sets of evaluation episodes apart."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from egt_tf.config import EpisodeConfig
from egt_tf.data.image_set import ImageSet
from egt_tf.data.sampling import check_feasible, draw_episode
from egt_tf.errors import DataError
from egt_tf.evaluation.accuracy import Accuracy
from egt_tf.evaluation.calibration import Calibration
from egt_tf.evaluation.transductive import Transduction
from egt_tf.files import write_json


def evaluation_record(
    run: str | os.PathLike,
    source: str,
    split: str,
    episode: EpisodeConfig,
    seed: int,
    accuracy: Accuracy,
    transduction: Transduction | None = None,
    episodes_id: str | None = None,
) -> dict[str, Any]:
    """What was measured and on what, as JSON types.

    Returns:
        `name` (fit for a file), `run`, `source`, `split`, `ways`, `shots`, `queries`, `seed`, `episodes`;
        `episodes_id`, see `episodes_identity`, or null if it is not known;
        `inference`, "inductive" or "transductive", and `transduction`, its options or null; `accuracy` and `interval`
        in [0, 1], the interval null for a single episode; `calibration_error` in [0, 1] and `negative_log_likelihood`
        in nats, see `egt_tf.evaluation.calibration`, null where they were not measured, the second also where it is
        infinite; `calibration_bins`, see `egt_tf.evaluation.calibration.ConfidenceBin`, and `confusion`, see
        `egt_tf.evaluation.confusion.Confusion.to_json`, both null where they were not measured; `tied`, the share of
        queries without a single best class; `episode_accuracies`, one number an episode, so that runs evaluated with
        the same seed can be compared pair by pair.

    Example:
        >>> accuracy = Accuracy(np.array([0.5, 0.7]))
        >>> record = evaluation_record("runs/a", "synthetic:fog", "novel", EpisodeConfig(5, 1, 15), 0, accuracy)
        >>> record["inference"], round(record["accuracy"], 3)
        ('inductive', 0.6)
    """
    words = (
        f"{source}-{split}-{episode.ways}way-{episode.shots}shot-{episode.queries}query-"
        f"{len(accuracy.episodes)}episodes-seed{seed}"
    )
    words += "" if transduction is None else f"-{transduction}"
    return {
        "name": file_name(words),
        "run": str(run),
        "source": source,
        "split": split,
        "ways": episode.ways,
        "shots": episode.shots,
        "queries": episode.queries,
        "seed": seed,
        "episodes": len(accuracy.episodes),
        "episodes_id": episodes_id,
        "inference": "inductive" if transduction is None else "transductive",
        "transduction": None if transduction is None else dataclasses.asdict(transduction),
        "accuracy": accuracy.mean,
        "interval": accuracy.interval,
        **_calibration(accuracy.calibration),
        "confusion": None if accuracy.confusion is None else accuracy.confusion.to_json(),
        "tied": accuracy.tied,
        "episode_accuracies": [float(a) for a in accuracy.episodes],
    }


def _calibration(calibration: Calibration | None) -> dict[str, Any]:
    if calibration is None:
        return dict.fromkeys(("calibration_error", "negative_log_likelihood", "calibration_bins"))
    likelihood = calibration.negative_log_likelihood
    # JSON knows no infinity.
    return {
        "calibration_error": calibration.error,
        "negative_log_likelihood": likelihood if math.isfinite(likelihood) else None,
        "calibration_bins": [dataclasses.asdict(each) for each in calibration.bins] or None,
    }


def file_name(words: str) -> str:
    """Readable, short, and different for different words, whatever characters they have.

    Example:
        >>> file_name("synthetic:fog, 5 shots")
        'synthetic_fog_5_shots-99bcb85a'
    """
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", words).strip("_")
    return f"{readable[-100:]}-{hashlib.sha256(words.encode()).hexdigest()[:8]}"


def save_evaluation(record: dict[str, Any], path: str | os.PathLike) -> Path:
    """Writes a record as JSON, whole or not at all, and returns its path.

    Example:
        >>> import tempfile
        >>> save_evaluation({"accuracy": 0.6}, Path(tempfile.mkdtemp()) / "result.json").read_text()
        '{\\n  "accuracy": 0.6\\n}\\n'
    """
    write_json(path, record)
    return Path(path)


def episodes_identity(images: ImageSet, episode: EpisodeConfig, episodes: int, seed: int) -> str:
    """A hash of the images of the episodes that `evaluate` draws, in their order and with their roles.

    Equal identities mean that results can be compared episode by episode. An image counts by the name of its class, its
    file's name and its file's size, so a data set may be moved or copied, but not resized or renamed; an image without
    a file counts by its description ("synthetic:fog/cross/3").

    Args:
        images, episode, episodes, seed: see `egt_tf.evaluation.accuracy.evaluate`.

    Returns:
        The first 12 hexadecimal digits of SHA-256.

    Raises:
        DataError: too few classes or images, or a file cannot be found.

    Example:
        >>> from egt_tf.data import open_source
        >>> images = open_source("synthetic:shapes").split("novel")
        >>> len(episodes_identity(images, EpisodeConfig(2, 1, 1), episodes=3, seed=0))
        12
    """
    check_feasible(images, episode)
    digest = hashlib.sha256(f"{episode.ways} {episode.shots} {episode.queries} {episodes}\n".encode())
    names: dict[int, str] = {}
    for number in range(episodes):
        drawn, _ = draw_episode(images, episode, seed, number)
        classes = np.concatenate([np.repeat(drawn.classes, each) for each in (episode.shots, episode.queries)])
        for index, position in zip(drawn.images.tolist(), classes.tolist(), strict=True):
            if index not in names:
                names[index] = _image_identity(images.describe(index), images.class_names[position])
            digest.update(f"{names[index]}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:12]


def _image_identity(description: str, class_name: str) -> str:
    if not os.path.lexists(description) and ":" in description.partition(os.sep)[0]:
        return description
    try:
        return f"{class_name}/{os.path.basename(description)} {os.path.getsize(description)}"
    except OSError as error:
        raise DataError(f"cannot read image {description}: {error.strerror or error}") from error
