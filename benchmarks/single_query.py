"""What a head that normalises by its episode loses when it is asked about one query at a time.

    python benchmarks/single_query.py RUN SOURCE [--episodes 12]

Prints the accuracy on the same queries, 5-way 5-shot, scored with all queries of the episode, each alone, and each with
the support images scored beside it, as `egt-tf explain` does.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from egt_tf.config import EpisodeConfig, ImagePreparation
from egt_tf.data.pipeline import episode_dataset
from egt_tf.data.sources import open_source
from egt_tf.runs import RunFolder


def predictions(model, inputs) -> dict[str, np.ndarray]:
    """Predicted class of each query of one episode, by the three ways."""
    queries, support = inputs["query_images"], inputs["support_images"]

    def first(images):
        return int(tf.argmax(model({**inputs, "query_images": images})[0, 0]))

    ones = [queries[:, index : index + 1] for index in range(queries.shape[1])]
    return {
        "all queries together": np.argmax(model(inputs)[0], -1),
        "each query alone": np.array([first(q) for q in ones]),
        "each with the support beside it": np.array([first(tf.concat([q, support], 1)) for q in ones]),
    }


def main() -> None:
    """Prints the three accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("source")
    parser.add_argument("--episodes", type=int, default=12)
    arguments = parser.parse_args()
    model = RunFolder(arguments.run).load_model()
    images = open_source(arguments.source).split("novel")
    data = episode_dataset(
        images,
        EpisodeConfig(5, 5, 3),
        ImagePreparation(model.image_size, seed=5),
        count=arguments.episodes,
    )
    right: dict[str, list[np.ndarray]] = {}
    for inputs, labels, _ in data:
        for way, predicted in predictions(model, inputs).items():
            right.setdefault(way, []).append(predicted == labels[0].numpy())
    for way, found in right.items():
        print(f"{way:34s} {100 * np.mean(found):5.1f} %  ({np.size(found)} queries)")


if __name__ == "__main__":
    main()
