"""A process that does one cell of a study: `python -m egt_tf.study.worker PLAN CELL OUT WORK [ROOT]`.

Each cell has a process of its own, so that one that fails, is killed or runs out of memory takes no other with it, and
so that several can run side by side.
"""

from __future__ import annotations

import sys
from pathlib import Path

from egt_tf.errors import EgtError

FAILED = 2


def main(arguments: list[str]) -> int:
    """Does the cell; lines about it go to standard output, the reason of a failure is the last one."""
    plan, name, out, work, *root = arguments
    # Here: what is imported takes seconds, and a wrong plan is found before.
    from egt_tf.study.cell import run_cell
    from egt_tf.study.folders import StudyFolders
    from egt_tf.study.plan import load_study

    def report(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    try:
        study = load_study(Path(plan))
        cell = next(cell for cell in study.cells if cell.name.path == name)
        run_cell(study, cell, root[0] if root else None, StudyFolders(Path(out), Path(work)), report)
    except (EgtError, OSError) as error:
        report(" ".join(str(error).splitlines()))
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
