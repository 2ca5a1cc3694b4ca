from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from egt_tf.config import EpisodeConfig, RunConfig, config_from_dict
from egt_tf.data.sampling import draw_episode
from egt_tf.data.sources import open_source
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import DataError, ExplainError
from egt_tf.figures import Canvas
from egt_tf.runs import RunFolder
from egt_tf.training import explanation_pictures
from egt_tf.training.checkpoints import Checkpoints
from egt_tf.training.explanation_pictures import ExplanationPictures
from egt_tf.training.loop import train
from egt_tf.weights import load_arrays

EPISODE = EpisodeConfig(3, 2, 2)


def config(figure_every: int, **training) -> RunConfig:
    return config_from_dict(
        {
            "data": {"image_size": 32},
            "episode": {"ways": 3, "shots": 2, "queries": 2},
            "model": {"backbone": {"name": "conv4", "width": 2}},
            "guidance": {"mode": "none"},
            "training": {
                "epochs": 3,
                "episodes_per_epoch": 2,
                "validation_episodes": 2,
                "figure_every": figure_every,
                **training,
            },
        },
        "the test",
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> RunFolder:
    """A run with a picture after its second epoch."""
    run = RunFolder(tmp_path_factory.mktemp("runs") / "drawn")
    train(config(2), run)
    return run


def images_in(folder) -> dict[tuple[str, int], np.ndarray]:
    """The pictures of the event files, by tag and step."""
    found = {}
    for file in folder.iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "images":
                    # Width, height, then PNG files.
                    found[value.tag, event.step] = tf.io.decode_png(value.tensor.string_val[2]).numpy()
    return found


def callback(run, method="fsc", **keywords) -> tuple[ExplanationPictures, list, list]:
    shown, lines = [], []
    images = keywords.pop("images", open_source("synthetic:shapes").split("val"))
    made = ExplanationPictures(
        run, images, EPISODE, 0, 1, method, lambda *each: shown.append(each), report=lines.append, **keywords
    )
    return made, shown, lines


def model() -> EpisodicModel:
    return EpisodicModel.build_from({"name": "conv4", "width": 2}, "relation", 32, seed=0)


def test_the_picture_is_a_file_and_in_tensorboard(drawn):
    assert os.listdir(drawn.path / "figures") == ["epoch-002.png"]
    with Image.open(drawn.figure_file(2)) as file:
        picture = np.asarray(file)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert min(picture.shape[:2]) > 1000
    # White paper with red and blue on it, in both halves.
    for half in np.split(picture[: len(picture) // 2 * 2].astype(int), 2):
        assert (half.min(axis=2) == 255).mean() > 0.3
        assert ((half[..., 0] - half[..., 2]) > 60).sum() > 1000
    found = images_in(drawn.path / "tensorboard")
    assert list(found) == [("explanation", 2)]
    np.testing.assert_array_equal(found["explanation", 2], picture)


@pytest.mark.slow
def test_training_is_the_same_without_pictures(drawn, tmp_path):
    plain = RunFolder(tmp_path / "plain")
    train(config(0), plain)
    assert not (plain.path / "figures").exists()
    assert images_in(plain.path / "tensorboard") == {}
    first, second = (load_arrays(Checkpoints(run.checkpoints_folder).files()[-1]) for run in (drawn, plain))
    for name in first.keys() - {"progress"}:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_the_same_queries_whatever_the_weights(tmp_path, monkeypatch):
    explained = []

    def keep(explanation):
        explained.append(explanation)
        return Canvas(1.0, 0.1)

    monkeypatch.setattr(explanation_pictures, "draw_explanation", keep)
    made, _, _ = callback(RunFolder(tmp_path / "run"))
    one, other = model(), model()
    other.set_weights([weight + 0.1 for weight in other.get_weights()])
    assert made.picture(one, 1).shape == (32, 160, 3)
    made.picture(other, 2)
    first, second, again, _ = explained
    np.testing.assert_array_equal(first.query_image, again.query_image)
    np.testing.assert_array_equal(first.support_images, again.support_images)
    assert np.any(first.query_image != second.query_image)
    assert np.any(first.query_relevance != again.query_relevance)
    assert (first.run_name, again.run_name) == ("run, epoch 1", "run, epoch 2")
    assert first.image_name == f"truth: {first.class_names[0]}"
    assert second.image_name == f"truth: {second.class_names[1]}"


def test_a_model_that_cannot_be_explained_is_reported_once(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise ExplainError("no rule for the layer x")

    monkeypatch.setattr(explanation_pictures, "explain_image", refuse)
    made, shown, lines = callback(RunFolder(tmp_path / "run"))
    made.set_model(type("Shell", (), {"classifier": model()}))
    made.on_epoch_end(0)
    made.on_epoch_end(1)
    assert lines == ["no pictures of explanations: no rule for the layer x"]
    assert shown == []
    assert not (tmp_path / "run").exists()


def test_images_that_cannot_be_read_are_left_out(tmp_path):
    images = open_source("synthetic:shapes").split("val")
    refused = set()

    def read(index):
        if index in refused:
            raise DataError("damaged")
        return images.read(index)

    damaged = dataclasses.replace(images, read=read)
    made, _, _ = callback(RunFolder(tmp_path / "run"), images=damaged.skipping_unreadable())
    refused.update(int(index) for index in draw_episode(images, EPISODE, 0, 0)[0].support[0])
    support, query, truth = made._query(0, 32)
    assert support.images.shape == (3, 2, 32, 32, 3)
    assert query.shape == (32, 32, 3)
    assert truth in support.class_names
