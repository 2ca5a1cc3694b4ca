"""Accuracy of nearest neighbours on raw pixels: what a few-shot learner on the synthetic domains must beat.

    python benchmarks/pixel_nearest_neighbour.py [--episodes 300] [--shots 5] [--split novel] [shapes fog ...]

Every query is compared with the support images (nearest image) and with the mean image of each class (nearest
mean) by the Euclidean distance of their pixels.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from egt_tf.config import EpisodeConfig
from egt_tf.data.sampling import episode_generator, sample_episode
from egt_tf.data.splits import published_split_rule
from egt_tf.data.synthetic import CLASS_NAMES, DRAWN_DOMAINS, IMAGES_PER_CLASS, check_domain, draw


def draw_split(domain: str, split: str, size: int) -> np.ndarray:
    """All images of a split as rows: float32 `(classes, IMAGES_PER_CLASS, size * size * 3)` in 0..1."""
    classes = published_split_rule(len(CLASS_NAMES))[split]
    images = [[draw(domain, c, i, size=size)[0].ravel() for i in range(IMAGES_PER_CLASS)] for c in classes]
    return np.array(images, np.float32) / 255


def squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances `(rows of first, rows of second)`."""
    return (first**2).sum(1)[:, None] - 2 * first @ second.T + (second**2).sum(1)


def episode_accuracies(support: np.ndarray, query: np.ndarray) -> tuple[float, float]:
    """Accuracy of the nearest image and of the nearest mean; rows `(ways, shots or queries, pixels)`."""
    ways, shots, pixels = support.shape
    labels = np.repeat(np.arange(ways), query.shape[1])
    rows = query.reshape(-1, pixels)
    nearest_image = squared_distances(rows, support.reshape(-1, pixels)).argmin(1) // shots
    nearest_mean = squared_distances(rows, support.mean(1)).argmin(1)
    return float((nearest_image == labels).mean()), float((nearest_mean == labels).mean())


def benchmark(pixels: np.ndarray, episode: EpisodeConfig, episodes: int) -> np.ndarray:
    """Accuracies `(episodes, 2)` of both classifiers."""
    rows = pixels.reshape(-1, pixels.shape[-1])
    members = np.arange(len(rows)).reshape(pixels.shape[:2])
    drawn = (sample_episode(members, episode, episode_generator(0, index)) for index in range(episodes))
    return np.array([episode_accuracies(rows[episode.support], rows[episode.query]) for episode in drawn])


def interval(accuracies: np.ndarray) -> str:
    """Mean and half width of the 95 % interval of the mean, in per cent."""
    half_width = 1.96 * accuracies.std(ddof=1) / np.sqrt(len(accuracies))
    return f"{100 * accuracies.mean():.2f} +- {100 * half_width:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("domains", nargs="*", default=DRAWN_DOMAINS)
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--split", choices=("base", "val", "novel"), default="novel")
    parser.add_argument("--size", type=int, default=84)
    options = parser.parse_args()
    episode = EpisodeConfig(ways=5, shots=options.shots, queries=16)
    print(f"5-way {options.shots}-shot, split {options.split}, {options.episodes} episodes, chance 20 %")
    print(f"{'domain':<10} {'nearest image, %':>18} {'nearest mean, %':>18} {'ms/image':>10}")
    for domain in map(check_domain, options.domains):
        start = time.perf_counter()
        pixels = draw_split(domain, options.split, options.size)
        per_image = 1000 * (time.perf_counter() - start) / (pixels.shape[0] * pixels.shape[1])
        image, mean = benchmark(pixels, episode, options.episodes).T
        print(f"{domain:<10} {interval(image):>18} {interval(mean):>18} {per_image:>10.2f}")


if __name__ == "__main__":
    main()
