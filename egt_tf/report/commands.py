"""What is typed to go on with a run, to repeat it, or to make what its page lacks."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from egt_tf.report.facts import RunFacts, RunKind


def run_command(facts: RunFacts, name: str, *arguments: str) -> str:
    """A command about the run: `egt-tf NAME RUN ...`.

    Example:
        >>> from egt_tf.config import RunConfig
        >>> run_command(RunFacts("a b", "runs/a b", RunConfig(), RunKind.TRAINED), "evaluate", "--data", "SOURCE")
        "egt-tf evaluate 'runs/a b' --data SOURCE"
    """
    return shlex.join(["egt-tf", name, facts.path, *arguments])


def explain_command(facts: RunFacts) -> str:
    """Explains any image by the run."""
    return shlex.join(["egt-tf", "explain", "IMAGE", "--run", facts.path, "--support", "FOLDER"])


def warm_start_command(facts: RunFacts) -> str:
    """Trains a classifier from a pre-trained backbone."""
    return shlex.join(["egt-tf", "train", "--config", "NAME", "--warm-start", facts.path])


def go_on_command(facts: RunFacts) -> str:
    """Goes on with a training that has epochs left."""
    return shlex.join(["egt-tf", _verb(facts), "--run", facts.path, "--resume"])


def repeat_command(facts: RunFacts) -> str:
    """Does the same again, into another folder: what the run's configuration says, every value of it."""
    if facts.kind is RunKind.CONVERTED:
        checkpoint = facts.environment.checkpoint if facts.environment is not None else None
        return shlex.join(["egt-tf", "convert", (checkpoint or {}).get("checkpoint", "FILE"), "--to", _again(facts)])
    config = str(Path(facts.path) / "config.yaml")
    return shlex.join(["egt-tf", _verb(facts), "--config", config, "--run", _again(facts)])


def _verb(facts: RunFacts) -> str:
    return "pretrain" if facts.kind is RunKind.PRETRAINED else "train"


def _again(facts: RunFacts) -> str:
    """A folder beside the run's, which may be the current one."""
    return os.path.normpath(os.path.join(facts.path, os.pardir, f"{facts.name}-again"))
