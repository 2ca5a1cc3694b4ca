from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from egt_tf.data.preprocessing import normalize
from egt_tf.data.support import load_image, load_support
from egt_tf.runs import RunFolder
from egt_tf.weights import weight_arrays
from tests.helpers.commands import draw_classes
from tests.helpers.weight_files import archive_of, safetensors_file, torch_file

GOLDEN = Path(__file__).resolve().parents[1] / "parity" / "data"
SMALL = ("--episodes", 3, "--queries", 2)


def relation_arrays(channels, positions, hidden=8):
    rng = np.random.default_rng(3)
    shapes = {
        "layer1.C.weight": (channels, 2 * channels, 3, 3),
        "layer1.C.bias": (channels,),
        "layer2.C.weight": (channels, channels, 3, 3),
        "layer2.C.bias": (channels,),
        "fc1.weight": (hidden, channels * positions),
        "fc1.bias": (hidden,),
        "fc2.weight": (1, hidden),
        "fc2.bias": (1,),
    }
    arrays = {f"relation_module.{name}": 0.1 * rng.normal(size=shape) for name, shape in shapes.items()}
    for layer in (1, 2):
        arrays[f"relation_module.layer{layer}.BN.weight"] = np.ones(channels)
        arrays[f"relation_module.layer{layer}.BN.bias"] = np.zeros(channels)
    return arrays


def backbone_arrays(name, prefix="feature."):
    """The weights of a file of reference values, and images with the features that the published code gave."""
    with np.load(GOLDEN / f"backbone_{name}_84.npz") as file:
        arrays = {prefix + key[2:]: file[key] for key in file.files if key.startswith("w/")}
        return arrays, np.moveaxis(file["images"].astype(np.float32), 1, -1), np.moveaxis(file["features_eval"], 1, -1)


@pytest.mark.slow
def test_a_whole_model_evaluates_and_explains(egt, tmp_path):
    arrays, images, features = backbone_arrays("conv4np")
    np.savez("model.npz", **arrays, **relation_arrays(64, 9))
    result = egt("convert", "model.npz", "--to", "runs/published", "--shots", 1)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert "conv4np at 84 px with the head relation" in result.stdout
    assert "egt-tf evaluate runs/published --data" in result.stdout
    model = RunFolder(Path("runs/published")).load_model()
    got = model.backbone(images).numpy()
    assert np.abs(got - features).max() < 2e-5 * np.abs(features).max()

    result = egt(
        "evaluate",
        "runs/published",
        *SMALL,
        "--ways",
        2,
        "--data",
        "synthetic:sketch",
        "--transductive",
        "--candidates",
        1,
    )
    assert result.exit_code == 0, result.output
    assert "transductive (2 x 1), 2-way 1-shot" in result.stdout

    draw_classes(tmp_path / "support", classes=2, images=1)
    query = next((tmp_path / "support").rglob("*.png"))
    result = egt("explain", query, "--run", "runs/published", "--support", "support", "--out", "figure.png")
    assert result.exit_code == 0, result.output
    assert Path("figure.png").exists()
    stored = json.loads(Path("figure.json").read_text())
    support = load_support("support", 84)
    # Explaining scores the support images beside the query.
    images = normalize(support.images.reshape(1, 2, 84, 84, 3))
    queries = np.concatenate([normalize(load_image(query, 84)[None, None]), images], axis=1)
    scores = model(
        {"support_images": images, "support_labels": np.eye(2, dtype=np.float32)[None], "query_images": queries}
    )
    probabilities = np.exp(scores[0, 0]) / np.exp(scores[0, 0]).sum()
    assert stored["probabilities"] == pytest.approx(probabilities, abs=1e-3)


@pytest.mark.slow
def test_a_backbone_alone_says_that_its_head_knows_nothing(egt):
    arrays, images, features = backbone_arrays("resnet_narrow", prefix="module.feature.")
    np.savez(
        "baseline.npz",
        **arrays,
        **{"module.classifier.weight": np.zeros((200, 96)), "module.classifier.bias": np.zeros(200)},
    )
    result = egt("convert", "baseline.npz", "--to", "run", "--image-size", 84, "--shots", 1)
    assert result.exit_code == 0, result.output
    assert "not used: classifier.weight, classifier.bias" in result.stdout
    assert "no head in the checkpoint" in result.stdout
    got = RunFolder(Path("run")).load_model().backbone(images).numpy()
    assert np.abs(got - features).max() < 2e-5 * np.abs(features).max()
    assert egt("evaluate", "run", *SMALL, "--ways", 2).exit_code == 0


# === Bad input ===


@pytest.fixture
def model(tmp_path):
    """model.npz in the current folder of `egt`."""
    arrays = {**backbone_arrays("conv4np")[0], **relation_arrays(64, 9)}
    np.savez(tmp_path / "model.npz", **arrays)
    return arrays


def test_arrays_that_do_not_fit(fails, model, tmp_path):
    del model["relation_module.fc2.bias"]
    model.update(surprise=np.zeros(2), **{"feature.trunk.0.BN.weight": np.zeros(63)})
    np.savez(tmp_path / "model.npz", **model)
    fails(
        "convert",
        "model.npz",
        "--to",
        "run",
        says=[
            "model.npz",
            "missing relation_module.fc2.bias",
            "unknown surprise",
            "feature.trunk.0.BN.weight is (63,), not (64,)",
        ],
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--backbone", "resnet50"), ["conv4np", "'resnet50'"]),
        (("--head", "matching"), ["relation, graph, cross_attention", "'matching'"]),
        (("--image-size", 10), ["`data.image_size`", "10"]),
        (("--image-size", 44), ["relation_module.fc1.weight is (8, 576)"]),
    ],
)
def test_choices_that_make_no_model(fails, model, options, words):
    fails("convert", "model.npz", "--to", "run", *options, says=words)


def test_files_that_are_no_checkpoint(fails, model, tmp_path):
    fails("convert", "gone.tar", "--to", "run", says=["gone.tar", "no such file"])
    whole = (tmp_path / "model.npz").read_bytes()
    (tmp_path / "model.npz").write_bytes(whole[:-300])
    fails("convert", "model.npz", "--to", "run", says=["model.npz is damaged"])


def test_a_file_that_would_run_code(fails, tmp_path):
    (tmp_path / "model.tar").write_bytes(archive_of(b"cposix\nsystem\n(X\x04\x00\x00\x00truetR."))
    fails("convert", "model.tar", "--to", "run", says=["model.tar", "posix.system, which is not loaded"])


def test_an_existing_run_stays(fails, egt, model):
    assert egt("convert", "model.npz", "--to", "run").exit_code == 0
    fails("convert", "model.npz", "--to", "run", says=["already holds a run"])


@pytest.mark.slow
def test_files_of_torch_and_safetensors_evaluate(egt, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    state = {name: array.astype(np.float32) for name, array in model.items()}
    Path("399.tar").write_bytes(torch_file({"epoch": 399, "state": state}, archive=False))
    Path("400.tar").write_bytes(torch_file({"epoch": 400, "state": state}, archive=True))
    Path("model.safetensors").write_bytes(safetensors_file(state))
    for number, file in enumerate(("model.npz", "399.tar", "400.tar", "model.safetensors")):
        assert egt("convert", file, "--to", f"run{number}", "--shots", 1).exit_code == 0
    a, *others = (weight_arrays(RunFolder(Path(f"run{number}")).load_model()) for number in range(4))
    for arrays in others:
        assert list(arrays) == list(a)
        assert all(np.array_equal(arrays[name], a[name]) for name in a)
    for number in (0, 1):
        assert egt("evaluate", f"run{number}", *SMALL, "--ways", 2, "--out", f"{number}.json").exit_code == 0
    accuracies = [json.loads(Path(f"{number}.json").read_text())["episode_accuracies"] for number in (0, 1)]
    assert accuracies[0] == accuracies[1]
