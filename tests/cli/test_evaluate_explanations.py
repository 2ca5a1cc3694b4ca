"""egt-tf evaluate-explanations"""

from __future__ import annotations

import csv
import json
import math

import pytest
from PIL import Image

METHODS = ("epsilon_plus", "gradient")


@pytest.mark.slow
def test_methods_side_by_side(egt, run, tmp_path):
    arguments = ("evaluate-explanations", run, "--data", "synthetic:sketch", "--methods", ",".join(METHODS))
    result = egt(*arguments, "--queries", 4, "--quick", "--out", "judged")
    assert result.exit_code == 0, result.output
    assert "4 queries, 2 methods: about" in result.stdout
    found = json.loads((tmp_path / "judged" / "explanations.json").read_text())
    assert (found["quick"], found["ways"], found["shots"]) == (True, 3, 2)
    assert set(found["measures"]) == {
        "aupc",
        "deletion",
        "insertion",
        "faithfulness",
        "relevance_mass",
        "relevance_rank",
        "pointing_game",
        "autvc",
        "sensitivity",
    }
    for measure in found["measures"].values():
        assert set(measure["queries"]) == {"epsilon_plus", "gradient", "random"}
        assert {len(values) for values in measure["queries"].values()} == {4}
    rows = list(csv.DictReader((tmp_path / "judged" / "explanations.csv").read_text().splitlines()))
    assert len(rows) == 9 * 3
    mean = next(float(row["mean"]) for row in rows if (row["method"], row["measure"]) == ("gradient", "autvc"))
    values = found["measures"]["autvc"]["queries"]["gradient"]
    assert math.isclose(mean, sum(values) / 4, abs_tol=1e-5)
    with Image.open(tmp_path / "judged" / "perturbation.png") as picture:
        picture.load()


@pytest.mark.slow
def test_the_same_line_again_gives_the_same_numbers(egt, run, tmp_path):
    line = ("evaluate-explanations", run, "--data", "synthetic:sketch", "--methods", ",".join(METHODS), "--quick")
    for out in ("once", "again"):
        assert egt(*line, "--queries", 4, "--out", out).exit_code == 0
    once, again = (json.loads((tmp_path / out / "explanations.json").read_text()) for out in ("once", "again"))
    assert again["measures"] == once["measures"]


def test_some_measures_of_images_without_masks(egt, run, drawn, tmp_path):
    result = egt(
        "evaluate-explanations",
        run,
        "--data",
        f"folder:{drawn}",
        "--methods",
        "gradient",
        "--measures",
        "autvc",
        "--queries",
        2,
    )
    assert result.exit_code == 0, result.output
    assert not (run / "explanations" / "perturbation.png").exists()
    assert list(json.loads((run / "explanations" / "explanations.json").read_text())["measures"]) == ["autvc"]


@pytest.mark.slow
def test_an_exported_model_is_judged_as_its_run_is(egt, run, exported, tmp_path):
    line = ("--data", "synthetic:sketch", "--queries", 3, "--quick", "--ways", 3, "--shots", 2)
    model = ("--measures", "deletion,insertion,autvc,sensitivity,pointing_game")
    assert egt("evaluate-explanations", exported, *line, *model, "--out", "model").exit_code == 0
    assert egt("evaluate-explanations", run, *line, *model, "--methods", "fsc", "--out", "run").exit_code == 0
    of_model, of_run = (
        json.loads((tmp_path / name / "explanations.json").read_text())["measures"] for name in ("model", "run")
    )
    for name, measure in of_run.items():
        assert of_model[name]["queries"]["fsc"] == pytest.approx(measure["queries"]["fsc"], abs=2e-3), name


@pytest.mark.slow
def test_what_is_left_of_maps_while_layers_lose_their_weights(egt, run):
    line = ("evaluate-explanations", run, "--data", "synthetic:sketch", "--methods", "gradient", "--measures", "autvc")
    assert egt(*line, "--queries", 2, "--randomize", 1).exit_code == 0
    rows = list(csv.DictReader((run / "explanations" / "randomization.csv").read_text().splitlines()))
    assert {row["method"] for row in rows} == {"gradient"}
    assert rows[-1]["last"] == "block1_conv"
    with Image.open(run / "explanations" / "randomization.png") as picture:
        picture.load()


def test_one_line_says_what_is_wrong(fails, run, drawn):
    line = ("evaluate-explanations", run, "--data")
    fails(*line, f"folder:{drawn}", "--measures", "pointing_game", says=["'pointing_game' needs", "synthetic:NAME"])
    fails(*line, "synthetic:sketch", "--measures", "aucp", says=["unknown measure 'aucp'", "did you mean 'aupc'"])
    fails(*line, "synthetic:sketch", "--methods", "gradeint", says=["gradeint", "did you mean 'gradient'"])
    fails(*line, "synthetic:sketch", "--methods", "fsc,fsc", says=["different names"])
    fails(*line, "synthetic:sktch", says=["sktch"])
    (run / "file").write_text("")
    fails(*line, "synthetic:sketch", "--out", run / "file", says=["file"])
    fails("evaluate-explanations", "nowhere", "--data", "synthetic:sketch", says=["nowhere"])


def test_an_exported_model_has_its_own_method_alone(fails, exported):
    line = ("evaluate-explanations", exported, "--data", "synthetic:sketch")
    fails(*line, "--methods", "gradient", says=["method in its graph", "leave --methods and --randomize out"])
    fails(*line, "--randomize", 1, says=["leave --methods and --randomize out"])
