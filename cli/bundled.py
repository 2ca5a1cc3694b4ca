"""The bundled model, which comes with the package, and an image to try it with."""

from __future__ import annotations

import contextlib
from importlib import resources
from pathlib import Path

from egt_tf.errors import ExportError

_PACKAGE = "egt_tf_models"


def bundled_model() -> Path:
    """The folder of the model's version.

    Raises:
        ExportError: it was not installed with the package.
    """
    return _bundled("shapes/1")


def bundled_sample() -> Path:
    """A PNG file of one of the model's classes.

    Raises:
        ExportError: see `bundled_model`.
    """
    return sorted(_bundled("samples").glob("*.png"))[0]


def sample_photos() -> tuple[Path, tuple[Path, ...]]:
    """A folder of photos with one sub-folder a class, and other photos to classify.

    Raises:
        ExportError: see `bundled_model`.
    """
    return _bundled("samples/photos"), tuple(sorted(_bundled("samples/photo-queries").glob("*.jpg")))


def describe_bundled(model: Path, why: str = "") -> str:
    """What a command says it uses.

    Args:
        model: of `bundled_model`.
        why: why it is used, if the user did not ask for it.
    """
    return f"the model that comes with egt-tf ({model}, trained on drawn shapes{why and f'; {why}'})"


def _bundled(name: str) -> Path:
    path: Path | None = None
    # An editable installation does not learn of packages that were added after it.
    with contextlib.suppress(ModuleNotFoundError):
        path = Path(str(resources.files(_PACKAGE))) / name
    if path is None or not path.is_dir():
        raise ExportError(
            "the model that comes with egt-tf must be installed with it. Received: no "
            f"{_PACKAGE}/{name}; install the package again, or name a model or a run"
        )
    return path
