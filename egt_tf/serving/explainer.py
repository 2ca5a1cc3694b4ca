"""Explains images by an exported model, with all that the figure of an explanation shows."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from egt_tf.data.preprocessing import denormalize, normalize
from egt_tf.data.support import SupportSet
from egt_tf.errors import ExportError
from egt_tf.explain.explanation import EpisodeExplanation
from egt_tf.explain.query import classes_to_explain
from egt_tf.serving.exported_model import ExportedModel

# Beside what a server reads: the stored support set as pictures, since the model itself holds its features only.
SHOWN = "assets.extra/shown.npz"
_SIGNATURES = ("classify_episode_floats", "explain_episode_floats")


def shown_file(support: SupportSet | None, composite: str) -> bytes:
    """What an explanation shows and the graph does not hold, as an .npz file.

    Args:
        support: the stored support set, or None.
        composite: name of the one in the graph.
    """
    arrays = {"composite": np.array(composite)}
    if support is not None:
        arrays.update(images=denormalize(support.images).numpy(), class_names=np.array(support.class_names))
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


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
    """

    def __init__(self, model: ExportedModel):
        self.model = model
        self.image_size = int(model.inputs(_SIGNATURES[1])["query_images"].shape[1])
        arrays = _arrays(model.path / SHOWN)
        self.method_name = str(arrays["composite"])
        self.support = None
        if "images" in arrays:
            self.support = SupportSet(tuple(arrays["class_names"].tolist()), normalize(arrays["images"]).numpy())

    def explain(
        self, support: SupportSet, image: np.ndarray, target: str | None = None, image_name: str = ""
    ) -> EpisodeExplanation:
        """See `explain_image`.

        Raises:
            ExplainError: no such class.
            ExportError: the graph refuses the support set.
        """
        shown, picture = denormalize(support.images).numpy(), denormalize(image).numpy()
        episode = {
            "support_images": shown.reshape(-1, *shown.shape[2:]).astype(np.float32),
            "support_labels": np.repeat(np.arange(support.ways), support.shots),
        }
        query = picture[None].astype(np.float32)
        probabilities = self.model.ask(_SIGNATURES[0], {**episode, "query_images": query})["probabilities"][0]
        explained = classes_to_explain(probabilities, support.class_names, target)
        answer = self.model.ask(
            _SIGNATURES[1], {**episode, "query_images": np.repeat(query, len(explained), axis=0), "targets": explained}
        )
        return EpisodeExplanation(
            query_image=picture,
            class_names=support.class_names,
            probabilities=probabilities,
            explained=explained,
            query_relevance=answer["relevance"],
            support_images=shown,
            support_relevance=answer["support_relevance"].reshape(len(explained), *shown.shape[:-1]),
            image_name=image_name,
            run_name=self.model.path.resolve().parent.name,
            method_name=self.method_name,
        )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise ExportError(f"the model must come with {SHOWN} to be explained here. Received: no {path}") from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ExportError(f"{path} must be an .npz file of `egt-tf export`. Received: {error}") from error
    if "composite" not in arrays or ("images" in arrays) != ("class_names" in arrays):
        raise ExportError(f"{path} must hold composite, images and class_names. Received: {', '.join(arrays)}")
    return arrays
