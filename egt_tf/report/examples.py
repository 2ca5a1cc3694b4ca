"""Stored queries of a run, classified by its stored support set, and some of them explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from egt_tf.errors import RunError
from egt_tf.explain.explainer import Explainer, RunExplainer
from egt_tf.files import text_of_name
from egt_tf.report.facts import Example, Examples
from egt_tf.runs import RunFolder

_SUFFIXES = (".png", ".jpg", ".jpeg")


class _Answer(NamedTuple):
    """A stored query, its class, and what it was taken for."""

    path: Path
    truth: str
    predicted: str


def explained_examples(
    run: RunFolder, count: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> Examples | None:
    """Classifies all stored queries of a run and explains a few, wrong ones first.

    Up to half of those shown, rounded up, are wrong ones; where there are too few of one kind, more of the other are
    shown. Within a kind, the first query of each class comes before the second ones.

    Args:
        run: its folder.
        count: how many to explain, >= 1.
        progress: called with (queries done, queries to classify and to explain).

    Returns:
        None where the run stores no support set or no queries of its classes.

    Raises:
        RunError, DataError: the weights or an image are damaged.
        ExplainError: a layer that the run's composite cannot explain.

    Example:
        >>> explained_examples(RunFolder(Path("no/such/run")), count=4) is None
        True
    """
    if count < 1:
        raise RunError(f"`count` must be >= 1. Received: count={count}")
    if not run.support_folder.is_dir() or not _query_files(run):
        return None
    explainer = RunExplainer(run)
    names = () if explainer.support is None else explainer.support.class_names
    stored = [(path, truth) for path in _query_files(run) if (truth := _class_of(path)) in names]
    if not stored:
        return None
    total, answers = len(stored) + min(count, len(stored)), []
    for number, (path, truth) in enumerate(stored):
        progress(number, total)
        answers.append(_Answer(path, truth, names[int(np.argmax(explainer.probabilities(path)))]))
    shown = []
    for number, answer in enumerate(chosen(answers, count), start=len(stored)):
        progress(number, total)
        shown.append(_explained(explainer, answer))
    progress(total, total)
    right = sum(answer.truth == answer.predicted for answer in answers)
    return Examples(len(answers), right, tuple(shown), shown[0].explanation.method_name)


def chosen(answers: Sequence[_Answer], count: int) -> list[_Answer]:
    """Those to explain, see `explained_examples`."""
    wrong = [answer for answer in answers if answer.truth != answer.predicted]
    right = [answer for answer in answers if answer.truth == answer.predicted]
    wrong_shown = min(len(wrong), max(-(-count // 2), count - len(right)))
    return wrong[:wrong_shown] + right[: count - wrong_shown]


def _explained(explainer: Explainer, answer: _Answer) -> Example:
    """The prediction and the runner-up; of a wrong one the true class, which the explainer puts first, and it."""
    target = None if answer.truth == answer.predicted else answer.truth
    return Example(answer.truth, explainer.explain(answer.path, target=target))


def _query_files(run: RunFolder) -> list[Path]:
    """Sorted by the number at the end of the name, so that classes take turns."""
    if not run.queries_folder.is_dir():
        return []
    files = (path for path in run.queries_folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())
    return sorted(files, key=lambda path: (path.stem.rpartition("-")[2], path.name))


def _class_of(path: Path) -> str:
    """The class in the name of a stored query, CLASS-01.png."""
    return text_of_name(path.stem).rpartition("-")[0]
