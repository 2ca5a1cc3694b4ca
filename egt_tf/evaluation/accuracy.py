"""Few-shot accuracy with its 95 % interval over episodes, and how well the probabilities are calibrated."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from egt_tf.config import EpisodeConfig
from egt_tf.data.image_set import ImageSet, OnProgress
from egt_tf.data.loading import image_batches
from egt_tf.data.sampling import EpisodeIndices, check_feasible, draw_episode
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import OVERFLOW, ConfigError, RunError, original_error
from egt_tf.evaluation.calibration import (
    Calibration,
    confidence_bins,
    expected_calibration_error,
    mean_negative_log_likelihood,
)
from egt_tf.evaluation.confusion import Confusion, count_confusion
from egt_tf.evaluation.features import FeatureTable, plan_steps
from egt_tf.evaluation.transductive import Transduction, transductive_scores
from egt_tf.keras_api import compiled
from egt_tf.tensors import widen
from egt_tf.wording import accuracy_text

IMAGES_PER_BATCH = 64
# Scored together; a head's statistics are those of one episode, so this changes nothing but the speed.
EPISODES_PER_BATCH = 4

# An image set and image indices -> what the model's backbone takes, `(batch, ...)`, in the order of the indices.
Batches = Callable[[ImageSet, np.ndarray], Iterable[tf.Tensor]]

INDUCTIVE = Transduction(rounds=0)
# Scores that differ by less are equal; as probabilities, see `egt_tf.ties`.
TIE = 1e-5


@dataclasses.dataclass(frozen=True, eq=False)
class Accuracy:
    """Accuracy over test episodes.

    Attributes:
        episodes: accuracy of each episode in [0, 1], `(episodes,)`.
        calibration: of the model's own probabilities (`Head.probabilities`) over all queries of all episodes; None: not
            measured.
        tied: share of the queries whose highest score several classes have (to 1e-5), of which the first counts as
            predicted, in [0, 1]; None: not measured.
        confusion: which classes were taken for which; None: not measured.

    Notes:
        The probabilities are the softmax of the raw scores, by which models are explained and served, whatever the loss
        was. RelationNet with its published loss, "mse", is trained on sigmoids of the scores, for which that softmax is
        not made: it may be far less sure than it is right.

    Example:
        >>> str(Accuracy(np.array([0.5, 0.7, 0.6])))
        '60.00 % +- 9.24'
    """

    episodes: np.ndarray
    calibration: Calibration | None = None
    tied: float | None = None
    confusion: Confusion | None = None

    @property
    def mean(self) -> float:
        """Mean over the episodes, in [0, 1]."""
        return float(self.episodes.mean())

    @property
    def interval(self) -> float | None:
        """Half the width of the 95 % interval: `1.96 std / sqrt(episodes)` with the population's std, as published.

        None for a single episode, which has no spread.
        """
        if len(self.episodes) < 2:
            return None
        return float(1.96 * self.episodes.std() / np.sqrt(len(self.episodes)))

    def __str__(self) -> str:
        return accuracy_text(self.mean, self.interval)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What a notebook and IPython show: the sentences, without the accuracy of each episode."""
        calibration = "" if self.calibration is None else f"\n{self.calibration}"
        printer.text(f"{self}, {len(self.episodes)} episodes{calibration}")


class Evaluator:
    """Measures a model as often as wanted; what TensorFlow traces is kept from one measurement to the next.

    Every measurement reads the weights that the model has then.

    Args:
        model: the classifier; it runs in inference mode.
        batches: gives what the backbone takes; by default images, see `image_batches`.

    Example:
        >>> from egt_tf.data import open_source
        >>> model = EpisodicModel.build_from({"name": "conv4", "width": 4}, "prototype", 32, seed=1)
        >>> measure, images = Evaluator(model), open_source("synthetic:shapes").split("novel")
        >>> [measure(images, EpisodeConfig(2, 1, 2), episodes=3, seed=seed).episodes.shape for seed in (0, 1)]
        [(3,), (3,)]
    """

    def __init__(self, model: EpisodicModel, batches: Batches | None = None):
        self.model = model
        self._batches = self._image_batches if batches is None else batches
        self._backbone = compiled(lambda batch: self.model.backbone(batch, training=False), reduce_retracing=True)
        self._scored = compiled(self._scored_in_graph, reduce_retracing=True)

    def __call__(
        self,
        images: ImageSet,
        episode: EpisodeConfig,
        episodes: int,
        seed: int,
        *,
        progress: OnProgress | None = None,
        image_progress: OnProgress | None = None,
        transduction: Transduction | None = None,
        features: FeatureTable | None = None,
    ) -> Accuracy:
        """See `evaluate`; but images that skip unreadable ones do so here, see `draw_episode`.

        `features` holds maps from an earlier measurement with the same weights and images, and keeps those of this one;
        None: none are kept.
        """
        if episodes < 1:
            raise ConfigError(f"`episodes` must be >= 1. Received: episodes={episodes}")
        if transduction is not None:
            transduction.check(self.model.head, episode)
        check_feasible(images, episode)
        drawn = [draw_episode(images, episode, seed, index)[0] for index in range(episodes)]
        table = FeatureTable() if features is None else features
        steps = plan_steps(drawn, table.indices, table.most(self.model.backbone))
        image_count = _Count(sum(len(step.new) for step in steps), image_progress)
        episode_count = _Count(episodes, progress)
        results: list[_Scored] = []
        for step in steps:
            table.take(step, functools.partial(self._embed, images, count=image_count))
            results += self._score(table, step.episodes, episode, transduction or INDUCTIVE, episode_count)
        scored = _Scored(*map(np.concatenate, zip(*results, strict=True)))
        classes = np.stack([each.classes for each in drawn])
        confusion = count_confusion(images.class_names, classes, scored.predicted)
        return Accuracy(scored.accuracies, scored.calibration(), float(scored.tied.mean()), confusion)

    def embed(self, images: ImageSet, indices: np.ndarray, progress: OnProgress | None = None) -> tf.Tensor:
        """See `egt_tf.evaluation.accuracy.embed`."""
        return self._embed(images, indices, _Count(len(indices), progress))

    def _embed(self, images: ImageSet, indices: np.ndarray, count: _Count) -> tf.Tensor:
        features = []
        count.add(0)
        with original_error():
            for batch in self._batches(images, indices):
                features.append(self._backbone(batch))
                count.add(len(batch))
        return tf.concat(features, axis=0)

    def _image_batches(self, images: ImageSet, indices: np.ndarray) -> tf.data.Dataset:
        return image_batches(images, indices, image_size=self.model.image_size, batch_size=IMAGES_PER_BATCH)

    def _score(
        self,
        table: FeatureTable,
        episodes: Sequence[EpisodeIndices],
        episode: EpisodeConfig,
        transduction: Transduction,
        count: _Count,
    ) -> list[_Scored]:
        support_labels = tf.constant(np.repeat(np.eye(episode.ways, dtype=np.float32), episode.shots, axis=0))
        query_labels = tf.constant(np.repeat(np.arange(episode.ways), episode.queries), tf.int64)
        results = []
        count.add(0)
        for begin in range(0, len(episodes), EPISODES_PER_BATCH):
            batch = episodes[begin : begin + EPISODES_PER_BATCH]
            support, query = (
                tf.constant(np.stack([table.rows(getattr(e, part).ravel()) for e in batch]))
                for part in ("support", "query")
            )
            with original_error():
                tensors = self._scored(table.maps, support, query, support_labels, query_labels, transduction)
            scored = _Scored(*(tensor.numpy() for tensor in tensors))
            scored.check_finite(count.done)
            results.append(scored)
            count.add(len(batch))
        return results

    def _scored_in_graph(
        self,
        features: tf.Tensor,
        support: tf.Tensor,
        query: tf.Tensor,
        support_labels: tf.Tensor,
        query_labels: tf.Tensor,
        transduction: Transduction,
    ) -> _Scored:
        labels = tf.repeat(support_labels[None], tf.shape(support)[0], axis=0)
        scores = transductive_scores(
            self.model.head, tf.gather(features, support), labels, tf.gather(features, query), transduction
        )
        predicted = tf.argmax(scores, axis=-1)
        truth = tf.broadcast_to(query_labels, tf.shape(predicted))
        right, wide = predicted == truth, widen(scores)
        return _Scored(
            accuracies=tf.reduce_mean(tf.cast(right, tf.float32), axis=1),
            predicted=predicted,
            right=right,
            confidences=tf.gather(self.model.head.probabilities(wide), predicted, batch_dims=2),
            log_likelihoods=tf.gather(self.model.head.log_probabilities(wide), truth, batch_dims=2),
            tied=tf.reduce_sum(tf.cast(wide >= tf.reduce_max(wide, -1, keepdims=True) - TIE, tf.int32), -1) > 1,
            finite=tf.reduce_all(tf.math.is_finite(scores), axis=[1, 2]),
        )


def evaluate(
    model: EpisodicModel,
    images: ImageSet,
    episode: EpisodeConfig,
    episodes: int,
    seed: int,
    *,
    progress: OnProgress | None = None,
    image_progress: OnProgress | None = None,
    transduction: Transduction | None = None,
) -> Accuracy:
    """Accuracy, and the calibration of the probabilities, on episodes drawn from `images`.

    Every image passes the backbone once, as long as the features fit into memory (see `FeatureTable`); the episodes are
    then scored on stored features, several in one call. The episodes depend on `seed` and the images alone, so two
    models are compared on the same ones.

    Args:
        model: the classifier; it runs in inference mode. `Evaluator` is for measuring it more than once.
        images: the classes and images to draw from. One that cannot be read is an error, even where the set skips such
            images: left out, it would change the episodes.
        episode: ways, shots and queries a class.
        episodes: how many, >= 1.
        seed: of the episodes.
        progress: called with (episodes done, episodes) before the first and after each batch.
        image_progress: called with (images done, images) while the backbone runs, which comes first.
        transduction: how the surest queries of an episode join its support set; None: they do not (inductive).

    Raises:
        ConfigError: `episodes` is below 1, or the transduction does not fit the episodes or the head.
        DataError: too few classes or images, or an image that cannot be read.
        RunError: a score is not finite.

    Example:
        >>> from egt_tf.data import open_source
        >>> model = EpisodicModel.build_from({"name": "conv4", "width": 4}, "prototype", 32, seed=1)
        >>> images = open_source("synthetic:shapes").split("novel")
        >>> 0 <= evaluate(model, images, EpisodeConfig(2, 1, 2), episodes=3, seed=0).mean <= 1
        True
    """
    return Evaluator(model)(
        images.stopping_at_unreadable(),
        episode,
        episodes,
        seed,
        progress=progress,
        image_progress=image_progress,
        transduction=transduction,
    )


def embed(model: EpisodicModel, images: ImageSet, indices: np.ndarray) -> tf.Tensor:
    """Feature maps of images, `(len(indices), h, w, c)`, in inference mode.

    Raises:
        DataError: an image cannot be read.

    Example:
        >>> from egt_tf.data import open_source
        >>> model = EpisodicModel.build_from({"name": "conv4", "width": 4}, "prototype", 32, seed=1)
        >>> embed(model, open_source("synthetic:shapes").split("novel"), np.arange(3)).shape[0]
        3
    """
    return Evaluator(model).embed(images, indices)


class _Scored(NamedTuple):
    """What is kept of the scores of some episodes: tensors in the graph, arrays outside.

    accuracies: `(episodes,)`.
    predicted: positions of the predicted classes in the episode, `(episodes, queries)`.
    right: whether the predicted class is the true one, `(episodes, queries)`.
    confidences: probability of the predicted class, `(episodes, queries)`.
    log_likelihoods: logarithm of the probability of the true class, `(episodes, queries)`.
    tied: whether several classes have the highest score, `(episodes, queries)`.
    finite: whether all scores of an episode are, `(episodes,)`.
    """

    accuracies: np.ndarray
    predicted: np.ndarray
    right: np.ndarray
    confidences: np.ndarray
    log_likelihoods: np.ndarray
    tied: np.ndarray
    finite: np.ndarray

    def check_finite(self, first: int) -> None:
        """Refuses scores for which an argmax would name a class all the same; `first` counts the episodes before."""
        if not self.finite.all():
            number = first + int(np.argmin(self.finite)) + 1
            raise RunError(f"scores must be finite. Received: others in episode {number}; {OVERFLOW}")

    def calibration(self) -> Calibration:
        confidences, right = self.confidences.ravel(), self.right.ravel()
        return Calibration(
            expected_calibration_error(confidences, right),
            mean_negative_log_likelihood(self.log_likelihoods.ravel()),
            confidence_bins(confidences, right),
        )


class _Count:
    """Says how many of all units of work are done."""

    def __init__(self, total: int, progress: OnProgress | None):
        self.total, self.done, self.progress = total, 0, progress

    def add(self, number: int) -> None:
        self.done += number
        if self.progress is not None:
            self.progress(self.done, self.total)
