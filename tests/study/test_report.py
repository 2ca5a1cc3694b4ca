from __future__ import annotations

import csv
import dataclasses
import json
import re

import numpy as np
import pytest
from PIL import Image

from egt_tf.errors import RunError
from egt_tf.study.report import ReportInput, write_report
from egt_tf.study.results import CellName
from tests.helpers.simulated_studies import simulated_cells

TARGETS = ("cub", "cars", "flowers17")
HOSTILE = "<b>|x $a_b$"
ARMS = {"plain": 0.0, "guided": 0.1, HOSTILE: 0.0, "late": 0.0}
FAILED, MISSING = CellName("default", "relation", 5, "late", 1), CellName("default", "relation", 5, "late", 2)


def study() -> ReportInput:
    cells = simulated_cells(("relation", "cross_attention"), ARMS, TARGETS, 3, episodes=20)
    cells = [cell for cell in cells if (cell.name.head, cell.name.arm) != ("relation", "late")]
    return ReportInput(
        title="Does guidance help?",
        description="Frozen features & <few> words.\n\nA second paragraph.",
        command="egt-tf study run study.yaml",
        targets=TARGETS,
        chosen_on={"flowers17"},
        arms=tuple(ARMS),
        baseline="plain",
        comparisons=(("guided", "plain"), ("guided", HOSTILE), ("late", "plain")),
        cells=cells,
        missing=(MISSING,),
        failed={FAILED: "loss | is <not> finite"},
        wall_clock="3 h 20 min",
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "of" / "study"
    write_report(folder, study())
    return folder


@pytest.fixture(scope="module")
def markdown(folder):
    return (folder / "report.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


def test_verdicts_come_first(markdown):
    assert re.match(
        r"# Does guidance help\?\n\n## Verdicts\n\n- relation, 5-shot: guided beats plain on 2 of 2 test targets",
        markdown,
    )
    assert re.search(r"guided beats plain by \d\.\d \+- \d\.\d on cub over 3 seeds\n", markdown)


def test_html_needs_no_other_file(page):
    assert re.findall(r"https?://|<script|<link|@import|url\(", page) == []
    sources = re.findall(r"(?:src|href)=\"([^\"]{22})", page)
    assert sources == ["data:image/png;base64,"] * 3


def test_hostile_names_are_text(page, markdown):
    assert "<b>" not in page
    assert "&lt;b&gt;|x $a_b$" in page
    assert "&lt;few&gt;" in page
    assert "<" not in markdown
    assert r"&lt;b&gt;\|x \$a_b\$" in markdown


def test_every_row_of_a_table_has_as_many_cells(markdown):
    tables = re.findall(r"(?:^\|.*\n?)+", markdown, flags=re.MULTILINE)
    assert len(tables) == 4
    for table in tables:
        counts = {line.replace(r"\|", "").count("|") for line in table.splitlines()}
        assert len(counts) == 1


def test_markdown_and_html_hold_the_same_numbers(markdown, page):
    numbers = [re.findall(r"\d+\.\d\d \+- \d+\.\d\d", text) for text in (markdown, page)]
    assert numbers[0] == numbers[1]
    # Two heads and their arms, of which one did not finish.
    assert len(numbers[0]) == (4 + 3) * len(TARGETS)


def test_accuracies_are_means_over_seeds(markdown):
    cells = [cell for cell in study().cells if (cell.name.head, cell.name.arm) == ("relation", "guided")]
    accuracies = [np.mean(cell.targets["cub"].accuracies) for cell in cells]
    half = 4.302653 * np.std(accuracies, ddof=1) / np.sqrt(3)
    assert f"| relation | guided | 3 | {100 * np.mean(accuracies):.2f} +- {100 * half:.2f} |" in markdown


def test_what_did_not_run_is_named(markdown, page):
    for text in (markdown, page):
        assert MISSING.path in text
        assert FAILED.path in text
        assert "relation, 5-shot: late with plain" in text
    assert "Cells: 23, of which 21 finished, 1 failed and 1 did not run." in page
    assert r"seed1: loss \| is &lt;not&gt; finite" in markdown


def test_figures_are_shown_and_have_something_on_them(folder, markdown):
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", markdown)
    assert sorted(shown) == sorted(f"figures/{file.name}" for file in (folder / "figures").iterdir())
    assert [path.split("/")[1].split("-")[0] for path in shown] == ["differences", "curves", "costs"]
    for path in shown:
        pixels = np.asarray(Image.open(folder / path).convert("RGB"))
        assert pixels.shape[1] == 1600
        # The colours of the lines, which have neither grey nor white.
        assert (np.ptp(pixels.astype(int), axis=-1) > 60).sum() > 1000


def test_tables_hold_every_result(folder):
    cells = study().cells
    values = json.loads((folder / "results.json").read_text())
    assert len(values["results"]) == len(cells) * len(TARGETS)
    # In one head three comparisons, in the other two.
    assert len(values["differences"]) == 5 * len(TARGETS)
    for name in ("results", "differences"):
        with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            assert len(list(csv.DictReader(file))) == len(values[name])


def test_equal_studies_have_equal_reports(folder, tmp_path):
    write_report(tmp_path, study())
    files = [file.relative_to(folder) for file in folder.rglob("*") if file.is_file()]
    assert [file for file in files if (folder / file).read_bytes() != (tmp_path / file).read_bytes()] == []


def test_a_study_without_results_has_a_report(tmp_path):
    nothing = dataclasses.replace(study(), cells=(), missing=[cell.name for cell in study().cells], failed={})
    write_report(tmp_path, nothing)
    text = (tmp_path / "report.md").read_text()
    assert "Nothing can be compared yet" in text
    assert study().cells[0].name.path in text
    assert not (tmp_path / "figures").exists()


def test_bare_cells_have_a_report(tmp_path):
    """One seed, no curve, no time of a step, a target that one cell lacks, and names that leave figures no letters."""
    cells = simulated_cells(("???",), {"plain": 0.0, "guided": 0.1}, ("cub",), 1, setting="../x")
    first = dataclasses.replace(cells[0], curve=(), seconds_per_step=0.0, targets={})
    given = dataclasses.replace(study(), cells=(first, dataclasses.replace(cells[1], curve=())), missing=(), failed={})
    write_report(tmp_path, given)
    assert "| ??? | guided | 1 |" in (tmp_path / "report.md").read_text()
    write_report(tmp_path, dataclasses.replace(given, cells=cells))
    assert len(list((tmp_path / "figures").iterdir())) == 3
    assert "one seed: no interval over seeds" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": ("plain", "guided")}, r"the arms of a report.*without \['<b>"),
        ({"targets": ("cub", "flowers17")}, r"the targets of a report.*without \['cars'\]"),
        ({"chosen_on": {"fog"}}, r"without \['fog'\]"),
        ({"baseline": "none"}, r"without \['none'\]"),
        ({"targets": (*TARGETS, "cub")}, "must be different"),
    ],
)
def test_names_must_fit_together(change, message):
    with pytest.raises(RunError, match=message):
        dataclasses.replace(study(), **change)


def test_other_episodes_are_refused_before_anything_is_written(tmp_path):
    cells = list(study().cells)
    other = {target: dataclasses.replace(result, episodes_id="other") for target, result in cells[0].targets.items()}
    cells[0] = dataclasses.replace(cells[0], targets=other)
    with pytest.raises(RunError, match="same episodes"):
        write_report(tmp_path, dataclasses.replace(study(), cells=cells))
    assert list(tmp_path.iterdir()) == []


def test_learning_curves_are_in_a_table_too(markdown):
    curves = [cell.curve for cell in study().cells if (cell.name.head, cell.name.arm) == ("relation", "guided")]
    last = max(number for number, _ in curves[0])
    mean = 100 * sum(dict(curve)[last] for curve in curves) / len(curves)
    table = markdown[markdown.index("columns are training episodes") :]
    header = next(line for line in table.splitlines() if line.startswith("| head"))
    assert header.split("|")[-2].strip() == str(last)
    row = next(line for line in table.splitlines() if line.startswith("| relation | guided"))
    assert row.split("|")[-2].strip() == f"{mean:.1f}"
