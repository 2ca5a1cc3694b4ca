"""The model that comes with the package: it is found without being named, and as good as its card says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from egt_tf.config import EpisodeConfig
from egt_tf.data.preprocessing import resized_centre
from egt_tf.data.sampling import episode_generator, sample_episode
from egt_tf.data.sources import open_source
from egt_tf.data.support import load_image
from egt_tf.serving.exported_model import ExportedModel
from egt_tf_cli import bundled
from egt_tf_cli.bundled import bundled_model, bundled_sample

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = sorted((ROOT / "saved_models" / "samples").glob("*.png"))
SHOWN = "trained on drawn shapes"


@pytest.fixture(scope="module")
def model():
    return ExportedModel(bundled_model())


def class_of(sample: Path) -> str:
    """The class that a sample's name says it shows."""
    return sample.stem.rpartition("-")[0]


def test_it_is_small():
    files = [file for file in bundled_model().rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in [*files, *SAMPLES]) < 4e6


@pytest.mark.slow
def test_the_samples_show_every_class_of_the_support_set_and_none_of_its_images(model):
    assert [class_of(sample) for sample in SAMPLES] == (model.path / "assets" / "class_names.txt").read_text().split()
    with np.load(model.path / "assets.extra" / "shown.npz") as shown:
        support = shown["images"].reshape(-1, *shown["images"].shape[2:])
    for sample in SAMPLES:
        query = load_image(sample, support.shape[1])
        assert np.abs(support.astype(float) - query).mean((1, 2, 3)).min() > 5


def test_predict_names_the_samples_without_being_told_a_model(egt, no_network):
    result = egt("predict", *SAMPLES)
    assert (result.exit_code, result.stderr) == (0, "")
    first, *lines = result.stdout.splitlines()
    assert first.startswith("using the model that comes with egt-tf (")
    assert SHOWN in first
    assert "no run" not in first
    for sample, line in zip(SAMPLES, lines, strict=True):
        assert line.startswith(f"{sample}: {class_of(sample)} (")


def test_explain_uses_it_where_there_is_no_run(egt, no_network, tmp_path):
    result = egt("explain", SAMPLES[-1], "--out", "picture.png")
    assert (result.exit_code, result.stderr) == (0, "")
    first, second = result.stdout.splitlines()
    assert first.startswith("using the model that comes with egt-tf (")
    assert "; there is no run in runs/) and" in first
    assert SHOWN in first
    assert second.startswith(f"{SAMPLES[-1]}: {class_of(SAMPLES[-1])} (")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert np.load(tmp_path / "picture.npy").shape == (2, 64, 64)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["predict", "explain"])
def test_images_of_another_kind_are_warned_of(egt, command):
    """Nothing was said of photographs, which a model of drawn shapes calls one with the same confidence."""
    photograph = sorted((SAMPLES[0].parent / "photo-queries").glob("*.jpg"))[0]
    assert egt(command, SAMPLES[0]).stderr == ""
    warning = egt(command, photograph).stderr
    assert warning.startswith(f"warning: {photograph} looks unlike the images that come with the model")
    both = egt(command, SAMPLES[0], photograph)
    assert both.exit_code == 0
    assert both.stderr.startswith(f"warning: 1 of 2 images, such as {photograph}, look unlike")


def test_explain_uses_the_newest_run_where_there_is_one(egt, run):
    result = egt("explain", SAMPLES[0])
    assert result.exit_code == 0
    assert result.stdout.startswith("using the newest run runs/tiny (2 of 2 epochs, validation ")


@pytest.mark.slow
def test_sample_uses_it_even_where_there_is_a_run(egt, run):
    result = egt("explain", "--sample")
    assert result.exit_code == 0, result.output
    assert SHOWN in result.stdout
    assert f"{bundled_sample()}: {class_of(bundled_sample())} (" in result.stdout


def test_what_it_is_not_for(egt, fails):
    for more in (("a.png",), ("--run", "x"), ("--model", "x")):
        result = egt("explain", "--sample", *more)
        assert result.exit_code == 2
        assert "--sample brings an image and a model" in result.stderr
    assert "are for runs" in egt("explain", "--sample", "--method", "fsc").stderr
    fails("explain", "nowhere.png", says=["nowhere.png"])


@pytest.mark.parametrize("package", ["egt_tf_no_such_package", "egt_tf_cli"])
def test_an_installation_without_it(fails, monkeypatch, package):
    monkeypatch.setattr(bundled, "_PACKAGE", package)
    fails("explain", "--sample", says=["must be installed with it", "install the package again"])
    fails("predict", SAMPLES[0], says=["must be installed with it"])


def test_it_is_as_good_on_new_episodes_as_its_card_says(model):
    card = (model.path / "README.md").read_text(encoding="utf-8")
    said = float(re.search(r"`synthetic:shapes` \| novel \| 600 of 5-way 5-shot \| inductive \| ([\d.]+) %", card)[1])
    images, episode = open_source("synthetic:shapes").split("novel"), EpisodeConfig(5, 5, 3)
    right = []
    for index in range(20):
        drawn = sample_episode(images.members, episode, episode_generator(1234, index))
        support, query = (
            np.stack([resized_centre(images.read(int(i)), 64).numpy() for i in part.ravel()])
            for part in (drawn.support, drawn.query)
        )
        answer = model.ask(
            "classify_episode_floats",
            {
                "support_images": support.astype(np.float32),
                "support_labels": np.repeat(np.arange(5), 5),
                "query_images": query.astype(np.float32),
            },
        )
        right.append(100 * np.mean(answer["predicted"] == np.repeat(np.arange(5), 3)))
    # Three standard errors: 20 episodes of 15 queries scatter by about 10 points each.
    assert abs(np.mean(right) - said) < 3 * np.std(right) / np.sqrt(len(right))
