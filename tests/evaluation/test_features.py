from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.data.sampling import EpisodeIndices
from egt_tf.errors import ConfigError
from egt_tf.evaluation.features import FeatureTable, plan_steps
from egt_tf.keras_api import keras

NOTHING = np.zeros(0, np.int64)


def episode(*images) -> EpisodeIndices:
    support, query = np.array(images[:1]), np.array(images[1:])
    return EpisodeIndices(np.zeros(1, np.int64), support[None], query[None])


def embed(asked: list, indices: np.ndarray) -> tf.Tensor:
    """Maps that say whose they are."""
    asked.append(indices.tolist())
    return tf.reshape(tf.constant(indices, tf.float32), [-1, 1, 1, 1])


def test_everything_that_fits_is_one_step():
    episodes = [episode(5, 3), episode(9, 3)]
    (step,) = plan_steps(episodes, NOTHING, most=3)
    assert step.episodes == tuple(episodes)
    np.testing.assert_array_equal(step.new, [3, 5, 9])
    assert len(step.kept) == 0


def test_more_images_than_fit_make_several_steps():
    episodes = [episode(1, 2), episode(2, 3), episode(4, 5), episode(6, 7, 8, 9), episode(1, 9)]
    steps = plan_steps(episodes, NOTHING, most=3)
    assert [len(step.episodes) for step in steps] == [2, 1, 1, 1]
    assert [step.new.tolist() for step in steps] == [[1, 2, 3], [4, 5], [6, 7, 8, 9], [1]]
    # 9 is needed again; the others make room.
    assert [step.kept.tolist() for step in steps] == [[], [], [], [9]]
    assert [e for step in steps for e in step.episodes] == episodes


def test_what_is_held_is_kept_while_there_is_room():
    (step,) = plan_steps([episode(1, 2)], np.array([2, 7]), most=3)
    assert (step.kept.tolist(), step.new.tolist()) == ([2, 7], [1])
    (step,) = plan_steps([episode(1, 2)], np.array([2, 7]), most=2)
    assert (step.kept.tolist(), step.new.tolist()) == ([2], [1])


def test_the_table_gives_each_image_its_own_map():
    table, asked = FeatureTable(), []
    for numbers in ((8, 3), (5, 3), (3, 8)):
        (step,) = plan_steps([episode(*numbers)], table.indices, most=10)
        table.take(step, lambda new: embed(asked, new))
        np.testing.assert_array_equal(tf.gather(table.maps, table.rows(np.array(numbers)))[:, 0, 0, 0], numbers)
    assert asked == [[3, 8], [5]]
    (step,) = plan_steps([episode(4, 5)], table.indices, most=2)
    table.take(step, lambda new: embed(asked, new))
    np.testing.assert_array_equal(table.indices, [4, 5])
    np.testing.assert_array_equal(table.maps[:, 0, 0, 0], [4, 5])


def test_the_limit_counts_bytes_of_maps():
    images = keras.Input((8, 8, 3))
    backbone = keras.Model(images, keras.layers.MaxPooling2D(2)(images))
    size = 4 * 4 * 3 * 4
    assert FeatureTable(10 * size / 2**20).most(backbone) == 10
    assert FeatureTable(0.1 * size / 2**20).most(backbone) == 1


@pytest.mark.parametrize("limit", [0, -1, float("nan"), "1"])
def test_the_limit_is_positive(limit):
    with pytest.raises(ConfigError, match=r"`limit_mb` must be a number > 0. Received: limit_mb="):
        FeatureTable(limit)
