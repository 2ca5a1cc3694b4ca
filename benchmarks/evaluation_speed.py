"""How long an evaluation takes: embedding a split once, then scoring episodes on its stored features.

    python benchmarks/evaluation_speed.py [--backbone conv4] [--head relation] [--size 84] [--episodes 2000]
        [--ways 5] [--shots 5] [--queries 15] [--data synthetic:texture] [--compared 8]

Random weights, which take as long as others. For comparison some of the same episodes are scored one by one from their
images, as a plain loop does: every image passes the backbone again in every episode it is in, and the head pairs
everything with everything. Stored and plain scoring take turns, so that the machine's speed drifts for both alike.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from egt_tf.config import EpisodeConfig
from egt_tf.data.image_set import ImageSet
from egt_tf.data.loading import image_batches
from egt_tf.data.sampling import draw_episode
from egt_tf.data.sources import open_source
from egt_tf.episodic_model import EpisodicModel
from egt_tf.evaluation.accuracy import Evaluator
from egt_tf.evaluation.features import FeatureTable
from egt_tf.heads import HEADS


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("backbone", "conv4"), ("head", "relation"), ("data", "synthetic:texture")):
        parser.add_argument(f"--{name}", default=value)
    for name, value in (("size", 84), ("episodes", 2000), ("ways", 5), ("shots", 5), ("queries", 15), ("compared", 8)):
        parser.add_argument(f"--{name}", type=int, default=value)
    return parser.parse_args()


def image_by_image(model: EpisodicModel, images: ImageSet, episode: EpisodeConfig, episodes: int) -> np.ndarray:
    """Accuracy of each episode, from its images."""
    labels = tf.one_hot([np.repeat(np.arange(episode.ways), episode.shots)], episode.ways)
    classes = np.repeat(np.arange(episode.ways), episode.queries)
    results = []
    for number in range(episodes):
        drawn, _ = draw_episode(images, episode, 0, number)
        size = episode.support_size + episode.query_size
        (batch,) = image_batches(images, drawn.images, image_size=model.image_size, batch_size=size)
        support, query = batch[None, : episode.support_size], batch[None, episode.support_size :]
        scores = model({"support_images": support, "support_labels": labels, "query_images": query}, training=False)
        results.append(np.mean(np.argmax(scores[0], axis=-1) == classes))
    return np.array(results)


def timed(function):
    """What a function returns, and its seconds."""
    began = time.perf_counter()
    result = function()
    return result, time.perf_counter() - began


def compare(
    evaluator: Evaluator,
    images: ImageSet,
    episode: EpisodeConfig,
    plain_episodes: int,
    stored_episodes: int,
    table: FeatureTable,
) -> tuple[list[float], float]:
    """Ratios of the episodes a second, three times, and the largest difference of an episode's accuracy."""
    image_by_image(evaluator.model, images, episode, 1)
    ratios, differences = [], []
    for _ in range(3):
        plain, plain_seconds = timed(lambda: image_by_image(evaluator.model, images, episode, plain_episodes))
        stored, seconds = timed(lambda: evaluator(images, episode, stored_episodes, 0, features=table))
        ratios.append(plain_seconds / plain_episodes / (seconds / stored_episodes))
        differences.append(np.abs(plain - stored.episodes[:plain_episodes]).max())
    return ratios, max(differences)


def main() -> None:
    """Prints the table."""
    options = parsed()
    episode = EpisodeConfig(options.ways, options.shots, options.queries)
    images = open_source(options.data).split("novel")
    arguments = {"ways": episode.ways} if HEADS.member(options.head).needs_ways else {}
    model = EpisodicModel.build_from(options.backbone, {"name": options.head, **arguments}, options.size, seed=0)
    evaluator, table = Evaluator(model), FeatureTable()
    # Traces the functions and fills the table.
    evaluator(images, episode, options.episodes, 0, features=table)
    _, embedding = timed(lambda: evaluator.embed(images, table.indices))
    accuracy, scoring = timed(lambda: evaluator(images, episode, options.episodes, 0, features=table))
    compared = min(options.compared, options.episodes)
    ratios, difference = compare(evaluator, images, episode, compared, min(25 * compared, options.episodes), table)
    print(
        f"{options.backbone}, {options.head}, {options.size} px, {episode.ways}-way {episode.shots}-shot, "
        f"{episode.queries} queries a class, {images.name}"
    )
    print(
        f"embedding {len(table.indices)} images once: {embedding:.1f} s ({len(table.indices) / embedding:.0f} images/s)"
    )
    print(
        f"scoring {options.episodes} episodes: {scoring:.1f} s ({options.episodes / scoring:.1f} episodes/s); "
        f"accuracy {accuracy}"
    )
    print(
        f"against scoring from the images, one by one: {np.median(ratios):.0f} times as many episodes a second "
        f"({min(ratios):.0f} to {max(ratios):.0f}); largest difference of an accuracy over {compared} episodes: "
        f"{difference:.1g}"
    )


if __name__ == "__main__":
    main()
