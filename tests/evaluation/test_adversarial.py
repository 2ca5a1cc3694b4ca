from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.backbones.batch_noise import Noise, noise_layers, set_noise, with_degree
from egt_tf.backbones.noise_places import with_noise
from egt_tf.config import EpisodeConfig
from egt_tf.data import open_source
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError, RunError
from egt_tf.evaluation.accuracy import Accuracy, evaluate
from egt_tf.evaluation.adversarial import EpisodeAttacker, Robustness, evaluate_attack, success_rates
from egt_tf.evaluation.attack_report import attack_record, result_lines, trend_figure, trend_rows
from egt_tf.evaluation.attack_trend import check_degrees, known_record, measured, trend
from egt_tf.evaluation.attack_trial import AttackTrial, weights_identity
from egt_tf.evaluation.attacks import fgsm, pgd, random_signs
from egt_tf.heads import HEADS
from egt_tf.keras_api import keras

# tf.data says that it is not meant.
pytestmark = pytest.mark.filterwarnings("ignore:Even though the")

SIZE = 32
EPISODE = EpisodeConfig(ways=3, shots=2, queries=4)
ONE = EpisodeConfig(ways=2, shots=1, queries=2)


@pytest.fixture(autouse=True)
def eager():
    """Tracing takes longer than what is traced."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def images():
    return open_source("synthetic:shapes").split("novel")


@pytest.fixture(scope="module")
def plain() -> EpisodicModel:
    return network()


@pytest.fixture(scope="module")
def shared() -> EpisodicModel:
    return network(noise=0.3)


@pytest.fixture
def noisy(shared) -> EpisodicModel:
    yield shared
    set_noise(shared.backbone, Noise.SHARED)


def network(noise: float | None = None) -> EpisodicModel:
    """One convolution of fixed weights and, if asked for, noise of its deviations."""
    x = keras.Input((SIZE, SIZE, 3))
    kernel = keras.initializers.RandomNormal(stddev=0.05, seed=3)
    backbone = keras.Model(
        x, keras.layers.Conv2D(6, 5, 4, activation="relu", kernel_initializer=kernel, name="conv")(x)
    )
    if noise is not None:
        backbone = with_noise(backbone, noise)
        backbone(np.random.default_rng(0).normal(size=(8, SIZE, SIZE, 3)).astype(np.float32), training=True)
    return EpisodicModel(backbone, HEADS.get("prototype", feature_shape=backbone.output_shape[1:]))


def attacked(model, images, attack, episodes=2, **options) -> Robustness:
    return evaluate_attack(model, images, EPISODE, episodes, 0, attack, **options)


def test_without_an_attack_the_accuracy_is_that_of_evaluate(plain, images):
    found = attacked(plain, images, fgsm(0.0), episodes=4)
    ordinary = evaluate(plain, images, EPISODE, 4, 0)
    np.testing.assert_allclose(found.clean.episodes, ordinary.episodes, atol=1e-6)
    assert found.clean.calibration.error == pytest.approx(ordinary.calibration.error, abs=1e-3)
    np.testing.assert_array_equal(found.attacked.episodes, found.clean.episodes)
    assert found.success_rate == 0
    assert found.samples == 1


@pytest.mark.slow
def test_the_better_informed_attack_succeeds_more_often(plain, images):
    by_chance, one_step, several = (
        attacked(plain, images, attack, episodes=3).success_rate
        for attack in (random_signs(0.03), fgsm(0.03), pgd(0.03, 10))
    )
    assert by_chance < one_step <= several


@pytest.mark.slow
def test_more_steps_succeed_no_less_often_and_without_a_bound_always(plain, images):
    rates = [attacked(plain, images, pgd(0.02, steps)).success_rate for steps in (1, 10)]
    assert rates[0] <= rates[1]
    everything = attacked(plain, images, pgd(1.0, 20))
    assert everything.success_rate == 1
    assert everything.attacked.mean == 0


def test_the_noise_of_answers_is_the_same_without_and_with_the_attack(noisy, images):
    found = attacked(noisy, images, fgsm(0.0), samples=2)
    np.testing.assert_array_equal(found.attacked.episodes, found.clean.episodes)
    assert found.samples == 2


def test_a_result_is_a_function_of_the_seed(noisy, images):
    results = [
        evaluate_attack(noisy, images, EPISODE, 1, seed, pgd(0.02, 2), samples=2).attacked.calibration
        for seed in (0, 0, 1)
    ]
    assert results[0] == results[1] != results[2]


def test_the_noise_is_as_before_afterwards(noisy, images):
    set_noise(noisy.backbone, Noise.FRESH, draw=3)
    attacked(noisy, images, fgsm(), episodes=1, samples=1)
    assert {(int(layer.mode), int(layer.draw)) for layer in noise_layers(noisy.backbone)} == {(Noise.FRESH, 3)}


def attacker_and_inputs(model, attack, **options):
    pixels = tf.constant(np.random.default_rng(5).uniform(size=(6, SIZE, SIZE, 3)), tf.float32)
    return EpisodeAttacker(model, attack, 1, **options), pixels, tf.eye(2), np.array([0, 0, 1, 1])


@pytest.mark.parametrize("attack_support", [False, True])
def test_the_support_changes_only_if_it_is_attacked(plain, attack_support):
    attacker, pixels, labels, truth = attacker_and_inputs(plain, pgd(0.1, 2, 2), attack_support=attack_support)
    changed = attacker.adversarial(pixels, labels, truth, np.random.default_rng(0)).numpy()
    assert np.any(changed[:2] != pixels[:2]) == attack_support
    assert np.all(np.any(changed[2:] != pixels[2:], axis=(1, 2, 3)))
    assert np.abs(changed - pixels).max() <= 0.1 + 1e-6


def test_the_gradient_is_that_of_the_cross_entropy_of_the_true_classes(plain):
    attacker, pixels, labels, truth = attacker_and_inputs(plain, fgsm())
    draw = tf.constant(0, tf.int64)
    slope = attacker._gradient(pixels, labels, tf.constant(truth), draw).numpy()
    np.testing.assert_array_equal(slope[:2], 0)
    step = 2e-3 * slope / np.abs(slope).max()
    loss = [-attacker.expected(pixels + s * step, labels, [0])[np.arange(4), truth].sum() for s in (-1, 1)]
    assert loss[1] - loss[0] == pytest.approx(2 * float((slope * step).sum()), rel=0.1)


def test_a_graph_gives_the_same(noisy):
    attacker, pixels, labels, truth = attacker_and_inputs(noisy, fgsm())
    inputs, draw = (pixels, labels, tf.constant(truth)), tf.constant(3, tf.int64)
    eager_slope = attacker._gradient(*inputs, draw)
    tf.config.run_functions_eagerly(False)
    np.testing.assert_allclose(attacker._gradient(*inputs, draw), eager_slope, atol=1e-5)


def test_support_and_queries_have_noise_of_their_own(noisy):
    attacker, _, labels, _ = attacker_and_inputs(noisy, fgsm())
    same = tf.zeros((6, SIZE, SIZE, 3)) + 0.5
    # Of equal images without noise all scores would be equal.
    scores = np.exp(attacker.expected(same, labels, [1]))
    assert np.abs(scores - 0.5).min() > 1e-5
    assert len(np.unique(scores.round(6))) > 4


def test_the_mean_over_samples_is_that_of_the_probabilities(noisy):
    attacker, pixels, labels, _ = attacker_and_inputs(noisy, fgsm())
    single = [np.exp(attacker.expected(pixels, labels, [draw])) for draw in (1, 2, 3)]
    assert np.abs(single[0] - single[1]).max() > 1e-4
    np.testing.assert_allclose(np.exp(attacker.expected(pixels, labels, [1, 2, 3])), np.mean(single, axis=0), rtol=1e-4)


def test_of_restarts_the_worst_is_taken(plain, images):
    once, thrice = (
        attacked(plain, images, pgd(0.01, 1, restarts), episodes=2).attacked.calibration.negative_log_likelihood
        for restarts in (1, 4)
    )
    assert thrice > once


@pytest.mark.slow
def test_an_attack_by_noise_that_the_answer_does_not_have_is_weaker(noisy, images):
    """Expectation over transformation: the mean of more gradients misleads more."""
    model = EpisodicModel(with_degree(noisy.backbone, 1.0), noisy.head)
    one, many = (
        EpisodeAttacker(model, pgd(0.03, 5), samples).adversarial(
            *attacker_and_inputs(model, pgd())[1:], np.random.default_rng(0)
        )
        for samples in (1, 12)
    )
    judge, _, labels, truth = attacker_and_inputs(model, pgd())
    draws = list(range(1000, 1040))
    losses = [-judge.expected(each, labels, draws)[np.arange(4), truth].sum() for each in (one, many)]
    assert losses[1] > losses[0]


def test_success_is_the_share_of_what_was_right():
    clean = np.array([[True, True, False, True], [False] * 4])
    after = np.array([[False, True, True, False], [True] * 4])
    np.testing.assert_allclose(success_rates(clean, after), [2 / 3, np.nan])


def test_scores_that_are_not_finite_are_refused(images):
    model = network()
    kernel = model.backbone.get_layer("conv").kernel
    kernel.assign(np.full(kernel.shape, 1e38, np.float32))
    with pytest.raises(RunError, match=r"scores must be finite\. Received: others in episode 1"):
        evaluate_attack(model, images, ONE, 1, 0, fgsm())


@pytest.mark.parametrize(
    ("numbers", "received"), [({"episodes": 0}, "episodes=0"), ({"episodes": 1, "samples": 0}, "samples=0")]
)
def test_what_is_refused(plain, images, numbers, received):
    with pytest.raises(ConfigError, match=received):
        evaluate_attack(plain, images, ONE, seed=0, attack=fgsm(), **numbers)


# === Records and trends ===


def trial(attack=fgsm(0.02), **changes) -> AttackTrial:
    return AttackTrial("runs/a", "synthetic:shapes", "novel", ONE, 2, 0, "e1", attack, **changes)


def test_names_tell_trials_apart():
    trials = [
        trial(),
        trial(pgd(0.02)),
        trial(pgd(0.02, 5)),
        trial(fgsm(0.03)),
        trial(samples=3),
        trial(degree=0.1),
        trial(degree=0.2),
        trial(attack_support=True),
    ]
    assert len({each.name for each in trials}) == len(trials)
    assert trial().trend_name([0, 0.1]) != trial().trend_name([0, 0.2])


def test_the_record_holds_what_was_measured(plain, images):
    record = json.loads(json.dumps(measured(plain, images, trial(pgd(0.02, 2)))))
    assert record["attack"] == {
        "name": "pgd",
        "epsilon": 0.02,
        "steps": 2,
        "step_size": pytest.approx(0.025),
        "random_start": True,
        "restarts": 1,
        "informed": True,
    }
    assert (record["degree"], record["samples"], record["weights"]) == (None, 1, weights_identity(plain))
    for part in ("clean", "attacked"):
        assert record[part]["accuracy"] == pytest.approx(np.mean(record[part]["episode_accuracies"]))
    assert record["attacked"]["accuracy"] <= record["clean"]["accuracy"]
    assert len(result_lines(record)) == 4


def test_nothing_was_right():
    accuracy = Accuracy(np.zeros(2))
    record = attack_record(trial(degree=0.5), Robustness(accuracy, accuracy, np.full(2, np.nan), 1))
    assert (record["success"], record["success_interval"], record["episode_success"]) == (None, None, [None, None])
    assert trend_rows([record])[0][-1] == "none was right"
    assert trend_figure([record, record], "nothing")[:4] == b"\x89PNG"


def test_a_trend_measures_each_degree_once(noisy, images, tmp_path):
    def files(name):
        return tmp_path / f"{name}.json"

    before = noisy.get_weights()
    first = list(trend(noisy, images, trial(), [0.0, 0.5], files, samples=1))
    assert [record["degree"] for record in first] == [0.0, 0.5]
    assert first[0]["clean"] != first[1]["clean"]
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(times) == 2
    again = list(trend(noisy, images, trial(), [0.0, 0.5, 1.0], files, samples=1))
    assert again[:2] == json.loads(json.dumps(first))
    assert {path: path.stat().st_mtime_ns for path in times} == times
    for one, other in zip(noisy.get_weights(), before):
        np.testing.assert_array_equal(one, other)


def test_a_record_of_other_weights_or_a_damaged_one_is_not_taken(tmp_path):
    path, record = tmp_path / "a.json", {"weights": "w", "episodes_id": "e1", "clean": 1, "attacked": 1, "success": 1}
    path.write_text(json.dumps(record))
    assert known_record(path, trial(weights="w")) == record
    assert known_record(path, trial(weights="other")) is None
    path.write_text("{")
    assert known_record(path, trial(weights="w")) is None


@pytest.mark.parametrize("degrees", [[0.1], [0.2, 0.1], [0.0, 1.2], [0.1, 0.1]])
def test_degrees_rise(noisy, degrees):
    with pytest.raises(ConfigError, match="degrees must be at least two rising numbers"):
        check_degrees(noisy, degrees)


def test_a_trend_needs_noise(plain):
    with pytest.raises(ConfigError, match="Received: one without"):
        check_degrees(plain, [0.0, 0.1])
