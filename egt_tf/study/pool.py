"""Runs cells side by side, each in a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from egt_tf.study.folders import StudyFolders
from egt_tf.study.results import CellName
from egt_tf.study.time_left import seconds_left

Command = Callable[[CellName], Sequence[str]]

_POLL_SECONDS = 0.2
_STOP_SECONDS = 20.0
# Processes side by side would take the cores, and the memory of a GPU, from each other.
_SHARING = {
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
}
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}


@dataclasses.dataclass(frozen=True)
class StudyProgress:
    """A cell has ended.

    Attributes:
        name: of the cell.
        reason: why it failed, or None.
        ended, total: cells that have ended, those of earlier calls among them, and all.
        seconds: that the cell took in this call.
        seconds_left: see `egt_tf.study.time_left.seconds_left`.

    Example:
        >>> StudyProgress(CellName("default", "cosine", 5, "plain", 1), None, 1, 85, 90.0, 7560.0).ended
        1
    """

    name: CellName
    reason: str | None
    ended: int
    total: int
    seconds: float
    seconds_left: float | None


@dataclasses.dataclass(frozen=True)
class Watch:
    """What is told of a study that runs.

    Attributes:
        ended: called when a cell has ended.
        running: called several times a second with the cells that run.

    Example:
        >>> lines = []
        >>> watch = Watch(running=lambda names: lines.append(f"{len(names)} run"))
        >>> watch.running([CellName("default", "cosine", 5, "plain", 1)])
        >>> lines
        ['1 run']
    """

    ended: Callable[[StudyProgress], None] = lambda progress: None
    running: Callable[[Sequence[CellName]], None] = lambda names: None


class CellPool:
    """Runs cells, so many side by side.

    A process is given one end of a pipe as its standard input, and is to end when that is closed: it is, by the
    operating system, however this process ends.

    Args:
        folders: where results are looked for and logs are kept.
        jobs: processes side by side, >= 1.
        command: what does a cell. It must leave the cell's result file and exit with 0; the last line that it prints
            is the reason if it does not.
        finished: cells that were done before.
        watch: is told what happens.
    """

    def __init__(self, folders: StudyFolders, jobs: int, command: Command, finished: int, watch: Watch):
        self.folders, self.jobs, self.command, self.watch = folders, jobs, command, watch
        self.ended = finished
        self._took: list[tuple[CellName, float]] = []

    def run(self, names: Sequence[CellName]) -> None:
        """Runs the cells in their order. The first of each setting runs alone: it computes the maps that others find.

        If this is interrupted, the processes are stopped.
        """
        waiting, known = list(names), set[str]()
        running: list[_Job] = []
        try:
            while waiting or running:
                is_first = bool(waiting) and waiting[0].setting not in known
                has_place = not running if is_first else len(running) < self.jobs
                is_alone = len(running) == 1 and running[0].alone
                if waiting and has_place and not is_alone:
                    known.add(waiting[0].setting)
                    running.append(
                        _Job.start(waiting.pop(0), is_first, self.folders, self.command, self._environment())
                    )
                    continue
                time.sleep(_POLL_SECONDS)
                for job in [job for job in running if job.has_ended]:
                    running.remove(job)
                    self._end(job, running, waiting)
                self.watch.running([job.name for job in running])
        finally:
            _stop(running)

    def _environment(self) -> Mapping[str, str]:
        return {**(_SHARING if self.jobs > 1 else {}), **_QUIET, **os.environ}

    def _end(self, job: _Job, running: Sequence[_Job], waiting: Sequence[CellName]) -> None:
        reason, seconds = job.failure(self.folders), job.seconds
        self.ended += 1
        if reason is None:
            self._took.append((job.name, seconds))
        left = seconds_left(self._took, [(other.name, other.seconds) for other in running], waiting, self.jobs)
        total = self.ended + len(running) + len(waiting)
        self.watch.ended(StudyProgress(job.name, reason, self.ended, total, seconds, left))


def last_line(log: Path, offset: int = 0) -> str:
    """The last line of a file that is not empty, or "".

    Args:
        log: the file; it need not exist.
        offset: bytes at its beginning that are left out.

    Example:
        >>> import tempfile
        >>> log = Path(tempfile.mkdtemp()) / "seed1.txt"
        >>> _ = log.write_text("epoch 1\\nepoch 2\\n\\n")
        >>> last_line(log)
        'epoch 2'
    """
    if not log.is_file():
        return ""
    with open(log, "rb") as file:
        # A line is never so long that more is needed.
        file.seek(max(offset, os.fstat(file.fileno()).st_size - 4096))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


@dataclasses.dataclass(frozen=True, eq=False)
class _Job:
    """A cell that runs.

    Attributes:
        name: of the cell.
        alone: whether no other may run beside it.
        process: that does it.
        log: what it prints to.
        log_start: bytes that earlier processes printed.
        began: by the monotonic clock.
    """

    name: CellName
    alone: bool
    process: subprocess.Popen
    log: Path
    log_start: int
    began: float

    @classmethod
    def start(
        cls, name: CellName, alone: bool, folders: StudyFolders, command: Command, environment: Mapping[str, str]
    ) -> _Job:
        log = folders.log_file(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as output:
            process = subprocess.Popen(
                list(command(name)),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                # Ctrl-C of a terminal would reach it too; it is stopped by `_stop`.
                start_new_session=True,
            )
            return cls(name, alone, process, log, output.tell(), time.monotonic())

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def failure(self, folders: StudyFolders) -> str | None:
        """Why the process failed; None if it did not."""
        code, said = self.process.returncode, last_line(self.log, self.log_start) or "it printed nothing"
        if code < 0:
            memory = ", as for a lack of memory" if -code == signal.SIGKILL else ""
            return f"it was killed by signal {-code}{memory} (last line: {said})"
        if code > 0:
            return said
        return None if folders.result_file(self.name).is_file() else f"it left no result (last line: {said})"

    def signal(self, number: int) -> None:
        """Sends a signal to the process and to those that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def _stop(running: Sequence[_Job]) -> None:
    for job in running:
        job.signal(signal.SIGTERM)
    end = time.monotonic() + _STOP_SECONDS
    for job in running:
        try:
            job.process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            job.signal(signal.SIGKILL)
            job.process.wait()
