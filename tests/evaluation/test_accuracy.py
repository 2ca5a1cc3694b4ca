from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.config import EpisodeConfig
from egt_tf.data.image_set import ImageSet
from egt_tf.data.preprocessing import evaluation_image
from egt_tf.data.sampling import episode_generator, sample_episode
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError, DataError, RunError
from egt_tf.evaluation.accuracy import EPISODES_PER_BATCH, IMAGES_PER_BATCH, Accuracy, Evaluator, embed, evaluate
from egt_tf.evaluation.calibration import expected_calibration_error
from egt_tf.evaluation.features import FeatureTable
from egt_tf.evaluation.transductive import Transduction, transductive_scores
from egt_tf.heads import Head
from egt_tf.heads.layers import PairConcat, PrototypeMean
from egt_tf.keras_api import keras

SIZE = 16
PER_CLASS = 7


class NearPrototype(keras.layers.Layer):
    """`-sum of squared differences` of the two halves of a pair."""

    def call(self, inputs):
        prototype, query = tf.split(inputs, 2, axis=-1)
        return -tf.reduce_sum(tf.square(prototype - query), axis=[-3, -2, -1])


class NearestPrototypeHead(Head):
    def __init__(self, feature_shape):
        super().__init__(feature_shape)
        support, query = keras.Input((None, *feature_shape)), keras.Input((None, *feature_shape))
        labels = keras.Input((None, None))
        pairs = PairConcat()([PrototypeMean()([support, labels]), query])
        self.relate_model = keras.Model([support, labels, query], pairs, name="relate")
        features = keras.Input((None, None, *feature_shape[:2], 2 * feature_shape[2]))
        self.score_model = keras.Model(features, NearPrototype()(features), name="score")


def scaled(factor: float) -> keras.Model:
    """The second stage of the head with its scores times `factor`."""
    features = keras.Input((None, None, 1, 1, 6))
    return keras.Model(features, factor * NearPrototype()(features))


def colour_model() -> EpisodicModel:
    """Right on images of one colour a class: it compares mean colours."""
    images = keras.Input((SIZE, SIZE, 3))
    backbone = keras.Model(images, keras.layers.AveragePooling2D(SIZE)(images), name="colour")
    return EpisodicModel(backbone, NearestPrototypeHead((1, 1, 3)))


def image_set(read, classes: int = 6, per_class: int = PER_CLASS) -> ImageSet:
    members = tuple(np.arange(c * per_class, (c + 1) * per_class) for c in range(classes))
    return ImageSet("test", tuple(f"class{c}" for c in range(classes)), members, read, str)


def constant_colour(index: int) -> np.ndarray:
    colour = np.random.default_rng(index // PER_CLASS).integers(0, 256, 3)
    return np.full((9, 11, 3), colour, np.uint8)


def noise(index: int) -> np.ndarray:
    return np.random.default_rng(1000 + index).integers(0, 256, (12, 12, 3)).astype(np.uint8)


COLOURS, NOISE = image_set(constant_colour), image_set(noise)
EPISODE = EpisodeConfig(ways=4, shots=2, queries=3)


# === values ===


def test_a_model_that_is_right_by_construction():
    accuracy = evaluate(colour_model(), COLOURS, EPISODE, episodes=6, seed=0)
    np.testing.assert_array_equal(accuracy.episodes, np.ones(6))
    assert (accuracy.mean, accuracy.interval) == (1.0, 0.0)


def test_a_model_that_is_wrong_by_construction():
    model = colour_model()
    features = keras.Input((None, None, 1, 1, 6))
    model.head.score_model = keras.Model(features, -NearPrototype()(features))
    assert evaluate(model, COLOURS, EPISODE, episodes=6, seed=0).mean == 0.0


def test_answers_by_class_are_those_of_the_accuracy():
    for model, images in ((colour_model(), COLOURS), (colour_model(), NOISE)):
        found = evaluate(model, images, EPISODE, episodes=9, seed=0)
        confusion = found.confusion
        assert confusion.taken.sum() == 9 * 12
        assert confusion.taken.trace() == pytest.approx(found.mean * 9 * 12)
        np.testing.assert_array_equal(confusion.taken.sum(axis=1), confusion.asked.diagonal())
        assert (confusion.taken <= confusion.asked).all()
        assert set(confusion.class_names) <= set(images.class_names)


def test_noise_is_classified_at_chance():
    accuracy = evaluate(colour_model(), NOISE, EPISODE, episodes=60, seed=0)
    assert abs(accuracy.mean - 0.25) < 2 * accuracy.interval
    # 12 queries at chance 1/4: standard deviation of an episode about 0.125 or a little more.
    assert 0.9 * 1.96 * 0.125 / np.sqrt(60) < accuracy.interval < 1.8 * 1.96 * 0.125 / np.sqrt(60)


@pytest.mark.parametrize(
    "head",
    [{"name": "relation"}, pytest.param({"name": "relation", "batch_statistics": False}, marks=pytest.mark.slow)],
)
def test_stored_features_give_what_the_model_gives_on_images(head):
    model = EpisodicModel.build_from({"name": "conv4", "width": 4}, head, SIZE, seed=2)
    episodes = EPISODES_PER_BATCH + 3
    accuracy = evaluate(model, NOISE, EPISODE, episodes, seed=5)
    expected = []
    for index in range(episodes):
        episode = sample_episode(NOISE.members, EPISODE, episode_generator(5, index))
        support, query = (
            np.stack([evaluation_image(noise(int(i)), SIZE) for i in part.ravel()])
            for part in (episode.support, episode.query)
        )
        labels = np.eye(4, dtype=np.float32)[np.repeat(np.arange(4), 2)]
        scores = model({"support_images": support[None], "support_labels": labels[None], "query_images": query[None]})
        expected.append(np.mean(np.argmax(scores[0], -1) == np.repeat(np.arange(4), 3)))
    np.testing.assert_allclose(accuracy.episodes, expected, atol=1e-6)
    assert len(set(expected)) > 1


def test_the_weights_are_left_alone():
    model = EpisodicModel.build_from(
        {"name": "conv4", "width": 2}, {"name": "relation", "batch_statistics": False}, SIZE
    )
    before = model.get_weights()
    evaluate(model, NOISE, EPISODE, episodes=2, seed=0)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_an_evaluator_reads_the_weights_of_the_moment():
    model = EpisodicModel.build_from({"name": "conv4", "width": 2}, "relation", SIZE, seed=0)
    evaluator = Evaluator(model)
    first = evaluator(NOISE, EPISODE, episodes=4, seed=0).episodes
    other = EpisodicModel.build_from({"name": "conv4", "width": 2}, "relation", SIZE, seed=1)
    model.set_weights(other.get_weights())
    second = evaluator(NOISE, EPISODE, episodes=4, seed=0).episodes
    assert np.any(first != second)
    np.testing.assert_array_equal(second, evaluate(other, NOISE, EPISODE, episodes=4, seed=0).episodes)


@pytest.mark.slow
@pytest.mark.parametrize("duplicates", [True, False])
def test_transductive_accuracy(duplicates):
    model = EpisodicModel.build_from({"name": "conv4", "width": 4}, "relation", SIZE, seed=2)
    transduction = Transduction(2, 6, duplicates)
    episodes = EPISODES_PER_BATCH + 2
    accuracy = evaluate(model, NOISE, EPISODE, episodes, seed=5, transduction=transduction)
    expected = []
    for index in range(episodes):
        episode = sample_episode(NOISE.members, EPISODE, episode_generator(5, index))
        support, query = (
            model.backbone(np.stack([evaluation_image(noise(int(i)), SIZE) for i in part.ravel()]))
            for part in (episode.support, episode.query)
        )
        labels = tf.constant(np.eye(4, dtype=np.float32)[np.repeat(np.arange(4), 2)])
        scores = transductive_scores(model.head, support[None], labels[None], query[None], transduction)
        expected.append(np.mean(np.argmax(scores[0], -1) == np.repeat(np.arange(4), 3)))
    np.testing.assert_allclose(accuracy.episodes, expected, atol=1e-6)


@pytest.mark.slow
def test_one_evaluator_measures_both_ways():
    model = EpisodicModel.build_from({"name": "conv4", "width": 4}, "relation", SIZE, seed=2)
    evaluator = Evaluator(model)
    options = (None, Transduction(2, 6), Transduction(rounds=0), None)
    plain, grown, without_rounds, again = (
        evaluator(NOISE, EPISODE, 12, 5, transduction=each).episodes for each in options
    )
    np.testing.assert_array_equal(plain, without_rounds)
    np.testing.assert_array_equal(plain, again)
    assert np.any(plain != grown)


# === the interval ===


def test_interval_formula():
    accuracy = Accuracy(np.array([0.2, 0.4, 0.9, 1.0]))
    assert accuracy.mean == pytest.approx(0.625)
    assert accuracy.interval == pytest.approx(1.96 * np.sqrt(np.mean((accuracy.episodes - 0.625) ** 2)) / 2)
    assert str(accuracy) == "62.50 % +- 32.78"


def test_one_episode_has_no_spread():
    accuracy = Accuracy(np.array([0.5]))
    assert (accuracy.interval, str(accuracy)) == (None, "50.00 %")


# === calibration ===


@pytest.mark.parametrize("transduction", [pytest.param(None, marks=pytest.mark.slow), Transduction(2, 6)])
@pytest.mark.parametrize("head", [pytest.param("relation", marks=pytest.mark.slow), "cosine"])
def test_calibration_over_all_queries_of_all_episodes(head, transduction):
    model = EpisodicModel.build_from({"name": "conv4", "width": 4}, head, SIZE, seed=2)
    episodes = EPISODES_PER_BATCH + 2
    # One episode has 20 images of 16 bytes: the parts of a small memory are put together.
    table = FeatureTable(limit_mb=25 * 16 / 2**20)
    found = Evaluator(model)(NOISE, EPISODE, episodes, 5, transduction=transduction, features=table).calibration
    confidences, right, likelihoods = [], [], []
    for index in range(episodes):
        episode = sample_episode(NOISE.members, EPISODE, episode_generator(5, index))
        support, query = (
            model.backbone(np.stack([evaluation_image(noise(int(i)), SIZE) for i in part.ravel()]))
            for part in (episode.support, episode.query)
        )
        labels = tf.constant(np.eye(4, dtype=np.float32)[np.repeat(np.arange(4), 2)])
        how = transduction or Transduction(rounds=0)
        scores = transductive_scores(model.head, support[None], labels[None], query[None], how)[0]
        for row, label in zip(np.float64(scores), np.repeat(np.arange(4), 3), strict=True):
            probabilities = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
            confidences.append(probabilities.max())
            right.append(probabilities.argmax() == label)
            likelihoods.append(-np.log(probabilities[label]))
    assert len(right) == episodes * 12
    error = expected_calibration_error(np.array(confidences), np.array(right))
    assert found.error == pytest.approx(error, abs=1e-5)
    assert found.negative_log_likelihood == pytest.approx(np.mean(likelihoods), rel=1e-4)
    assert sum(each.queries for each in found.bins) == len(right)
    assert sum(each.queries * each.accuracy for each in found.bins) == pytest.approx(sum(right))


def test_a_sure_model_that_is_right_has_no_error_and_one_that_is_wrong_the_largest():
    model = colour_model()
    model.head.score_model = scaled(1e4)
    found = evaluate(model, COLOURS, EPISODE, episodes=6, seed=0).calibration
    assert (found.error, found.negative_log_likelihood) == pytest.approx((0, 0), abs=1e-6)
    model.head.score_model = scaled(-1e4)
    found = evaluate(model, COLOURS, EPISODE, episodes=6, seed=0).calibration
    assert found.error == pytest.approx(1, abs=1e-6)
    # Where the probability of the true class itself rounds to 0.
    assert 1000 < found.negative_log_likelihood < np.inf


def test_a_head_says_what_its_probabilities_are():
    class Sigmoids(NearestPrototypeHead):
        def probabilities(self, scores):
            return tf.sigmoid(scores)

        def log_probabilities(self, scores):
            return tf.math.log_sigmoid(scores)

    # Maps of equal colours have the score 0 with their own class, and a large negative one with any other.
    model = EpisodicModel(colour_model().backbone, Sigmoids((1, 1, 3)))
    model.head.score_model = scaled(1e4)
    found = evaluate(model, COLOURS, EPISODE, episodes=6, seed=0).calibration
    assert found.error == pytest.approx(0.5, abs=1e-3)
    assert found.negative_log_likelihood == pytest.approx(np.log(2), abs=1e-3)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_no_accuracy(number):
    model = colour_model()
    model.head.score_model = scaled(number)
    with pytest.raises(RunError, match=r"^scores must be finite\. Received: others in episode 1;"):
        evaluate(model, NOISE, EPISODE, episodes=6, seed=0)


def test_the_first_episode_with_scores_that_are_no_numbers_is_named():
    images, model = image_set(noise, classes=30), colour_model()
    drawn = [sample_episode(images.members, EPISODE, episode_generator(0, index)).images for index in range(9)]
    broken = next(int(i) for i in drawn[6] if not any(i in earlier for earlier in drawn[:6]))

    def batches(images, indices):
        pixels = np.stack([evaluation_image(noise(int(i)), SIZE) for i in indices])
        pixels[indices == broken] = np.nan
        yield tf.constant(pixels)

    with pytest.raises(RunError, match="in episode 7;"):
        Evaluator(model, batches)(images, EPISODE, episodes=9, seed=0)


@pytest.mark.parametrize(("factor", "tied"), [(0.0, 1.0), (1.0, 0.0)])
def test_queries_whose_classes_have_the_same_score_are_counted(factor, tied):
    model = colour_model()
    model.head.score_model = scaled(factor)
    found = evaluate(model, COLOURS, EPISODE, episodes=6, seed=0)
    assert found.tied == tied
    # The first class counts as predicted.
    assert found.mean == (1.0 if factor else 0.25)


# === episodes ===


def test_the_same_seed_gives_the_same_episodes_whatever_their_number():
    model = colour_model()
    arguments = ((6, 3), (6, 3), (9, 3), (6, 4))
    runs = [evaluate(model, NOISE, EPISODE, episodes, seed).episodes for episodes, seed in arguments]
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_array_equal(runs[0], runs[2][:6])
    assert np.any(runs[0] != runs[3])


def test_every_image_is_read_once():
    seen = []

    def read(index):
        seen.append(int(index))
        return constant_colour(index)

    evaluate(colour_model(), image_set(read), EPISODE, episodes=8, seed=0)
    drawn = [sample_episode(COLOURS.members, EPISODE, episode_generator(0, index)) for index in range(8)]
    assert sorted(seen) == sorted({int(i) for e in drawn for part in (e.support, e.query) for i in part.ravel()})


@pytest.mark.slow
def test_a_small_memory_changes_nothing_but_the_reading():
    model = EpisodicModel.build_from({"name": "conv4", "width": 4}, "relation", SIZE, seed=2)
    whole = evaluate(model, NOISE, EPISODE, episodes=9, seed=5)
    images, told = [], []
    # One episode has 20 images of 16 bytes.
    table = FeatureTable(limit_mb=25 * 16 / 2**20)
    parts = Evaluator(model)(
        NOISE,
        EPISODE,
        episodes=9,
        seed=5,
        features=table,
        progress=lambda *done: told.append(done),
        image_progress=lambda *done: images.append(done),
    )
    np.testing.assert_array_equal(whole.episodes, parts.episodes)
    assert len(table.indices) <= 25
    assert images == sorted(images)
    assert images[-1][0] == images[-1][1] > 42
    assert told == sorted(told)
    assert told[0] == (0, 9)
    assert told[-1] == (9, 9)


def test_features_are_kept_from_one_measurement_to_the_next():
    seen = []

    def read(index):
        seen.append(int(index))
        return noise(index)

    images, table = image_set(read), FeatureTable()
    evaluator = Evaluator(EpisodicModel.build_from({"name": "conv4", "width": 4}, "relation", SIZE, seed=2))
    first = evaluator(images, EPISODE, episodes=40, seed=5, features=table)
    assert len(table.indices) == len(seen) == 42
    again = evaluator(images, EPISODE, episodes=40, seed=5, features=table)
    other = evaluator(images, EpisodeConfig(3, 1, 4), episodes=7, seed=1, features=table)
    assert len(seen) == 42
    np.testing.assert_array_equal(first.episodes, again.episodes)
    np.testing.assert_array_equal(other.episodes, evaluator(images, EpisodeConfig(3, 1, 4), 7, 1).episodes)


def test_embed_keeps_the_order_over_several_batches():
    indices = np.arange(IMAGES_PER_BATCH + 5)[::-1] % 40
    features = embed(colour_model(), NOISE, indices)
    assert features.shape == (IMAGES_PER_BATCH + 5, 1, 1, 3)
    expected = np.stack([evaluation_image(noise(int(i)), SIZE) for i in indices]).mean((1, 2), keepdims=True)
    np.testing.assert_allclose(features, expected, atol=1e-5)


def test_progress_reaches_the_end():
    episodes, images = [], []
    evaluate(
        colour_model(),
        COLOURS,
        EPISODE,
        episodes=6,
        seed=0,
        progress=lambda *done: episodes.append(done),
        image_progress=lambda *done: images.append(done),
    )
    assert episodes == sorted(episodes)
    assert episodes[-1] == (6, 6)
    assert len(episodes) >= 3
    assert images[-1][0] == images[-1][1] <= 42


# === errors ===


@pytest.mark.parametrize(
    ("episode", "message"),
    [
        (EpisodeConfig(4, 5, 3), "5 shots [+] 3 queries need 8 images a class. Received: class 'class0' of test has 7"),
        (EpisodeConfig(7, 1, 1), "7-way episode needs 7 classes"),
    ],
)
def test_too_few_images_or_classes(episode, message):
    with pytest.raises(DataError, match=message):
        evaluate(colour_model(), COLOURS, episode, episodes=1, seed=0)


@pytest.mark.parametrize("episodes", [0, -2])
def test_at_least_one_episode(episodes):
    with pytest.raises(ConfigError, match=f"`episodes` must be >= 1. Received: episodes={episodes}"):
        evaluate(colour_model(), COLOURS, EPISODE, episodes=episodes, seed=0)


def test_too_many_candidates():
    with pytest.raises(ConfigError, match=r"4 ways [*] 3 queries = 12"):
        evaluate(colour_model(), COLOURS, EPISODE, episodes=1, seed=0, transduction=Transduction(2, 7))


def test_an_image_that_cannot_be_read_is_named():
    def read(index):
        raise DataError(f"cannot read image {index}")

    images = dataclasses.replace(COLOURS, read=read)
    # Results are compared episode by episode, so that no image may be left out of them.
    for each in (images, images.skipping_unreadable()):
        with pytest.raises(DataError, match=r"^cannot read image \d+$"):
            evaluate(colour_model(), each, EPISODE, episodes=1, seed=0)


def test_an_evaluator_leaves_out_what_the_images_skip():
    broken = int(COLOURS.members[0][0])

    def read(index):
        if index == broken:
            raise DataError(f"cannot read image {index}")
        return COLOURS.read(index)

    images = dataclasses.replace(COLOURS, read=read).skipping_unreadable()
    assert Evaluator(colour_model())(images, EpisodeConfig(4, 1, 2), episodes=8, seed=0).mean == 1
    assert images.report_unreadable() == f"left out 1 unreadable image: {images.describe(broken)}"
