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
    """

    out: Path
    work: Path

    def result_file(self, name: CellName) -> Path:
        """What a finished cell measured."""
        return self.out / "cells" / f"{name.path}.json"

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
