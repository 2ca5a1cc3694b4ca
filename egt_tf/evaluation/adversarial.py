"""How a model holds up when the pixels of the queries are changed to mislead it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from egt_tf.backbones.batch_noise import Noise, noise_layers, set_noise
from egt_tf.config import EpisodeConfig
from egt_tf.data.image_set import ImageSet, OnProgress
from egt_tf.data.loading import image_batches
from egt_tf.data.sampling import check_feasible, draw_episode
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import OVERFLOW, RunError, check_integer, original_error
from egt_tf.evaluation.accuracy import IMAGES_PER_BATCH, Accuracy
from egt_tf.evaluation.attacks import Attack, expected_gradient, perturbed
from egt_tf.evaluation.calibration import Calibration, expected_calibration_error, mean_negative_log_likelihood
from egt_tf.keras_api import compiled
from egt_tf.tensors import IMAGENET_MEAN, IMAGENET_STD, widen

SAMPLES = 10
# Streams of random numbers that must not meet: an attack may not know the noise that it is answered with.
_ANSWER_STREAM, _ATTACK_STREAM = 1, 2
_DRAWS = 2**61


@dataclasses.dataclass(frozen=True, eq=False)
class Robustness:
    """What an attack did to the queries of test episodes.

    Attributes:
        clean: accuracy without it, and calibration.
        attacked: the same with it.
        success: share of the rightly answered queries of each episode that the attack turned wrong, `(episodes,)` in
            [0, 1]; not a number where none was right.
        samples: answers, of other noise each, whose mean was taken.

    Example:
        >>> clean, attacked = Accuracy(np.array([0.5, 0.75])), Accuracy(np.array([0.25, 0.25]))
        >>> Robustness(clean, attacked, np.array([0.5, np.nan]), samples=1).success_rate
        0.5
    """

    clean: Accuracy
    attacked: Accuracy
    success: np.ndarray
    samples: int

    @property
    def success_rate(self) -> float | None:
        """Mean of `success` over the episodes where it is defined; None where there is none."""
        found = self._defined
        return float(found.mean()) if len(found) else None

    @property
    def success_interval(self) -> float | None:
        """Half the width of its 95 % interval over those episodes, as that of `Accuracy`; None for less than two."""
        found = self._defined
        return Accuracy(found).interval if len(found) else None

    @property
    def _defined(self) -> np.ndarray:
        return self.success[np.isfinite(self.success)]


def evaluate_attack(
    model: EpisodicModel,
    images: ImageSet,
    episode: EpisodeConfig,
    episodes: int,
    seed: int,
    attack: Attack,
    *,
    samples: int | None = None,
    attack_support: bool = False,
    progress: OnProgress | None = None,
) -> Robustness:
    """Attacks the queries of the episodes that `egt_tf.evaluation.accuracy.evaluate` draws.

    What the attack makes larger is the cross-entropy of each query's true class. The queries of an episode are attacked
    together: of a head whose scores depend on the other queries of the episode it follows the sum over the queries.

    A backbone with noise answers with the mean of the probabilities of several samples, of other noise for every image
    and sample. The attack follows the mean gradient of as many samples, of other noise than it is answered with, anew
    in every step. Of several restarts it takes, query by query (of an attack on the support: for the whole episode), one
    that misleads the model by its own samples, and among these the one with the largest loss.

    Args:
        model: the classifier; it runs in inference.
        images: the classes and images to draw from.
        episode: ways, shots and queries a class.
        episodes: how many, >= 1.
        seed: of the episodes, and of the noise and the starts.
        attack: how the pixels are changed.
        samples: >= 1; None: 10 for a backbone with noise, else 1.
        attack_support: whether the support images are changed, too.
        progress: called with (episodes done, episodes).

    Raises:
        ConfigError: a number is out of its range.
        DataError: too few classes or images, or an image that cannot be read.
        RunError: a score is not finite.

    Notes:
        The changed pixels are not rounded to the 256 grey levels of an image file.

    Example:
        >>> from egt_tf.data import open_source
        >>> from egt_tf.evaluation.attacks import fgsm
        >>> model = EpisodicModel.build_from({"name": "conv4", "width": 4}, "prototype", 32, seed=1)
        >>> images = open_source("synthetic:shapes").split("novel")
        >>> found = evaluate_attack(model, images, EpisodeConfig(2, 1, 2), episodes=2, seed=0, attack=fgsm(0.1))
        >>> found.clean.episodes.shape, found.success.shape
        ((2,), (2,))
    """
    check_integer("episodes", episodes, 1)
    samples = default_samples(model) if samples is None else samples
    check_integer("samples", samples, 1)
    check_feasible(images, episode)
    images = images.stopping_at_unreadable()
    attacker = EpisodeAttacker(model, attack, samples, attack_support)
    answers = []
    with original_error(), attacker:
        for number in range(episodes):
            pixels = _episode_pixels(model, images, episode, seed, number)
            answers.append(attacker(pixels, episode, (seed, number)))
            if progress is not None:
                progress(number + 1, episodes)
    clean, attacked = (_Answers(*map(np.stack, zip(*each, strict=True))) for each in zip(*answers, strict=True))
    for each in (clean, attacked):
        each.check_finite()
    return Robustness(clean.accuracy(), attacked.accuracy(), success_rates(clean.right, attacked.right), samples)


def default_samples(model: EpisodicModel) -> int:
    """Samples of an answer: 10 for a backbone with noise, 1 for one without, or with a degree of 0.

    Example:
        >>> default_samples(EpisodicModel.build_from({"name": "conv4", "noise": 0.1}, "prototype", 16, seed=1))
        10
    """
    return SAMPLES if any(layer.degree for layer in noise_layers(model.backbone)) else 1


def success_rates(clean: np.ndarray, attacked: np.ndarray) -> np.ndarray:
    """The share of what was right that is right no more, row by row; not a number where nothing was right.

    Args:
        clean: whether answers without the attack were right, `(episodes, queries)`.
        attacked: the same with it.

    Example:
        >>> success_rates(np.array([[True, True, False]]), np.array([[True, False, True]])).tolist()
        [0.5]
    """
    right = clean.sum(axis=1)
    turned = (clean & ~attacked).sum(axis=1)
    return np.divide(turned, right, out=np.full(len(clean), np.nan), where=right > 0)


class EpisodeAttacker:
    """Attacks the queries of one episode after the other; within a `with` block, after which the noise is as before.

    Args:
        model: the classifier.
        attack: how the pixels are changed.
        samples: of an answer and of a gradient, >= 1.
        attack_support: whether the support images are changed, too.

    Example:
        >>> from egt_tf.evaluation.attacks import fgsm
        >>> model = EpisodicModel.build_from({"name": "conv4", "width": 4}, "prototype", 16, seed=1)
        >>> pixels = tf.random.stateless_uniform((4, 16, 16, 3), seed=(1, 2))
        >>> with EpisodeAttacker(model, fgsm(), samples=1) as attacker:
        ...     clean, attacked = attacker(pixels, EpisodeConfig(2, 1, 1), (0, 0))
        >>> attacked.right.shape
        (2,)
    """

    def __init__(self, model: EpisodicModel, attack: Attack, samples: int, attack_support: bool = False):
        self.model, self.attack, self.samples, self.attack_support = model, attack, samples, attack_support
        self._log_probabilities = compiled(self._log_probabilities_in_graph, reduce_retracing=True)
        self._gradient = compiled(self._gradient_in_graph, reduce_retracing=True)

    def __enter__(self) -> EpisodeAttacker:
        self._before = [(layer, int(layer.mode), int(layer.draw)) for layer in noise_layers(self.model.backbone)]
        return self

    def __exit__(self, *_: object) -> None:
        for layer, mode, draw in self._before:
            layer.mode.assign(mode)
            layer.draw.assign(draw)

    def __call__(self, pixels: tf.Tensor, episode: EpisodeConfig, seed: tuple[int, ...]) -> tuple[_Answers, _Answers]:
        """The answers without the attack and with it.

        Args:
            pixels: support images and queries, class by class, `(support + queries, size, size, 3)` in [0, 1].
            episode: what they are.
            seed: integers >= 0, of the noise and the starts.
        """
        labels = tf.constant(np.repeat(np.eye(episode.ways, dtype=np.float32), episode.shots, axis=0))
        truth = np.repeat(np.arange(episode.ways), episode.queries)
        changed = self.adversarial(pixels, labels, truth, np.random.default_rng((*seed, _ATTACK_STREAM)))
        draws = _draws(np.random.default_rng((*seed, _ANSWER_STREAM)), self.samples)
        clean, attacked = (_answers(self.expected(each, labels, draws), truth) for each in (pixels, changed))
        return clean, attacked

    def adversarial(
        self, pixels: tf.Tensor, labels: tf.Tensor, truth: np.ndarray, rng: np.random.Generator
    ) -> tf.Tensor:
        """The pixels as the attack leaves them.

        Args:
            pixels: see `__call__`.
            labels: one-hot, of the support images, float32 `(support, ways)`.
            truth: class of each query, `(queries,)`.
            rng: of the noise and the starts.
        """
        support = len(labels)
        allowed = np.ones((len(pixels), 1, 1, 1), np.float32)
        allowed[:support] = float(self.attack_support)

        def of_draw(changed: tf.Tensor, draw: int) -> tf.Tensor:
            return self._gradient(changed, labels, tf.constant(truth), tf.constant(draw, tf.int64))

        gradient = expected_gradient(of_draw, functools.partial(_draws, rng, self.samples))
        tries = [perturbed(gradient, pixels, self.attack, rng, allowed) for _ in range(self.attack.restarts)]
        if len(tries) == 1:
            return tries[0]
        harm = np.stack([self._harm(each, labels, truth, _draws(rng, self.samples)) for each in tries])
        # Mixed, the queries of such an episode would have answers that no try had.
        if self.attack_support or self.model.head.uses_batch_statistics:
            return tries[int(harm.sum(axis=1).argmax())]
        worst = np.concatenate([np.zeros(support, int), harm.argmax(axis=0)])
        return tf.stack([tries[each][place] for place, each in enumerate(worst)])

    def expected(self, pixels: tf.Tensor, labels: tf.Tensor, draws: Sequence[int]) -> np.ndarray:
        """Logarithm of the mean over noise draws of the probabilities, `(queries, ways)`; see `adversarial`."""
        found = [self._log_probabilities(pixels, labels, tf.constant(draw, tf.int64)) for draw in draws]
        return (tf.reduce_logsumexp(tf.stack(found), axis=0) - np.log(len(found))).numpy()

    def _harm(self, pixels: tf.Tensor, labels: tf.Tensor, truth: np.ndarray, draws: Sequence[int]) -> np.ndarray:
        """How much an attack has reached, `(queries,)`: wrong answers before right ones, then by their loss."""
        found = _answers(self.expected(pixels, labels, draws), truth)
        # Above every loss in single precision.
        return np.where(found.right, 0.0, 1e6) - found.log_likelihoods

    def _gradient_in_graph(self, pixels: tf.Tensor, labels: tf.Tensor, truth: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(pixels)
            found = self._log_probabilities_in_graph(pixels, labels, draw)
            loss = -tf.reduce_sum(tf.gather(found, truth, batch_dims=1))
        return tape.gradient(loss, pixels, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def _log_probabilities_in_graph(self, pixels: tf.Tensor, labels: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
        count, head = tf.shape(labels)[0], self.model.head
        support = pixels[:count] if self.attack_support else tf.stop_gradient(pixels[:count])
        # Two draws: an image of the support and the query at its place would have the same noise.
        maps = [self._maps(each, 2 * draw + place) for place, each in enumerate((support, pixels[count:]))]
        scores = head([maps[0][None], labels[None], maps[1][None]], training=False)
        return head.log_probabilities(widen(scores))[0]

    def _maps(self, pixels: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
        set_noise(self.model.backbone, Noise.OWN, draw)
        return self.model.backbone((pixels - tf.constant(IMAGENET_MEAN)) / tf.constant(IMAGENET_STD), training=False)


class _Answers(NamedTuple):
    """Of each query: whether it was answered rightly, the answer's probability, and the logarithm of the true class's.

    `(queries,)` each, or `(episodes, queries)`.
    """

    right: np.ndarray
    confidences: np.ndarray
    log_likelihoods: np.ndarray

    def check_finite(self) -> None:
        finite = np.isfinite(self.log_likelihoods).all(axis=1)
        if not finite.all():
            number = int(np.argmin(finite)) + 1
            raise RunError(f"scores must be finite. Received: others in episode {number}; {OVERFLOW}")

    def accuracy(self) -> Accuracy:
        calibration = Calibration(
            expected_calibration_error(self.confidences.ravel(), self.right.ravel()),
            mean_negative_log_likelihood(self.log_likelihoods.ravel()),
        )
        return Accuracy(self.right.mean(axis=1), calibration)


def _answers(log_probabilities: np.ndarray, truth: np.ndarray) -> _Answers:
    predicted, queries = log_probabilities.argmax(axis=1), np.arange(len(truth))
    return _Answers(
        predicted == truth, np.exp(log_probabilities[queries, predicted]), log_probabilities[queries, truth]
    )


def _draws(rng: np.random.Generator, count: int) -> list[int]:
    return rng.integers(_DRAWS, size=count).tolist()


def _episode_pixels(
    model: EpisodicModel, images: ImageSet, episode: EpisodeConfig, seed: int, number: int
) -> tf.Tensor:
    """Support images and queries, in [0, 1]."""
    drawn, _ = draw_episode(images, episode, seed, number)
    indices = np.concatenate([drawn.support.ravel(), drawn.query.ravel()])
    batches = image_batches(images, indices, image_size=model.image_size, batch_size=IMAGES_PER_BATCH)
    normalized = tf.concat(list(batches), axis=0)
    return tf.clip_by_value(normalized * tf.constant(IMAGENET_STD) + tf.constant(IMAGENET_MEAN), 0.0, 1.0)
