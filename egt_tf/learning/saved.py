"""Learned classifiers on disk: a SavedModel that is served like any other, and beside it what learning on takes."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from egt_tf.data.support import SupportSet
from egt_tf.errors import EgtError, ExportError
from egt_tf.export.saved_model import ServableModel, make_servable, write_version
from egt_tf.export.signatures import StoredSupport
from egt_tf.heads.similarity import unit
from egt_tf.learning.calibration import known_scores, pooled, unit_prototypes
from egt_tf.learning.card import learned_card
from egt_tf.learning.classifier import FewShotClassifier, Memory
from egt_tf.learning.defaults import COMPOSITE
from egt_tf.serving.contract import LEARNED, LEARNED_ARRAYS, MODEL_CARD, SHOWN, version_folder
from egt_tf.serving.explainer import read_shown, shown_file

_FORMAT = 1
# Between features that are the same but for the order of sums, of other libraries or processors.
_TOLERANCE = 1e-2


def save_classifier(
    classifier: FewShotClassifier, folder: str | os.PathLike[str], version: int | None = None, photos: bool = True
) -> Path:
    """Writes a version of a learned classifier; see `FewShotClassifier.save`."""
    ready = servable(classifier)
    photos = photos and classifier.memory.pixels is not None
    files = {
        MODEL_CARD: learned_card(classifier, ready, Path(folder).resolve().name, photos).encode(),
        SHOWN: shown_file(classifier.support if photos else None, COMPOSITE),
        LEARNED: _description(classifier, photos),
        LEARNED_ARRAYS: _arrays(classifier.memory, classifier.probe()),
    }
    return write_version(ready, Path(folder), version, files)


def servable(classifier: FewShotClassifier) -> ServableModel:
    """The signatures of a learned classifier, of which `serving_default` also says what is known.

    Example:
        >>> images = [np.full((32, 32, 3), level, np.uint8) for level in (0, 10, 240, 250)]
        >>> classifier = FewShotClassifier({"name": "conv4", "width": 4}, "cosine", image_size=32)
        >>> ready = servable(classifier.fit(images, ["dark", "dark", "light", "light"]))
        >>> sorted(ready.signatures["serving_default_floats"].concrete.structured_outputs)
        ['class_names', 'known', 'known_score', 'probabilities', 'top_class']
    """
    memory = classifier.memory
    prototypes = unit_prototypes(tf.constant(memory.vectors), tf.constant(memory.one_hot))
    # Every query is known where nothing says otherwise.
    threshold = -np.inf if classifier.threshold is None else classifier.threshold.value

    def known(features: tf.Tensor) -> Mapping[str, tf.Tensor]:
        scores = known_scores(tf.matmul(unit(pooled(features)), prototypes, transpose_b=True))
        return {"known_score": scores, "known": scores >= threshold}

    stored = StoredSupport(memory.class_names, tf.constant(memory.features), tf.constant(memory.one_hot), known)
    return make_servable(classifier.model, stored, COMPOSITE)


def load_classifier(path: str | os.PathLike[str]) -> FewShotClassifier:
    """Opens a learned classifier to learn on, or to explain; see `FewShotClassifier.load`."""
    version = version_folder(path)
    description = _read_description(version)
    arrays = _read_arrays(version / LEARNED_ARRAYS)
    _, support = read_shown(version / SHOWN)
    try:
        classifier = FewShotClassifier(description["embedding"], description["head"], description["image_size"])
        check_probe(arrays["probe"], classifier.probe())
        classifier.restore(_memory(description, arrays, support))
    except EgtError:
        raise
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise _damaged(version, f"{type(error).__name__}: {error}") from error
    return classifier


def is_learned(path: str | os.PathLike[str]) -> bool:
    """Whether an exported model is a learned classifier.

    Raises:
        ExportError: it is no exported model.

    Example:
        >>> is_learned("no/such/model")
        Traceback (most recent call last):
        egt_tf.errors.ExportError: no/such/model must be an exported model, ... Received: no such folder
    """
    return (version_folder(path) / LEARNED).is_file()


def _description(classifier: FewShotClassifier, photos: bool) -> bytes:
    memory, threshold = classifier.memory, classifier.threshold
    content = {
        "format": _FORMAT,
        "class_names": list(memory.class_names),
        "photos_of_class": memory.counts.tolist(),
        "photo_names": list(memory.names),
        "digests": list(memory.digests),
        "photos_inside": photos,
        "embedding": classifier.embedding,
        "image_size": classifier.image_size,
        "head": classifier.head,
        "fitted_head": dict(classifier.head_spec),
        "threshold": None if threshold is None else dataclasses.asdict(threshold),
        "leave_one_out": {
            name: {"right": found.right, "photos": len(found.labels), "interval": list(found.interval)}
            for name, found in classifier.results.items()
        },
    }
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def _arrays(memory: Memory, probe: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, features=memory.features, labels=memory.labels, probe=probe)
    return file.getvalue()


def _read_description(version: Path) -> dict[str, Any]:
    path = version / LEARNED
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ExportError(
            f"{version} must be a model of `egt-tf learn`. Received: a model without {LEARNED}; learn it from a folder "
            "of photos"
        ) from error
    except (ValueError, OSError) as error:
        raise _damaged(version, f"no JSON in {LEARNED}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise _damaged(version, f"{LEARNED} of another format")
    return content


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise _damaged(path.parent, f"{path.name}: {error}") from error


def _memory(
    description: Mapping[str, Any], arrays: Mapping[str, np.ndarray], support: SupportSet | None
) -> Memory:
    """Raises ValueError if the parts do not fit together."""
    features, labels = arrays["features"], arrays["labels"]
    # In the order of the classes, as the features are.
    pixels = None if support is None else support.flat_images
    names, digests = tuple(description["photo_names"]), tuple(description["digests"])
    classes, size, count = tuple(description["class_names"]), description["image_size"], len(arrays["labels"])
    fits = (
        features.dtype == np.float32
        and features.ndim == 4
        and bool(np.isfinite(features).all())
        and labels.dtype.kind == "i"
        and len({len(features), len(names), len(digests), count}) == 1
        and np.array_equal(np.bincount(labels, minlength=len(classes)), description["photos_of_class"])
        and (np.diff(labels) >= 0).all()
        and min(description["photos_of_class"]) >= 1
        and (pixels is None or (pixels.shape == (count, size, size, 3)))
    )
    if not fits:
        raise ValueError("the arrays and the description do not fit together")
    return Memory(classes, labels, features, names, digests, pixels)


def _damaged(version: Path, received: str) -> ExportError:
    return ExportError(
        f"{version} must hold {LEARNED} and {LEARNED_ARRAYS} as `egt-tf learn` writes them. Received: {received}"
    )


def check_probe(expected: np.ndarray, found: np.ndarray) -> None:
    """Checks that an embedding gives the features that a classifier was learned with.

    Args:
        expected: features of the probe image when the classifier was saved.
        found: those of the embedding now.

    Raises:
        ExportError: they differ.

    Example:
        >>> check_probe(np.ones((1, 1, 4)), np.zeros((1, 1, 4)))
        Traceback (most recent call last):
        egt_tf.errors.ExportError: the embedding must give the features that the model was learned with. ...
    """
    largest = max(float(np.abs(expected).max()), 1e-12)
    if expected.shape != found.shape or float(np.abs(expected - found).max()) > _TOLERANCE * largest:
        raise ExportError(
            "the embedding must give the features that the model was learned with. Received: other ones; its weights "
            "have changed since, so learn the model again from its photos"
        )
