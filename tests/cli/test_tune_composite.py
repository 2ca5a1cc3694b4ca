"""egt-tf tune-composite"""

from __future__ import annotations

import json
import re

import pytest


@pytest.mark.slow
def test_a_composite_is_chosen_written_and_used(egt, run, query, tmp_path):
    result = egt(
        *("tune-composite", run, "--data", "synthetic:sketch", "--split", "novel", "--quick", "--queries", 4),
        *("--grid", "conv_gamma=0,1", "--grid", "dense_gamma=0"),
    )
    assert result.exit_code == 0, result.output
    assert "chosen: vit_gamma conv_gamma=" in result.stdout
    # Two queries rarely tell two composites apart.
    assert re.search(
        r"; (not told apart from|better than|worse than) epsilon_plus: gain [+-]\S+ \+- \S+ of deletion on 2",
        result.stdout,
    )
    written = json.loads((run / "composite.json").read_text())
    assert written["about"]["arguments"]["conv_gamma"] in (0.0, 1.0)
    assert written["about"]["measure"] == "deletion"
    explained = egt("explain", query, "--run", run, "--method", run / "composite.json", "--out", "a.png")
    assert explained.exit_code == 0, explained.output
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_one_line_says_what_is_wrong(fails, run, query, tmp_path):
    line = ("tune-composite", run, "--data", "synthetic:sketch")
    fails(*line, "--grid", "conv_gamma", says=["--grid must be ARGUMENT=NUMBER,NUMBER,...", "conv_gamma"])
    fails(*line, "--grid", "conv_gamma=1", "--grid", "conv_gamma=2", says=["once for each argument"])
    fails(*line, "--grid", "conv_gamma=nan", says=["ARGUMENT=NUMBER"])
    fails(*line, "--grid", "conv_gamma=-1", says=["`conv_gamma` must be a finite number >= 0", "-1"])
    fails(*line, "--grid", "conv_gama=1", says=["no argument 'conv_gama'", "did you mean 'conv_gamma'"])
    fails(*line, "--composite", "gradient", says=["unknown composite 'gradient'"])
    fails(*line, "--composite", "vit_gama", says=["did you mean 'vit_gamma'"])
    fails(*line, "--against", "epsilon_pluss", says=["did you mean 'epsilon_plus'"])
    fails(*line, "--out", "composite.txt", says=["must be a file that ends in .json"])
    fails("explain", query, "--run", run, "--method", "none.json", says=["cannot read the composite none.json"])
    (tmp_path / "broken.json").write_text("{")
    fails("explain", query, "--run", run, "--method", "broken.json", says=["must be a composite in JSON"])
