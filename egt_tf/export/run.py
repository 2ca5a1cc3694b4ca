"""Exports a run: the model, its card and its warm-up requests as one version."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from egt_tf.data.support import SupportSet, load_support
from egt_tf.errors import ExportError
from egt_tf.export.calibration import Calibration
from egt_tf.export.limits import RequestLimits
from egt_tf.export.model_card import MODEL_CARD, Origin, model_card
from egt_tf.export.saved_model import Served, served, served_portably, write_version
from egt_tf.export.warm_up import WARM_UP, available, warm_up_records
from egt_tf.runs import RunFolder
from egt_tf.serving.explainer import SHOWN, shown_file


@dataclasses.dataclass(frozen=True, eq=False)
class RunExport:
    """A run on its way to a SavedModel.

    Attributes:
        run: where it was trained.
        ready: its model with signatures.
        support: the stored support set, or None.
        support_name: what it is called in the card, or None.
    """

    run: RunFolder
    ready: Served
    support: SupportSet | None
    support_name: str | None

    def write(self, name_folder: Path, version: int | None = None, calibration: Calibration | None = None) -> Path:
        """Writes the version with its card, and with warm-up requests where tensorflow-serving-api is installed.

        Args:
            name_folder: see `write_version`; its name is the model's.
            version: see `write_version`.
            calibration: for the card.

        Returns:
            The version's folder.

        Raises:
            ExportError: see `write_version`.
            RunError: an evaluation of the run is damaged.
        """
        name = name_folder.resolve().name
        origin = Origin(name, self.run, self.support_name, calibration, available())
        files = {
            MODEL_CARD: model_card(self.ready, origin).encode(),
            SHOWN: shown_file(self.support, self.ready.model.composite.name),
        }
        if available():
            files[WARM_UP] = warm_up_records(self.ready, name)
        return write_version(self.ready, name_folder, version, files)


def load_run(
    run: RunFolder,
    support_folder: Path | None = None,
    portable: bool = False,
    image_size: int | None = None,
    limits: RequestLimits = RequestLimits(),
) -> RunExport:
    """Reads a run and makes its signatures.

    Args:
        run: a run folder with weights.
        support_folder: one sub-folder of images a class; None: the run's stored support set, if it has one.
        portable: the one signature for engines beside TensorFlow, in place of all others.
        image_size: what the model must take, in pixels a side; None: whatever it takes.
        limits: how much a request may hold.

    Raises:
        RunError: no run, or no weights.
        DataError: a support image cannot be read.
        ExportError: another image size, or see `served` and `served_portably`.
    """
    config = run.config()
    _check_image_size(config.data.image_size, image_size)
    model = run.load_model()
    name = "of the run" if support_folder is None else f"`{support_folder}`"
    folder = support_folder or (run.support_folder if run.support_folder.is_dir() else None)
    support = None if folder is None else load_support(folder, model.image_size)
    make = served_portably if portable else served
    return RunExport(
        run,
        make(model, support, config.guidance.composite, limits),
        support,
        None if support is None else f"{name}: {_counts(support)}",
    )


def _check_image_size(trained: int, wanted: int | None) -> None:
    if wanted is not None and wanted != trained:
        raise ExportError(
            f"`image_size` must be {trained}, the size that the model was trained at. Received: "
            f"image_size={wanted}; leave it out, since images of any size are resized in the graph, or "
            f"train another model by --set data.image_size={wanted}"
        )


def _counts(support: SupportSet) -> str:
    return f"{support.ways} classes with {support.shots} images each, {', '.join(support.class_names)}"
