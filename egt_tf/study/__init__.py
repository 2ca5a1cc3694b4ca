"""Grids of trainings that are compared with each other: running them, paired statistics, reports.

The names below are imported when they are first used: a cell's process needs no figures.
"""

from __future__ import annotations

from egt_tf.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "egt_tf.study.folders": ["StudyFolders"],
        "egt_tf.study.plan": ["Cell", "Study", "StudyEvaluation", "load_study", "study_from_dict"],
        "egt_tf.study.report": ["ReportInput", "write_report"],
        "egt_tf.study.results": ["CellName", "CellResult", "TargetResult"],
        "egt_tf.study.runner": ["finished_cells", "run_study"],
        "egt_tf.study.statistics": ["Difference", "paired_difference"],
        "egt_tf.study.summary": ["write_summary"],
    },
)
