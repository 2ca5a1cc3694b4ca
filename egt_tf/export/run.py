"""Exports a run: the model, its card and its warm-up requests as one version."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from egt_tf.backbones.batch_noise import Noise, noise_layers, set_noise, with_fixed_noise
from egt_tf.config import EpisodeConfig
from egt_tf.data.image_set import OnProgress
from egt_tf.data.sources import open_source
from egt_tf.data.support import SupportSet, load_support
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ExportError
from egt_tf.export.calibration import Calibration, calibrate
from egt_tf.export.lite import lite_files
from egt_tf.export.model_card import ModelSource, model_card
from egt_tf.export.requests import RequestLimits
from egt_tf.export.saved_model import ServableModel, make_portable, make_servable, write_version
from egt_tf.export.warm_up import available, warm_up_records
from egt_tf.runs import RunFolder
from egt_tf.serving.contract import MODEL_CARD, SHOWN, WARM_UP
from egt_tf.serving.explainer import shown_file

# Queries a class, of the episodes that the cost of answering one by one is measured on.
_QUERIES = 5


@dataclasses.dataclass(frozen=True, eq=False)
class RunExport:
    """A run on its way to a SavedModel; `prepare_export` makes it.

    Attributes:
        run: where it was trained.
        ready: its model with signatures.
        support: the stored support set, or None.
        support_name: what it is called in the card, or None.

    Example:
        >>> from egt_tf.episodic_model import EpisodicModel
        >>> ready = make_servable(EpisodicModel.build_from("conv4", "cosine", image_size=16, seed=1), None)
        >>> "embed" in RunExport(RunFolder(Path("runs/first")), ready, None, None).ready.signatures
        True
    """

    run: RunFolder
    ready: ServableModel
    support: SupportSet | None
    support_name: str | None

    def calibrate(self, source: str, episodes: int = 100, progress: OnProgress | None = None) -> Calibration:
        """Measures what answering queries one by one costs, on episodes shaped as those of the training.

        Args:
            source: of images; its novel classes are taken.
            episodes: how many, >= 1.
            progress: called with (episodes done, episodes).

        Raises:
            DataError: too few classes or images, or an image that cannot be read.
        """
        trained = self.run.config().episode
        shape = EpisodeConfig(trained.ways, trained.shots, _QUERIES)
        images = open_source(source).split("novel")
        return calibrate(self.ready.model, images, shape, episodes, 0, source, "novel", progress)

    def write(
        self, name_folder: Path, version: int | None = None, calibration: Calibration | None = None, lite: bool = False
    ) -> Path:
        """Writes the version with its card, and with warm-up requests where tensorflow-serving-api is installed.

        Args:
            name_folder: see `write_version`; its name is the model's.
            version: see `write_version`.
            calibration: for the card.
            lite: whether to write a LiteRT file beside it, see `lite_files`.

        Returns:
            The version's folder.

        Raises:
            ExportError: see `write_version` and `lite_files`.
            RunError: an evaluation of the run is damaged.
        """
        name = name_folder.resolve().name
        source = ModelSource(name, self.run, self.support_name, calibration, available())
        files = {
            MODEL_CARD: model_card(self.ready, source).encode("utf-8", "backslashreplace"),
            SHOWN: shown_file(self.support, self.ready.model.composite.name),
        }
        if lite:
            files.update(lite_files(self.ready))
        if available():
            files[WARM_UP] = warm_up_records(self.ready, name)
        return write_version(self.ready, name_folder, version, files)


def export_model(
    run: RunFolder | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    version: int | None = None,
    support: str | os.PathLike[str] | None = None,
    portable: bool = False,
    image_size: int | None = None,
    limits: RequestLimits = RequestLimits(),
    lite: bool = False,
    sample_noise: bool = False,
) -> Path:
    """Writes a run as a SavedModel that TensorFlow Serving serves, as `egt-tf export` does.

    Args:
        run: a run folder with weights.
        folder: the model's folder, which holds its versions; its name is the model's.
        version: >= 1; None: the next free one.
        support: see `prepare_export`.
        portable: see `prepare_export`.
        image_size: see `prepare_export`.
        limits: see `prepare_export`.
        lite: see `RunExport.write`.
        sample_noise: see `prepare_export`.

    Returns:
        The version's folder, FOLDER/VERSION.

    Raises:
        RunError, DataError, ExportError: see `prepare_export` and `RunExport.write`.
        OSError: it cannot be written.

    Example:
        >>> export_model("no/such/run", "saved_models/first")
        Traceback (most recent call last):
        egt_tf.errors.RunError: the run folder no/such/run must exist. Received: no such folder
    """
    run = run if isinstance(run, RunFolder) else RunFolder(Path(run))
    prepared = prepare_export(run, support, portable, image_size, limits, sample_noise)
    return prepared.write(Path(folder), version, lite=lite)


def prepare_export(
    run: RunFolder,
    support: str | os.PathLike[str] | None = None,
    portable: bool = False,
    image_size: int | None = None,
    limits: RequestLimits = RequestLimits(),
    sample_noise: bool = False,
) -> RunExport:
    """Reads a run and makes its signatures.

    Args:
        run: a run folder with weights.
        support: one sub-folder of images a class; None: the run's stored support set, if it has one.
        portable: the one signature for engines beside TensorFlow, in place of all others.
        image_size: what the model must take, in pixels a side; None: whatever it takes.
        limits: how much a request may hold.
        sample_noise: of a stochastic backbone: draw its noise anew for every image of every request; else it is a
            constant, and equal requests get equal answers. The stored support set is embedded once in either case.

    Raises:
        RunError: no run, or no weights.
        DataError: a support image cannot be read.
        ExportError: another image size, noise to sample where there is none or in a portable model, or see
            `make_servable` and `make_portable`.

    Example:
        >>> prepare_export(RunFolder(Path("no/such/run")))
        Traceback (most recent call last):
        egt_tf.errors.RunError: the run folder no/such/run must exist. Received: no such folder
    """
    config = run.config()
    _check_image_size(config.data.image_size, image_size)
    model = run.load_model()
    _check_sampling(sample_noise, bool(noise_layers(model.backbone)), portable)
    if not sample_noise and noise_layers(model.backbone):
        model = EpisodicModel(with_fixed_noise(model.backbone), model.head, name=model.name)
    name = "of the run" if support is None else f"`{support}`"
    folder = support or (run.support_folder if run.support_folder.is_dir() else None)
    stored = None if folder is None else load_support(folder, model.image_size)
    if stored is not None:
        name += f": {stored.ways} classes with {stored.shots} images each, {', '.join(stored.class_names)}"
    make = make_portable if portable else make_servable
    ready = make(model, stored, config.guidance.composite, limits)
    if sample_noise:
        # Behind the support set, whose features are kept.
        set_noise(ready.model.model.backbone, Noise.FRESH)
    return RunExport(run, ready, stored, None if stored is None else name)


def _check_sampling(sample_noise: bool, has_noise: bool, portable: bool) -> None:
    if sample_noise and not has_noise:
        raise ExportError(
            "`sample_noise` is for a backbone with noise. Received: a run without; egt-tf harden makes one that has it"
        )
    if sample_noise and portable:
        raise ExportError(
            "`sample_noise` takes random numbers, which engines beside TensorFlow do not have. Received: portable=True"
        )


def _check_image_size(trained: int, wanted: int | None) -> None:
    if wanted is not None and wanted != trained:
        raise ExportError(
            f"`image_size` must be {trained}, the size that the model was trained at. Received: "
            f"image_size={wanted}; leave it out, since images of any size are resized in the graph, or "
            f"train another model by --set data.image_size={wanted}"
        )
