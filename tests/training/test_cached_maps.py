from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.backbones.neck import embedding_of
from egt_tf.config import RunConfig, config_from_dict
from egt_tf.data.map_files import Maps
from egt_tf.data.sources import open_source
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError
from egt_tf.evaluation.accuracy import evaluate
from egt_tf.files import write_png
from egt_tf.keras_api import keras
from egt_tf.runs import RunFolder, load_model
from egt_tf.training.cached_maps import classifier_of_maps, fingerprint_of, map_loader, number_of_views
from egt_tf.training.guided_model import GuidedModel
from egt_tf.training.loop import train
from egt_tf.training.run_data import VALIDATION_STREAM
from egt_tf.weights import load_arrays
from tests.helpers.trainings import Interrupt, expect_equal_states, without_seconds

CONV4 = {"name": "conv4", "width": 4, "trainable": False}
SIZE = 16
SMALL_GRAPH = {"name": "graph", "ways": 3, "embedding": 4, "adjacency_width": 4, "growth": 2}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twelve classes of six images, each class of a colour."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("base", 4), ("val", 4), ("novel", 4)):
        for number in range(count):
            colour = rng.integers(0, 200, 3)
            for image in range(6):
                pixels = colour + rng.integers(0, 56, (20, 20, 3))
                write_png(folder / split / f"{split}{number}" / f"{image}.png", pixels.astype(np.uint8))
    return folder


def config(photos, data=None, backbone=None, head="prototype", mode="none", **training) -> RunConfig:
    return config_from_dict(
        {
            "data": {"train": f"folder:{photos}", "image_size": SIZE, **(data or {})},
            "episode": {"ways": 3, "shots": 2, "queries": 2},
            "model": {"backbone": {**CONV4, "neck": 5, **(backbone or {})}, "head": head},
            "guidance": {"mode": mode},
            "training": {
                "epochs": 2,
                "episodes_per_epoch": 3,
                "validation_episodes": 5,
                "learning_rate": 0.01,
                "figure_every": 0,
                **training,
            },
        },
        "the test",
    )


@pytest.fixture(scope="module")
def alone(photos, tmp_path_factory) -> tuple[RunFolder, list[str]]:
    """A run that was left alone, with its maps in memory, and what it reported."""
    run, lines = RunFolder(tmp_path_factory.mktemp("runs") / "alone"), []
    train(config(photos, figure_every=2), run, report=lines.append)
    return run, lines


# === what is trained ===


def episode(size=SIZE, ways=3, shots=1, queries=2):
    rng = np.random.default_rng(0)
    labels = np.tile(np.repeat(np.arange(ways), queries), (1, 1)).astype(np.int32)
    inputs = {
        "support_images": rng.normal(size=(1, ways * shots, size, size, 3)).astype(np.float32),
        "support_labels": np.eye(ways, dtype=np.float32)[None],
        "query_images": rng.normal(size=(1, ways * queries, size, size, 3)).astype(np.float32),
    }
    return {name: tf.constant(value) for name, value in inputs.items()}, tf.constant(labels), tf.constant(labels)


def as_maps(model: EpisodicModel, inputs):
    embedding = embedding_of(model.backbone)

    def maps(images):
        found = embedding(tf.reshape(images, [-1, *images.shape[2:]]), training=False)
        return tf.reshape(found, [1, -1, *found.shape[1:]])

    names = ("support_images", "query_images")
    return {**inputs, **{name: maps(inputs[name]) for name in names}}


@pytest.mark.parametrize(
    ("head", "neck", "guided"),
    [
        pytest.param("relation", None, 1.0, marks=pytest.mark.slow),
        ("relation", 5, 0.0),
        pytest.param("cross_attention", 5, 1.0, marks=pytest.mark.slow),
        ("ridge", None, 0.0),
        # Slow; the other heads have the same to show.
        pytest.param("prototype", 5, 1.0, marks=pytest.mark.slow),
        pytest.param("cosine", 5, 0.0, marks=pytest.mark.slow),
        pytest.param(SMALL_GRAPH, 5, 0.0, marks=pytest.mark.slow),
        pytest.param(SMALL_GRAPH, 5, 1.0, marks=pytest.mark.slow),
        pytest.param("cross_attention", None, 0.0, marks=pytest.mark.slow),
    ],
)
def test_a_step_on_maps_is_a_step_on_images(head, neck, guided):
    whole, same = (EpisodicModel.build_from({**CONV4, "neck": neck}, head, 32, seed=1) for _ in range(2))
    data = episode(32)
    models = [GuidedModel(each, guided_weight=guided) for each in (whole, classifier_of_maps(same))]
    assert models[0].features_nonnegative == models[1].features_nonnegative
    elements = data, (as_maps(same, data[0]), *data[1:])
    losses = []
    for model, element in zip(models, elements, strict=True):
        model.compile(optimizer=keras.optimizers.SGD(0.1))
        losses.append({name: float(value) for name, value in model.train_step(element).items()})
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for one, other in zip(whole.weights, same.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6, err_msg=one.name)
    as_it_began = EpisodicModel.build_from({**CONV4, "neck": neck}, head, 32, seed=1)
    for model in (whole, same):
        for one, other in zip(as_it_began.backbone.weights, model.backbone.weights, strict=True):
            if "neck" not in one.name:
                np.testing.assert_array_equal(one, other)


# === whole runs ===


@pytest.mark.slow
def test_a_run_is_one_of_the_whole_model(alone, photos):
    run, lines = alone
    model, settings = load_model(run.path), run.config()
    assert model.image_size == SIZE
    # What it validated on maps, up to half precision, is what is measured on images.
    images = open_source(f"folder:{photos}").split("val")
    found = evaluate(model, images, settings.episode, 5, settings.training.seed + VALIDATION_STREAM)
    assert max(row["val_accuracy"] for row in run.metrics()) == pytest.approx(found.mean, abs=0.04)
    names = load_arrays(run.best_file).keys()
    assert {"backbone/conv4/block1_conv/kernel", "backbone/neck_conv/kernel"} <= names
    assert run.figure_file(2).is_file()
    assert list(run.tensorboard_folder.iterdir())
    assert [line for line in lines if line.startswith("computing the maps of 24 images") and "2 views" in line]


def test_resumed_bit_for_bit_and_equal_with_a_file(alone, photos, tmp_path):
    run, kept = RunFolder(tmp_path / "run"), {"feature_cache": str(tmp_path / "maps")}
    with pytest.raises(KeyboardInterrupt):
        train(config(photos, kept, checkpoint_every=1), run, callbacks=[Interrupt(after=4)])
    lines: list[str] = []
    train(run.config(), run, resume=True, report=lines.append)
    expect_equal_states(run, alone[0])
    assert without_seconds(run) == without_seconds(alone[0])
    assert len([line for line in lines if line.startswith("the maps of 24 images")]) == 2
    # One of them is damaged, the other one stays.
    damaged = max((tmp_path / "maps").glob("*.maps"), key=lambda file: file.stat().st_size)
    content = bytearray(damaged.read_bytes())
    content[600] ^= 1
    damaged.write_bytes(content)
    lines.clear()
    train(config(photos, kept), RunFolder(tmp_path / "second"), report=lines.append)
    assert [line for line in lines if line.endswith("the file there is not used: its checksum is wrong")]
    assert len([line for line in lines if line.startswith("the maps of 24 images")]) == 1
    expect_equal_states(RunFolder(tmp_path / "second"), alone[0])


@pytest.mark.slow
def test_unreadable_images_are_left_out_as_in_a_training_on_images(photos, tmp_path):
    copy = tmp_path / "photos"
    shutil.copytree(photos, copy)
    (copy / "base" / "base1" / "3.png").write_bytes(b"no image")
    reports = []
    for name, backbone in (("frozen", {}), ("trained", {"trainable": True})):
        lines: list[str] = []
        settings = config(copy, {"unreadable": "skip"}, backbone, epochs=1, episodes_per_epoch=8)
        train(settings, RunFolder(tmp_path / name), report=lines.append)
        reports.append([line for line in lines if line.startswith("left out")])
    assert reports[0] == reports[1] != []


@pytest.mark.slow
def test_a_warm_start_sets_the_embedding(photos, tmp_path):
    source = RunFolder(tmp_path / "source")
    train(config(photos, backbone={"trainable": True, "neck": None}, epochs=1, seed=5), source)
    target = RunFolder(tmp_path / "target")
    train(config(photos, epochs=1, warm_start=str(source.path)), target)
    expected, found = load_arrays(source.best_file), load_arrays(target.best_file)
    for name, array in expected.items():
        if name.startswith("backbone/"):
            np.testing.assert_array_equal(found[name.replace("backbone/", "backbone/conv4/")], array)


# === parts ===


def test_which_view_an_episode_uses_follows_from_its_random_numbers():
    values = np.arange(6, dtype=np.float16).reshape(2, 3, 1, 1, 1)
    load = map_loader(Maps(np.array([4, 9]), values, np.array([True, True])))
    seeds = tf.constant([[0, 1], [7, 1], [5, 1]], tf.int32)
    found = load(tf.constant([9, 4, 9], tf.int64), seeds, tf.constant([True, False, True]))
    assert found.numpy().ravel().tolist() == [3.0, 1.0, 5.0]


@pytest.mark.slow
def test_the_fingerprint_follows_what_the_maps_depend_on(photos):
    images = open_source(f"folder:{photos}").split("base")
    changed = dataclasses.replace(images, encoded=lambda index: images.encoded(index) + b" " * (index == 3))
    preparation = config(photos, {"augmentation": "full"}).image_preparation

    def fingerprint(images=images, seed=1, views=2, spec=CONV4, **changes) -> str:
        backbone = EpisodicModel.build_from(spec, "prototype", SIZE, seed=seed).backbone
        return fingerprint_of(backbone, spec, images, dataclasses.replace(preparation, **changes), views)

    first = fingerprint()
    assert fingerprint(spec={**CONV4, "trainable": True}) == first
    others = [
        fingerprint(changed),
        fingerprint(seed=2),
        fingerprint(views=3),
        fingerprint(spec={**CONV4, "width": 2}),
        fingerprint(augmentation="none"),
        fingerprint(image_size=32),
    ]
    assert len({first, *others}) == len(others) + 1


def test_the_fingerprint_knows_what_layers_do_beside_their_weights(photos):
    images = open_source(f"folder:{photos}").split("base")
    preparation = config(photos).image_preparation

    def fingerprint(activation, seed=1):
        kernel = keras.initializers.GlorotUniform(seed)
        layer = keras.layers.Conv2D(2, 3, activation=activation, kernel_initializer=kernel)
        model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), layer])
        layer.set_weights([np.ones((3, 3, 3, 2)), np.zeros(2)])
        return fingerprint_of(model, {}, images, preparation, 1)

    assert fingerprint("relu") == fingerprint("relu", seed=2) != fingerprint("tanh")


def test_number_of_views():
    def views(augmentation, count=None):
        data = {"augmentation": augmentation, "views": count}
        return number_of_views(config_from_dict({"data": data}, "the test"))

    assert [views(name) for name in ("none", "flip", "full", "full_erasing")] == [1, 2, 4, 4]
    assert views("full", 9) == 9
    with pytest.raises(ConfigError, match="must be at most 2"):
        views("flip", 3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learn_transformation": True}, "`training.learn_transformation` must be false"),
        ({"backbone": {"feature_transformation": True}}, "must be left out where `trainable` is false"),
        ({"backbone": {"trainable": True}, "data": {"views": 2}}, "`data.views` is for a frozen backbone"),
        ({"backbone": {"trainable": True}, "data": {"feature_cache": "x"}}, "`data.feature_cache` is for a frozen"),
        ({"data": {"cache_mb": 0}}, "must fit into data.cache_mb=0"),
        ({"backbone": {"neck": None}}, "must have weights to train. Received: a frozen backbone without a neck"),
    ],
)
def test_refused_before_anything_is_written(photos, tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        train(config(photos, **changes), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
