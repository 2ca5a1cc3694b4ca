"""Writes the page of a run, with its examples explained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from egt_tf.errors import EgtError, RunError
from egt_tf.files import write_text
from egt_tf.report.facts import Examples, Part, Problem, RunFacts, RunKind
from egt_tf.report.page import run_page
from egt_tf.report.reading import read_facts
from egt_tf.runs import RunFolder

PAGE = "report.html"
_SUFFIXES = (".html", ".htm")


def write_run_page(
    run: RunFolder,
    path: Path,
    examples: int = 4,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> RunFacts:
    """Writes one self-contained page of HTML about a run, whole or not at all.

    What is damaged, other than the configuration, is named on the page, and the rest is shown.

    Args:
        run: a run folder.
        path: of the page, which may exist.
        examples: stored queries to explain, by the run's own model; 0 explains none and does without TensorFlow.
        progress: called with (queries done, queries to classify and to explain).

    Returns:
        What the page says; its `problems` are what is damaged.

    Raises:
        RunError: no run folder, `examples` below 0, or `path` does not end in .html, or is a folder.
        ConfigError: the run's configuration is damaged.
        OSError: the page cannot be written.

    Example:
        >>> write_run_page(RunFolder(Path("no/such/run")), Path("report.html"))
        Traceback (most recent call last):
        egt_tf.errors.RunError: the run folder no/such/run must exist. Received: no such folder
    """
    if path.suffix.lower() not in _SUFFIXES or path.is_dir():
        raise RunError(f"the page must be a file that ends in .html. Received: {path}")
    if examples < 0:
        raise RunError(f"`examples` must be >= 0. Received: examples={examples}")
    facts = read_facts(run)
    if examples and facts.kind is not RunKind.PRETRAINED:
        facts = _with_examples(facts, run, examples, progress)
    write_text(path, run_page(facts))
    return facts


def _with_examples(facts: RunFacts, run: RunFolder, count: int, progress: Callable[[int, int], None]) -> RunFacts:
    # Here, since TensorFlow takes seconds to import.
    from egt_tf.report.examples import explained_examples

    found: Examples | None = None
    problems = facts.problems
    try:
        found = explained_examples(run, count, progress)
    except EgtError as error:
        problems = (*problems, Problem(Part.EXAMPLES, str(error)))
    return dataclasses.replace(facts, examples=found, problems=problems)
