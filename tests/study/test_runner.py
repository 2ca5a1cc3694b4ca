"""Cells are done by a stand-in for the process that trains; tests/cli/test_study.py has real ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from egt_tf.errors import DataError, RunError
from egt_tf.study.folders import StudyFolders
from egt_tf.study.plan import load_study
from egt_tf.study.pool import StudyProgress, Watch, last_line
from egt_tf.study.runner import finished_cells, run_study
from egt_tf.study.summary import write_summary
from egt_tf.study.worker import main, worker_command
from tests.helpers.tiny_studies import write_plan, write_result

ROOT = Path(__file__).resolve().parents[2]
SLEEP = "import time; print('sleeping', flush=True); time.sleep(60)"
# Writes that it has begun, and what it sees of its environment.
NOTE = """
import os, sys, time
with open({notes!r}, "a") as file:
    file.write(f"begin {{sys.argv[1]}} {{os.environ.get('OMP_NUM_THREADS')}}\\n")
time.sleep(0.3)
with open({notes!r}, "a") as file:
    file.write(f"end {{sys.argv[1]}}\\n")
os.makedirs(os.path.dirname(sys.argv[2]), exist_ok=True)
os.replace(sys.argv[2] + ".prepared", sys.argv[2])
"""


class Stand:
    """A study in a folder of its own, and a stand-in for the process of a cell."""

    def __init__(self, folder: Path, **changes):
        self.plan_file = write_plan(folder, **changes)
        self.study = load_study(self.plan_file)
        self.folders = StudyFolders(folder / "out", folder / "out" / "work")
        self.names = [cell.name for cell in self.study.cells]
        self.notes_file = folder / "notes.txt"
        self.ended: list[StudyProgress] = []

    def prepare(self):
        """What the processes only have to rename, since they are fast without this package."""
        for name in self.names:
            write_result(self.study, self.folders, name)
            file = self.folders.result_file(name)
            file.rename(f"{file}.prepared")

    def noting(self, name):
        return [
            sys.executable,
            "-c",
            NOTE.format(notes=str(self.notes_file)),
            name.path,
            self.folders.result_file(name),
        ]

    def run(self, command=None, jobs=1, running=lambda names: None):
        watch = Watch(self.ended.append, running)
        run_study(self.study, self.plan_file, None, self.folders, jobs, watch, command or self.noting)

    @property
    def notes(self):
        return [line.split() for line in self.notes_file.read_text().splitlines()]

    @property
    def reasons(self):
        return {progress.name: progress.reason for progress in self.ended if progress.reason is not None}


def python(code):
    return lambda name: [sys.executable, "-c", code]


@pytest.fixture
def stand(tmp_path):
    return Stand(tmp_path)


# === The pool ===


def test_the_first_cell_of_each_setting_runs_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    stand = Stand(
        tmp_path,
        settings={"a": {}, "b": {"training.epochs": 2}},
        heads={"p": {"arms": ["plain"]}},
        arms={"plain": {}},
        comparisons=None,
        seeds=[1, 2, 3],
    )
    stand.prepare()
    side_by_side = []
    stand.run(jobs=2, running=lambda names: side_by_side.append(len(names)))
    assert max(side_by_side) == 2
    begun, together = set(), {}
    for kind, path, *_ in stand.notes:
        if kind == "begin":
            begun.add(path)
            for one in begun:
                together.setdefault(one, set()).update(begun)
        else:
            begun.remove(path)
    for first in ("a/p/1shot/plain/seed1", "b/p/1shot/plain/seed1"):
        assert together[first] == {first}
    assert together["a/p/1shot/plain/seed2"] == {"a/p/1shot/plain/seed2", "a/p/1shot/plain/seed3"}
    assert {threads for kind, _, *threads in map(tuple, stand.notes) for threads in threads if kind == "begin"} == {"1"}
    assert [(progress.ended, progress.total) for progress in stand.ended] == [(n, 6) for n in range(1, 7)]
    assert [progress.seconds_left for progress in stand.ended][-1] == 0
    assert len(finished_cells(stand.study, stand.folders)) == 6


def test_one_process_has_all_threads(stand, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    stand.prepare()
    stand.run(jobs=1)
    assert {note[2] for note in stand.notes if note[0] == "begin"} == {"None"}


def test_finished_cells_are_not_repeated(stand):
    stand.prepare()
    write_result(stand.study, stand.folders, stand.names[1])
    before = stand.folders.result_file(stand.names[1]).stat().st_mtime_ns
    stand.run()
    assert stand.folders.result_file(stand.names[1]).stat().st_mtime_ns == before
    assert [note[1] for note in stand.notes if note[0] == "begin"] == [stand.names[n].path for n in (0, 2, 3)]
    assert [(progress.ended, progress.total) for progress in stand.ended] == [(2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; print('no luck'); print(); sys.exit(2)", "no luck"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        pytest.param("import sys; sys.exit(3)", "it printed nothing", marks=pytest.mark.slow),
        ("print('all is well')", "it left no result (last line: all is well)"),
        (
            "import os; print('step 3', flush=True); os.kill(os.getpid(), 9)",
            "it was killed by signal 9, as for a lack of memory (last line: step 3)",
        ),
        pytest.param(
            "import os; os.kill(os.getpid(), 15)",
            "it was killed by signal 15 (last line: it printed nothing)",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_failing_cell_is_named_and_the_others_run(stand, code, reason):
    stand.prepare()
    # What an earlier call printed is not the reason.
    log = stand.folders.log_file(stand.names[0])
    log.parent.mkdir(parents=True)
    log.write_text("of an earlier call\n")
    fails = python(code)
    stand.run(lambda name: fails(name) if name == stand.names[0] else stand.noting(name), jobs=2)
    assert stand.reasons == {stand.names[0]: reason}
    assert len(finished_cells(stand.study, stand.folders)) == 3
    write_summary(stand.study, stand.folders, stand.reasons, "egt-tf study tiny.yaml --root DIR")
    report = (stand.folders.out / "report.md").read_text()
    assert stand.names[0].path in report
    assert "egt-tf study tiny.yaml --root DIR" in report


def test_an_interrupted_study_leaves_no_process(stand):
    began, processes = time.monotonic(), set()

    def interrupt(names):
        processes.update(
            int(log.read_text()) for log in stand.folders.work.rglob("seed*.txt") if log.read_text().strip()
        )
        if processes:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stand.run(python("import os, time; print(os.getpid(), flush=True); time.sleep(60)"), running=interrupt)
    assert time.monotonic() - began < 30
    assert len(processes) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(processes.pop(), 0)


# === Folders ===


def test_two_studies_at_once_in_a_folder_are_refused(stand, tmp_path):
    def again(names):
        for folders in (stand.folders, StudyFolders(stand.folders.out, tmp_path / "elsewhere")):
            with pytest.raises(RunError, match="must have its folder to itself"):
                run_study(stand.study, stand.plan_file, None, folders, command=stand.noting)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stand.run(python(SLEEP), running=again)


def test_results_and_runs_may_share_a_folder(stand, tmp_path):
    stand.prepare()
    stand.folders = StudyFolders(tmp_path / "out", tmp_path / "out")
    stand.run()
    assert len(finished_cells(stand.study, stand.folders)) == 4


def test_the_plan_is_kept_and_its_original_may_be_edited(stand):
    stand.prepare()
    text = stand.plan_file.read_text()
    stand.run(lambda name: (stand.plan_file.write_text("{}"), stand.noting(name))[1])
    assert stand.folders.plan_file.read_text() == text


def test_a_seed_more_keeps_the_results(stand, tmp_path):
    for name in stand.names:
        write_result(stand.study, stand.folders, name)
    more = load_study(write_plan(tmp_path, seeds=[3, 1, 2]))
    assert [result.name for result in finished_cells(more, stand.folders)] == stand.names
    fewer = load_study(write_plan(tmp_path, seeds=[2]))
    assert [result.name for result in finished_cells(fewer, stand.folders)] == stand.names[2:]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"evaluation": {"episodes": 5}}, "seed1.json with other evaluation than tiny has now"),
        ({"targets": {"fog": "synthetic:sketch"}}, "seed1.json with other targets than tiny"),
        ({"arms": {"plain": {"training.epochs": 2}, "guided": {}}}, "seed1.json with other settings than tiny"),
        ({"seeds": [8]}, "4 of cells that tiny does not have"),
    ],
)
def test_results_of_another_study_are_refused(stand, tmp_path, changes, says):
    for name in stand.names:
        write_result(stand.study, stand.folders, name)
    stand.study = load_study(write_plan(tmp_path, **changes))
    with pytest.raises(RunError) as error:
        stand.run()
    assert says in str(error.value)
    assert "name another folder with --out" in str(error.value)
    assert not stand.folders.plan_file.exists()


def test_results_from_before_a_key_existed_are_kept(stand):
    write_result(stand.study, stand.folders, stand.names[0])
    file = stand.folders.result_file(stand.names[0])
    document = json.loads(file.read_text())
    del document["settings"]["student"], document["settings"]["training"]["xla"]
    file.write_text(json.dumps(document))
    assert [result.name for result in finished_cells(stand.study, stand.folders)] == stand.names[:1]


@pytest.mark.parametrize("folder", sorted(path.name for path in (ROOT / "docs" / "studies").iterdir()))
def test_the_results_that_are_shown_are_of_the_plans_of_now(folder):
    study = load_study(ROOT / "configs" / "studies" / f"{folder}.yaml")
    folders = StudyFolders(ROOT / "docs" / "studies" / folder, Path("work"))
    assert len(finished_cells(study, folders)) == len(list(folders.results_folder.rglob("*.json")))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"result": 3}', b'{"result": {}}', b"\xff", b'{"settings'])
def test_a_damaged_result_is_named(stand, content):
    write_result(stand.study, stand.folders, stand.names[0])
    file = stand.folders.result_file(stand.names[0])
    file.write_bytes(content)
    with pytest.raises(RunError, match="must be the result of a cell, as it was written") as error:
        finished_cells(stand.study, stand.folders)
    assert str(file) in str(error.value)
    assert "remove it to run the cell again" in str(error.value)


def test_images_that_do_not_suffice_are_found_before_anything_runs(tmp_path):
    stand = Stand(tmp_path, evaluation={"queries": 1000})
    with pytest.raises(DataError, match="take fewer shots or queries"):
        stand.run(python("raise SystemExit('never')"))
    assert stand.ended == []


@pytest.mark.parametrize(
    ("text", "line"), [("", ""), ("\n\n", ""), ("a\nb\n", "b"), ("a\n" + "x" * 9000 + "\n\n b \n", "b"), ("a\rb", "b")]
)
def test_the_last_line_of_a_log(tmp_path, text, line):
    (tmp_path / "log").write_text(text)
    assert last_line(tmp_path / "log") == line
    assert last_line(tmp_path / "none") == ""


# === The process of a cell ===


def start(command, **keywords):
    keywords = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        **keywords,
    }
    return subprocess.Popen(command, **keywords)


def test_a_process_imports_the_package_that_started_it(stand, tmp_path):
    (tmp_path / "egt_tf").mkdir()
    (tmp_path / "egt_tf" / "__init__.py").write_text("raise RuntimeError('the wrong one')")
    command = worker_command(stand.plan_file, None, stand.folders)(stand.names[0])
    command[command.index(stand.names[0].path)] = "no/such/cell"
    with start(command, cwd=tmp_path) as process:
        assert process.wait(60) == 2
        out, err = process.stdout.read(), process.stderr.read()
    assert err == ""
    assert out == f"a cell must be one of {stand.plan_file}. Received: no/such/cell\n"


def test_a_process_ends_with_the_one_that_started_it():
    code = (
        "from egt_tf.study import worker; import time; worker._end_with_input(); print(1, flush=True); time.sleep(60)"
    )
    with start([sys.executable, "-c", code]) as process:
        assert process.stdout.readline() == "1\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.stdin.close()
        assert process.wait(30) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RunError("must be\nso"), "must be so"),
        (MemoryError(), "out of memory"),
        (TypeError("first\n  second"), "TypeError: first"),
        (OSError(), "OSError"),
    ],
)
def test_the_last_line_of_a_process_is_the_reason(monkeypatch, capsys, error, line):
    def fail(*arguments):
        raise error

    monkeypatch.setattr("egt_tf.study.worker._end_with_input", lambda: None)
    monkeypatch.setattr("egt_tf.study.worker._run", fail)
    assert main([]) == 2
    assert capsys.readouterr().out.splitlines()[-1] == line
