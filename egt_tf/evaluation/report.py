"""Evaluation results as files."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from pathlib import Path
from typing import Any

from egt_tf.config import EpisodeConfig
from egt_tf.evaluation.accuracy import Accuracy
from egt_tf.evaluation.transductive import Transduction
from egt_tf.files import write_json


def evaluation_record(
    run: str | os.PathLike,
    source: str,
    split: str,
    spec: EpisodeConfig,
    seed: int,
    accuracy: Accuracy,
    transduction: Transduction | None = None,
    episodes_id: str | None = None,
) -> dict[str, Any]:
    """What was measured and on what, as JSON types.

    Returns:
        `name` (fit for a file), `run`, `source`, `split`, `ways`, `shots`, `queries`, `seed`, `episodes`;
        `episodes_id`, see `egt_tf.evaluation.identity`, or null if it is not known;
        `inference`, "inductive" or "transductive", and `transduction`, its options or null; `accuracy` and `interval`
        in [0, 1]; `episode_accuracies`, one number an episode, so that runs evaluated with the same seed can be
        compared pair by pair.
    """
    words = (
        f"{source}-{split}-{spec.ways}way-{spec.shots}shot-{spec.queries}query-"
        f"{len(accuracy.episodes)}episodes-seed{seed}"
    )
    words += "" if transduction is None else f"-{transduction}"
    return {
        "name": _file_name(words),
        "run": str(run),
        "source": source,
        "split": split,
        "ways": spec.ways,
        "shots": spec.shots,
        "queries": spec.queries,
        "seed": seed,
        "episodes": len(accuracy.episodes),
        "episodes_id": episodes_id,
        "inference": "inductive" if transduction is None else "transductive",
        "transduction": None if transduction is None else dataclasses.asdict(transduction),
        "accuracy": accuracy.mean,
        "interval": accuracy.interval,
        "episode_accuracies": [float(a) for a in accuracy.episodes],
    }


def _file_name(words: str) -> str:
    """Readable, short, and different for different words, whatever characters they have."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", words).strip("_")
    return f"{readable[-100:]}-{hashlib.sha256(words.encode()).hexdigest()[:8]}"


def save_evaluation(record: dict[str, Any], path: str | os.PathLike) -> Path:
    """Writes a record as JSON, whole or not at all, and returns its path."""
    write_json(path, record)
    return Path(path)
