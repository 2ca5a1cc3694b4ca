"""Explains images by an exported model, with all that the figure of an explanation shows."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from egt_tf.data.support import ImageOrPath, SupportOrPath, SupportSet, as_image
from egt_tf.errors import ExplainError, ExportError, RunError
from egt_tf.explain.explainer import Explainer, RunExplainer, chosen_support
from egt_tf.explain.explanation import EpisodeExplanation
from egt_tf.explain.methods import Method
from egt_tf.explain.query import classes_to_explain, name_of
from egt_tf.explain.stored_photos import StoredAnswer, StoredRelevance, explain_by_stored_photos
from egt_tf.runs import RunFolder
from egt_tf.serving.contract import GRAPH_FILE, SHOWN, versions
from egt_tf.serving.exported_model import ExportedModel, support_inputs
from egt_tf.serving.learned import is_learned, read_learned

_SIGNATURES = ("classify_episode_floats", "explain_episode_floats")


def open_explainer(path: str | os.PathLike[str]) -> Explainer:
    """What explains images by a run folder or by an exported model.

    Args:
        path: the folder of a run, of an exported model (whose newest version is taken), or of a version.

    Raises:
        RunError: it is neither, or a run without weights.
        ExportError: the exported model is not safe to load, or was not exported by this package.

    Example:
        >>> open_explainer("no/such/folder")
        Traceback (most recent call last):
        egt_tf.errors.RunError: no/such/folder must be a run folder or an exported model. Received: no such folder
    """
    run = RunFolder(Path(path))
    if (run.path / GRAPH_FILE).is_file() or versions(run.path):
        return ExportedExplainer(ExportedModel(path))
    if run.config_file.is_file():
        return RunExplainer(run)
    received = "a folder without config.yaml or saved_model.pb" if run.path.is_dir() else "no such folder"
    raise RunError(f"{path} must be a run folder or an exported model. Received: {received}")


class ExportedExplainer:
    """Explains single images as `egt_tf.explain.query.explain_image` does, by the signatures of an exported model.

    Args:
        model: exported by this package.

    Attributes:
        image_size: height and width of the images in pixels.
        support: the stored support set, or None.
        method_name: the composite of the graph.

    Raises:
        ExportError: the model has not the signatures, or not the file that says what it shows.

    Example:
        >>> ExportedExplainer(ExportedModel("no/such/model"))
        Traceback (most recent call last):
        egt_tf.errors.ExportError: no/such/model must be an exported model, ... Received: no such folder
    """

    support: SupportSet | None

    def __init__(self, model: ExportedModel):
        self.model = model
        self.image_size = int(model.inputs(_SIGNATURES[1])["query_images"].shape[1])
        if is_learned(model.path):
            learned = read_learned(model.path)
            self.method_name, self.support = str(learned.settings["method"]), learned.support()
            self._stored: ExportedPhotos | None = ExportedPhotos(model, learned.settings["start"] == "margin")
        else:
            self.method_name, self.support = _read_shown(model.path / SHOWN)
            self._stored = None

    @property
    def description(self) -> str:
        """What explains, for a person."""
        return f"the model {self.model.path}"

    def probabilities(self, image: ImageOrPath, support: SupportOrPath | None = None) -> np.ndarray:
        """See `Explainer`."""
        return self._probabilities(as_image(image, self.image_size), chosen_support(self, support))

    def _probabilities(self, image: np.ndarray, support: SupportSet) -> np.ndarray:
        query = image[None].astype(np.float32)
        return self.model.ask(_SIGNATURES[0], {**support_inputs(support), "query_images": query})["probabilities"][0]

    def explain(
        self,
        image: ImageOrPath,
        support: SupportOrPath | None = None,
        target: str | None = None,
        method: str | Mapping[str, Any] | Method | None = None,
        image_name: str = "",
        start: str | None = None,
    ) -> EpisodeExplanation:
        """See `Explainer`; the method must be None or the one in the graph, and `start` None.

        Raises:
            ExplainError: no such class, another method, or a start.
            ExportError: the graph refuses the support set.
        """
        if method not in (None, self.method_name):
            raise ExplainError(
                f"an exported model explains by the method in its graph, {self.method_name!r}. Received: {method!r}; "
                "explain by the run it was exported from"
            )
        if start is not None:
            raise ExplainError(
                f"an exported model explains from the start in its graph. Received: {start!r}; "
                "explain by the run it was exported from"
            )
        image_name = image_name or name_of(image)
        support, image = chosen_support(self, support), as_image(image, self.image_size)
        run_name = self.model.path.resolve().parent.name
        if self._stored is not None and support is self.support:
            return explain_by_stored_photos(
                self._stored, image, support, target, image_name, run_name, self.method_name
            )
        probabilities = self._probabilities(image, support)
        episode, query = support_inputs(support), image[None].astype(np.float32)
        explained = classes_to_explain(probabilities, support.class_names, target)
        answer = self.model.ask(
            _SIGNATURES[1],
            {**episode, "query_images": np.repeat(query, len(explained), axis=0), "targets": np.array(explained)},
        )
        return EpisodeExplanation(
            query_image=image,
            class_names=support.class_names,
            probabilities=probabilities,
            explained=explained,
            query_relevance=answer["relevance"],
            support_images=support.images,
            support_relevance=np.stack([support.placed(maps) for maps in answer["support_relevance"]]),
            image_name=image_name,
            run_name=run_name,
            method_name=self.method_name,
            support_counts=support.counts,
        )


class ExportedPhotos:
    """The stored photos of an exported model, as `egt_tf.explain.stored_photos` asks about them.

    Args:
        model: of `egt-tf learn`.
        from_margin: see `StoredPhotos`.

    Example:
        >>> ExportedPhotos(ExportedModel("no/such/model"), from_margin=True)
        Traceback (most recent call last):
        egt_tf.errors.ExportError: no/such/model must be an exported model, ... Received: no such folder
    """

    def __init__(self, model: ExportedModel, from_margin: bool):
        self.model, self.from_margin = model, from_margin

    def answer(self, image: np.ndarray) -> StoredAnswer:
        """See `StoredPhotos`."""
        found = self.model.ask("serving_default_floats", {"images": _floats(image[None])})
        return StoredAnswer(found["probabilities"][0], bool(found["known"][0]) if "known" in found else None)

    def relevance(self, image: np.ndarray, targets: np.ndarray) -> StoredRelevance:
        """See `StoredPhotos`."""
        answer = self.model.ask("explain_floats", {"images": _repeated(image, targets), "targets": targets})
        return StoredRelevance(answer["relevance"], answer["support_sums"])

    def photo_relevance(
        self, image: np.ndarray, targets: np.ndarray, photos: np.ndarray, positions: np.ndarray
    ) -> np.ndarray:
        """See `StoredPhotos`."""
        inputs = {
            "images": _repeated(image, targets),
            "targets": targets,
            "photos": _floats(photos),
            "positions": positions,
        }
        return self.model.ask("explain_photos_floats", inputs)["support_relevance"]


def _floats(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32)


def _repeated(image: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.repeat(_floats(image[None]), len(targets), axis=0)


def shown_file(support: SupportSet | None, composite: str) -> bytes:
    """What an explanation shows and the graph does not hold, as an .npz file: the file `SHOWN` of a version.

    Args:
        support: the stored support set, or None.
        composite: name of the one in the graph.
    """
    arrays: dict[str, Any] = {"composite": np.array(composite)}
    if support is not None:
        arrays.update(images=support.images, class_names=np.array(support.class_names))
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _read_shown(path: Path) -> tuple[str, SupportSet | None]:
    """The composite and the stored support set."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise ExportError(f"the model must come with {SHOWN} to be explained here. Received: no {path}") from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ExportError(f"{path} must be an .npz file of `egt-tf export`. Received: {error}") from error
    if "composite" not in arrays or ("images" in arrays) != ("class_names" in arrays):
        raise ExportError(f"{path} must hold composite, images and class_names. Received: {', '.join(arrays)}")
    if "images" not in arrays:
        return str(arrays["composite"]), None
    return str(arrays["composite"]), SupportSet(tuple(arrays["class_names"].tolist()), arrays["images"])
