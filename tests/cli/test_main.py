from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap

import click
import pytest
from click.testing import CliRunner

from egt_tf import __version__
from egt_tf.errors import DataError, EgtError
from egt_tf_cli.main import LazyGroup, cli


def run(failure: BaseException | None = None, arguments: tuple[str, ...] = ("work",)):
    """Runs a group made as `cli` is, with one sub-command `work` that raises `failure`."""
    group = LazyGroup("egt-tf", sections={}, params=cli.params, callback=cli.callback)

    @group.command()
    def work():
        if failure is not None:
            raise failure
        click.echo("worked")

    return CliRunner().invoke(group, arguments)


@pytest.mark.parametrize(
    ("typed", "said"), [("trian", "did you mean 'train'?"), ("predikt", "did you mean 'predict'?"), ("zzz", "'zzz'.")]
)
def test_the_nearest_command_is_suggested(typed, said):
    result = CliRunner().invoke(cli, [typed])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(f"Error: No such command '{typed}'")
    assert result.stderr.endswith(f"{said}\n")


def test_the_python_interface_is_silent():
    """TensorFlow logged eight lines about itself with the first model."""
    code = "import egt_tf; egt_tf.EpisodicModel.build_from({'name': 'conv4', 'width': 2}, 'prototype', image_size=16)"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_command_that_works():
    result = run()
    assert (result.exit_code, result.stdout, result.stderr) == (0, "worked\n", "")


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (EgtError("`shots` must be >= 1. Received: shots=0"), "`shots` must be >= 1. Received: shots=0"),
        (DataError("two\nlines"), "two lines"),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/demo/last.npz"),
            "No space left on device: runs/demo/last.npz",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.png"), "No such file or directory: a.png"),
        (OSError(errno.EXDEV, "Invalid cross-device link", "a", None, "b"), "Invalid cross-device link: a -> b"),
        (OSError("cannot identify image file"), "cannot identify image file"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_errors_of_the_user_are_one_line(failure, message):
    result = run(failure)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"Error: {message}\n")


def test_debug_shows_the_traceback_and_the_same_line():
    result = run(DataError("no images"), ("--debug", "work"))
    assert result.exit_code == 2
    assert result.stderr.startswith("Traceback (most recent call last):")
    assert result.stderr.endswith("\nError: no images\n")


def test_a_bug_is_not_disguised():
    result = run(ZeroDivisionError("a bug"))
    assert isinstance(result.exception, ZeroDivisionError)


def test_usage_errors_stay_those_of_click():
    result = run(arguments=("wrok",))
    assert result.exit_code == 2
    assert "Usage:" in result.stderr
    assert "wrok" in result.stderr


def test_interruption_exits_130():
    result = run(KeyboardInterrupt())
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "Error: interrupted\n")


def test_ctrl_c_ends_a_process_with_one_line(tmp_path):
    script = tmp_path / "work.py"
    script.write_text(
        textwrap.dedent("""
        import signal
        import time
        from egt_tf_cli.main import LazyGroup, cli
        # A test run in the background ignores Ctrl-C, and its children would inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        group = LazyGroup("egt-tf", sections={}, params=cli.params, callback=cli.callback)

        @group.command()
        def work():
            print("working", flush=True)
            time.sleep(60)

        group(["work"])
    """)
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, script], **pipes) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr.decode()) == (130, "Error: interrupted\n")


def test_a_closed_pipe_is_no_error():
    result = run(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert (result.exit_code, result.stderr) == (1, "")


def test_version():
    result = CliRunner().invoke(cli, ["--version"])
    assert result.output == f"egt-tf, version {__version__}\n"


def test_lazy_command_is_imported_on_use(monkeypatch, tmp_path):
    monkeypatch.setattr("egt_tf_cli.__path__", [str(tmp_path)])
    (tmp_path / "late.py").write_text(
        "import click\n@click.command()\ndef late():\n    '''Comes late.'''\n    click.echo('here')\n"
    )
    monkeypatch.delitem(sys.modules, "egt_tf_cli.late", raising=False)
    group = LazyGroup("egt-tf", sections={"": {"late": "late:late"}}, params=cli.params, callback=cli.callback)
    assert "egt_tf_cli.late" not in sys.modules
    assert "Comes late." in CliRunner().invoke(group, ["--help"]).output
    assert CliRunner().invoke(group, ["late"]).output == "here\n"
    sys.modules.pop("egt_tf_cli.late")


def test_the_log_level_of_the_user_stays():
    assert _log_level_after_a_command({"TF_CPP_MIN_LOG_LEVEL": "0"}) == "0"
    assert _log_level_after_a_command({}) == "3"


def test_debug_keeps_the_log():
    assert _log_level_after_a_command({}, "--debug") == "None"


def _log_level_after_a_command(environment: dict[str, str], *options: str) -> str:
    code = textwrap.dedent("""
        import os, sys
        from egt_tf_cli.main import LazyGroup, cli
        group = LazyGroup("egt-tf", sections={}, params=cli.params, callback=cli.callback)
        group.command("work")(lambda: print(os.environ.get("TF_CPP_MIN_LOG_LEVEL")))
        group(sys.argv[1:])
    """)
    inherited = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    result = subprocess.run(
        [sys.executable, "-c", code, *options, "work"],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


def test_the_package_runs_as_the_command():
    done = subprocess.run([sys.executable, "-m", "egt_tf_cli", "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage:" in done.stdout
    assert "train" in done.stdout
