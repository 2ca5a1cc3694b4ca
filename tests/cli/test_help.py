"""What `--help` shows, and what a shell completes."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from egt_tf.explain.purposes import PURPOSES
from egt_tf_cli.bash import ColonBash
from egt_tf_cli.main import cli

WIDTH = 80


def _commands(group: click.Group, before: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    """Words on the command line -> command, groups of commands left out."""
    found: dict[tuple[str, ...], click.Command] = {}
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        words = (*before, name)
        found.update(_commands(command, words) if isinstance(command, click.Group) else {words: command})
    return found


COMMANDS = _commands(cli)


def test_every_command_is_in_one_section():
    named = [name for section in cli.sections.values() for name in section]
    assert sorted(named) == sorted(cli.list_commands(click.Context(cli)))
    assert len(set(named)) == len(named)
    shown = CliRunner().invoke(cli, ["--help"], terminal_width=WIDTH).stdout.partition("\nLearn and predict:")
    shown = "".join(shown[1:])
    for title, section in cli.sections.items():
        assert f"\n{title}:\n" in shown
        for name in section:
            assert f"\n  {name} " in shown
    # No summary is cut.
    assert "..." not in shown


@pytest.mark.parametrize("words", sorted(COMMANDS), ids=" ".join)
def test_two_examples_are_at_the_end_of_the_help_and_can_be_typed(words):
    command = COMMANDS[words]
    shown = CliRunner().invoke(cli, [*words, "--help"], terminal_width=WIDTH).stdout
    section = shown.partition("\nExamples:\n")[2].splitlines()
    assert section == [f"  {line}" for line in command.examples]
    assert len(section) >= 2
    assert max(map(len, shown.splitlines())) <= WIDTH
    for line in command.examples:
        typed = shlex.split(line.partition(" | ")[0].partition(" > ")[0])
        assert tuple(typed[: len(words) + 1]) == ("egt-tf", *words)
        # Every option is known, every value of its type, every argument there.
        command.make_context(words[-1], typed[len(words) + 1 :])


def test_an_example_that_cannot_be_typed_is_found():
    with pytest.raises(click.UsageError):
        COMMANDS["learn",].make_context("learn", ["photos", "--no-such-option"])


# === Completion by the shell ===


CODE = "from egt_tf_cli.main import cli; cli(prog_name='egt-tf')"


def _asked(code: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )


def _completed(shell: str, words: str, last: str) -> list[str]:
    """What is printed for a shell that completes `last` behind `words`."""
    fish = shell == "fish"
    done = _asked(
        CODE,
        _EGT_TF_COMPLETE=f"{shell}_complete",
        COMP_WORDS=words if fish else f"{words} {last}",
        COMP_CWORD=last if fish else str(len(shlex.split(words))),
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_zsh_and_fish_are_told_what_a_command_is_for():
    assert _completed("zsh", "egt-tf", "tr")[:2] == ["plain", "train"]
    assert _completed("fish", "egt-tf", "tr")[0].startswith("plain")


def test_completing_does_not_import_tensorflow():
    code = (
        "import os, sys\nfrom egt_tf_cli.main import cli\n"
        "for words in ('train --config dem', 'explain --method eps', 'data check synthetic:sk', 'export ru'):\n"
        "    os.environ.update(COMP_WORDS=f'egt-tf {words}', COMP_CWORD=str(len(words.split())))\n"
        "    try:\n        cli(prog_name='egt-tf')\n    except SystemExit:\n        pass\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    done = _asked(code, _EGT_TF_COMPLETE="bash_complete")
    assert (done.returncode, done.stderr) == (0, "")
    assert {"plain,demo", "plain,epsilon_plus", "plain,synthetic:sketch", "file,ru"} <= set(done.stdout.splitlines())


def test_completed_methods_are_methods():
    pytest.importorskip("tensorflow")
    from egt_tf.explain import get_method

    assert [get_method(name).name for name in PURPOSES] == list(PURPOSES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a run, a class of photos and a list."""
    folder = tmp_path_factory.mktemp("completion")
    for file in ("runs/first/config.yaml", "runs/no-run/notes.txt", "photos/ant/1.png", "lists/novel.json"):
        (folder / file).parent.mkdir(parents=True)
        (folder / file).touch()
    return folder


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (("tr",), ("train",)),
        (
            ("train", "--r"),
            (
                "--run",
                "--resume",
            ),
        ),
        (("train", "--config", "relationnet_conv4_m"), ("relationnet_conv4_mini",)),
        (("study", "studies/guidance_c"), ("studies/guidance_core",)),
        (("evaluate", "ru"), ("runs/first",)),
        (("explain", "--run", ""), ("runs/first",)),
        (("explain", "--method", "epsilon_g"), ("epsilon_gamma_box",)),
        (("explain", "--compare", "fsc,grad_"), ("fsc,grad_cam",)),
        (("data", "prepare", "cu"), ("cub",)),
        # As bash splits what is typed, and as it does if its user has told it to leave colons alone.
        (("evaluate", "runs/first", "--data", "synthetic", ":", "sk"), ("sketch",)),
        (("evaluate", "runs/first", "--data", "synthetic:sk"), ("synthetic:sketch",)),
        (("data", "check", "folder", ":", "p"), ("photos",)),
        (
            ("data", "check", "folder", ":"),
            (
                "lists",
                "photos",
                "runs",
            ),
        ),
        (("data", "check", "filelist", ":", "lists/n"), ("lists/novel.json",)),
    ],
    ids=str,
)
def test_values_are_completed(folder, monkeypatch, words, completed):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COMP_WORDS", shlex.join(("egt-tf", *words)))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    items = [line.split(",", 1) for line in ColonBash(cli, {}, "egt-tf", "_EGT_TF_COMPLETE").complete().splitlines()]
    assert {value for kind, value in items if kind == "plain"} == set(completed)
    # What follows a file is all that bash keeps.
    assert "file" not in [kind for kind, _ in items][1:]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_itself_gets_what_completes_a_word(folder, tmp_path):
    command = tmp_path / "egt-tf"
    command.write_text(f"#!{sys.executable}\n{CODE}\n")
    command.chmod(0o755)
    script = _asked(CODE, _EGT_TF_COMPLETE="bash_source").stdout
    # `compopt` is for a shell with a prompt.
    code = f"""compopt() {{ :; }}
{script}
complete_words() {{
    COMP_WORDS=(egt-tf "$@") COMP_CWORD=$# COMPREPLY=()
    _egt_tf_completion egt-tf
    echo "${{COMPREPLY[@]}}"
}}
complete_words evaluate ru
complete_words train --config relationnet_conv4_m
complete_words data check synthetic : sk
"""
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["runs/first", "relationnet_conv4_mini", "sketch"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_read_by_it(shell, tmp_path):
    done = _asked(CODE, _EGT_TF_COMPLETE=f"{shell}_source")
    assert done.returncode == 0, done.stderr
    assert f"_EGT_TF_COMPLETE={shell}_complete" in done.stdout
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here to read it: its protocol alone was tested")
    script = tmp_path / "completion"
    script.write_text(done.stdout)
    read = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")
