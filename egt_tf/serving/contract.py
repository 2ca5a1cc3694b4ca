"""What who writes an exported model and who reads it agree on: its files, and the words of a refusal.

`NAME/VERSION/` is a SavedModel with a card, the names of the classes and what an explanation shows beside it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from egt_tf.errors import ExportError

GRAPH_FILE = "saved_model.pb"
MODEL_CARD = "README.md"
CLASS_NAMES = "class_names.txt"
# Not for a server: the stored support set as pictures, since the model itself holds its features only.
SHOWN = "assets.extra/shown.npz"
# TensorFlow Serving looks for them there.
WARM_UP = "assets.extra/tf_serving_warmup_requests"
# The model as a LiteRT file, its classes, and what an application must know of it.
LITE, LITE_LABELS, LITE_FACTS = "model.tflite", "labels.txt", "model.json"
# `NAME_floats` takes decoded images where NAME takes the bytes of files.
FLOATS = "_floats"


def versions(name_folder: Path) -> list[int]:
    """The versions in a model's folder, in order; none if there is no such folder."""
    if not name_folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in name_folder.iterdir() if entry.name.isdecimal() and entry.is_dir())


def version_folder(path: str | os.PathLike[str]) -> Path:
    """The folder of a version.

    Args:
        path: such a folder, or one whose sub-folders are versions; then the newest.

    Raises:
        ExportError: neither.
    """
    path = Path(path)
    if (path / GRAPH_FILE).is_file():
        return path
    found = versions(path)
    if found and (path / str(found[-1]) / GRAPH_FILE).is_file():
        return path / str(found[-1])
    received = "no such folder" if not path.exists() else f"no {GRAPH_FILE} in it or in a numbered folder of it"
    raise ExportError(f"{path} must be an exported model, NAME or NAME/VERSION. Received: {received}")


def refusal(text: str) -> str:
    """The part of TensorFlow's message that says what is wrong with a request.

    Args:
        text: the message of an error, or that of a server, with the nodes and stack traces it may hold.

    Returns:
        One line; of a check of this package's graphs only the check's own words.
    """
    found = re.search(r"assertion failed: (.*)", text)
    if found:
        # Every part of a message of ours is in brackets of its own; a server may put the node's name behind them.
        words = re.sub(r"\s*\[\[\{\{node .*$", "", found.group(1))
        return words.replace("] [", " ").removeprefix("[").removesuffix("]").strip()
    return re.sub(r"^.*Invalid", "Invalid", first_line(re.sub(r"(?s)^.*<stack traces unavailable>", "", text)))


def first_line(text: str) -> str:
    """The first line that is not empty."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
