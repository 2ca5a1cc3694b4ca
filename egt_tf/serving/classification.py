"""Image files classified by an exported model, and the table of the answers."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from egt_tf.data.images import as_jpeg_or_png
from egt_tf.data.support import SupportSet
from egt_tf.errors import ExportError
from egt_tf.explain.explainer import Explainer
from egt_tf.files import atomic_write
from egt_tf.serving.exported_model import ExportedModel
from egt_tf.ties import tie_text, tied_classes

# What stands in place of a class.
NONE_OF_THESE = "none of these"
TIE = "tie"


@dataclass(frozen=True)
class Classification:
    """What a model says of one image file.

    Attributes:
        image: the file.
        class_name: the most probable class.
        probability: of that class, in [0, 1].
        known: whether the image shows one of the classes; None if the model cannot tell.
        tie: what `egt_tf.ties.tie_text` says if other classes are as probable, of which `class_name` is the first;
            None: there is no tie.

    Example:
        >>> Classification(Path("a.jpg"), "bee", 0.9, known=False).answer
        'none of these'
    """

    image: Path
    class_name: str
    probability: float
    known: bool | None = None
    tie: str | None = None

    @property
    def answer(self) -> str:
        """The class, or that it is none of them, or that several are equally probable."""
        if self.tie is not None:
            return TIE
        return NONE_OF_THESE if self.known is False else self.class_name


def classify_file(model: ExportedModel, image: str | os.PathLike[str]) -> Classification:
    """Asks a model about one file of any format that is read here.

    Args:
        model: with classes to choose from, see `ExportedModel.check_classifier`.
        image: the file.

    Raises:
        DataError: it is no image.
        ExportError: the model refuses it.
        NotFiniteError: the model's answer is no number.
        OSError: it cannot be read.
    """
    path = Path(image)
    file = as_jpeg_or_png(path.read_bytes(), str(path))
    try:
        answer = model.ask("serving_default", {"images": [file]})
    except ExportError as error:
        raise ExportError(f"{path}: {error}") from error
    known = bool(answer["known"][0]) if "known" in answer else None
    probabilities = answer["probabilities"][0]
    # A model that was not exported by this package may not say its classes.
    names = (
        answer["class_names"][0]
        if "class_names" in answer
        else [str(index).encode() for index in range(len(probabilities))]
    )
    tie = _tie(probabilities, [name.decode() for name in names])
    return Classification(path, answer["top_class"][0].decode(), float(probabilities.max()), known, tie)


def classify_by_support(explainer: Explainer, support: SupportSet, image: str | os.PathLike[str]) -> Classification:
    """Asks a run or an exported model about one file, with a support set that need not be its stored one.

    Args:
        explainer: a run or an exported model.
        support: the classes.
        image: the file.

    Raises:
        DataError: it cannot be read, or is no image.
        ExportError: the model refuses the support set.
    """
    probabilities = explainer.probabilities(image, support)
    best = int(np.argmax(probabilities))
    tie = _tie(probabilities, support.class_names)
    return Classification(Path(image), support.class_names[best], float(probabilities[best]), None, tie)


def _tie(probabilities: np.ndarray, class_names: Sequence[str]) -> str | None:
    tied = tied_classes(probabilities)
    return tie_text([class_names[index] for index in tied], len(class_names)) if len(tied) > 1 else None


def write_csv(answers: Sequence[Classification], path: str | os.PathLike[str]) -> None:
    """Writes a table, whole or not at all: image, class, nearest, probability.

    The class is "none of these" for an unknown one and "tie" where several are equally probable.

    Args:
        answers: a row each.
        path: of the file.

    Raises:
        OSError: it cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.csv")
        >>> write_csv([Classification(Path("a.jpg"), "bee", 0.75)], path)
        >>> path.read_text().splitlines()
        ['image,class,nearest_class,probability', 'a.jpg,bee,bee,0.7500']
    """
    with atomic_write(path, "w") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["image", "class", "nearest_class", "probability"])
        rows.writerows([each.image, each.answer, each.class_name, f"{each.probability:.4f}"] for each in answers)
