"""What the README tells people to type works, as it stands there; only the trainings are shortened."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from egt_tf.data.synthetic import draw

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
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
    "data": [],
    "export": [],
    "predict": [],
    "runs": [],
    "doctor": [],
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines() if line.startswith("egt-tf ")]


def shortened(command: str) -> list[str]:
    _program, name, *arguments = shlex.split(command)
    extra = SHORTER[name]
    return [
        name,
        *arguments,
        *([part for value in extra for part in ("--set", value)] if name in ("train", "pretrain") else extra),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the images that the README speaks of, and the runs of its commands."""
    folder = tmp_path_factory.mktemp("readme")
    for index in range(CLASSES):
        for number in range(IMAGES):
            _save(folder / "photos" / f"class{index:02d}" / f"{number}.png", index, number)
    for index in range(3):
        _save(folder / "examples" / f"class{index:02d}" / "1.png", index, 20)
    _save(folder / "photo.jpg", 1, 30)
    shutil.copytree(ROOT / "saved_models" / "samples", folder / "saved_models" / "samples")
    return folder


def _save(path: Path, class_index: int, instance: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw("shapes", class_index, instance, size=32)[0]).save(path)


def _run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1"}
    return subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def _globbed(arguments: list[str], folder: Path) -> list[str]:
    expanded = []
    for argument in arguments:
        found = sorted(str(p.relative_to(folder)) for p in folder.glob(argument)) if "*" in argument else []
        expanded.extend(found[:1] or [argument])
    return expanded


def test_commands_and_python_blocks(folder):
    assert len(commands()) >= 6
    assert len(blocks("python")) == 2
    for command in commands():
        arguments = _globbed(shortened(command), folder)
        if "--resume" in arguments:
            arguments = [a for a in shlex.split(command)[1:]]
        done = _run([sys.executable, "-m", "egt_tf_cli", *arguments], folder)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    for block in blocks("python"):
        done = _run([sys.executable, "-c", block], folder)
        assert done.returncode == 0, done.stderr
    assert (folder / "explanation.png").read_bytes().startswith(b"\x89PNG")


def test_every_configuration_key_is_described():
    from egt_tf.config import RunConfig, config_to_dict

    for section in config_to_dict(RunConfig()):
        assert f"`{section}." in README


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", "\n".join(blocks("sh")), re.M):
        assert re.search(rf"^{target}:", makefile, re.M)
