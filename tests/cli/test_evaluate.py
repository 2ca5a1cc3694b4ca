from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.quick import quick_ones

SMALL = ("--episodes", 6, "--queries", 2)


def result_file(run):
    (path,) = (run / "evaluations").iterdir()
    return json.loads(path.read_text())


def test_the_printed_numbers_are_those_of_the_file(egt, run):
    result = egt("evaluate", "runs/tiny", *SMALL)
    assert (result.exit_code, result.stderr) == (0, "")
    record = result_file(run)
    accuracies = record["episode_accuracies"]
    assert len(accuracies) == record["episodes"] == 6
    assert record["accuracy"] == pytest.approx(np.mean(accuracies))
    assert record["interval"] == pytest.approx(1.96 * np.std(accuracies) / 6**0.5)
    mean, interval = map(
        float, re.search(r"6 episodes: ([\d.]+) % \+- ([\d.]+) \(33 % by chance\)\n", result.stdout).groups()
    )
    assert (mean, interval) == (round(100 * record["accuracy"], 2), round(100 * record["interval"], 2))
    error, bins, likelihood = re.search(
        r"^calibration error ([\d.]+) % \((\d+) bins\), negative log-likelihood ([\d.]+)$", result.stdout, re.M
    ).groups()
    assert (bins, float(error)) == ("15", round(100 * record["calibration_error"], 2))
    assert float(likelihood) == round(record["negative_log_likelihood"], 4) > 0
    assert "inductive, 3-way 2-shot, 2 queries a class" in result.stdout
    assert "split novel" in result.stdout
    assert re.search(r"^identity of the episodes: ([0-9a-f]{12})$", result.stdout, re.M)[1] == record["episodes_id"]


def test_an_exported_model_is_measured_on_the_same_episodes(egt, exported, run):
    arguments = ("--data", "synthetic:fog", "--ways", 3, "--shots", 2, *SMALL)
    for name, path in (("model", exported), ("run", run)):
        result = egt("evaluate", path, *arguments, "--out", f"{name}.json")
        assert result.exit_code == 0, result.output
    by_model, by_run = (json.loads(Path(f"{name}.json").read_text()) for name in ("model", "run"))
    assert by_model["episodes_id"] == by_run["episodes_id"]
    # The head normalises over the queries of an episode, which a server answers one by one.
    assert by_model["accuracy"] == pytest.approx(by_run["accuracy"], abs=0.25)
    assert len(by_model["episode_accuracies"]) == 6
    assert "needs --data SOURCE" in egt("evaluate", exported).stderr


@pytest.mark.slow
def test_an_accuracy_of_the_same_few_classes_says_so(egt, run):
    """The interval of 20 classes taken 20 at a time is none over classes."""
    few = egt("evaluate", "runs/tiny", "--episodes", 2, "--queries", 1, "--shots", 1, "--ways", 20)
    assert "every episode is of the same 20 classes; the interval says nothing about others" in few.stdout
    assert "(5 % by chance)" in few.stdout
    assert "every episode is of" not in egt("evaluate", "runs/tiny", *SMALL).stdout


def test_one_episode_has_no_interval(egt, run):
    result = egt("evaluate", "runs/tiny", "--episodes", 1, "--queries", 2)
    assert re.search(r"1 episodes: \d+\.\d\d % \(33 % by chance\)$", result.stdout, re.M)
    assert result_file(run)["interval"] is None


@pytest.mark.slow
def test_the_seed_decides(egt, run):
    accuracies = []
    for number, seed in enumerate((0, 0, 1)):
        assert egt("evaluate", "runs/tiny", *SMALL, "--seed", seed, "--out", f"{number}.json").exit_code == 0
        accuracies.append(json.loads(Path(f"{number}.json").read_text())["episode_accuracies"])
    assert accuracies[0] == accuracies[1] != accuracies[2]


def test_episodes_of_other_shapes_than_trained(egt, run):
    result = egt(
        "evaluate",
        "runs/tiny",
        "--ways",
        5,
        "--shots",
        1,
        "--queries",
        3,
        "--episodes",
        5,
        "--split",
        "val",
        "--out",
        "results/five.json",
    )
    assert result.exit_code == 0, result.output
    assert "5-way 1-shot, 3 queries a class, 5 episodes" in result.stdout
    assert "results/five.json" in result.stdout
    record = json.loads(Path("results/five.json").read_text())
    assert (record["ways"], record["shots"], record["queries"], record["split"]) == (5, 1, 3, "val")
    # 15 queries an episode.
    assert all(abs(15 * accuracy - round(15 * accuracy)) < 1e-5 for accuracy in record["episode_accuracies"])
    assert not (run / "evaluations").exists()


@pytest.mark.slow
def test_transductive(egt, run):
    options = ("--transductive", "--candidates", 3)
    assert egt("evaluate", "runs/tiny", *SMALL).exit_code == 0
    result = egt("evaluate", "runs/tiny", *SMALL, *options)
    assert result.exit_code == 0
    assert "transductive (2 x 3), 3-way 2-shot" in result.stdout
    assert egt("evaluate", "runs/tiny", *SMALL, *options, "--rounds", 1, "--without-duplicates").exit_code == 0
    records = [json.loads(path.read_text()) for path in (run / "evaluations").iterdir()]
    assert sorted(str(record["transduction"]) for record in records) == [
        "None",
        "{'rounds': 1, 'candidates': 3, 'duplicates': False}",
        "{'rounds': 2, 'candidates': 3, 'duplicates': True}",
    ]
    assert sorted(record["inference"] for record in records) == ["inductive", "transductive", "transductive"]


@pytest.mark.slow
def test_no_rounds_are_inductive(egt, run):
    for number, options in enumerate([(), ("--transductive", "--rounds", 0)]):
        assert egt("evaluate", "runs/tiny", *SMALL, *options, "--out", f"{number}.json").exit_code == 0
    first, second = (json.loads(Path(f"{number}.json").read_text())["episode_accuracies"] for number in range(2))
    assert first == second


@pytest.mark.slow
def test_sources(egt, run, drawn, tmp_path):
    assert egt("evaluate", "runs/tiny", *SMALL, "--data", "synthetic:sketch", "--out", "s.json").exit_code == 0
    assert egt("evaluate", "runs/tiny", *SMALL, "--data", f"folder:{drawn}", "--out", "f.json").exit_code == 0
    names = sorted(path.name for path in drawn.iterdir())
    images = [(str(path), number) for number, name in enumerate(names) for path in sorted((drawn / name).iterdir())]
    (tmp_path / "list.json").write_text(
        json.dumps(
            {
                "label_names": names,
                "image_names": [image for image, _ in images],
                "image_labels": [c for _, c in images],
            }
        )
    )
    assert egt("evaluate", "runs/tiny", *SMALL, "--data", "filelist:list.json", "--out", "l.json").exit_code == 0
    sketch, folder, filelist = (json.loads((tmp_path / name).read_text()) for name in ("s.json", "f.json", "l.json"))
    assert sketch["source"] == "synthetic:sketch"
    # The list names the images of the folder in the same order.
    assert folder["episode_accuracies"] == filelist["episode_accuracies"]
    assert folder["episodes_id"] == filelist["episodes_id"] != sketch["episodes_id"]


@pytest.mark.slow
def test_a_run_on_several_sources_is_evaluated_on_all_of_them_or_on_another(egt, run):
    text = (run / "config.yaml").read_text()
    text = text.replace("train: synthetic:shapes", "train: [synthetic:shapes, synthetic:fog]")
    (run / "config.yaml").write_text(text)
    result = egt("evaluate", "runs/tiny", *SMALL)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("synthetic:shapes (split novel), synthetic:fog (split novel), inductive")
    assert result_file(run)["source"] == "synthetic:shapes, synthetic:fog"
    result = egt("evaluate", "runs/tiny", *SMALL, "--data", "synthetic:sketch", "--out", "s.json")
    assert result.exit_code == 0
    assert json.loads(Path("s.json").read_text())["source"] == "synthetic:sketch"


@pytest.mark.slow
def test_the_identity_is_that_of_the_episodes_not_of_the_model(egt, run, drawn, tmp_path):
    shutil.copytree(drawn, tmp_path / "elsewhere")
    found = []
    for source, seed in ((f"folder:{drawn}", 0), ("folder:elsewhere", 0), (f"folder:{drawn}", 1)):
        # Another model each time.
        weights = dict(np.load(run / "best.npz"))
        np.savez(run / "best.npz", **{name: array + 0.1 for name, array in weights.items()})
        result = egt("evaluate", "runs/tiny", *SMALL, "--data", source, "--seed", seed, "--out", "x.json")
        assert result.exit_code == 0, result.output
        found.append(json.loads(Path("x.json").read_text())["episodes_id"])
    assert found[0] == found[1] != found[2]


@pytest.mark.slow
def test_a_full_disk_does_not_lose_the_result(egt, run, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    result = egt("evaluate", "runs/tiny", *SMALL, "--out", "here.json")
    assert (result.exit_code, result.stderr) == (2, "Error: No space left on device: here.json\n")
    assert "6 episodes: " in result.stdout
    assert not os.path.exists("here.json")


# === Bad input ===


@pytest.mark.slow
def test_weights_whose_scores_overflow(fails, run, arrays):
    from egt_tf.weights import save_arrays

    save_arrays(run / "best.npz", {name: 1e30 * value for name, value in arrays(run / "best.npz").items()})
    fails("evaluate", "runs/tiny", *SMALL, says=["scores must be finite. Received: others in episode 1;"])


def test_a_run_that_does_not_exist_or_has_no_weights(fails, run, tmp_path):
    fails("evaluate", "runs/none", says=["runs/none", "no such folder"])
    (tmp_path / "empty").mkdir()
    fails("evaluate", "empty", says=["empty", "no config.yaml"])
    (run / "best.npz").unlink()
    fails("evaluate", "runs/tiny", says=["no best.npz", "egt-tf train --run runs/tiny --resume"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--shots", 20), ["20 shots", "class 'class03'", "has 6"]),
        (("--ways", 20), ["20-way", "has 3"]),
        (("--ways", 4), ["4-way", "has 3"]),
        (("--data", "folder:missing"), ["cannot read the folder missing"]),
        (("--data", "missing"), ["folder:DIR", "'missing'"]),
    ],
)
def test_episodes_that_the_data_cannot_give(fails, run, drawn, options, words):
    fails("evaluate", "runs/tiny", "--data", f"folder:{drawn}", "--queries", 2, *options, says=words)


def test_more_candidates_than_queries(fails, run):
    fails(
        "evaluate",
        "runs/tiny",
        *SMALL,
        "--transductive",
        says=["`candidates * rounds`", "35 candidates * 2 rounds = 70", "3 ways * 2 queries = 6"],
    )


def test_options_without_transductive(egt, run):
    result = egt("evaluate", "runs/tiny", *SMALL, "--rounds", 1)
    assert result.exit_code == 2
    assert "--transductive" in result.stderr
    assert not (run / "evaluations").exists()


def test_a_damaged_image_is_named(fails, run, drawn, tmp_path):
    shutil.copytree(drawn, tmp_path / "images")
    for image in (tmp_path / "images" / "class03").iterdir():
        image.write_bytes(image.read_bytes()[:150])
    fails("evaluate", "runs/tiny", "--data", "folder:images", *SMALL, says=["cannot read image images/class03/"])


def test_a_configuration_of_another_architecture(fails, run):
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("width: 4", "width: 8"))
    fails("evaluate", "runs/tiny", *SMALL, says=["runs/tiny/best.npz", "config.yaml", "block1_conv", "(3, 3, 3, 4)"])


def test_weights_of_another_architecture(fails, run):
    from egt_tf.episodic_model import EpisodicModel
    from egt_tf.weights import save_arrays, weight_arrays

    save_arrays(run / "best.npz", weight_arrays(EpisodicModel.build_from("conv4np", "relation", 32)))
    fails("evaluate", "runs/tiny", *SMALL, says=["runs/tiny/best.npz", "config.yaml"])


@pytest.mark.parametrize(
    "content",
    quick_ones([b"", b"no weights", b"PK\x03\x04", "truncated", "array", "objects", "text"], {"truncated", "objects"}),
)
def test_damaged_weights(fails, run, arrays, content):
    path = run / "best.npz"
    whole, weights = path.read_bytes(), arrays(path)
    with open(path, "wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        elif content == "truncated":
            file.write(whole[:-200])
        elif content == "array":
            np.save(file, np.zeros(3))
        else:
            kind = object if content == "objects" else str
            np.savez(file, **{name: value.astype(kind) for name, value in weights.items()})
    fails("evaluate", "runs/tiny", *SMALL, says=["runs/tiny/best.npz"])


def test_no_flipped_byte_in_the_weights_shows_a_traceback(run, arrays):
    from egt_tf.errors import RunError
    from egt_tf.weights import load_arrays

    path, rng = run / "best.npz", np.random.default_rng(1)
    whole, weights = path.read_bytes(), arrays(path)
    refused = 0
    for position in rng.integers(len(whole), size=400):
        damaged = bytearray(whole)
        damaged[position] ^= rng.integers(1, 256)
        path.write_bytes(damaged)
        try:
            loaded = load_arrays(path)
        except RunError:
            refused += 1
        else:
            # The byte meant nothing: a date, say.
            assert all(np.array_equal(loaded[name], weights.get(name, loaded[name])) for name in loaded)
    assert refused > 200
