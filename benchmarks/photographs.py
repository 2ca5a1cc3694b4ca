"""Accuracy on photographs without any training: a pre-trained embedding, and heads that are fitted to each support set.

    python benchmarks/photographs.py FOLDER [--domains flowers17,cub,cars,places] [--episodes 600] [--choose]

FOLDER holds the domains, one sub-folder each, with one folder of images a class; FOLDER/DOMAIN/splits.json says which
classes are novel. Every configuration sees the same episodes, so that two are compared by the differences of their
episodes: the interval of the last columns is that of the mean difference to the first configuration, 1.96 s / sqrt(n).

`--choose` prints all that was tried on the first domain; the default configuration was chosen there, on all its
classes, and the others were measured once.

"None of these": queries of a sixth class among those of the five; the area under the ROC of the score that says whether
a query is of one of the five (0.5: a guess), mean over the episodes.

Say with the numbers: ImageNet, which the embedding was trained on, holds birds, cars and flowers too.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from egt_tf.backbones import BACKBONES
from egt_tf.config import EpisodeConfig
from egt_tf.data.image_set import ImageSet
from egt_tf.data.sampling import draw_episode
from egt_tf.data.sources import open_source
from egt_tf.episodic_model import EpisodicModel
from egt_tf.evaluation.accuracy import Evaluator
from egt_tf.evaluation.features import FeatureTable
from egt_tf.heads import HEADS
from egt_tf.keras_api import keras

QUERIES = 15


@dataclasses.dataclass(frozen=True)
class Configuration:
    """An embedding and a head."""

    network: str
    image_size: int
    power: float
    head: dict

    def __str__(self) -> str:
        number, root = self.network[-5:], "" if self.power == 1 else f" ^{self.power:g}"
        return f"{number} {self.image_size} px{root} {' '.join(str(value) for value in self.head.values())}"

    @property
    def embedding(self) -> tuple:
        """What configurations with the same features have in common."""
        return self.network, self.image_size, self.power


COSINE, PROTOTYPE, RIDGE = {"name": "cosine"}, {"name": "prototype"}, {"name": "ridge", "penalty": 0.1}
BASELINE = Configuration("efficientnet_lite0", 112, 1.0, COSINE)
CHOSEN = Configuration("efficientnet_lite0", 224, 0.5, RIDGE)
COMPARED = (
    BASELINE,
    Configuration("efficientnet_lite0", 224, 1.0, COSINE),
    Configuration("efficientnet_lite0", 224, 0.5, COSINE),
    CHOSEN,
)
TRIED = (
    BASELINE,
    *(
        Configuration(network, size, power, head)
        for network, sizes in (
            ("efficientnet_lite0", (112, 160, 192, 224, 256)),
            ("efficientnet_lite1", (240,)),
            ("efficientnet_lite2", (224, 260)),
        )
        for size in sizes
        for power in (1.0, 0.5)
        for head in (COSINE, PROTOTYPE, RIDGE)
        if Configuration(network, size, power, head) != BASELINE
    ),
    *(
        dataclasses.replace(CHOSEN, head={"name": "ridge", "penalty": penalty, "centre": centre})
        for penalty in (0.01, 0.1, 1.0, 10.0)
        for centre in (False, True)
    ),
)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--domains", default="flowers17,cub,cars,places")
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--choose", action="store_true")
    return parser.parse_args()


class Measurement:
    """Configurations on the images of one domain; maps that configurations share are computed once."""

    def __init__(self, folder: Path, domain: str, episodes: int):
        self.source = open_source(f"folder:{folder / domain}")
        self.episodes = episodes
        self._backbones: dict[tuple, keras.Model] = {}
        self._tables: dict[tuple, FeatureTable] = {}

    def splits(self) -> Iterator[tuple[str, ImageSet]]:
        """The novel classes and all classes, without the former where they are the same."""
        novel, everything = self.source.split("novel"), self.source.split("all")
        if len(novel.class_names) < len(everything.class_names):
            yield "novel", novel
        yield "all", everything

    def model(self, configuration: Configuration) -> EpisodicModel:
        """The few-shot classifier of a configuration."""
        if configuration.embedding not in self._backbones:
            spec = {"name": configuration.network, "output": "pooled", "power": configuration.power}
            self._backbones[configuration.embedding] = BACKBONES.get(spec, image_size=configuration.image_size)
        backbone = self._backbones[configuration.embedding]
        return EpisodicModel(backbone, HEADS.get(configuration.head, feature_shape=backbone.output_shape[1:]))

    def accuracies(self, configuration: Configuration, images: ImageSet, shots: int) -> np.ndarray:
        """Of each episode, in percent."""
        # Image indices are those of the source, so that all its splits share one table.
        table = self._tables.setdefault(configuration.embedding, FeatureTable())
        shape = EpisodeConfig(5, shots, QUERIES)
        measured = Evaluator(self.model(configuration))(images, shape, self.episodes, seed=0, features=table)
        return 100 * measured.episodes

    def none_of_these(self, configuration: Configuration, images: ImageSet, shots: int) -> dict[str, float]:
        """Area under the ROC of each score, mean over the episodes, in percent."""
        evaluator = Evaluator(self.model(configuration))
        every = np.unique(np.concatenate(images.members))
        vectors = evaluator.embed(images, every).numpy()[:, 0, 0]
        areas: dict[str, list[float]] = {}
        for number in range(self.episodes):
            drawn, _ = draw_episode(images, EpisodeConfig(6, shots, QUERIES), 0, number)
            support, query = (vectors[np.searchsorted(every, part)] for part in (drawn.support, drawn.query))
            for name, score in scores_of_known(support[:5], query.reshape(-1, query.shape[-1])).items():
                areas.setdefault(name, []).append(area_under_roc(score[: 5 * QUERIES], score[5 * QUERIES :]))
        return {name: 100 * float(np.mean(values)) for name, values in areas.items()}


def scores_of_known(support: np.ndarray, query: np.ndarray) -> dict[str, np.ndarray]:
    """Scores that are larger for queries of the classes: the largest cosine, and what it is above the mean added."""
    cosines = unit(query) @ unit(unit(support).mean(axis=1)).T
    largest = cosines.max(axis=1)
    return {"largest cosine": largest, "and what it is above the mean": 2 * largest - cosines.mean(axis=1)}


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1 in the same direction."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def area_under_roc(known: np.ndarray, unknown: np.ndarray) -> float:
    """The probability that a known query has the larger score than an unknown one."""
    difference = known[:, None] - unknown
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def print_accuracies(measurement: Measurement, domain: str, configurations: tuple[Configuration, ...]) -> None:
    """One line for each configuration, split and number of shots."""
    for split, images in measurement.splits():
        for shots in (1, 5):
            reference = None
            for configuration in configurations:
                found = measurement.accuracies(configuration, images, shots)
                reference = found if reference is None else reference
                gain = found - reference
                interval = 1.96 * gain.std() / np.sqrt(len(gain))
                print(
                    f"{domain:10} {split:6} {shots}-shot  {configuration!s:36} {found.mean():6.2f} "
                    f"+- {1.96 * found.std() / np.sqrt(len(found)):.2f}   {gain.mean():+6.2f} +- {interval:.2f}",
                    flush=True,
                )


def print_none_of_these(measurement: Measurement, domain: str) -> None:
    """One line for each number of shots."""
    *_, (split, images) = measurement.splits()
    for shots in (1, 5):
        areas = [measurement.none_of_these(each, images, shots) for each in (BASELINE, CHOSEN)]
        plain, *others = [area for each in areas for area in each.values()]
        print(
            f"{domain:10} {split:6} {shots}-shot  none of these: largest cosine of the baseline {plain:.2f}; "
            f"with its excess {others[0]:.2f}; of the chosen {others[1]:.2f}; with its excess {others[2]:.2f}",
            flush=True,
        )


def main() -> None:
    """Prints the tables."""
    arguments = parsed()
    for domain in arguments.domains.split(","):
        measurement = Measurement(arguments.folder, domain, arguments.episodes)
        print_accuracies(measurement, domain, TRIED if arguments.choose else COMPARED)
        if arguments.choose:
            break
        print_none_of_these(measurement, domain)


if __name__ == "__main__":
    keras.utils.set_random_seed(1)
    tf.get_logger().setLevel("ERROR")
    main()
