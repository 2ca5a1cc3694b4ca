"""What the README and the pages below docs/ tell people to type works, as it stands there; trainings are shortened."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from egt_tf.data.synthetic import draw
from egt_tf_cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
# Their commands and Python blocks run one after the other, in this order and in one folder; the second page goes on with
# what the first one made, and is among the slow tests.
PAGES = ("README.md", "docs/training.md")
# Theirs too, each page in a folder of its own, among the slow tests.
TUTORIALS = (
    "docs/tutorials/photographs.md",
    "docs/tutorials/guided-training.md",
    "docs/tutorials/explain-keras.md",
    "docs/tutorials/serve.md",
)
# Why the commands of other pages do not.
NOT_RUN = {
    "docs/app.md": "serves a page until it is ended, and needs Docker; see tests/app/test_page.py",
    "docs/explaining.md": "minutes; see tests/cli/test_tune_composite.py",
    "docs/devices.md": "needs several machines; see tests/training/test_strategy.py",
    "docs/learning.md": "the commands of the README and more of their kind; see tests/cli/test_learn.py",
    "docs/pretraining.md": "hours, and variables of the shell; the README has the same commands",
    "docs/metrics.md": "minutes; see tests/cli/test_evaluate_explanations.py",
    "docs/methods/challenger.md": "minutes; see tests/training/test_challenger.py and tests/cli/test_pretrain.py",
    "docs/methods/smooth_taylor.md": "minutes; see tests/cli/test_explain.py",
    "docs/methods/stochastic_students.md": "minutes; see tests/cli/test_harden.py",
    "docs/studies.md": "hours, and data sets; see tests/cli/test_study.py",
    "docs/serving.md": "needs a server; see tests/export and tests/serving",
}
# Whose Python runs in test_docs.py or needs what only its reader has.
PYTHON_ELSEWHERE = {
    "docs/explaining.md",
    "docs/learning.md",
    "docs/methods/smooth_taylor.md",
    "docs/methods/stochastic_students.md",
    "docs/metrics.md",
    "docs/serving.md",
    "docs/watching.md",
}
TEXT = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for pattern in (
        "*.md",
        "docs/*.md",
        *(f"docs/{room}/*.md" for room in ("methods", "tutorials", "howto", "explanation")),
    )
    for path in ROOT.glob(pattern)
}
# In place of the pre-trained embedding, which takes half a second for 30 photos; the first command runs with that.
EMBEDDING = {"name": "conv4", "width": 4}
# At least five classes in every split of the folder rule, and enough images for 5 shots and the queries below.
CLASSES, IMAGES = 24, 8
SHORTER = {
    "train": [
        "training.epochs=1",
        "training.episodes_per_epoch=2",
        "training.validation_episodes=2",
        "data.image_size=32",
        "episode.queries=2",
        "model.backbone.width=8",
    ],
    "pretrain": ["pretrain.epochs=1", "data.image_size=32", "model.backbone.width=8"],
    "evaluate": ["--episodes", "4", "--queries", "2"],
    "explain": [],
    "learn": ["--image-size", "32"],
    "data": [],
    "export": [],
    "predict": [],
    "runs": [],
    "report": ["--examples", "1"],
    "doctor": [],
}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT[page], re.S)


def commands(page: str) -> list[str]:
    return [line for block in blocks(page, "sh") for line in block.splitlines() if line.startswith("egt-tf ")]


def shortened(command: str) -> list[str]:
    _program, name, *arguments = shlex.split(command, comments=True)
    # What is gone on with is what was begun; a line that names a configuration begins it.
    goes_on = {"--add", "--remove", "--rename"} & set(arguments) or (
        "--resume" in arguments and "--config" not in arguments
    )
    extra = [] if goes_on else SHORTER[name]
    if name in ("train", "pretrain"):
        extra = [part for value in extra for part in ("--set", value)]
    return [name, *arguments, *extra]


def _prepared(folder: Path) -> Path:
    """A folder with the images that pages speak of."""
    for index in range(CLASSES):
        # Two have names that a page speaks of.
        name = {0: "castle", 1: "church"}.get(index, f"class{index:02d}")
        for number in range(IMAGES):
            _save(folder / "photos" / name / f"{number}.png", index, number)
    for index, name in ((30, "new"), (1, "church")):
        for number in range(2):
            _save(folder / "more" / name / f"more{number}.png", index, 40 + number)
    _save(folder / "holiday" / "beach.png", 2, 50)
    _save(folder / "new.jpg", 3, 50)
    for index in range(3):
        _save(folder / "examples" / f"class{index:02d}" / "1.png", index, 20)
    _save(folder / "photo.jpg", 1, 30)
    shutil.copytree(ROOT / "saved_models" / "samples", folder / "saved_models" / "samples")
    return folder


def _save(path: Path, class_index: int, instance: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw("shapes", class_index, instance, size=32)[0]).save(path)


def _globbed(arguments: list[str], folder: Path) -> list[str]:
    expanded = []
    for argument in arguments:
        found = sorted(str(p.relative_to(folder)) for p in folder.glob(argument)) if "*" in argument else []
        expanded.extend(found[:1] or [argument])
    return expanded


def _alone(arguments: list[str], folder: Path) -> None:
    """Runs a program in a process of its own."""
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"


def test_commands_and_python_blocks(tmp_path, monkeypatch):
    monkeypatch.chdir(_prepared(tmp_path))
    monkeypatch.setattr("egt_tf.learning.classifier.EMBEDDING", EMBEDDING)
    assert len(commands("README.md")) >= 6
    assert len(blocks("README.md", "python")) == 2
    _run("README.md", tmp_path)
    assert (tmp_path / "explanation.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_page_that_goes_on_with_the_runs_of_the_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(_prepared(tmp_path))
    monkeypatch.setattr("egt_tf.learning.classifier.EMBEDDING", EMBEDDING)
    for page in PAGES:
        _run(page, tmp_path)
    # As installed, where nothing was imported before: the first command, and the first block on the run of another.
    program, *arguments = _globbed(shlex.split(commands("README.md")[0]), tmp_path)
    _alone([str(Path(sys.executable).with_name(program)), *arguments], tmp_path)
    _alone([sys.executable, "-c", blocks("README.md", "python")[0]], tmp_path)


def _run(page: str, folder: Path) -> None:
    """The commands of a page, then its Python blocks, which share their names."""
    for command in commands(page):
        done = CliRunner().invoke(cli, _globbed(shortened(command), folder))
        assert done.exit_code == 0, f"{page}: {command}\n{done.output}\n{done.exception!r}"
    names: dict = {}
    for number, block in enumerate(blocks(page, "python"), 1):
        exec(compile(block, f"{page}, Python block {number}", "exec"), names)  # our own text, not input


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS)
def test_tutorials(page, tmp_path, monkeypatch):
    monkeypatch.chdir(_prepared(tmp_path))
    monkeypatch.setattr("egt_tf.learning.classifier.EMBEDDING", EMBEDDING)
    _run(page, tmp_path)


def test_no_page_is_forgotten():
    with_commands = {page for page in TEXT if commands(page)}
    assert with_commands == {*PAGES, *NOT_RUN, *(page for page in TUTORIALS if commands(page))}
    assert {page for page in TEXT if blocks(page, "python")} - {*PAGES, *TUTORIALS} == PYTHON_ELSEWHERE
    assert set(TUTORIALS) == {page for page in TEXT if page.startswith("docs/tutorials/")}


def test_every_configuration_key_is_described():
    from egt_tf.config import RunConfig, config_to_dict

    sections = config_to_dict(RunConfig())
    assert any(all(f"`{section}." in text for section in sections) for text in TEXT.values())


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    named = {
        name for page in TEXT for block in blocks(page, "sh") for name in re.findall(r"^make ([\w-]+)", block, re.M)
    }
    assert named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.M), target
