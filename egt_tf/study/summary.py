"""The report of a study as far as it has been run."""

from __future__ import annotations

from collections.abc import Mapping

from egt_tf.study.folders import StudyFolders
from egt_tf.study.plan import Study
from egt_tf.study.report import ReportInput, write_report
from egt_tf.study.results import CellName
from egt_tf.study.runner import finished_cells
from egt_tf.study.verdicts import summaries, target_differences


def write_summary(study: Study, folders: StudyFolders, failed: Mapping[CellName, str], command: str) -> list[str]:
    """Writes the report of all cells that have a result.

    Args:
        study: the plan.
        folders: of the study.
        failed: why cells failed, in the call that has just ended.
        command: that runs the study again.

    Returns:
        The verdicts, one sentence each.

    Raises:
        RunError: a result is damaged, or of other settings.
        OSError: a file cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from egt_tf.study.plan import study_from_dict
        >>> plan = {"run": {}, "heads": {"cosine": {}}, "arms": {"plain": {}}, "targets": {"fog": "synthetic:fog"}}
        >>> out = Path(tempfile.mkdtemp())
        >>> study = study_from_dict(plan, "example", "an example")
        >>> write_summary(study, StudyFolders(out, out / "work"), {}, "egt-tf study example.yaml")
        []
        >>> (out / "report.md").is_file()
        True
    """
    cells = finished_cells(study, folders)
    done = {cell.name for cell in cells}
    write_report(
        folders.out,
        ReportInput(
            title=study.title,
            description=study.description,
            command=command,
            targets=tuple(study.targets),
            chosen_on=study.chosen_on,
            arms=study.arms,
            baseline=study.arms[0],
            comparisons=study.comparisons,
            cells=cells,
            missing=tuple(cell.name for cell in study.cells if cell.name not in done and cell.name not in failed),
            failed=failed,
            curve_on=study.evaluation.curve_on,
        ),
    )
    sentences = summaries(target_differences(cells, study.comparisons), study.chosen_on)
    return [sentence for of_group in sentences.values() for sentence in of_group]
