from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.errors import ConfigError
from egt_tf.evaluation.attacks import ATTACKS, expected_gradient, fgsm, perturbed, pgd, random_signs
from egt_tf.tensors import IMAGENET_MEAN, IMAGENET_STD

EPSILON = 8 / 255
TRUTH = np.array([0, 1, 2, 0, 1, 2])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


PIXELS = tf.constant(rng(1).uniform(size=(6, 5, 5, 3)), tf.float32)
WEIGHTS = tf.constant(rng(2).normal(size=(75, 3)), tf.float32)


def losses(pixels: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of scores that are no linear function of the pixels, `(6,)`."""
    hidden = tf.sin(tf.reshape(pixels, [6, 75]) @ WEIGHTS)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(TRUTH, 3.0 * hidden)


def gradient(pixels: tf.Tensor, step: int = 0) -> tf.Tensor:
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        loss = tf.reduce_sum(losses(pixels))
    return tape.gradient(loss, pixels)


def reached(attack) -> float:
    return float(tf.reduce_mean(losses(perturbed(gradient, PIXELS, attack, rng()))))


@pytest.mark.parametrize("attack", [fgsm(EPSILON), pgd(EPSILON, 7), random_signs(EPSILON), pgd(1.0, 3), fgsm(0.0)])
def test_pixels_stay_within_epsilon_and_within_their_range(attack):
    changed = perturbed(gradient, PIXELS, attack, rng()).numpy()
    assert np.abs(changed - PIXELS).max() <= attack.epsilon + 1e-6
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert np.any(changed != PIXELS) == (attack.epsilon > 0)


def test_fgsm_of_a_linear_score_is_its_closed_form():
    weights = rng(3).normal(size=PIXELS.shape).astype(np.float32)
    weights[0, 0, 0] = 0.0
    changed = perturbed(lambda x, step: tf.constant(weights), PIXELS, fgsm(EPSILON), rng())
    np.testing.assert_array_equal(changed, np.clip(PIXELS + np.float32(EPSILON) * np.sign(weights), 0, 1))


def test_pgd_is_what_a_slow_loop_gives():
    attack = pgd(EPSILON, steps=4, random_start=False)
    x = np.asarray(PIXELS, np.float64)
    for _ in range(4):
        x = x + 2.5 * EPSILON / 4 * np.sign(gradient(tf.constant(x, tf.float32)))
        x = np.clip(np.clip(x, PIXELS - np.float64(EPSILON), PIXELS + np.float64(EPSILON)), 0, 1)
    np.testing.assert_allclose(perturbed(gradient, PIXELS, attack, rng()), x, atol=1e-6)


def test_the_start_is_random_and_a_function_of_the_generator():
    attack = pgd(EPSILON, steps=1)
    seen = [perturbed(gradient, PIXELS, attack, rng(seed)).numpy() for seed in (0, 0, 1)]
    np.testing.assert_array_equal(seen[0], seen[1])
    assert np.any(seen[0] != seen[2])


def test_an_attack_that_knows_more_reaches_more():
    clean = float(tf.reduce_mean(losses(PIXELS)))
    by_chance, one_step, several = (reached(attack(0.02)) for attack in (random_signs, fgsm, pgd))
    assert clean < one_step < several
    assert by_chance < one_step


def test_more_steps_reach_no_less():
    found = [reached(pgd(0.02, steps, random_start=False)) for steps in (1, 5, 20)]
    assert found[0] < found[1] <= found[2] + 0.05


def test_what_is_not_allowed_to_change_does_not():
    allowed = np.ones((6, 1, 1, 1), np.float32)
    allowed[:2] = 0
    changed = perturbed(gradient, PIXELS, pgd(EPSILON, 3), rng(), allowed).numpy()
    np.testing.assert_array_equal(changed[:2], PIXELS[:2])
    assert all(np.any(one != other) for one, other in zip(changed[2:], PIXELS.numpy()[2:]))


def test_the_expected_gradient_is_the_mean_over_draws_that_are_new_in_every_step():
    # f(x, e) = (1 + e) x^2 with the slope 2 (1 + e) x, whose mean over e in {0, 1, 5} is 6 x.
    asked = []

    def draws():
        asked.append(len(asked))
        return [0, 1, 5]

    found = expected_gradient(lambda x, e: 2.0 * (1.0 + e) * x, draws)
    np.testing.assert_allclose(found(PIXELS, 0), 6 * PIXELS, rtol=1e-6)
    perturbed(found, PIXELS, pgd(EPSILON, 4), rng())
    assert len(asked) == 1 + 4


@pytest.mark.parametrize(
    ("identifier", "received"),
    [
        ({"name": "fgsm", "epsilon": 1.5}, "epsilon=1.5"),
        ({"name": "pgd", "epsilon": -0.1}, "epsilon=-0.1"),
        ({"name": "pgd", "epsilon": float("nan")}, "epsilon=nan"),
        ({"name": "pgd", "steps": 0}, "steps=0"),
        ({"name": "pgd", "restarts": 0}, "restarts=0"),
        ({"name": "fgsm", "steps": 3}, "no argument 'steps'"),
        ({"name": "fgms"}, "did you mean 'fgsm'"),
    ],
)
def test_what_is_refused(identifier, received):
    with pytest.raises(ConfigError, match=received):
        ATTACKS.get(identifier)


def test_the_words_tell_attacks_apart():
    attacks = [fgsm(), fgsm(0.01), pgd(), pgd(steps=5), pgd(restarts=2), pgd(random_start=False), random_signs()]
    assert len({str(attack) for attack in attacks}) == len(attacks)


# === Other implementations ===


def _art(scores, epsilon, steps):
    classification = pytest.importorskip("art.estimators.classification", reason="needs adversarial-robustness-toolbox")
    from art.attacks.evasion import ProjectedGradientDescent

    loss = tf.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    classifier = classification.TensorFlowV2Classifier(
        model=scores, nb_classes=2, input_shape=(16, 16, 3), loss_object=loss, clip_values=(0.0, 1.0)
    )
    attack = ProjectedGradientDescent(
        classifier,
        eps=epsilon,
        eps_step=2.5 * epsilon / steps,
        max_iter=steps,
        num_random_init=0,
        batch_size=6,
        verbose=False,
    )
    return lambda query, truth: attack.generate(query, y=np.eye(2)[truth])


def _foolbox(scores, epsilon, steps):
    foolbox = pytest.importorskip("foolbox", reason="needs foolbox")
    model = foolbox.TensorFlowModel(scores, bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(abs_stepsize=2.5 * epsilon / steps, steps=steps, random_start=False)

    def run(query, truth):
        wrong = foolbox.criteria.Misclassification(tf.constant(truth))
        return attack.run(model, tf.constant(query), wrong, epsilon=epsilon).numpy()

    return run


@pytest.mark.slow
@pytest.mark.parametrize("other", [_art, _foolbox])
def test_others_change_the_pixels_of_queries_alike(other):
    """The support set is a part of their model."""
    from egt_tf.episodic_model import EpisodicModel

    model = EpisodicModel.build_from({"name": "conv4", "width": 4}, "prototype", 16, seed=1)
    support, query = (rng(seed).uniform(size=(n, 16, 16, 3)).astype(np.float32) for seed, n in ((4, 4), (5, 6)))
    truth = np.array([0, 1, 0, 1, 0, 1])

    def scores(pixels, training=False):
        inputs = {
            "support_images": normalized(tf.constant(support))[None],
            "support_labels": tf.constant(np.eye(2, dtype=np.float32)[[[0, 0, 1, 1]]]),
            "query_images": normalized(pixels)[None],
        }
        return model(inputs, training=False)[0]

    def slope(pixels, step):
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(truth, scores(pixels)))
        return tape.gradient(loss, pixels)

    theirs = other(scores, EPSILON, 10)(query, truth)
    ours = perturbed(slope, tf.constant(query), pgd(EPSILON, 10, random_start=False), rng())
    assert np.abs(theirs - query).max() == pytest.approx(EPSILON, rel=1e-4)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def normalized(pixels):
    return (pixels - tf.constant(IMAGENET_MEAN)) / tf.constant(IMAGENET_STD)
