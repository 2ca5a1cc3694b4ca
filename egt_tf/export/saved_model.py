"""Writes a model as TensorFlow Serving takes it: `NAME/VERSION/`, whole or not at all."""

from __future__ import annotations

import dataclasses
import errno
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from egt_tf.data.support import SupportSet
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import OVERFLOW, ExportError, NotFiniteError, original_error
from egt_tf.explain.methods import get_method
from egt_tf.export.one_by_one import OneByOne
from egt_tf.export.requests import RequestLimits
from egt_tf.export.signatures import Signature, Signatures, StoredSupport
from egt_tf.export.traced import TracedOnce
from egt_tf.files import partial_folder
from egt_tf.heads.base import Head
from egt_tf.lrp.output_relevance import get_start
from egt_tf.lrp.plain_operations import with_plain_operations
from egt_tf.lrp.presets import COMPOSITES
from egt_tf.serving.contract import CLASS_NAMES, versions
from egt_tf.serving.safety import graph_nodes

# What TensorFlow differentiates with and inference engines lack, as OpenVINO 2026.4 does.
UNPORTABLE = frozenset(
    {
        "AvgPoolGrad",
        "BroadcastGradientArgs",
        "ConcatOffset",
        "MatrixDiagV3",
        "MatrixSolve",
        "MaxPoolGrad",
        "ReluGrad",
        "StridedSliceGrad",
    }
)

# Classes of the trial of a model without a support set whose head takes any number.
_TRIED_WAYS = 2


@dataclasses.dataclass(frozen=True, eq=False)
class ServableModel:
    """A model ready to be written.

    Attributes:
        model: what answers.
        support: the classes it knows without being told, or None.
        signatures: by name.
        limits: how much a request may hold.

    Example:
        >>> ready = make_servable(EpisodicModel.build_from("conv4", "cosine", image_size=16, seed=1), None)
        >>> ready.model.model.image_size, ready.support is None
        (16, True)
    """

    model: OneByOne
    support: StoredSupport | None
    signatures: Mapping[str, Signature]
    limits: RequestLimits


def make_servable(
    model: EpisodicModel,
    support: SupportSet | None,
    composite: str | Mapping[str, Any] = "fsc",
    limits: RequestLimits = RequestLimits(),
    start: str = "log_odds",
) -> ServableModel:
    """Makes the signatures of a model.

    Args:
        model: the classifier; its weights are those at the time of writing.
        support: the classes of `serving_default` and `explain`, or None.
        composite: how to explain, as `COMPOSITES` takes it.
        limits: how much a request may hold.
        start: where relevance begins at the scores, as `egt_tf.lrp.get_start` takes it.

    Raises:
        ConfigError: an unknown composite.
        ExplainError: an unknown start.
        ExportError: a support set of other ways than the head takes, or limits below an episode of the head.
        NotFiniteError: a score is infinite or not a number.

    Example:
        >>> model = EpisodicModel.build_from("conv4", "cosine", image_size=16, seed=1)
        >>> support = SupportSet(("ant", "bee"), np.zeros((2, 1, 16, 16, 3), np.uint8))
        >>> "serving_default" in make_servable(model, support).signatures
        True
    """
    _check_ways(model.head, support)
    limits.check_head(model.head)
    answers = OneByOne(get_method(composite).prepared(model), COMPOSITES.get(composite), get_start(start))
    return servable(answers, None if support is None else StoredSupport.of_images(answers, support), limits)


def servable(answers: OneByOne, stored: StoredSupport | None, limits: RequestLimits = RequestLimits()) -> ServableModel:
    """As `make_servable`, of a model and a support set that are ready.

    Args:
        answers: the model, prepared for its composite.
        stored: features of the support set, or None.
        limits: how much a request may hold.

    Raises:
        NotFiniteError: a score is infinite or not a number.

    Example:
        >>> model = EpisodicModel.build_from("conv4", "cosine", image_size=16, seed=1)
        >>> "embed" in servable(OneByOne(model, COMPOSITES.get("fsc")), None).signatures
        True
    """
    _check_scores(answers, stored)
    return ServableModel(answers, stored, Signatures(TracedOnce(answers), stored, limits).all(), limits)


def make_portable(
    model: EpisodicModel,
    support: SupportSet | None,
    composite: str | Mapping[str, Any] = "fsc",
    limits: RequestLimits = RequestLimits(),
    start: str = "log_odds",
) -> ServableModel:
    """As `make_servable`, for other engines: a single signature, numbers only, no derivative of max-pooling.

    Raises:
        ConfigError: an unknown composite.
        ExplainError: the composite has no rule for a layer.
        ExportError: see `make_servable`; or no support set; or the head, as that of the graph network, needs operations
            that other engines do not have.

    Example:
        >>> model = EpisodicModel.build_from("conv4", "cosine", image_size=16, seed=1)
        >>> support = SupportSet(("ant", "bee"), np.zeros((2, 1, 16, 16, 3), np.uint8))
        >>> list(make_portable(model, support).signatures)
        ['serving_default']
    """
    _check_ways(model.head, support)
    rules = with_plain_operations(COMPOSITES.get(composite))
    answers = OneByOne(get_method(composite).prepared(model), rules, get_start(start))
    stored = None if support is None else StoredSupport.of_images(answers, support)
    _check_scores(answers, stored)
    with original_error():
        signatures = Signatures(answers, stored, limits).portable()
        graphs = [signature.concrete.graph.as_graph_def() for signature in signatures.values()]
    found = sorted({node.op for graph in graphs for node in graph_nodes(graph)} & UNPORTABLE)
    if found:
        raise ExportError(
            f"a portable model must do without operations that engines beside TensorFlow do not have. "
            f"Received: {', '.join(found)} in the head {type(model.head).__name__} or the composite "
            f"{rules.name!r}; export without --portable"
        )
    return ServableModel(answers, stored, signatures, limits)


def _check_ways(head: Head, support: SupportSet | None) -> None:
    if support is not None and head.needs_ways and support.ways != head.ways:
        raise ExportError(
            f"the support set must have the {head.ways} classes that the head was made for. "
            f"Received: {support.ways}; name another by --support"
        )


def _check_scores(answers: OneByOne, stored: StoredSupport | None) -> None:
    """Refuses a model with numbers that are not finite, by what it says of a drawn image.

    Weights are finite wherever they are read from; too large ones show in what is computed from them.
    """
    size, head = answers.model.image_size, answers.model.head
    ways = head.ways if head.needs_ways else _TRIED_WAYS
    drawn = tf.constant(np.random.default_rng(0).integers(0, 256, (ways, size, size, 3), dtype=np.uint8))
    features = answers.features(drawn)
    support, labels = (features, tf.eye(ways)) if stored is None else (stored.features, stored.labels)
    scores = answers.scores(support, labels, features[:1])
    if not np.isfinite(scores).all():
        raise NotFiniteError(f"the scores of a model must be finite. Received: NaN or infinity; {OVERFLOW}")


def write_version(
    ready: ServableModel, name_folder: Path, version: int | None = None, files: Mapping[str, bytes] | None = None
) -> Path:
    """Writes `name_folder/version/`.

    A server that watches the folder sees the version when it is complete: it is written beside, under a hidden name,
    and renamed.

    Args:
        ready: the model.
        name_folder: one folder a model; it is made if it is not there.
        version: >= 1; None: one more than the largest that is there.
        files: further files of the version by their paths in it.

    Returns:
        The version's folder.

    Raises:
        ExportError: the version is there already, or `name_folder` is no folder.
        ExplainError: the composite has no rule for a layer.
        OSError: it cannot be written.

    Example:
        >>> ready = make_servable(EpisodicModel.build_from("conv4", "cosine", image_size=16, seed=1), None)
        >>> one = {"embed_floats": ready.signatures["embed_floats"]}  # the others take longer to write
        >>> write_version(dataclasses.replace(ready, signatures=one), Path(tempfile.mkdtemp(), "first")).name
        '1'
    """
    check_version(name_folder, version)
    with partial_folder(name_folder) as folder:
        _save(ready, folder)
        for name, content in (files or {}).items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        return _renamed(folder, name_folder, version)


def check_version(name_folder: Path, version: int | None) -> Path:
    """The folder that `write_version` would write.

    Raises:
        ExportError: see `write_version`.

    Example:
        >>> check_version(Path(tempfile.mkdtemp()), None).name
        '1'
    """
    if name_folder.exists() and not name_folder.is_dir():
        raise ExportError(f"the model's folder {name_folder} must be a folder. Received: a file")
    target = name_folder / str(version or max([*versions(name_folder), 0]) + 1)
    if target.exists():
        raise ExportError(
            f"{target} must not exist yet. Received: an exported version; leave --version out for the next free one"
        )
    return target


def _save(ready: ServableModel, folder: Path) -> None:
    root = tf.Module()
    # The weights alone: a Keras model as an attribute would be saved a second time, with Keras's own functions.
    root.weights = list(ready.model.model.variables)
    with tempfile.TemporaryDirectory() as temporary, original_error():
        if ready.support is not None:
            root.support = [ready.support.features, ready.support.labels]
            names = Path(temporary) / CLASS_NAMES
            names.write_text("".join(f"{name}\n" for name in ready.support.class_names), encoding="utf-8")
            root.class_names = tf.saved_model.Asset(str(names))
        functions = {name: signature.concrete for name, signature in ready.signatures.items()}
        tf.saved_model.save(root, str(folder), signatures=functions)


def _renamed(folder: Path, name_folder: Path, version: int | None) -> Path:
    """Gives a complete folder the name of its version; the next one if another export has taken it meanwhile."""
    while True:
        target = check_version(name_folder, version)
        try:
            return folder.rename(target)
        except OSError as error:
            # A folder is never renamed over another that holds files.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
