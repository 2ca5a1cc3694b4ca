"""Where a study keeps what."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from egt_tf.study.results import CellName


@dataclasses.dataclass(frozen=True)
class StudyFolders:
    """Where a study is kept.

    Attributes:
        out: results and report; small, and all that the study needs to know what is done.
        work: run folders and the maps of frozen backbones; may be removed when the study is done.

    Example:
        >>> str(StudyFolders(Path("out"), Path("work")).result_file(CellName("default", "cosine", 5, "plain", 1)))
        'out/cells/default/cosine/5shot/plain/seed1.json'
    """

    out: Path
    work: Path

    @property
    def plan_file(self) -> Path:
        """A copy of the plan."""
        return self.out / "study.yaml"

    @property
    def results_folder(self) -> Path:
        """The results of all cells."""
        return self.out / "cells"

    def result_file(self, name: CellName) -> Path:
        """What a finished cell measured."""
        return self.results_folder / f"{name.path}.json"

    def run_folder(self, name: CellName) -> Path:
        """The run of a cell."""
        return self.work / "runs" / name.path

    @property
    def maps_folder(self) -> Path:
        """What frozen backbones make of the images, shared by all cells."""
        return self.work / "maps"

    def log_file(self, name: CellName) -> Path:
        """What a cell's process printed."""
        return self.work / "logs" / f"{name.path}.txt"
