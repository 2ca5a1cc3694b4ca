"""A process that does one cell of a study.

Each cell has a process of its own, so that one that fails, is killed or runs out of memory takes no other with it, and
so that several can run side by side.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from egt_tf.errors import EgtError, RunError
from egt_tf.study.folders import StudyFolders
from egt_tf.study.plan import load_study
from egt_tf.study.results import CellName

FAILED = 2


def worker_command(plan_file: Path, root: str | None, folders: StudyFolders) -> Callable[[CellName], list[str]]:
    """The command line of the process that does a cell.

    Args:
        plan_file: the study's plan.
        root: the folder of the data.
        folders: of the study.

    Example:
        >>> command = worker_command(Path("out/study.yaml"), None, StudyFolders(Path("out"), Path("work")))
        >>> command(CellName("default", "cosine", 5, "plain", 1))[-4:]
        ['out/study.yaml', 'default/cosine/5shot/plain/seed1', 'out', 'work']
    """
    # `python -m` would first look into the current folder, which may hold another copy of the package.
    program = (
        f"import sys; sys.path[:] = {sys.path!r}; from egt_tf.study.worker import main; sys.exit(main(sys.argv[1:]))"
    )
    of_root = [] if root is None else [root]

    def command(name: CellName) -> list[str]:
        places = [str(folders.out), str(folders.work), *of_root]
        return [sys.executable, "-c", program, str(plan_file), name.path, *places]

    return command


def main(arguments: list[str]) -> int:
    """Does a cell. Lines about it go to standard output; the last one is the reason of a failure.

    The process ends with the one that started it, see `egt_tf.study.pool.CellPool`; a run goes on after its newest
    checkpoint then.

    Args:
        arguments: plan, path of the cell's name, folder of the results, folder of the runs and, if the plan needs it,
            the folder of the data.

    Returns:
        The exit code.
    """
    _end_with_input()
    try:
        _run(*arguments)
    except (EgtError, OSError) as error:
        return _failed(str(error) or type(error).__name__)
    except MemoryError:
        return _failed("out of memory")
    except Exception as error:
        # A bug, or an error of TensorFlow, some of which end with many lines that say little.
        traceback.print_exc()
        return _failed(f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}")
    return 0


def _run(plan: str, name: str, out: str, work: str, root: str | None = None) -> None:
    study = load_study(Path(plan))
    cell = next((cell for cell in study.cells if cell.name.path == name), None)
    if cell is None:
        raise RunError(f"a cell must be one of {plan}. Received: {name}")
    # Here: TensorFlow takes seconds.
    from egt_tf.study.cell import run_cell

    run_cell(study, cell, root, StudyFolders(Path(out), Path(work)), _report)


def _report(line: str) -> None:
    sys.stdout.write(f"{' '.join(line.splitlines())}\n")
    sys.stdout.flush()


def _failed(reason: str) -> int:
    sys.stderr.flush()
    _report(reason)
    return FAILED


def _end_with_input() -> None:
    """Ends this process when its standard input ends, which the process that started it holds open."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
