"""What a command is given must be there: found out before TensorFlow, which takes seconds, is imported for it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from egt_tf.config import RunConfig
from egt_tf.errors import DataError, RunError
from egt_tf.runs import RunFolder
from egt_tf.serving.contract import GRAPH_FILE, version_folder, versions


def check_images(images: Iterable[Path]) -> None:
    """Checks that image files can be opened, not that they are images.

    Raises:
        DataError: one cannot.
    """
    for image in images:
        try:
            image.open("rb").close()
        except OSError as error:
            raise DataError(f"cannot read image {image}: {error.strerror or error}") from error


def check_inputs(run: Path | None = None, model: Path | None = None, support: Path | None = None) -> None:
    """Checks the folders that are not None: of a run, of an exported model, of images with a sub-folder a class.

    Raises:
        RunError, ConfigError: no run folder, or a damaged configuration.
        ExportError: no exported model.
        DataError: no folder of images.
    """
    if run is not None:
        RunFolder(run).config()
    if model is not None:
        version_folder(model)
    if support is not None:
        check_source(f"folder:{support}")


def check_training(config: RunConfig) -> None:
    """Checks that the files that a training reads are there.

    Raises:
        DataError, RunError: some are not.
    """
    for each in (*config.data.train_sources, *config.data.validation_sources):
        check_source(each.source)
    if config.student.teacher is not None:
        RunFolder(Path(config.student.teacher)).config()
    origin = config.training.warm_start
    if origin is not None and not Path(origin).exists():
        raise RunError(f"the weight file {origin} must exist. Received: no such file")


def check_source(specification: str) -> None:
    """Checks that the folder or the file list of a data source is there; other sources are not looked at.

    Raises:
        DataError: it is not.
    """
    from egt_tf.data.sources import check_present

    check_present(specification)


def is_exported(path: Path) -> bool:
    """Whether a folder is an exported model or a version of one, and no run."""
    return not (path / "config.yaml").is_file() and bool((path / GRAPH_FILE).is_file() or versions(path))
