"""The parts of the page about what was measured: accuracy, calibration, confusions, explanations, attacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath

from egt_tf.document import Heading, HtmlBlock, Paragraph, Picture, Table
from egt_tf.report.blocks import Chart, Charts, Damaged, Fold, Groups, Matrix, Note, Section
from egt_tf.report.charts import ShareRow, intervals_chart, reliability_chart
from egt_tf.report.commands import run_command, warm_start_command
from egt_tf.report.facts import (
    AttackResult,
    ConfusedClasses,
    Evaluation,
    JudgedMeasure,
    JudgedMethods,
    Part,
    RunFacts,
    RunKind,
)
from egt_tf.wording import accuracy_text

_NOTHING = "-"
# Of more classes there is a list of the most frequent confusions in place of a matrix.
_MOST_CLASSES, _MOST_PAIRS, _HARDEST = 12, 10, 8
_NO_CLASSIFIER = "A pre-trained backbone is no classifier yet; train one from it with"


# === Accuracy ===


def evaluations_section(facts: RunFacts) -> Section:
    """A table of all evaluations, their intervals, and of each how sure the model was and what it confused."""
    return Section("evaluations", "Evaluations", tuple(_evaluation_blocks(facts)))


def _evaluation_blocks(facts: RunFacts) -> Iterator[HtmlBlock]:
    yield from map(Damaged, facts.damaged(Part.EVALUATIONS))
    if not facts.evaluations:
        yield _missing(facts, "Not evaluated yet:", "evaluate", "--data", "SOURCE")
        return
    yield _evaluation_table(facts.evaluations)
    yield Charts((_intervals(facts.evaluations),))
    for evaluation in facts.evaluations:
        yield Heading(3, _title(evaluation))
        yield from _details(facts, evaluation)


def _evaluation_table(evaluations: Sequence[Evaluation]) -> Table:
    header = ("classes", "episodes", "accuracy", "by chance", "calibration error", "neg. log-likelihood", "ties")
    rows = [
        (
            _title(each),
            f"{each.row.episodes}",
            _accuracy(each.row.accuracy, each.row.interval),
            _percent(1 / each.row.ways),
            _percent(each.row.calibration_error),
            _NOTHING if each.row.negative_log_likelihood is None else f"{each.row.negative_log_likelihood:.3f}",
            _percent(each.tied),
        )
        for each in evaluations
    ]
    return Table(
        "Accuracy with its 95 % interval over the episodes; - where a file does not say.", header, rows, words=1
    )


def _intervals(evaluations: Sequence[Evaluation]) -> Chart:
    rows = [ShareRow(_title(each), each.row.accuracy, each.row.interval, 1 / each.row.ways) for each in evaluations]
    described = "; ".join(f"{row.name}: {_accuracy(row.value, row.half)}" for row in rows)
    return Chart(
        intervals_chart(f"Accuracies: {described}", rows), "Accuracies with their 95 % intervals; dotted: chance."
    )


def _details(facts: RunFacts, evaluation: Evaluation) -> Iterator[HtmlBlock]:
    if evaluation.points is None and evaluation.confusion is None:
        row = evaluation.row
        again = ("--data", row.source, "--split", row.split, "--ways", str(row.ways), "--shots", str(row.shots))
        yield Note(
            "Its file has no reliability diagram and no confusions, which older versions did not write; measure again:",
            run_command(facts, "evaluate", *again),
        )
        return
    row = evaluation.row
    yield Paragraph(f"{row.episodes} episodes with {row.queries} queries a class, seed {evaluation.seed}.")
    chart = () if evaluation.points is None else (_reliability(evaluation),)
    pairs = () if evaluation.confusion is None else (_pairs(evaluation.confusion),)
    yield Groups([part for part in (chart, pairs) if part])
    if evaluation.confusion is not None:
        yield _by_class(evaluation.confusion)


def _reliability(evaluation: Evaluation) -> Chart:
    points = [(each.confidence, each.accuracy, each.queries) for each in evaluation.points or ()]
    queries = sum(each.queries for each in evaluation.points or ())
    error = evaluation.row.calibration_error
    described = "; ".join(f"{100 * accuracy:.0f} % right at {100 * sure:.0f} %" for sure, accuracy, _ in points)
    known = "" if error is None else f" Calibration error (15 bins): {100 * error:.2f} %."
    return Chart(
        reliability_chart(f"Reliability diagram. {described}", points),
        f"How far the model's probabilities can be believed, over {queries} queries. On the diagonal, as many are right "
        f"as the model says; below it, the model is too sure. The larger a point, the more queries.{known}",
    )


def _by_class(confusion: ConfusedClasses) -> HtmlBlock:
    """Of few classes everything, of many those with the fewest right answers."""
    if len(confusion.classes) <= _MOST_CLASSES:
        return _matrix(confusion)
    return Fold(f"The {_HARDEST} classes with the fewest right answers", (_hardest_table(confusion),))


def _matrix(confusion: ConfusedClasses) -> Matrix:
    shares: list[list[float | None]] = [[0.0] * len(confusion.classes) for _ in confusion.classes]
    for place, each in enumerate(confusion.classes):
        shares[place][place] = each.right / each.queries if each.queries else None
    for pair in confusion.pairs:
        shares[pair.true][pair.taken_for] = pair.share
    return Matrix(
        "Confusions. A row is a true class, a column what it was taken for: the share of the row's queries in the "
        "episodes that had both classes, so that rows need not add up to 100 %; 0 % also where the two never met.",
        "true class",
        [each.name for each in confusion.classes],
        shares,
    )


def _pairs(confusion: ConfusedClasses) -> HtmlBlock:
    if not confusion.pairs:
        return Paragraph("No query was taken for another class.")
    names = [each.name for each in confusion.classes]
    rows = [
        (names[pair.true], names[pair.taken_for], f"{pair.queries} of {pair.of}", f"{100 * pair.share:.0f} %")
        for pair in confusion.pairs[:_MOST_PAIRS]
    ]
    return Table(
        f"The most frequent confusions of {len(names)} classes: how many queries of a class were taken for another, of "
        "those in episodes that had both.",
        ("true class", "taken for", "queries", "share"),
        rows,
        words=2,
    )


def _hardest_table(confusion: ConfusedClasses) -> Table:
    asked = [each for each in confusion.classes if each.queries]
    hardest = sorted(asked, key=lambda each: each.right / each.queries)[:_HARDEST]
    rows = [(each.name, f"{each.right}", f"{each.queries}", _percent(each.right / each.queries)) for each in hardest]
    return Table("Right answers by class.", ("class", "right", "of", "share"), rows, words=1)


# === Explanations ===


def judged_section(facts: RunFacts) -> Section:
    """Explanations by several methods, judged."""
    return Section("judged", "How good explanations are", tuple(_judged_blocks(facts)))


def _judged_blocks(facts: RunFacts) -> Iterator[HtmlBlock]:
    yield from map(Damaged, facts.damaged(Part.EXPLANATIONS))
    if facts.judged is None:
        yield _missing(
            facts, "Explanations were not judged yet:", "evaluate-explanations", "--data", "SOURCE", "--quick"
        )
        return
    judged = facts.judged
    yield _judged_table(judged)
    yield Paragraph("; ".join(f"{each.name.replace('_', ' ')}: {each.title}" for each in judged.measures) + ".")
    yield Paragraph(
        "Means over the queries with half their 95 % intervals; * is the best mean of a measure, which says nothing where "
        "intervals overlap. The method random is the control: maps of random numbers."
    )
    for title, content in judged.pictures.items():
        yield Picture("", content, title, "A line a method, with its 95 % interval as a band.")


def _judged_table(judged: JudgedMethods) -> Table:
    methods = list(dict.fromkeys(name for measure in judged.measures for name in measure.means))
    rows = [(name, *(_judged_cell(measure, name) for measure in judged.measures)) for name in methods]
    effort = ", with less effort (--quick)" if judged.quick else ""
    return Table(
        f"{judged.queries} queries of {_sources(judged.source)} ({judged.split}), {judged.ways}-way {judged.shots}-shot, "
        f"explained for the predicted class{effort}.",
        ("method", *(f"{each.name.replace('_', ' ')} ({each.better})" for each in judged.measures)),
        rows,
        words=1,
    )


def _judged_cell(measure: JudgedMeasure, method: str) -> str:
    mean, half = measure.means.get(method), measure.intervals.get(method)
    if mean is None:
        return _NOTHING
    known = [value for value in measure.means.values() if value is not None]
    best = min(known) if measure.better == "lower" else max(known)
    return f"{mean:.3f}" + ("" if half is None else f" ± {half:.3f}") + (" *" if mean == best else "")


# === Attacks ===


def attacks_section(facts: RunFacts) -> Section:
    """Accuracy under attack."""
    return Section("attacks", "Under attack", tuple(_attack_blocks(facts)))


def _attack_blocks(facts: RunFacts) -> Iterator[HtmlBlock]:
    yield from map(Damaged, facts.damaged(Part.ATTACKS))
    if not facts.attacks:
        yield _missing(facts, "Not attacked yet:", "evaluate", "--data", "SOURCE", "--attack", "pgd")
        return
    with_degree = any(each.degree is not None for each in facts.attacks)
    header = ("data", "episodes", "attack", "largest change", "accuracy", "under attack", "success of the attack")
    rows = [_attack_row(each, with_degree) for each in facts.attacks]
    yield Table(
        "Pixels of the queries changed to mislead the model. Success: of the queries answered rightly, the share that "
        "is answered wrongly under the attack. All with 95 % intervals over the episodes.",
        (*header[:3], *(("noise",) if with_degree else ()), *header[3:]),
        rows,
        words=3,
    )


def _attack_row(each: AttackResult, with_degree: bool) -> tuple[str, ...]:
    steps = "" if each.steps == 1 else f", {each.steps} steps"
    support = ", support images too" if each.support else ""
    degree = (_NOTHING if each.degree is None else f"{each.degree:g}",) if with_degree else ()
    success = _NOTHING if each.success is None else _accuracy(each.success, each.success_interval)
    return (
        f"{_sources(each.source)} ({each.split})",
        f"{each.episodes} of {each.ways}-way {each.shots}-shot",
        f"{each.attack}{steps}{support}",
        *degree,
        f"{255 * each.epsilon:.3g}/255",
        _accuracy(each.clean.accuracy, each.clean.interval),
        _accuracy(each.attacked.accuracy, each.attacked.interval),
        success,
    )


# === Words ===


def _missing(facts: RunFacts, text: str, *command: str) -> Note:
    if facts.kind is RunKind.PRETRAINED:
        return Note(_NO_CLASSIFIER, warm_start_command(facts))
    return Note(text, run_command(facts, *command))


def _title(evaluation: Evaluation) -> str:
    row = evaluation.row
    transductive = "" if row.inference == "inductive" else f", {row.inference}"
    return f"{_sources(row.source)} ({row.split}), {row.ways}-way {row.shots}-shot{transductive}"


def _sources(source: str) -> str:
    """Of long paths the last folder tells them apart."""
    return ", ".join(map(_short_source, source.split(", ")))


def _short_source(source: str) -> str:
    scheme, _, rest = source.partition(":")
    path = PurePath(rest)
    return source if len(path.parts) < 4 else f"{scheme}:…/{path.name}"


def _accuracy(share: float, interval: float | None) -> str:
    return accuracy_text(share, interval).replace("+-", "±")


def _percent(share: float | None) -> str:
    return _NOTHING if share is None else f"{100 * share:.1f} %"
