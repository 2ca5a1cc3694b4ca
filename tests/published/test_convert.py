from __future__ import annotations

import json
import os

import numpy as np
import pytest

from egt_tf.config import EpisodeConfig
from egt_tf.data.sources import open_source
from egt_tf.data.support import SupportSet
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError, RunError
from egt_tf.evaluation.accuracy import evaluate
from egt_tf.explain.query import explain_image
from egt_tf.published.checkpoint import load_checkpoint
from egt_tf.published.convert import Choices, convert_arrays, convert_checkpoint
from egt_tf.runs import RunFolder
from tests.helpers.quick import all_but_slow


def set_directly(model: EpisodicModel, arrays) -> None:
    """Sets a Conv4NP and its relation module layer by layer."""
    for block in range(4):
        name = f"feature.trunk.{block}"
        layers = [model.backbone.get_layer(f"block{block + 1}_{part}") for part in ("conv", "bn")]
        layers[0].set_weights([arrays[f"{name}.C.weight"].transpose(2, 3, 1, 0), arrays[f"{name}.C.bias"]])
        layers[1].set_weights(
            [arrays[f"{name}.BN.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
        )
    score = model.head.score_model
    for layer in (1, 2):
        name = f"relation_module.layer{layer}"
        score.get_layer(f"block{layer}_conv").set_weights(
            [arrays[f"{name}.C.weight"].transpose(2, 3, 1, 0), arrays[f"{name}.C.bias"]]
        )
        score.get_layer(f"block{layer}_bn").set_weights([arrays[f"{name}.BN.weight"], arrays[f"{name}.BN.bias"]])
    height, width, channels = score.get_layer("flatten").input_shape[-3:]
    rows = arrays["relation_module.fc1.weight"]
    kernel = np.empty((height * width * channels, len(rows)), np.float32)
    for h in range(height):
        for w in range(width):
            for c in range(channels):
                kernel[(h * width + w) * channels + c] = rows[:, (c * height + h) * width + w]
    score.get_layer("fc1").set_weights([kernel, arrays["relation_module.fc1.bias"]])
    score.get_layer("fc2").set_weights([arrays["relation_module.fc2.weight"].T, arrays["relation_module.fc2.bias"]])


def episode(size, ways=2, shots=1, queries=3):
    rng = np.random.default_rng(1)
    images = rng.normal(size=(1, ways * shots + queries, size, size, 3)).astype(np.float32)
    labels = np.repeat(np.eye(ways, dtype=np.float32), shots, axis=0)[None]
    support, query = images[:, : ways * shots], images[:, ways * shots :]
    return {"support_images": support, "support_labels": labels, "query_images": query}


# === what is found out ===


def test_a_relation_network_scores_as_with_the_same_weights_set_directly(published):
    arrays = {**published.conv4(), **published.relation(positions=9)}
    converted = convert_arrays(without_counters(arrays))
    assert converted.config.model.backbone == {"name": "conv4np", "width": 4}
    assert converted.config.model.head == {"name": "relation", "hidden": 3}
    assert (converted.config.data.image_size, converted.trained_head, converted.unused) == (84, True, ())
    direct = EpisodicModel.build_from({"name": "conv4np", "width": 4}, {"name": "relation", "hidden": 3}, 84)
    set_directly(direct, arrays)
    inputs = episode(84)
    np.testing.assert_array_equal(converted.model(inputs), direct(inputs))


def without_counters(arrays):
    return {name: array for name, array in arrays.items() if not name.endswith("num_batches_tracked")}


def test_the_relation_module_tells_conv4_from_conv4np(published):
    for positions, name in ((1, "conv4"), (9, "conv4np")):
        arrays = without_counters({**published.conv4(), **published.relation(positions=positions)})
        assert convert_arrays(arrays).config.model.backbone["name"] == name


@pytest.mark.parametrize(("blocks", "name"), [((1, 1, 1, 1), "resnet10"), ((2, 2, 2, 2), "resnet18")])
def test_residual_networks(published, blocks, name):
    arrays = without_counters({**published.resnet(blocks), **published.relation(channels=7, positions=1)})
    converted = convert_arrays(arrays)
    assert converted.config.model.backbone == {"name": name, "widths": [4, 5, 6, 7]}
    assert converted.config.data.image_size == 224
    weights = converted.model.backbone.get_layer("stage4_block1_conv1").get_weights()
    number = 4 + sum(blocks[:3])
    np.testing.assert_array_equal(weights[0].transpose(3, 2, 0, 1), arrays[f"feature.trunk.{number}.C1.weight"])


@pytest.mark.slow
def test_choices_win(published):
    arrays = without_counters({**published.resnet(), **published.relation(channels=7, positions=1)})
    config = convert_arrays(arrays, Choices(image_size=112, ways=3, shots=2)).config
    assert (config.data.image_size, config.episode.ways, config.episode.shots) == (112, 3, 2)
    backbone = without_counters(published.conv4())
    assert convert_arrays(backbone).config.model.backbone["name"] == "conv4"
    assert convert_arrays(backbone, Choices(backbone="conv4np")).config.model.backbone["name"] == "conv4np"


@pytest.mark.parametrize("prefix", all_but_slow(["feature.", "base.", ""], {"base.", ""}))
def test_a_backbone_alone_leaves_the_head_as_it_begins(published, prefix):
    arrays = without_counters(published.resnet(prefix=prefix))
    classifier = {"classifier.weight": np.zeros((3, 7), np.float32), "classifier.bias": np.zeros(3, np.float32)}
    converted = convert_arrays({**arrays, **classifier}, Choices(image_size=64))
    assert (converted.unused, converted.trained_head) == (("classifier.weight", "classifier.bias"), False)
    assert converted.config.model.head["name"] == "relation"
    kernel = converted.model.backbone.get_layer("stem_conv").kernel
    np.testing.assert_array_equal(kernel.numpy().transpose(3, 2, 0, 1), arrays[f"{prefix}trunk.0.weight"])
    again = convert_arrays({**arrays, **classifier}, Choices(image_size=64))
    for one, other in zip(converted.model.get_weights(), again.model.get_weights()):
        np.testing.assert_array_equal(one, other)


def test_learned_transformations_of_features_are_for_training_only(published):
    arrays = without_counters(published.resnet())
    arrays["feature.trunk.4.BN2.gamma"] = arrays["feature.trunk.4.BN2.beta"] = np.ones((1, 4, 1, 1), np.float32)
    unused = convert_arrays(arrays, Choices(image_size=64)).unused
    assert unused == ("feature.trunk.4.BN2.gamma", "feature.trunk.4.BN2.beta")


def test_half_precision_is_widened(published):
    arrays = {name: array.astype(np.float16) for name, array in without_counters(published.resnet()).items()}
    model = convert_arrays(arrays, Choices(image_size=64)).model
    kernel = model.backbone.get_layer("stem_conv").kernel.numpy()
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel.transpose(3, 2, 0, 1), arrays["feature.trunk.0.weight"].astype(np.float32))


# === the other heads ===


def golden_arrays(golden_dir, name):
    """The weights of a file of reference values, and its other arrays."""
    with np.load(golden_dir / f"{name}.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    weights = {key[2:]: array for key, array in arrays.items() if key.startswith("w/")}
    return weights, {key: array for key, array in arrays.items() if not key.startswith("w/")}


@pytest.mark.slow
def test_a_graph_network(published, golden_dir):
    weights, golden = golden_arrays(golden_dir, "gnn_5w1s_f64")
    arrays = without_counters({**published.resnet(widths=(4, 5, 6, 64)), **weights})
    converted = convert_arrays(arrays, Choices(shots=1))
    assert converted.config.model.head == {
        "name": "graph",
        "ways": 5,
        "embedding": 128,
        "adjacency_width": 96,
        "growth": 48,
    }
    assert (converted.config.episode.ways, converted.config.episode.shots) == (5, 1)
    shape = converted.model.head.feature_shape
    # The head takes the mean over the map.
    support, query = (
        np.broadcast_to(golden[part].reshape(1, -1, 1, 1, 64), (1, golden[part].size // 64, *shape))
        for part in ("support", "query")
    )
    head = converted.model.head
    scores = head.score(head.relate(support, np.eye(5, dtype=np.float32)[None], query), training=False)
    np.testing.assert_allclose(scores[0], golden["eval_scores"], atol=1e-4)


@pytest.mark.slow
def test_the_ways_of_a_graph_network_are_in_its_arrays(published, golden_dir):
    weights, _ = golden_arrays(golden_dir, "gnn_3w1s_f64_offsets_generalised")
    arrays = without_counters({**published.resnet(widths=(4, 5, 6, 64)), **weights})
    assert convert_arrays(arrays).config.episode.ways == 3
    with pytest.raises(RunError, match=r"gnn.layer_last.fc.weight is \(3, 454\), not \(5, "):
        convert_arrays(arrays, Choices(ways=5))


def test_cross_attention(published, golden_dir):
    weights, golden = golden_arrays(golden_dir, "can_3w1s_c16")
    arrays = without_counters({**published.resnet12(widths=(4, 5, 6, 16)), **weights})
    converted = convert_arrays(arrays)
    assert converted.config.model.backbone == {"name": "resnet12", "widths": [4, 5, 6, 16]}
    assert converted.config.model.head == {"name": "cross_attention", "base_classes": 8}
    assert converted.config.data.image_size == 84
    assert converted.unused == ()
    support, query = (np.moveaxis(golden[part], 2, -1) for part in ("support", "query"))
    labels = np.eye(3, dtype=np.float32)[golden["support_labels"]]
    head = converted.model.head
    scores = head.score(head.relate(support, labels, query, training=False), training=False)
    np.testing.assert_allclose(scores, golden["eval_scores"], atol=1e-4)
    kernel = converted.model.backbone.get_layer("stage2_block1_conv2").kernel.numpy()
    np.testing.assert_array_equal(kernel.transpose(3, 2, 0, 1), arrays["base.layer2.0.conv2.weight"])


@pytest.mark.parametrize(
    "file", [pytest.param("gnn_3w1s_f64_offsets_generalised", marks=pytest.mark.slow), "can_3w1s_c16"]
)
def test_a_converted_run_is_evaluated_and_explained(published, golden_dir, tmp_path, file):
    weights, _ = golden_arrays(golden_dir, file)
    backbone = (
        published.resnet(widths=(4, 5, 6, 64)) if file.startswith("gnn") else published.resnet12(widths=(4, 5, 6, 16))
    )
    np.savez(tmp_path / "model.npz", **{**backbone, **weights})
    run = RunFolder(tmp_path / "run")
    convert_checkpoint(tmp_path / "model.npz", run, Choices(image_size=84, ways=3, shots=2))
    model = run.load_model()
    images = open_source("synthetic:sketch").split("novel")
    accuracy = evaluate(model, images, EpisodeConfig(3, 2, 2), episodes=2, seed=0)
    assert accuracy.episodes.shape == (2,)
    assert np.isfinite(accuracy.episodes).all()
    rng = np.random.default_rng(2)
    support = SupportSet(("ant", "bee", "cow"), rng.integers(0, 256, (3, 2, 84, 84, 3), dtype=np.uint8))
    explanation = explain_image(model, support, rng.integers(0, 256, (84, 84, 3), dtype=np.uint8), target="all")
    assert all(np.any(relevance) for relevance in explanation.query_relevance)
    assert np.isfinite(explanation.support_relevance).all()
    assert np.any(explanation.support_relevance)


# === arrays that do not fit ===


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"relation_module.fc2.bias": None}, ["missing relation_module.fc2.bias"], marks=pytest.mark.slow),
        (
            {"feature.trunk.1.BN.running_var": None, "surprise": np.zeros(2, np.float32)},
            ["missing feature.trunk.1.BN.running_var", "unknown surprise"],
        ),
        (
            {"relation_module.layer1.C.weight": np.zeros((4, 7, 3, 3), np.float32)},
            ["relation_module.layer1.C.weight is (4, 7, 3, 3), not (4, 8, 3, 3)"],
        ),
        pytest.param(
            {"relation_module.fc1.weight": np.zeros((3, 35), np.float32)},
            ["fc1.weight is (3, 35), not (3, "],
            marks=pytest.mark.slow,
        ),
        pytest.param({"feature.trunk.0.C.weight": None}, ["missing feature.trunk.0.C.weight"], marks=pytest.mark.slow),
        ({"feature.trunk.0.C.weight": np.zeros((), np.float32)}, ["feature.trunk.0.C.weight is (), not"]),
        ({"feature.trunk.2.C.bias": np.zeros(4, np.int64)}, ["feature.trunk.2.C.bias is int64, not floating point"]),
        (
            {"feature.trunk.2.C.bias": np.full(4, np.nan, np.float32)},
            ["trunk.2.C.bias holds values that are not finite"],
        ),
    ],
)
def test_arrays_that_do_not_fit_are_named(published, change, words):
    arrays = {**without_counters({**published.conv4(), **published.relation()}), **change}
    with pytest.raises(RunError) as error:
        convert_arrays({name: array for name, array in arrays.items() if array is not None})
    message = str(error.value)
    assert [word for word in words if word not in message] == [], message
    assert "\n" not in message, message


def test_many_problems_are_counted(published):
    with pytest.raises(RunError, match=r"missing relation_module.layer1.C.weight.* and [0-9]+ more"):
        convert_arrays(
            {
                **without_counters(published.conv4()),
                "relation_module.x": np.zeros(1, np.float32),
                **{f"extra{number}": np.zeros(1, np.float32) for number in range(20)},
            }
        )


@pytest.mark.parametrize("names", [(), ("weight",), ("model.encoder.0.weight", "head.bias")])
def test_other_networks_are_refused(names):
    with pytest.raises(RunError, match="must be named as those of a published backbone"):
        convert_arrays({name: np.zeros(3, np.float32) for name in names})


def test_unknown_choices_list_the_known(published):
    arrays = without_counters(published.conv4())
    with pytest.raises(RunError, match=r"published backbone must be one of conv4, conv4np, resnet10.*'resnet50'"):
        convert_arrays(arrays, Choices(backbone="resnet50"))
    with pytest.raises(RunError, match=r"published head must be one of relation, graph, cross_attention. .*'matching'"):
        convert_arrays(arrays, Choices(head="matching"))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (Choices(image_size=15), "`data.image_size` in .* >= 16. Received: 15"),
        (Choices(ways=1), "`episode.ways` in .* >= 2. Received: 1"),
    ],
)
def test_choices_that_no_run_can_have(published, choices, message):
    with pytest.raises(ConfigError, match=message):
        convert_arrays(without_counters(published.resnet()), choices)


def test_a_backbone_that_the_arrays_are_not_of(published):
    with pytest.raises(RunError, match=r"of resnet10 at 64 px alone. Received: missing feature.trunk.0.weight"):
        convert_arrays(without_counters(published.conv4()), Choices(backbone="resnet10", image_size=64))


# === the run ===


@pytest.mark.slow
def test_the_run_says_where_it_comes_from(published, tmp_path):
    np.savez(tmp_path / "model.npz", **published.conv4(), **published.relation())
    convert_checkpoint(tmp_path / "model.npz", RunFolder(tmp_path / "run"))
    assert sorted(os.listdir(tmp_path / "run")) == ["best.npz", "config.yaml", "environment.json"]
    origin = json.loads((tmp_path / "run" / "environment.json").read_text())["origin"]
    assert origin["checkpoint"].endswith("model.npz")
    assert len(origin["sha256"]) == 64
    assert (origin["unused"], origin["trained_head"]) == ([], True)
    model = RunFolder(tmp_path / "run").load_model()
    expected = convert_arrays(load_checkpoint(tmp_path / "model.npz")).model
    for one, other in zip(model.get_weights(), expected.get_weights()):
        np.testing.assert_array_equal(one, other)


def test_a_run_is_not_overwritten(published, tmp_path):
    np.savez(tmp_path / "model.npz", **published.conv4(), **published.relation())
    convert_checkpoint(tmp_path / "model.npz", RunFolder(tmp_path / "run"))
    before = (tmp_path / "run" / "config.yaml").stat().st_mtime_ns
    with pytest.raises(RunError, match="already holds a run"):
        convert_checkpoint(tmp_path / "model.npz", RunFolder(tmp_path / "run"))
    assert (tmp_path / "run" / "config.yaml").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "written", [pytest.param(0, marks=pytest.mark.slow), 1, pytest.param(2, marks=pytest.mark.slow)]
)
def test_a_full_disk_leaves_nothing(published, tmp_path, monkeypatch, written):
    np.savez(tmp_path / "model.npz", **published.conv4(), **published.relation())
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > written:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        convert_checkpoint(tmp_path / "model.npz", RunFolder(tmp_path / "run"))
    assert os.listdir(tmp_path) == ["model.npz"]
