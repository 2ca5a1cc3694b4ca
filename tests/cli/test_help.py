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


def _completed(shell: str, words: str, last: str) -> list[str]:
    """What is printed for a shell that completes `last` behind `words`."""
    environment = {
        **os.environ,
        "_EGT_TF_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": f"{words} {last}" if shell != "fish" else words,
        "COMP_CWORD": str(len(shlex.split(words))) if shell != "fish" else last,
    }
    code = "from egt_tf_cli.main import cli; cli(prog_name='egt-tf')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_bash_completes_commands_options_and_configurations():
    assert _completed("bash", "egt-tf", "tr") == ["plain,train"]
    assert "plain,--resume" in _completed("bash", "egt-tf train", "--r")
    assert "plain,relationnet_conv4_mini" in _completed("bash", "egt-tf train --config", "relationnet_c")
    assert "plain,studies/guidance_core" in _completed("bash", "egt-tf study", "studies/guidance_c")


def test_zsh_and_fish_are_told_what_a_command_is_for():
    assert _completed("zsh", "egt-tf", "tr")[:2] == ["plain", "train"]
    assert _completed("fish", "egt-tf", "tr")[0].startswith("plain")


def test_completing_does_not_import_tensorflow():
    code = (
        "import sys\nfrom egt_tf_cli.main import cli\n"
        "try:\n    cli(prog_name='egt-tf')\nexcept SystemExit:\n    pass\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    environment = {
        **os.environ,
        "_EGT_TF_COMPLETE": "bash_complete",
        "COMP_WORDS": "egt-tf train --config d",
        "COMP_CWORD": "3",
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "plain,demo" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_read_by_it(shell, tmp_path):
    environment = {**os.environ, "_EGT_TF_COMPLETE": f"{shell}_source"}
    code = "from egt_tf_cli.main import cli; cli(prog_name='egt-tf')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"_EGT_TF_COMPLETE={shell}_complete" in done.stdout
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here to read it: its protocol alone was tested")
    script = tmp_path / "completion"
    script.write_text(done.stdout)
    read = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")
