from __future__ import annotations

import json
import re
import subprocess
import sys


def test_the_table(egt, run):
    assert egt("evaluate", "runs/tiny", "--episodes", 4, "--queries", 2, "--data", "synthetic:fog").exit_code == 0
    result = egt("runs")
    assert (result.exit_code, result.stderr) == (0, "")
    header, row, evaluation = result.stdout.splitlines()
    assert header.split()[:6] == ["run", "head", "backbone", "data", "guidance", "epochs"]
    assert row.split()[:6] == ["tiny", "relation", "conv4", "synthetic:shapes", "guided", "2/2"]
    assert re.search(r" \d+\.\d\d % \+- \d+\.\d\d \(33 % by chance\)  20\d\d-\d\d-\d\d \d\d:\d\d$", row)
    accuracy, calibration = evaluation.split(", calibration error ")
    assert re.fullmatch(
        r"    synthetic:fog \(novel\), 3-way 2-shot, 4 episodes: \d+\.\d\d % \+- \d+\.\d\d \(33 % by chance\)", accuracy
    )
    (found,) = json.loads(egt("runs", "--json").stdout)[0]["evaluations"]
    error, likelihood = found["calibration_error"], found["negative_log_likelihood"]
    assert calibration == f"{100 * error:.2f} %, negative log-likelihood {likelihood:.4f}"


def test_an_evaluation_of_an_older_version_is_shown_without_what_it_lacks(egt, run):
    assert egt("evaluate", "runs/tiny", "--episodes", 1, "--queries", 2, "--data", "synthetic:fog").exit_code == 0
    (path,) = (run / "evaluations").iterdir()
    record = json.loads(path.read_text())
    del record["calibration_error"], record["negative_log_likelihood"]
    path.write_text(json.dumps(record))
    result = egt("runs")
    assert re.fullmatch(
        r"    synthetic:fog \(novel\), 3-way 2-shot, 1 episodes: \d+\.\d\d % \(33 % by chance\)",
        result.stdout.splitlines()[2],
    )
    (found,) = json.loads(egt("runs", "--json").stdout)[0]["evaluations"]
    assert (found["interval"], found["calibration_error"], found["negative_log_likelihood"]) == (None, None, None)


def test_json(egt, run):
    rows = json.loads(egt("runs", "runs", "--json").stdout)
    assert [row["name"] for row in rows] == ["tiny"]
    assert rows[0]["epochs_done"] == 2
    assert rows[0]["accuracy"] == max(
        json.loads(line)["val_accuracy"] for line in (run / "metrics.jsonl").read_text().splitlines()
    )
    assert json.loads(egt("runs", "runs/tiny", "--json").stdout)[0]["name"] == "tiny"


def test_damaged_runs_are_listed_and_the_exit_code_is_0(egt, run, tmp_path):
    (run / "metrics.jsonl").write_text("{")
    (tmp_path / "runs" / "lost").mkdir()
    (tmp_path / "runs" / "lost" / "last.npz").write_bytes(b"PK")
    result = egt("runs", "--sort", "accuracy")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == ["run", "lost", "tiny"]
    assert sum(line.startswith("    damaged: ") for line in lines) == 3
    assert "one JSON object a line" in result.stdout
    assert "last.npz are damaged" in result.stdout


def test_no_runs(egt, fails, tmp_path):
    fails("runs", says=["the folder of runs must exist. Received: runs", "egt-tf train"])
    (tmp_path / "runs").mkdir()
    assert egt("runs").stdout == "no runs in runs; train one: egt-tf train --config demo --run runs/demo\n"
    assert egt("runs", "--sort", "size").exit_code == 2


def test_tensorflow_is_not_imported(run):
    code = (
        "import sys; from egt_tf_cli.main import cli; cli(['runs', 'runs'], standalone_mode=False); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=run.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "tiny" in done.stdout
