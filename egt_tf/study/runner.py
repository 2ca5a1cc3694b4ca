"""Runs the cells of a study, several side by side, each in a process of its own, and collects what they measured."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from egt_tf.errors import RunError
from egt_tf.files import write_text
from egt_tf.study.folders import StudyFolders
from egt_tf.study.plan import Cell, Study
from egt_tf.study.results import CellName, CellResult, cell_from_dict

_POLL_SECONDS = 0.2
_STOP_SECONDS = 20.0
# One thread a process where several run side by side: they would take the cores from each other.
_ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}


@dataclasses.dataclass(frozen=True)
class StudyProgress:
    """How far a study is.

    Attributes:
        name: of the cell that has just ended.
        reason: why it failed, or None.
        done, total: cells that have ended, of all.
        seconds: that the cell took.
        seconds_left: until all are done, if the others take as long as those of this call did.
    """

    name: CellName
    reason: str | None
    done: int
    total: int
    seconds: float
    seconds_left: float


def finished_cells(study: Study, folders: StudyFolders) -> list[CellResult]:
    """The results there are, in the order of the plan.

    Raises:
        RunError: a file is damaged, or is the result of other settings than the plan's.
    """
    found = (_read_result(study, cell, folders.result_file(cell.name)) for cell in study.cells)
    return [result for result in found if result is not None]


def run_study(
    study: Study,
    plan_file: Path,
    root: str | None,
    folders: StudyFolders,
    jobs: int,
    progress: Callable[[StudyProgress], None],
) -> Mapping[CellName, str]:
    """Runs all cells that have no result yet.

    The first cell of each setting runs by itself, since it computes the maps that the others find.

    Args:
        study: the plan.
        plan_file: its file, which the processes read.
        root: the folder of the data.
        folders: where results and runs are kept.
        jobs: processes side by side, >= 1.
        progress: called when a cell has ended.

    Returns:
        Why each failed cell failed; the others were run all the same.

    Raises:
        RunError: the folder holds results of another study, or another process runs a study in it.
        ConfigError: the folder of the data is needed and not given.
    """
    for cell in study.cells:
        cell.config(root)
    with _alone(folders.work):
        done = {result.name for result in finished_cells(study, folders)}
        waiting = [cell for cell in study.cells if cell.name not in done]
        pool = _Pool(study, plan_file, root, folders, jobs, len(done), progress)
        return pool.run(waiting)


def _read_result(study: Study, cell: Cell, file: Path) -> CellResult | None:
    if not file.is_file():
        return None
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        asked = {key: document.get(key) for key in study.asked_of(cell)}
        result = cell_from_dict(document["result"], str(file))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{file} must be the result of a cell. Received: {error}; remove it to run it again") from error
    if asked != study.asked_of(cell) or result.name != cell.name:
        raise RunError(
            f"the results in a folder must be those of its study. Received: {file} of other settings than "
            f"{study.name} has now; name another folder with --out"
        )
    return result


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Within the block no other process runs a study in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"a study must have its folder to itself. Received: {folder}, where one is running") from None
        yield


@dataclasses.dataclass
class _Job:
    cell: Cell
    process: subprocess.Popen
    began: float


class _Pool:
    """Cells that wait, and those that run."""

    def __init__(
        self,
        study: Study,
        plan_file: Path,
        root: str | None,
        folders: StudyFolders,
        jobs: int,
        finished: int,
        progress: Callable[[StudyProgress], None],
    ):
        self.study, self.plan_file, self.root, self.folders = study, plan_file, root, folders
        self.jobs, self.finished, self.progress = jobs, finished, progress
        self.running: list[_Job] = []
        self.seconds: list[float] = []
        self.failures: dict[CellName, str] = {}

    def run(self, waiting: Sequence[Cell]) -> Mapping[CellName, str]:
        """Runs the cells in their order; stops those that run if it is interrupted."""
        queue, seen = list(waiting), set()
        try:
            while queue or self.running:
                is_first = bool(queue) and queue[0].name.setting not in seen
                if queue and len(self.running) < (1 if is_first else self.jobs):
                    seen.add(queue[0].name.setting)
                    self.running.append(self._start(queue.pop(0)))
                    # The maps are there when the first cell of a setting is done, or has failed.
                    if is_first:
                        self._wait(len(queue), until_all=True)
                else:
                    self._wait(len(queue))
        finally:
            self._stop()
        return self.failures

    def _start(self, cell: Cell) -> _Job:
        log = self.folders.log_file(cell.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "egt_tf.study.worker", str(self.plan_file), cell.name.path]
        command += [str(self.folders.out), str(self.folders.work)]
        threads = _ONE_THREAD if self.jobs > 1 else {}
        environment = {**threads, "TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with open(log, "ab") as output:
            process = subprocess.Popen(
                [*command, *([] if self.root is None else [self.root])],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                # Ctrl-C of a terminal would reach it too; it is stopped by `_stop`.
                start_new_session=True,
            )
        return _Job(cell, process, time.monotonic())

    def _wait(self, waiting: int, until_all: bool = False) -> None:
        """Until a process ends, or all do."""
        while self.running:
            ended = [job for job in self.running if job.process.poll() is not None]
            for job in ended:
                self.running.remove(job)
                self._end(job, waiting)
            if ended and not (until_all and self.running):
                return
            time.sleep(_POLL_SECONDS)

    def _end(self, job: _Job, waiting: int) -> None:
        name, seconds = job.cell.name, time.monotonic() - job.began
        if job.process.returncode or not self.folders.result_file(name).is_file():
            self.failures[name] = _reason(self.folders.log_file(name), job.process.returncode)
        else:
            self.seconds.append(seconds)
        self.finished += 1
        each = sum(self.seconds) / len(self.seconds) if self.seconds else seconds
        left = each * (waiting + len(self.running)) / self.jobs
        total = self.finished + waiting + len(self.running)
        self.progress(StudyProgress(name, self.failures.get(name), self.finished, total, seconds, left))

    def _stop(self) -> None:
        for job in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.process.pid, signal.SIGTERM)
        for job in self.running:
            try:
                job.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(job.process.pid, signal.SIGKILL)
                job.process.wait()


def _reason(log: Path, code: int) -> str:
    """The last line that a process printed."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    last = lines[-1] if lines else "it printed nothing"
    return last if code > 0 else f"it was killed by signal {-code} ({last})" if code < 0 else f"it left no result ({last})"


def copy_plan(plan_file: Path, folders: StudyFolders) -> Path:
    """Keeps the plan beside its results, where the processes of its cells read it: the original may be edited."""
    kept = folders.out / "study.yaml"
    write_text(kept, plan_file.read_text(encoding="utf-8"))
    return kept
