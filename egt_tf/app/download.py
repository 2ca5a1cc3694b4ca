"""A classifier as one file to download."""

from __future__ import annotations

import re
import tempfile
import zipfile
from pathlib import Path

from egt_tf.errors import DataError, ExportError
from egt_tf.files import atomic_write
from egt_tf.learning import FewShotClassifier
from egt_tf.serving.contract import LITE, LITE_FACTS, LITE_LABELS

FORMS = ("saved_model", "lite")
# What every file system takes.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


def write_zip(classifier: FewShotClassifier, folder: Path, name: str, form: str, photos: bool = True) -> Path:
    """Writes `folder/name.zip`, or `folder/name-lite.zip`, whole or not at all.

    Args:
        classifier: fitted.
        folder: where to.
        name: of the model; also the folder in the zip file of a SavedModel, which holds version 1.
        form: one of `FORMS`.
        photos: whether the photos are in a SavedModel.

    Returns:
        The file.

    Raises:
        DataError: `name` is not made of letters, digits, - and _.
        ExportError: no such form, or the network cannot be a LiteRT file.
        OSError: it cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise DataError(f"the name of a model must be 1 to 40 of a-z, A-Z, 0-9, - and _. Received: {name!r}")
    if form not in FORMS:
        raise ExportError(f"`form` must be one of {', '.join(FORMS)}. Received: {form!r}")
    is_lite = form == "lite"
    with tempfile.TemporaryDirectory(prefix="egt-tf-") as place:
        version = classifier.save(Path(place) / name, photos=photos and not is_lite, lite=is_lite)
        files = [version / each for each in (LITE, LITE_LABELS, LITE_FACTS)] if is_lite else _all_files(version)
        base = version if is_lite else Path(place)
        path = folder / f"{name}-lite.zip" if is_lite else folder / f"{name}.zip"
        with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for each in files:
                archive.write(each, each.relative_to(base))
    return path


def _all_files(folder: Path) -> list[Path]:
    return sorted(each for each in folder.rglob("*") if each.is_file())
