from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from egt_tf.study.folders import StudyFolders
from egt_tf.study.plan import load_study
from egt_tf.study.pool import StudyProgress
from egt_tf.study.results import CellName
from egt_tf.study.runner import finished_cells
from egt_tf_cli import study as command
from tests.helpers.tiny_studies import tiny_plan, write_plan, write_result

LONG = {
    **tiny_plan()["run"],
    "training": {
        **{"epochs": 40, "episodes_per_epoch": 20, "validation_episodes": 2},
        **{"checkpoint_every": 3, "figure_every": 0},
    },
}


def of(folder, plan):
    """The study and its folders, as the command names them."""
    return load_study(plan), StudyFolders(folder / "studies" / "tiny", folder / "studies" / "tiny" / "work")


def results(folder, plan):
    """What the cells measured, without the seconds."""
    study, folders = of(folder, plan)
    found = {}
    for cell in finished_cells(study, folders):
        found[cell.name] = (cell.curve, {name: target.accuracies for name, target in cell.targets.items()})
    return found


def wait_for(condition, patience=120.0):
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


# === Without a training ===


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tiny.yaml", "--root", "x"], ["arm", "'giuded'", "did you mean 'guided'?"]),
        (["studies/guidance_cor"], ["did you mean 'studies/guidance_core'?"]),
        (["studies/guidance_core"], ["must be given with --root. Received: none"]),
        (["studies/guidance_core", "--root", "nowhere"], ["cannot read the folder nowhere/cub"]),
    ],
)
def test_a_wrong_call_is_refused(fails, tmp_path, arguments, says):
    write_plan(tmp_path, comparisons=[["giuded", "plain"]])
    fails("study", *arguments, says=says, writes=True)
    assert not list(tmp_path.rglob("runs"))


def test_a_report_without_a_training(egt, tmp_path):
    plan = write_plan(tmp_path)
    study, folders = of(tmp_path, plan)
    for cell in study.cells[:3]:
        write_result(study, folders, cell.name)
    result = egt("study", plan, "--report-only", "--root", "photos")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("4 trainings, of which 3 are finished\n")
    report = (folders.out / "report.md").read_text()
    assert f"egt-tf study {plan} --root DIR --out studies/tiny" in report
    assert "default/prototype/1shot/guided/seed2" in report
    assert not folders.work.exists()


def test_an_interrupted_study_has_a_report(egt, tmp_path, monkeypatch):
    plan = write_plan(tmp_path)
    study, folders = of(tmp_path, plan)

    def interrupted(loaded, file, root, folders, jobs, watch):
        watch.ended(StudyProgress(study.cells[0].name, "no luck", 1, 4, 1.0, None))
        raise KeyboardInterrupt

    monkeypatch.setattr("egt_tf.study.runner.run_study", interrupted)
    result = egt("study", plan)
    assert result.exit_code == 130
    assert result.stderr == "Error: interrupted; call it again to go on with what is left\n"
    assert f"1/4  {study.cells[0].name.path}  failed: no luck\n" in result.output
    assert "no luck" in (folders.out / "report.md").read_text()


@pytest.mark.parametrize(
    ("reason", "ended", "left", "end"),
    [(None, 1, 125.0, "done in 12 s  2 min 05 s left"), (None, 4, 0.0, "done in 12 s"), ("so", 1, None, "failed: so")],
)
def test_a_line_of_progress(reason, ended, left, end):
    name = CellName("default", "cosine", 5, "plain", 1)
    line = command._ended_line(StudyProgress(name, reason, ended, 4, 12.0, left))
    assert line == f"{ended}/4  default/cosine/5shot/plain/seed1  {end}"


def test_the_line_of_what_runs(tmp_path):
    folders = StudyFolders(tmp_path, tmp_path)
    names = [CellName("default", "cosine", 5, arm, 1) for arm in ("plain", "guided")]
    log = folders.log_file(names[0])
    log.parent.mkdir(parents=True)
    log.write_text("epoch 1 of 6: fog 50 %\n")
    assert command._running_line(names, folders) == "cosine/plain/seed1 epoch 1 of 6: fog 50 %  |  cosine/guided/seed1"


# === Trainings ===


@pytest.mark.slow
def test_a_failing_training_is_named_and_the_others_are_kept(egt, tmp_path):
    heads = {"prototype": {"arms": ["plain"]}, "none": {"set": {"model.head": "cosin"}, "arms": ["guided"]}}
    plan = write_plan(tmp_path, heads=heads, seeds=[1], comparisons=None)
    result = egt("study", plan, "--jobs", "2")
    study, folders = of(tmp_path, plan)
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: 1 of 2 trainings failed; the report names them and studies/tiny/work/logs has what they printed\n"
    )
    assert "did you mean 'cosine'?" in result.output
    assert "1 of 2 trainings" in result.output
    report = (folders.out / "report.md").read_text()
    assert "default/none/1shot/guided/seed1" in report
    assert "did you mean" in report
    assert [name.head for name in results(tmp_path, plan)] == ["prototype"]
    before = folders.result_file(study.cells[0].name).stat().st_mtime_ns
    # The plan is put right by leaving the head out, and nothing is trained again.
    result = egt(
        "study",
        write_plan(
            tmp_path, heads={"prototype": {}}, arms={"plain": {"guidance.mode": "none"}}, seeds=[1], comparisons=None
        ),
    )
    assert result.exit_code == 0, result.output
    assert folders.result_file(study.cells[0].name).stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_seed_is_added_and_all_are_tested_on_the_same_episodes(egt, tmp_path):
    plan = write_plan(tmp_path, seeds=[1])
    assert egt("study", plan, "--jobs", "2").exit_code == 0
    study, folders = of(tmp_path, plan)
    before = {cell.name: folders.result_file(cell.name).stat().st_mtime_ns for cell in study.cells}
    result = egt("study", write_plan(tmp_path), "--jobs", "2")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("4 trainings, of which 2 are finished\n3/4")
    assert {name: folders.result_file(name).stat().st_mtime_ns for name in before} == before
    study, folders = of(tmp_path, plan)
    cells = finished_cells(study, folders)
    assert len(cells) == 4
    assert len({cell.targets["fog"].episodes_id for cell in cells}) == 1
    assert len({cell.targets["fog"].accuracies for cell in cells}) > 1


@pytest.mark.slow
def test_a_study_that_is_stopped_in_every_way_ends_with_the_numbers_of_one_left_alone(process, egt, tmp_path):
    alone, stopped = tmp_path / "alone", tmp_path / "stopped"
    for folder in (alone, stopped):
        folder.mkdir()
        plan = write_plan(folder, run=LONG, arms={"guided": {}}, seeds=[1], comparisons=None)
    study, folders = of(stopped, plan)
    log, run = folders.log_file(study.cells[0].name), folders.run_folder(study.cells[0].name)

    def begin():
        """A call that has gone on for some steps, and the process of its cell."""
        newest = max(run.glob("checkpoints/*.npz"), default=None)
        call = process("study", "tiny.yaml", cwd=stopped)
        wait_for(lambda: max(run.glob("checkpoints/*.npz"), default=None) != newest)
        time.sleep(0.5)
        assert call.poll() is None, call.communicate()
        children = [int(pid) for pid in Path(f"/proc/{call.pid}/task/{call.pid}/children").read_text().split()]
        assert len(children) == 1
        return call, children[0]

    def is_gone(pid):
        return not os.path.exists(f"/proc/{pid}")

    # The study is killed: its processes do not live on.
    for number in (signal.SIGKILL, signal.SIGTERM):
        call, child = begin()
        call.send_signal(number)
        call.wait(30)
        wait_for(lambda child=child: is_gone(child), patience=30)
    # A process of it is killed: named in the report, exit code 2.
    call, child = begin()
    os.kill(child, signal.SIGKILL)
    out, err = call.communicate(timeout=60)
    assert call.returncode == 2, err
    assert "it was killed by signal 9" in out
    assert "it was killed by signal 9" in (folders.out / "report.md").read_text()
    # Ctrl-C: a report, exit code 130.
    (folders.out / "report.md").unlink()
    call, child = begin()
    call.send_signal(signal.SIGINT)
    out, err = call.communicate(timeout=60)
    assert call.returncode == 130, err
    assert "report: studies/tiny/report.md" in out
    assert (folders.out / "report.md").is_file()
    assert is_gone(child)
    # The newest checkpoint is damaged: the one before is as good.
    newest = max(run.glob("checkpoints/*.npz"))
    newest.write_bytes(newest.read_bytes()[:-100])
    last, undisturbed = (process("study", "tiny.yaml", cwd=folder) for folder in (stopped, alone))
    for call in (last, undisturbed):
        assert call.communicate(timeout=600)[1] == ""
        assert call.returncode == 0
    assert "is damaged" in log.read_text()
    assert results(stopped, plan) == results(alone, plan)
    assert len(json.loads((run / "curve.json").read_text())) == 40


@pytest.mark.slow
def test_a_training_without_a_whole_checkpoint_fails_by_itself(process, egt, tmp_path):
    plan = write_plan(
        tmp_path, run={**LONG, "training": {**LONG["training"], "epochs": 6, "keep_checkpoints": 1}}, seeds=[1]
    )
    study, folders = of(tmp_path, plan)
    run = folders.run_folder(study.cells[0].name)
    call = process("study", "tiny.yaml", cwd=tmp_path)
    wait_for(lambda: list(run.glob("checkpoints/*.npz")) and (run / "curve.json").is_file())
    call.send_signal(signal.SIGINT)
    call.communicate(timeout=60)
    assert call.returncode == 130
    for file in run.glob("checkpoints/*.npz"):
        file.write_bytes(file.read_bytes()[:-100])
    result = egt("study", plan, "--jobs", "1")
    assert result.exit_code == 2
    assert "must be whole to go on from it" in result.output
    assert [name.arm for name in results(tmp_path, plan)] == ["guided"]
