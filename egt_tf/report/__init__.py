"""One self-contained page of HTML about a run: what it is, how it was trained, what was measured and explained."""

from egt_tf.report.facts import RunFacts
from egt_tf.report.page import run_page
from egt_tf.report.reading import read_facts
from egt_tf.report.writing import write_run_page

__all__ = ["RunFacts", "read_facts", "run_page", "write_run_page"]
