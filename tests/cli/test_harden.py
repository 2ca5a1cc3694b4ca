"""`egt-tf harden`, and what becomes of a student: evaluated, attacked, explained, exported."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.config import load_config
from egt_tf.data.support import load_image, load_support
from egt_tf.export.one_by_one import OneByOne
from egt_tf.runs import RunFolder
from tests.helpers.commands import invoke
from tests.helpers.shared import shared_folder

QUICK = ("--episodes", 2, "--queries", 2)


@pytest.fixture(scope="session")
def hardened(trained, tmp_path_factory):
    """A student of the run `trained`. Not to be written to."""

    def harden(folder):
        result = invoke("harden", trained, "--out", folder, "--degree", 0.3, "--set", "guidance.mode=none")
        assert result.exit_code == 0, result.output
        assert ", teacher " in result.output

    return shared_folder(tmp_path_factory, "hardened/tiny", harden)


@pytest.fixture
def student(hardened, tmp_path):
    """A copy of it."""
    return shutil.copytree(hardened, tmp_path / "runs" / "student")


def test_the_configuration_says_what_it_is(hardened, trained):
    config = load_config(hardened / "config.yaml")
    assert config.model.backbone == {"name": "conv4", "width": 4, "noise": 0.3}
    assert (config.student.teacher, config.student.weight) == (str(trained), 1.0)
    assert (config.training.epochs, config.guidance.mode) == (1, "none")
    assert len(RunFolder(hardened).metrics()) == 1


def test_what_is_refused(fails, run, student):
    for arguments, words in [
        (("runs/nothing",), ["the run folder runs/nothing must exist"]),
        (("runs/tiny", "--degree", 1.5), ["`degree` must be a number in [0, 1]", "1.5"]),
        (("runs/tiny", "--degree", "nan"), ["`degree` must be a number in [0, 1]"]),
        (("runs/tiny", "--weight", -1), ["`student.weight`", ">= 0"]),
        (("runs/tiny", "--set", "training.epohcs=3"), ["did you mean 'training.epochs'"]),
        (("runs/tiny", "--out", "runs/student"), ["already holds a run", "--resume"]),
        ((".",), ["config.yaml"]),
    ]:
        fails("harden", *arguments, says=words)
    (run / "best.npz").unlink()
    fails("harden", "runs/tiny", says=["the teacher must be a trained run", "no best.npz"])


@pytest.mark.slow
def test_the_same_line_again_goes_on(egt, student, trained):
    line = ("harden", trained, "--out", "runs/student", "--resume")
    result = egt(*line)
    assert (result.exit_code, "already complete: 1 epochs" in result.stdout) == (0, True), result.output
    result = egt(*line, "--degree", 0.2)
    assert (result.exit_code, "model.backbone.noise=0.2 in place of 0.3" in result.stderr) == (2, True)
    result = egt("harden", student, "--out", "runs/student", "--resume")
    assert (result.exit_code, "student.teacher=" in result.stderr) == (2, True)


def test_a_lost_teacher_is_one_line(fails, student):
    text = (student / "config.yaml").read_text()
    teacher = load_config(student / "config.yaml").student.teacher
    (student / "config.yaml").write_text(text.replace(str(teacher), "runs/lost"))
    fails(
        "train",
        "--run",
        "runs/student",
        "--resume",
        "--set",
        "training.epochs=2",
        says=["the teacher must be a trained"],
    )


# === Attacks ===


@pytest.mark.slow
def test_an_attack_is_measured_and_kept_apart_from_evaluations(egt, run):
    result = egt("evaluate", "runs/tiny", "--attack", "pgd", "--steps", 2, "--epsilon", "8/255", *QUICK)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    (path,) = (run / "attacks").iterdir()
    record = json.loads(path.read_text())
    assert record["attack"]["epsilon"] == pytest.approx(8 / 255)
    assert (record["episodes"], record["samples"], record["degree"]) == (2, 1, None)
    assert "pgd, epsilon 8/255, 2 steps, 3-way 2-shot, 2 queries a class, 2 episodes" in result.stdout
    assert f"accuracy under attack: {100 * record['attacked']['accuracy']:.2f} %" in result.stdout
    assert f"identity of the episodes: {record['episodes_id']}" in result.stdout
    assert not (run / "evaluations").exists()
    assert "novel" not in egt("runs", "runs").stdout


@pytest.mark.slow
def test_a_trend_is_a_table_a_file_and_a_figure(egt, student):
    line = ("evaluate", "runs/student", "--attack", "fgsm", "--samples", 1, "--degrees", "0,0.2,...,0.4")
    result = egt(*line, "--episodes", 2, "--queries", 1, "--out", "trend.json")
    assert result.exit_code == 0, result.output
    trend = json.loads((student.parent.parent / "trend.json").read_text())
    assert trend["degrees"] == [0.0, 0.2, 0.4]
    assert [each["degree"] for each in trend["results"]] == trend["degrees"]
    assert (student.parent.parent / "trend.png").read_bytes()[:4] == b"\x89PNG"
    assert len(list((student / "attacks").glob("*-degree0*.json"))) == 3
    table = result.stdout.splitlines()
    assert any(row.startswith("0.4 ") for row in table)
    assert any(row.split() == ["degree", "accuracy", "under", "attack", "attack", "success"] for row in table)


def test_attacks_that_are_refused(fails, egt, run, exported):
    attack = ("evaluate", "runs/tiny", "--attack")
    for arguments, words in [
        (("fgsm", "--steps", 3), ["attack 'fgsm' takes no argument 'steps'"]),
        (("pgd", "--epsilon", 2), ["`epsilon` must be a number in [0, 1]", "2.0"]),
        (("pgd", "--steps", 0), ["`steps` must be an integer >= 1"]),
        (("pgd", "--degrees", "0,0.1"), ["a backbone with noise", "egt-tf harden"]),
        (("pgd", "--degrees", "0,0.1", "--out", "a.png"), ["--out must be the JSON file", "a.png"]),
    ]:
        fails(*attack, *arguments, says=words)
    for arguments, words in [
        (("evaluate", "runs/tiny", "--steps", 3), "--steps says how --attack works"),
        (("evaluate", "runs/tiny", "--epsilon", 0), "--epsilon says how --attack works"),
        ((*attack, "pgd", "--transductive"), "leave out --transductive"),
        (("evaluate", exported, "--attack", "pgd", "--data", "synthetic:fog"), "has no gradients"),
        ((*attack, "pgd", "--epsilon", "a/3"), "neither a number nor a fraction"),
        ((*attack, "pgd", "--epsilon", "1/0"), "neither a number nor a fraction"),
        ((*attack, "pgd", "--degrees", "0,0.2,...,0.5"), "must be numbers such as"),
        ((*attack, "pgd", "--degrees", "0,x"), "must be numbers such as"),
    ]:
        result = egt(*arguments)
        assert (result.exit_code, words in result.stderr) == (2, True), result.stderr


# === Exports ===


def answers(version, images) -> np.ndarray:
    ask = tf.saved_model.load(str(version)).signatures["serving_default_floats"]
    return np.stack([ask(images=images)["probabilities"].numpy() for _ in range(8)])


@pytest.mark.slow
def test_an_export_answers_as_the_run_or_samples(egt, student, tmp_path):
    assert egt("export", student, "--out", "fixed").exit_code == 0
    sampling = egt("export", student, "--out", "sampling", "--sample-noise")
    assert sampling.exit_code == 0, sampling.output
    images = np.stack([load_image(file, 32) for file in sorted((student / "queries").glob("*.png"))])
    images = tf.constant(images, tf.float32)
    fixed, sampled = (answers(tmp_path / name / "1", images) for name in ("fixed", "sampling"))
    support, model = load_support(student / "support", 32), RunFolder(student).load_model()
    of_run = OneByOne(model, None)
    labels = np.repeat(np.eye(support.ways, dtype=np.float32), support.shots, axis=0)
    features = of_run.features(support.images.reshape(-1, 32, 32, 3))
    scores = of_run.scores(features, labels, of_run.features(images))
    np.testing.assert_array_equal(fixed[0], fixed[1])
    np.testing.assert_allclose(fixed[0], of_run.probabilities(scores), atol=1e-5)
    assert np.abs(sampled[0] - sampled[1]).max() > 1e-5
    assert np.abs(sampled.mean(axis=0) - fixed[0]).max() < 0.1
    cards = [(tmp_path / name / "1" / "README.md").read_text() for name in ("fixed", "sampling")]
    assert "noise of the backbone is a constant" in cards[0]
    assert "noise of the backbone is drawn anew" in cards[1]


def test_noise_to_sample_must_be_there_and_have_random_numbers(fails, egt, run):
    fails("export", run, "--sample-noise", says=["`sample_noise` is for a backbone with noise", "egt-tf harden"])
    assert "--portable and --lite do not have" in egt("export", run, "--sample-noise", "--lite").stderr
