"""Run folders: everything that a training leaves behind.

```
RUN/config.yaml        the resolved configuration
RUN/environment.json   versions, platform, command; of a converted run also the checkpoint
RUN/metrics.jsonl      one line an epoch
RUN/tensorboard/       the same for TensorBoard
RUN/figures/           explanations of the same validation queries every few epochs
RUN/best.npz           weights with the best validation accuracy
RUN/checkpoints/       the newest states of the training, by their steps, which it resumes from
RUN/backbone.npz       the same of a pre-trained backbone, which is no few-shot model yet
RUN/support/CLASS/     stored support set that `explain` uses by default
RUN/queries/           images of the same classes, to try it with
RUN/evaluations/       results of `evaluate`
RUN/attacks/           results of `evaluate --attack`
RUN/explanations/      results of `evaluate-explanations`
RUN/report.html        the page of `report`
```
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from egt_tf.config import RunConfig, config_to_yaml, load_config
from egt_tf.errors import EgtError, RunError
from egt_tf.files import write_text

if TYPE_CHECKING:
    from egt_tf.episodic_model import EpisodicModel


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The files of one run. Making the object touches no file.

    Attributes:
        path: the folder.

    Example:
        >>> RunFolder(Path("runs/demo")).best_file.as_posix()
        'runs/demo/best.npz'
    """

    path: Path

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def environment_file(self) -> Path:
        """Versions, platform, command, and where a converted run comes from."""
        return self.path / "environment.json"

    @property
    def metrics_file(self) -> Path:
        """One JSON object an epoch."""
        return self.path / "metrics.jsonl"

    @property
    def best_file(self) -> Path:
        """Weights of the epoch with the best validation accuracy."""
        return self.path / "best.npz"

    @property
    def checkpoints_folder(self) -> Path:
        """The newest training states, one file each."""
        return self.path / "checkpoints"

    @property
    def backbone_file(self) -> Path:
        """Weights of the best epoch of a pre-training, in the place of `best_file`."""
        return self.path / "backbone.npz"

    @property
    def warm_start_file(self) -> Path:
        """Whose backbone a training can start from."""
        return self.backbone_file if self.backbone_file.is_file() else self.best_file

    @property
    def last_file(self) -> Path:
        """Training state after the last epoch of a run that is older than `checkpoints_folder`."""
        return self.path / "last.npz"

    @property
    def support_folder(self) -> Path:
        """One sub-folder of images a class."""
        return self.path / "support"

    @property
    def queries_folder(self) -> Path:
        """Images of the support set's classes that are not in it."""
        return self.path / "queries"

    @property
    def tensorboard_folder(self) -> Path:
        """What `metrics_file` says, for TensorBoard."""
        return self.path / "tensorboard"

    @property
    def figures_folder(self) -> Path:
        """Pictures of explanations, see `figure_file`."""
        return self.path / "figures"

    def figure_file(self, epoch: int) -> Path:
        """The picture of explanations after an epoch, numbered from 1 on."""
        return self.figures_folder / f"epoch-{epoch:03d}.png"

    def evaluation_file(self, name: str) -> Path:
        """The JSON file of the evaluation called `name`."""
        return self.path / "evaluations" / f"{name}.json"

    def evaluation_files(self) -> list[Path]:
        """The evaluations there are, by name; `egt_tf.run_table.read_evaluation` reads one."""
        return sorted(self.evaluation_file("any").parent.glob("*.json"))

    def attack_file(self, name: str) -> Path:
        """The JSON file of the evaluation under attack called `name`."""
        return self.path / "attacks" / f"{name}.json"

    def check_new(self) -> None:
        """Checks that a new run can be put here.

        Raises:
            RunError: the folder already holds a run, or the path is no folder.
        """
        if self.config_file.exists():
            raise RunError(
                f"the run folder {self.path} already holds a run; go on with it by --resume, or name another folder"
            )
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"the run folder {self.path} must be a folder. Received: a file; name another folder")

    def entries(self) -> frozenset[str] | None:
        """The names of what the folder holds now, or None if there is no folder; for `remove_new`."""
        return frozenset(os.listdir(self.path)) if self.path.is_dir() else None

    def remove_new(self, before: frozenset[str] | None) -> None:
        """Removes what the folder holds beside the entries of `before`, and the folder itself if there was none."""
        for name in (self.entries() or frozenset()) - (before or frozenset()):
            entry = self.path / name
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        if before is None:
            with contextlib.suppress(OSError):
                self.path.rmdir()

    @contextlib.contextmanager
    def removed_on_error(self) -> Iterator[None]:
        """Within the block a new run is written; if the block raises, what it added to the folder is removed."""
        before = self.entries()
        try:
            yield
        except BaseException:
            self.remove_new(before)
            raise

    def create(self, config: RunConfig) -> None:
        """Writes the configuration, which makes the folder a run folder.

        Raises:
            RunError: see `check_new`.
            OSError: it cannot be written.
        """
        self.check_new()
        write_text(self.config_file, config_to_yaml(config))

    def replace_config(self, config: RunConfig) -> None:
        """Writes another configuration in place of the run's, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        write_text(self.config_file, config_to_yaml(config))

    def config(self) -> RunConfig:
        """The run's configuration.

        Raises:
            RunError: the folder is missing or no run folder.
            ConfigError: its configuration is damaged.
        """
        if not self.path.is_dir():
            raise RunError(f"the run folder {self.path} must exist. Received: no such folder")
        if not self.config_file.is_file():
            raise RunError(
                f"{self.path} must be a run folder as `egt-tf train` writes it. Received: no config.yaml in it"
            )
        return load_config(self.config_file)

    def load_model(self) -> EpisodicModel:
        """The run's model with its best weights.

        Raises:
            RunError: there are no weights yet, or they are damaged or of another architecture.
        """
        # Here, so that what only reads the other files of a run does without TensorFlow, which takes seconds to import.
        from egt_tf.backbones.base import without_pretrained
        from egt_tf.episodic_model import EpisodicModel
        from egt_tf.weights import assign_weights, load_arrays

        config = self.config()
        if self.backbone_file.is_file():
            raise RunError(
                f"the run {self.path} must hold a few-shot classifier. Received: a pre-trained backbone; "
                f"train one from it with `egt-tf train --config NAME --warm-start {self.path}`"
            )
        if not self.best_file.is_file():
            raise RunError(
                f"the run {self.path} must have finished an epoch. Received: no best.npz in it; go on with "
                f"`egt-tf train --run {self.path} --resume`"
            )
        # All weights are in the file, those of a published embedding too.
        backbone = without_pretrained(config.model.backbone)
        model = EpisodicModel.build_from(backbone, config.model.head, config.data.image_size)
        assign_weights(model, load_arrays(self.best_file), str(self.best_file))
        return model

    def is_finished(self) -> bool:
        """Whether its training, or its pre-training, did all of its epochs; a converted run had none to do.

        Raises:
            RunError, ConfigError: its files are damaged.
        """
        config = self.config()
        planned = config.pretrain.epochs if self.backbone_file.is_file() else config.training.epochs
        return not self.metrics_file.is_file() or len(self.metrics()) >= planned

    def metrics(self) -> list[dict[str, Any]]:
        """What each finished epoch measured; empty before the first one.

        Raises:
            RunError: the file is damaged.
        """
        if not self.metrics_file.is_file():
            return []
        try:
            return [json.loads(line) for line in self.metrics_file.read_text(encoding="utf-8").splitlines()]
        except ValueError as error:
            raise RunError(f"{self.metrics_file} must hold one JSON object a line. Received: {error}") from error


def load_model(path: str | os.PathLike[str]) -> EpisodicModel:
    """The model of a run folder with its best weights.

    Args:
        path: as `egt-tf train --run` was given it.

    Raises:
        RunError: see `RunFolder.load_model`.

    Example:
        >>> load_model("no/such/run")
        Traceback (most recent call last):
        egt_tf.errors.RunError: the run folder no/such/run must exist. Received: no such folder
    """
    return RunFolder(Path(path)).load_model()


def has_run(root: str | os.PathLike) -> bool:
    """Whether `newest_run` finds one.

    Example:
        >>> has_run("no such folder")
        False
    """
    return bool(_best_weights(root))


def newest_run(root: str | os.PathLike) -> RunFolder:
    """The finished run below `root` whose weights were written last; if none is finished, the run of which that is true.

    Raises:
        RunError: there is none; the message says what to type.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for time, name in enumerate(("older", "newer")):
        ...         write_text(Path(folder) / name / "best.npz", "in truth an archive of arrays")
        ...         os.utime(Path(folder) / name / "best.npz", (time, time))
        ...     newest_run(folder).path.name
        'newer'
    """
    files = _best_weights(root)
    if not files:
        raise RunError(
            f"no trained run was found in {root}/; train one first: egt-tf train --config demo --run "
            f"{root}/demo (or name one with --run)"
        )
    runs = [RunFolder(file.parent) for _, file in sorted(files, reverse=True)]
    return next(filter(_seems_finished, runs), runs[0])


def _seems_finished(run: RunFolder) -> bool:
    # A damaged one is not passed over in silence: who uses it is told what is wrong.
    try:
        return run.is_finished()
    except EgtError:
        return True


def _best_weights(root: str | os.PathLike) -> list[tuple[float, Path]]:
    """The best weights of every run below `root`, each with the time they were written at."""
    return [(file.stat().st_mtime, file) for file in Path(root).glob("*/best.npz")]
