"""Classifiers as SavedModels, and their weights back; nothing of a model is run to read it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from egt_tf.errors import ExportError
from egt_tf.export.lite import lite_files
from egt_tf.export.one_by_one import OneByOne
from egt_tf.export.requests import RequestLimits
from egt_tf.export.saved_model import check_version, servable, write_version
from egt_tf.export.signatures import KnownRule, StoredSupport
from egt_tf.export.warm_up import available, warm_up_records
from egt_tf.learning.card import learned_card
from egt_tf.learning.fitting import Fit
from egt_tf.learning.known_scores import KNOWN_SCORES, KnownScore
from egt_tf.serving.contract import MODEL_CARD, WARM_UP, first_line
from egt_tf.serving.learned import LearnedModel

_VARIABLES = "variables/variables"
# How a SavedModel calls the weights that `write_version` gives it.
_WEIGHT = "weights/{}/.ATTRIBUTES/VARIABLE_VALUE"


def write_classifier(
    answers: OneByOne,
    learned: LearnedModel,
    found: Fit,
    folder: Path,
    version: int | None = None,
    limits: RequestLimits = RequestLimits(),
    lite: bool = False,
) -> Path:
    """Writes `folder/version/`, whole or not at all.

    Args:
        answers: the network and the head, calibrated.
        learned: the photos; without pixels, none are written.
        found: what was chosen and measured.
        folder: the model's folder; its name is the model's.
        version: >= 1; None: the next free one.
        limits: how much a request may hold.
        lite: whether to write a LiteRT file for telephones beside it, see `lite_files`.

    Returns:
        The version's folder.

    Raises:
        ExportError: the version is there already, or the network cannot be a LiteRT file.
        OSError: it cannot be written.
    """
    check_version(folder, version)
    stored = StoredSupport(
        learned.features[:, None, None],
        tf.one_hot(learned.labels, len(learned.class_names)),
        learned.class_names,
        KnownRule(score_of_maps(found.known_score), None if found.threshold is None else found.threshold.value),
        by_photo=True,
    )
    ready = servable(answers, stored, limits)
    name = folder.resolve().name
    card = learned_card(name, ready, learned, found, available())
    files = {
        MODEL_CARD: card.encode("utf-8", "backslashreplace"),
        **learned.files(),
        **(lite_files(ready) if lite else {}),
    }
    if available():
        files[WARM_UP] = warm_up_records(ready, name)
    return write_version(ready, folder, version, files)


def score_of_maps(name: str) -> KnownScore:
    """A score of `KNOWN_SCORES` that takes features as the model has them, maps of one position `(n, 1, 1, c)`."""
    score = KNOWN_SCORES.member(name)
    return lambda query, support, labels: score(query[:, 0, 0], support[:, 0, 0], labels)


def read_weights(version: Path, count: int) -> list[np.ndarray]:
    """The weights of the network of a version, in their order.

    Args:
        version: its folder.
        count: how many there are.

    Raises:
        ExportError: they are missing or damaged.
    """
    try:
        reader = tf.train.load_checkpoint(str(version / _VARIABLES))
        return [reader.get_tensor(_WEIGHT.format(index)) for index in range(count)]
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        raise ExportError(f"the weights of {version} are missing or damaged: {first_line(str(error))}") from error
