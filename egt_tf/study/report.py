"""The report of a study: verdicts, tables and figures, as Markdown and as one page of HTML."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from egt_tf.document import (
    Block,
    Bullets,
    Code,
    Heading,
    Paragraph,
    Picture,
    Table,
    html_document,
    markdown_document,
)
from egt_tf.errors import RunError
from egt_tf.files import atomic_write, write_json, write_text
from egt_tf.study.costs import relative_costs
from egt_tf.study.curves import mean_curve
from egt_tf.study.figures import costs_figure, curves_figure, differences_figure
from egt_tf.study.results import DEFAULT_SETTING, CellName, CellResult, TargetResult
from egt_tf.study.statistics import mean_over_seeds
from egt_tf.study.tables import DIFFERENCE_COLUMNS, RESULT_COLUMNS, difference_rows, result_rows, write_csv
from egt_tf.study.verdicts import (
    Group,
    TargetDifference,
    by_group,
    summaries,
    target_differences,
    verdict_sentence,
)

_NOTHING = "-"

# Columns of the table of learning curves.
_MOST_POINTS = 8


@dataclasses.dataclass(frozen=True)
class ReportInput:
    """All that a report says.

    Attributes:
        title: of the study.
        description: plain text; blank lines part paragraphs.
        command: what runs the study again.
        targets: names of the test targets, in the order of the report; those of the cells among them.
        chosen_on: those of the targets on which settings were chosen: shown, not counted.
        arms: names, in the order of the report; those of the cells among them.
        baseline: the arm that costs are relative to.
        comparisons: pairs of arms; differences are those of the first from the second.
        cells: that finished.
        missing: cells of the study that did not run.
        failed: cells that failed -> reason.
        wall_clock: how long the study took, in words.
        curve_on: the target of the learning curves.

    Raises:
        RunError: names do not fit together.

    Example:
        >>> study = ReportInput("Does it help?", "Two arms.", "egt-tf study", ("cub",), (), ("plain",), "plain", ())
        >>> study.cells
        ()
    """

    title: str
    description: str
    command: str
    targets: Sequence[str]
    chosen_on: Collection[str]
    arms: Sequence[str]
    baseline: str
    comparisons: Sequence[tuple[str, str]]
    cells: Sequence[CellResult] = ()
    missing: Sequence[CellName] = ()
    failed: Mapping[CellName, str] = dataclasses.field(default_factory=dict)
    wall_clock: str = ""
    curve_on: str = ""

    def __post_init__(self) -> None:
        compared = [arm for pair in self.comparisons for arm in pair]
        trained = [cell.name.arm for cell in self.cells]
        _check_known("arms", [*compared, *trained, self.baseline], self.arms)
        tested = [target for cell in self.cells for target in cell.targets]
        _check_known("targets", [*self.chosen_on, *tested], self.targets)


def write_report(folder: Path, study: ReportInput) -> None:
    """Writes report.md, report.html, results.csv, results.json, differences.csv and figures/*.png, each file whole.

    The HTML needs no other file; the Markdown shows the figures. Files of the same names are replaced, no others are
    touched. A study of which no cell has finished yet has a report too.

    Args:
        folder: is made if it does not exist.
        study: what to report.

    Raises:
        RunError: cells that are compared were tested on different episodes, or two have the same name.
        OSError: a file cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> missing = [CellName("default", "cosine", 5, "plain", 1)]
        >>> write_report(folder, ReportInput(
        ...     "Does it help?", "Two arms.", "egt-tf study", ("cub",), (), ("plain",), "plain", (), missing=missing))
        >>> "default/cosine/5shot/plain/seed1" in (folder / "report.md").read_text()
        True
    """
    differences = _ordered(target_differences(study.cells, study.comparisons), study)
    blocks = list(report_blocks(study, differences))
    for block in blocks:
        if isinstance(block, Picture):
            with atomic_write(folder / block.path) as file:
                file.write(block.png)
    rows = {"results": result_rows(study.cells), "differences": difference_rows(differences, study.chosen_on)}
    write_json(folder / "results.json", rows)
    write_csv(folder / "results.csv", RESULT_COLUMNS, rows["results"])
    write_csv(folder / "differences.csv", DIFFERENCE_COLUMNS, rows["differences"])
    write_text(folder / "report.html", html_document(study.title, blocks))
    write_text(folder / "report.md", markdown_document(blocks))


def report_blocks(study: ReportInput, differences: Sequence[TargetDifference]) -> Iterator[Block]:
    """The parts of the report in their order.

    Args:
        study: what to report.
        differences: of the study's comparisons, in the order of the report.

    Example:
        >>> study = ReportInput("Does it help?", "Two arms.", "egt-tf study", ("cub",), (), ("plain",), "plain", ())
        >>> [block.text for block in report_blocks(study, ()) if isinstance(block, Heading)]
        ['Does it help?', 'Verdicts', 'Study']
    """
    yield Heading(1, study.title)
    yield from _verdicts(study, differences)
    yield from _about(study)
    for (setting, shots), groups in _families(study.cells).items():
        title = f"{shots}-shot" if setting == DEFAULT_SETTING else f"{setting}, {shots}-shot"
        yield from _measured(study, title, f"{setting}-{shots}shot", groups, differences)
    yield from _absent(study, differences)


# === Verdicts ===


def _verdicts(study: ReportInput, differences: Sequence[TargetDifference]) -> Iterator[Block]:
    yield Heading(2, "Verdicts")
    if not differences:
        yield Paragraph("Nothing can be compared yet: no training seed has finished both arms of a comparison.")
        return
    counted = summaries(differences, study.chosen_on)
    sentences = {
        group: [verdict_sentence(found, study.chosen_on) for found in differences if found.group == group]
        for group in counted
    }
    yield Bullets(tuple((summary, ()) for lines in counted.values() for summary in lines))
    yield Paragraph(_reading(differences))
    yield Heading(3, "On each target")
    yield Bullets(
        tuple((f"{group}", tuple(line.removeprefix(f"{group}: ") for line in sentences[group])) for group in counted)
    )


def _reading(differences: Sequence[TargetDifference]) -> str:
    intervals = sum(found.difference.seed_interval is not None for found in differences)
    return (
        "An arm beats another where the 95 % t interval over the training seeds of their difference lies above zero. "
        "Differences are in percentage points and paired: same seed, same test episodes. "
        f"Were there no difference anywhere, about {intervals / 20:.1f} of the {intervals} intervals below would "
        "exclude zero all the same."
    )


# === What was done ===


def _about(study: ReportInput) -> Iterator[Block]:
    yield Heading(2, "Study")
    for paragraph in re.split(r"\n\s*\n", study.description.strip()):
        if paragraph:
            yield Paragraph(paragraph)
    yield Code(study.command)
    cells = len(study.cells) + len(study.missing) + len(study.failed)
    seeds = sorted({cell.name.seed for cell in study.cells})
    facts = [
        f"Cells: {cells}, of which {len(study.cells)} finished, {len(study.failed)} failed and {len(study.missing)} "
        "did not run.",
        f"Training seeds: {', '.join(map(str, seeds)) or 'none yet'}.",
        f"Test targets: {', '.join(target for target in study.targets if target not in study.chosen_on) or 'none'}.",
    ]
    if study.chosen_on:
        chosen = ", ".join(target for target in study.targets if target in study.chosen_on)
        facts.append(f"Settings were chosen on: {chosen}. Shown, not counted.")
    if study.wall_clock:
        facts.append(f"Wall-clock time: {study.wall_clock}.")
    yield Bullets(tuple((fact, ()) for fact in facts))


# === What was measured ===


def _measured(
    study: ReportInput,
    title: str,
    file_name: str,
    groups: Mapping[Group, Sequence[CellResult]],
    differences: Sequence[TargetDifference],
) -> Iterator[Block]:
    """Tables and figures of the groups of one setting and number of shots."""
    cells = [cell for members in groups.values() for cell in members]
    compared = [found for found in differences if found.group in groups]
    yield Heading(2, f"Measured: {title}")
    if compared:
        yield Picture(
            _figure_path("differences", file_name),
            differences_figure(compared, study.targets, study.comparisons, study.chosen_on),
            f"Paired differences, {title}",
            "Mean over the seeds with the 95 % t interval over them (hollow: one seed, no interval), and below it, "
            "faint, the single seeds. Targets on a grey ground are not counted.",
        )
        yield _difference_table(study, compared)
    yield _accuracy_table(study, groups)
    if any(cell.curve for cell in cells):
        yield Picture(
            _figure_path("curves", file_name),
            curves_figure(cells, study.arms),
            f"Learning curves, {title}",
            f"{_curve_of(study)}Mean over the seeds, at the episodes that all of them have, and from the lowest to the "
            "highest of them.",
        )
        yield _curve_table(study, groups)
    yield _calibration_table(study, groups)
    yield from _costs(study, title, file_name, cells)


def _curve_of(study: ReportInput) -> str:
    return f"Accuracy on {study.curve_on} after each epoch. " if study.curve_on else ""


def _curve_table(study: ReportInput, groups: Mapping[Group, Sequence[CellResult]]) -> Table:
    curves = [
        (group.head, arm, mean_curve([cell.curve for cell in cells])) for group, arm, cells in _arms(study, groups)
    ]
    episodes = sorted({int(number) for *_, curve in curves for number in curve.episodes})
    # The last one is always among them.
    shown = episodes[::-1][:: math.ceil(len(episodes) / _MOST_POINTS)][::-1]
    rows = []
    for head, arm, curve in curves:
        means = dict(zip(curve.episodes.tolist(), curve.mean.tolist(), strict=True))
        rows.append((head, arm, *(f"{100 * means[each]:.1f}" if each in means else "-" for each in shown)))
    caption = f"{_curve_of(study)}In %, means over the seeds; columns are training episodes."
    return Table(caption, ("head", "arm", *map(str, shown)), rows, words=2)


def _difference_table(study: ReportInput, differences: Sequence[TargetDifference]) -> Table:
    rows = []
    for found in differences:
        difference = found.difference
        rows.append(
            (
                *(found.group.head, f"{found.first} - {found.second}", _target(found.target, study)),
                *(f"{100 * difference.mean:+.2f}", _half(difference.seed_interval)),
                *(_half(difference.episode_interval), str(len(difference.by_seed)), found.verdict.value),
            )
        )
    caption = (
        "Paired differences in percentage points, with the halves of two 95 % intervals: over the seeds (other "
        "trainings, the same episodes), which the verdict goes by, and over the episodes (other episodes, the same "
        "trainings)."
    )
    header = ("head", "comparison", "target", "difference", "+- over seeds", "+- over episodes", "seeds", "verdict")
    return Table(caption, header, rows, words=3)


def _accuracy_table(study: ReportInput, groups: Mapping[Group, Sequence[CellResult]]) -> Table:
    rows = []
    for group, arm, cells in _arms(study, groups):
        accuracies = ([result.accuracy for result in _results(cells, target)] for target in study.targets)
        rows.append((group.head, arm, str(len(cells)), *map(_accuracy, accuracies)))
    caption = "Accuracies in %: mean over the seeds +- half of the 95 % t interval over them."
    header = ("head", "arm", "seeds", *(_target(target, study) for target in study.targets))
    return Table(caption, header, rows, words=2)


def _calibration_table(study: ReportInput, groups: Mapping[Group, Sequence[CellResult]]) -> Table:
    rows = []
    for group, arm, cells in _arms(study, groups):
        results = [_results(cells, target) for target in study.targets]
        errors = [_mean([100 * result.calibration_error for result in each], 1) for each in results]
        likelihoods = [_mean([result.negative_log_likelihood for result in each], 3) for each in results]
        rows.append((group.head, arm, *(text for pair in zip(errors, likelihoods, strict=True) for text in pair)))
    caption = (
        "Calibration, means over the seeds: expected calibration error (ECE, in %) and negative log-likelihood of the "
        "true class (NLL, in nats). Lower is better."
    )
    header = [f"{target}: {measure}" for target in study.targets for measure in ("ECE", "NLL")]
    return Table(caption, ("head", "arm", *header), rows, words=2)


def _costs(study: ReportInput, title: str, file_name: str, cells: Sequence[CellResult]) -> Iterator[Block]:
    costs = {group.head: by_arm for group, by_arm in relative_costs(cells, study.baseline).items()}
    if any(len(by_arm) > 1 for by_arm in costs.values()):
        yield Picture(
            _figure_path("costs", file_name),
            costs_figure(costs, study.arms, study.baseline),
            f"Costs, {title}",
            f"Median over the seeds of the seconds a training step, relative to {study.baseline} with the same head.",
        )


# === What is not there ===


def _absent(study: ReportInput, differences: Sequence[TargetDifference]) -> Iterator[Block]:
    open_comparisons = _open_comparisons(study, differences)
    if not (study.missing or study.failed or open_comparisons):
        return
    yield Heading(2, "Not measured")
    lists = {
        "Failed": [f"{name.path}: {reason}" for name, reason in study.failed.items()],
        "Did not run": [name.path for name in study.missing],
        "Not compared, since no seed has finished both arms": open_comparisons,
    }
    yield Bullets(tuple((f"{what}: {len(lines)}", lines) for what, lines in lists.items() if lines))


def _open_comparisons(study: ReportInput, differences: Sequence[TargetDifference]) -> list[str]:
    """The comparisons of which the study has both arms, but no result."""
    planned: dict[Group, set[str]] = {}
    for name in (*(cell.name for cell in study.cells), *study.missing, *study.failed):
        planned.setdefault(Group.of(name), set()).add(name.arm)
    done = {(found.group, found.first, found.second) for found in differences}
    return [
        f"{group}: {first} with {second}"
        for group, arms in planned.items()
        for first, second in study.comparisons
        if {first, second} <= arms and (group, first, second) not in done
    ]


# === Parts ===


def _check_known(what: str, names: Iterable[str], known: Sequence[str]) -> None:
    unknown = [name for name in dict.fromkeys(names) if name not in known]
    if unknown or len(set(known)) < len(known):
        raise RunError(
            f"the {what} of a report must be different and name all that it speaks of. Received: {list(known)}"
            + (f" without {unknown}" if unknown else "")
        )


def _ordered(differences: Sequence[TargetDifference], study: ReportInput) -> list[TargetDifference]:
    """By group and comparison as they are, then in the order of the study's targets."""
    groups = list(dict.fromkeys(found.group for found in differences))
    return sorted(
        differences,
        key=lambda found: (
            groups.index(found.group),
            study.comparisons.index((found.first, found.second)),
            study.targets.index(found.target),
        ),
    )


def _families(cells: Sequence[CellResult]) -> dict[tuple[str, int], dict[Group, list[CellResult]]]:
    """Setting and shots -> the groups that differ in their head only, which are shown together."""
    families: dict[tuple[str, int], dict[Group, list[CellResult]]] = {}
    for group, members in by_group(cells).items():
        families.setdefault((group.setting, group.shots), {})[group] = members
    return families


def _arms(
    study: ReportInput, groups: Mapping[Group, Sequence[CellResult]]
) -> Iterator[tuple[Group, str, list[CellResult]]]:
    """The cells of each group and arm that has any, arms in the order of the study."""
    for group, members in groups.items():
        for arm in study.arms:
            cells = [cell for cell in members if cell.name.arm == arm]
            if cells:
                yield group, arm, cells


def _results(cells: Iterable[CellResult], target: str) -> list[TargetResult]:
    return [cell.targets[target] for cell in cells if target in cell.targets]


def _target(target: str, study: ReportInput) -> str:
    return f"{target} (not counted)" if target in study.chosen_on else target


def _accuracy(accuracies: Sequence[float]) -> str:
    if not accuracies:
        return _NOTHING
    over_seeds = mean_over_seeds(accuracies)
    interval = "" if over_seeds.interval is None else f" +- {100 * over_seeds.interval:.2f}"
    return f"{100 * over_seeds.mean:.2f}{interval}"


def _mean(values: Sequence[float], digits: int) -> str:
    return f"{mean_over_seeds(values).mean:.{digits}f}" if values else _NOTHING


def _half(interval: float | None) -> str:
    return _NOTHING if interval is None else f"{100 * interval:.2f}"


def _figure_path(kind: str, name: str) -> str:
    """A path fit for any file system and for Markdown, different for different names."""
    plain = re.sub(r"[^A-Za-z0-9.-]+", "_", name)[:60]
    if plain != name:
        plain += f"-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return f"figures/{kind}-{plain}.png"
