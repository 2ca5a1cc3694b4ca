from __future__ import annotations

import csv
import dataclasses

import pytest

from egt_tf.study.tables import DIFFERENCE_COLUMNS, RESULT_COLUMNS, difference_rows, result_rows, write_csv
from egt_tf.study.verdicts import target_differences
from tests.helpers.simulated_studies import simulated_cells

CELLS = simulated_cells(("cosine",), {"plain": 0.0, "guided": 0.05}, ("cub", "cars"), 3)


def test_a_row_for_each_cell_and_target():
    rows = result_rows(CELLS)
    assert len(rows) == 2 * 3 * 2
    assert len({(row["arm"], row["seed"], row["target"]) for row in rows}) == len(rows)
    cell, row = CELLS[0], rows[1]
    result = cell.targets["cars"]
    assert (row["setting"], row["head"], row["shots"], row["arm"], row["seed"]) == ("default", "cosine", 5, "plain", 1)
    assert (row["target"], row["accuracy"], row["training_episodes"]) == ("cars", result.accuracy, cell.episodes)
    assert 0 < row["episode_interval"] < 0.1
    assert row["negative_log_likelihood"] == result.negative_log_likelihood


def test_what_is_not_finite_is_not_known():
    (row, *_) = result_rows([dataclasses.replace(CELLS[0], seconds_per_step=float("nan"))])
    assert row["seconds_per_step"] is None


def test_a_row_for_each_difference():
    differences = target_differences(CELLS, [("guided", "plain")])
    rows = difference_rows(differences, chosen_on={"cars"})
    assert [(row["target"], row["counted"], row["seeds"]) for row in rows] == [("cub", True, 3), ("cars", False, 3)]
    assert rows[0]["difference"] == differences[0].difference.mean
    assert rows[0]["verdict"] == differences[0].verdict.value


def test_csv_gives_the_numbers_back(tmp_path):
    rows = result_rows(CELLS)
    write_csv(tmp_path / "results.csv", RESULT_COLUMNS, rows)
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [float(row["accuracy"]) for row in read] == [row["accuracy"] for row in rows]
    assert tuple(read[0]) == RESULT_COLUMNS


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "differences.csv"
    path.write_text("old")
    with pytest.raises(ValueError, match="contains fields not in fieldnames"):
        write_csv(path, DIFFERENCE_COLUMNS, [{"unknown": 1}])
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]
