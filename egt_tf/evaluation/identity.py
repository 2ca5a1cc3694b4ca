"""What tells two sets of evaluation episodes apart, whatever the model and wherever the files lie."""

from __future__ import annotations

import hashlib
import os

import numpy as np

from egt_tf.config import EpisodeConfig
from egt_tf.data.image_set import ImageSet
from egt_tf.data.sampling import check_feasible, draw_episode
from egt_tf.errors import DataError


def episodes_identity(images: ImageSet, spec: EpisodeConfig, episodes: int, seed: int) -> str:
    """A hash of the images of the episodes that `evaluate` draws, in their order and with their roles.

    Equal identities mean that results can be compared episode by episode. An image counts by the name of its class, its
    file's name and its file's size, so a data set may be moved or copied, but not resized or renamed; an image without
    a file counts by its description ("synthetic:fog/cross/3").

    Args:
        images, spec, episodes, seed: see `egt_tf.evaluation.accuracy.evaluate`.

    Returns:
        The first 12 hexadecimal digits of SHA-256.

    Raises:
        DataError: too few classes or images, or a file cannot be found.
    """
    check_feasible(images, spec)
    digest = hashlib.sha256(f"{spec.ways} {spec.shots} {spec.queries} {episodes}\n".encode())
    names: dict[int, str] = {}
    for number in range(episodes):
        episode, _ = draw_episode(images, spec, seed, number)
        classes = np.concatenate([np.repeat(episode.classes, each) for each in (spec.shots, spec.queries)])
        for index, position in zip(episode.images.tolist(), classes.tolist(), strict=True):
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
