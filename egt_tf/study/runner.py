"""A study from its plan to the results of its cells."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from egt_tf.config import config_from_dict, config_to_dict
from egt_tf.errors import ConfigError, RunError
from egt_tf.files import lock, remove_partial_files, write_text
from egt_tf.study.folders import StudyFolders
from egt_tf.study.images import check_images
from egt_tf.study.plan import Cell, Study
from egt_tf.study.pool import CellPool, Command, Watch
from egt_tf.study.results import CellResult, cell_from_dict
from egt_tf.study.worker import worker_command


def finished_cells(study: Study, folders: StudyFolders) -> list[CellResult]:
    """The results there are, in the order of the plan.

    Raises:
        RunError: a file is damaged, or is the result of other settings than the plan's; or all results are of cells
            that the plan does not have.

    Example:
        >>> from egt_tf.study.plan import study_from_dict
        >>> plan = {"run": {}, "heads": {"cosine": {}}, "arms": {"plain": {}}, "targets": {"fog": "synthetic:fog"}}
        >>> finished_cells(study_from_dict(plan, "example", "an example"), StudyFolders(Path("out"), Path("work")))
        []
    """
    files = {cell.name: folders.result_file(cell.name) for cell in study.cells}
    results = [_read_result(study, cell, files[cell.name]) for cell in study.cells if files[cell.name].is_file()]
    others = [] if results else sorted(folders.results_folder.rglob("*.json"))
    if others:
        raise RunError(
            f"the results in a folder must be those of its study. Received: {len(others)} of cells that {study.name} "
            f"does not have, such as {others[0]}; name another folder with --out"
        )
    return results


def run_study(
    study: Study,
    plan_file: Path,
    root: str | None,
    folders: StudyFolders,
    jobs: int = 1,
    watch: Watch | None = None,
    command: Command | None = None,
) -> None:
    """Runs all cells that have no result yet. One that fails keeps no other from being run.

    Args:
        study: the plan.
        plan_file: its file. A copy is kept beside the results, which the processes read: the file may be edited.
        root: the folder of the data, see `egt_tf.study.plan.with_root`.
        folders: where results and runs are kept.
        jobs: processes side by side, >= 1.
        watch: is told what happens, and why a cell failed.
        command: does a cell, see `CellPool`; by default `egt_tf.study.worker`.

    Raises:
        RunError: the folder holds results of another study, or another process runs a study in it.
        ConfigError: the folder of the data is needed and not given.
        DataError: a source cannot be opened, or has too few classes or images for the episodes; nothing is trained then.

    Example:
        >>> import sys, tempfile
        >>> from egt_tf.study.plan import load_study
        >>> out = Path(tempfile.mkdtemp())
        >>> _ = (out / "small.yaml").write_text(
        ...     "{run: {}, heads: {cosine: {set: {model.head: cosine}}}, arms: {plain: {}}, targets: {fog: synthetic:fog}}")
        >>> study, folders = load_study(out / "small.yaml"), StudyFolders(out, out / "work")
        >>> run_study(study, out / "small.yaml", None, folders, command=lambda cell: [sys.executable, "-c", "nothing"])
        >>> finished_cells(study, folders)
        []
    """
    with _alone(folders):
        done = {result.name for result in finished_cells(study, folders)}
        waiting = [cell for cell in study.cells if cell.name not in done]
        check_images(study, waiting, root)
        kept = folders.plan_file
        write_text(kept, plan_file.read_text(encoding="utf-8"))
        for cell in waiting:
            remove_partial_files(folders.result_file(cell.name).parent)
        pool = CellPool(folders, jobs, command or worker_command(kept, root, folders), len(done), watch or Watch())
        pool.run([cell.name for cell in waiting])


def _read_result(study: Study, cell: Cell, file: Path) -> CellResult:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        result = cell_from_dict(document["result"], str(file))
        asked = {key: document[key] for key in study.asked_of(cell)}
        asked["settings"] = _completed(asked["settings"], str(file))
    except (ConfigError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{file} must be the result of a cell, as it was written. Received: {type(error).__name__}: {error}; "
            "remove it to run the cell again"
        ) from error
    different = [key for key, value in study.asked_of(cell).items() if asked[key] != value]
    if different or result.name != cell.name:
        raise RunError(
            f"the results in a folder must be those of its study. Received: {file} with other "
            f"{' and '.join(different) or 'names'} than {study.name} has now; name another folder with --out"
        )
    return result


def _completed(settings: Any, origin: str) -> dict[str, Any]:
    """Settings with the defaults of keys that did not exist when they were written."""
    return json.loads(json.dumps(config_to_dict(config_from_dict(settings, origin))))


@contextlib.contextmanager
def _alone(folders: StudyFolders) -> Iterator[None]:
    """Within the block no other process runs a study in the folders. The locks end with this process."""
    with contextlib.ExitStack() as stack:
        for folder in sorted({folders.out.resolve(), folders.work.resolve()}):
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(folder / ".lock", "w", encoding="utf-8"))
            try:
                lock(file)
            except BlockingIOError:
                raise RunError(
                    f"a study must have its folder to itself. Received: {folder}, where one is running"
                ) from None
        yield
