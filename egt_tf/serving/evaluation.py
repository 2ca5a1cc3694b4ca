"""Few-shot accuracy of an exported model, whose queries are answered one by one as a server answers them."""

from __future__ import annotations

import numpy as np

from egt_tf.config import EpisodeConfig
from egt_tf.data.image_set import ImageSet, OnProgress
from egt_tf.data.preprocessing import resized_centre
from egt_tf.data.sampling import check_feasible, draw_episode
from egt_tf.errors import ConfigError, RunError
from egt_tf.evaluation.accuracy import Accuracy
from egt_tf.evaluation.calibration import (
    Calibration,
    confidence_bins,
    expected_calibration_error,
    mean_negative_log_likelihood,
)
from egt_tf.serving.exported_model import ExportedModel
from egt_tf.ties import tied_classes

_SIGNATURE = "classify_episode_floats"


def evaluate_exported(
    model: ExportedModel,
    images: ImageSet,
    episode: EpisodeConfig,
    episodes: int,
    seed: int,
    progress: OnProgress | None = None,
) -> Accuracy:
    """Measures an exported model on the episodes that `egt_tf.evaluate` measures a run on.

    Args:
        model: with the signature classify_episode_floats.
        images: the classes and images to draw from.
        episode: ways, shots and queries a class.
        episodes: how many, >= 1.
        seed: of the episodes.
        progress: called with (episodes done, episodes).

    Raises:
        ConfigError: `episodes` is below 1.
        DataError: too few classes or images, or an image that cannot be read.
        ExportError: the model has not the signature, or takes fewer images a request than an episode has.
        RunError: a probability is not finite.

    Example:
        >>> from egt_tf.data import open_source
        >>> images = open_source("synthetic:shapes").split("novel")
        >>> model = ExportedModel("saved_models/shapes")
        >>> evaluate_exported(model, images, EpisodeConfig(2, 1, 1), episodes=2, seed=0).episodes.shape
        (2,)
    """
    if episodes < 1:
        raise ConfigError(f"`episodes` must be >= 1. Received: episodes={episodes}")
    check_feasible(images, episode)
    size = int(model.inputs(_SIGNATURE)["query_images"].shape[1])
    labels = np.repeat(np.arange(episode.ways), episode.shots)
    truth = np.repeat(np.arange(episode.ways), episode.queries)
    found = []
    for number in range(episodes):
        drawn, _ = draw_episode(images, episode, seed, number)
        support, query = (
            np.stack([resized_centre(images.read(int(index)), size).numpy() for index in part.ravel()])
            for part in (drawn.support, drawn.query)
        )
        inputs = {"support_images": support, "support_labels": labels, "query_images": query}
        found.append(model.ask(_SIGNATURE, inputs)["probabilities"])
        if progress is not None:
            progress(number + 1, episodes)
    return _accuracy(np.stack(found), truth)


def _accuracy(probabilities: np.ndarray, truth: np.ndarray) -> Accuracy:
    """Of probabilities `(episodes, queries, ways)` and the classes `(queries,)`."""
    if not np.isfinite(probabilities).all():
        raise RunError("probabilities must be finite. Received: others; the weights may be so large that sums overflow")
    right = probabilities.argmax(axis=-1) == truth
    with np.errstate(divide="ignore"):
        likelihoods = np.log(probabilities[:, np.arange(len(truth)), truth])
    tied = [len(tied_classes(row)) > 1 for row in probabilities.reshape(-1, probabilities.shape[-1])]
    confidences = probabilities.max(axis=-1).ravel()
    calibration = Calibration(
        expected_calibration_error(confidences, right.ravel()),
        mean_negative_log_likelihood(likelihoods.ravel()),
        confidence_bins(confidences, right.ravel()),
    )
    return Accuracy(right.mean(axis=1), calibration, float(np.mean(tied)))
