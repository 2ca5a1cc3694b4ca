# What `__init__.py` imports on first use, for type checkers and editors.
from egt_tf.study.folders import StudyFolders as StudyFolders
from egt_tf.study.plan import Cell as Cell
from egt_tf.study.plan import Study as Study
from egt_tf.study.plan import StudyEvaluation as StudyEvaluation
from egt_tf.study.plan import load_study as load_study
from egt_tf.study.plan import study_from_dict as study_from_dict
from egt_tf.study.report import ReportInput as ReportInput
from egt_tf.study.report import write_report as write_report
from egt_tf.study.results import CellName as CellName
from egt_tf.study.results import CellResult as CellResult
from egt_tf.study.results import TargetResult as TargetResult
from egt_tf.study.runner import finished_cells as finished_cells
from egt_tf.study.runner import run_study as run_study
from egt_tf.study.statistics import Difference as Difference
from egt_tf.study.statistics import paired_difference as paired_difference
from egt_tf.study.summary import write_summary as write_summary
