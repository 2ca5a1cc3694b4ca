from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest


@pytest.fixture
def words():
    """All that a page shows, on one line."""

    def read(path):
        return " ".join(re.sub(r"<[^>]*>", " ", path.read_text(encoding="utf-8")).split())

    return read


def test_the_page_of_a_run(egt, run, words, no_network):
    assert egt("evaluate", "runs/tiny", "--episodes", 4, "--queries", 2, "--data", "synthetic:fog").exit_code == 0
    (path,) = (run / "evaluations").iterdir()
    record = json.loads(path.read_text())
    assert sum(each["queries"] for each in record["calibration_bins"]) == 4 * 3 * 2
    assert sum(each["queries"] for each in record["confusion"]["classes"]) == 4 * 3 * 2
    result = egt("report", "runs/tiny", "--examples", 3)
    assert (result.exit_code, result.output) == (0, "written: runs/tiny/report.html\n")
    page = run / "report.html"
    assert "synthetic:fog (novel), 3-way 2-shot" in words(page)
    assert "6 queries stored with the run are answered rightly" in words(page)
    shown = re.findall(r"(\d)\. (Right|Wrong): ", words(page))
    assert [number for number, _ in shown] == ["1", "2", "3"]
    # Wrong ones come first, and at most two of three where there are right ones.
    kinds = [kind for _, kind in shown]
    right = int(re.search(r"(\d) of the 6 queries", words(page)).group(1))
    assert kinds == sorted(kinds, reverse=True)
    assert kinds.count("Wrong") == min(6 - right, max(2, 3 - right))
    assert page.read_text().count('src="data:image/jpeg') == 3 * (1 + 2 + 2 * 2)
    content = page.read_bytes()
    assert egt("report", "runs/tiny", "--examples", 3, "--out", "again.html").exit_code == 0
    assert (run.parents[1] / "again.html").read_bytes() == content


def test_a_run_without_queries_or_with_damaged_weights_has_a_page(egt, run, words):
    for query in (run / "queries").iterdir():
        query.unlink()
    assert egt("report", "runs/tiny").exit_code == 0
    assert "No stored query is explained here" in words(run / "report.html")


def test_damaged_weights_are_named(egt, run, words):
    (run / "best.npz").write_bytes((run / "best.npz").read_bytes()[:100])
    (run / "metrics.jsonl").write_text("{")
    result = egt("report", "runs/tiny")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "damaged, training",
        "damaged, training",
        "damaged, explained examples",
        "written",
    ]
    assert words(run / "report.html").count("Damaged:") == 4


def test_what_is_refused(egt, fails, run):
    fails("report", "nowhere", says=["the run folder nowhere must exist"])
    fails("report", "runs", says=["must be a run folder"])
    fails("report", "runs/tiny", "--out", "page.txt", says=["ends in .html", "page.txt"])
    (run.parents[1] / "folder.html").mkdir()
    fails("report", "runs/tiny", "--out", "folder.html", says=["ends in .html", "folder.html"])
    (run / "config.yaml").write_text("data: [")
    fails("report", "runs/tiny", says=["config.yaml"])
    assert egt("report", "runs/tiny", "--examples", -1).exit_code == 2


def test_without_examples_tensorflow_is_not_imported(run):
    code = (
        "import sys; from egt_tf_cli.main import cli; "
        "cli(['report', 'runs/tiny', '--examples', '0'], standalone_mode=False); sys.exit('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=run.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (run / "report.html").exists()
