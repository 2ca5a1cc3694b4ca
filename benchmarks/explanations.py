"""How faithful each method is on photographs: deletion, and localisation where it is known what should be found.

    python benchmarks/explanations.py DOMAIN [DOMAIN ...] [--episodes 48] [--shots 5] [--head cosine] [--methods fsc,...]

DOMAIN is a folder with one sub-folder of photographs a class, or `synthetic:NAME`. A pre-trained embedding is asked
about queries of 5-way episodes. Printed for each method and start, with a 95 % interval over queries:

- deletion: the area under the probability of the predicted class while patches are blurred away, the most relevant
  first, in per cent; the lower the better. `against random` is the difference to a random order, query by query. The
  lines below the table are the differences to the method with the lowest area, query by query.
- mosaic: the query beside photographs of three other classes of the episode, each in a quarter; the share of the
  positive relevance for the query's class in its quarter, 25 % by chance.
- object: for `synthetic:` domains, the share of the positive relevance on the drawn object.

All methods see the same queries, patches and replacements. `centre` is the control of a map that knows no image: the
nearer the middle, the more relevant.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Callable, Iterator

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from object_relevance import prepared_mask

from egt_tf.backbones import BACKBONES
from egt_tf.config import EpisodeConfig
from egt_tf.data.preprocessing import normalize, resized_centre
from egt_tf.data.sampling import episode_generator, sample_episode
from egt_tf.data.sources import open_source
from egt_tf.episodic_model import EpisodicModel
from egt_tf.explain import composite_method, get_method
from egt_tf.explain.explanation import pool_channels
from egt_tf.explain.methods import Method
from egt_tf.heads import HEADS
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, STARTS
from egt_tf.measures import (
    area_under,
    blurred,
    deletion_curve,
    mosaic,
    most_relevant_first,
    quarter_mask,
    random_order,
    share_inside,
)

COMPOSITE_NAMES = (
    "fsc",
    "fsc_gamma",
    "epsilon",
    "epsilon_plus",
    "epsilon_gamma_box",
    "epsilon_alpha2_beta1_flat",
    "lrp.epsilon",
    "lrp.alpha_1_beta_0",
    "lrp.sequential_preset_a",
    "lrp.sequential_preset_a_flat",
    "lrp.sequential_preset_b_flat",
)
BIAS_FREE = ("epsilon_plus", "epsilon_gamma_box")
DERIVATIVES = ("gradient", "input_times_gradient", "guided_backprop", "integrated_gradients", "smoothgrad")
WAYS = 5
SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
GRID, BATCH = 14, 8
SEED = 3


@dataclasses.dataclass(frozen=True)
class Queries:
    """Queries of several episodes, each with a support set of its own; n queries, S support images.

    Attributes:
        support: uint8 `(n, S, size, size, 3)`.
        labels: one-hot `(n, S, ways)`.
        images: uint8 `(n, size, size, 3)`, whose class is the first of their episode.
        mosaics: uint8, the query and photographs of three other classes.
        quarters: where in its mosaic each query is.
        masks: of the objects of the queries, or None.
    """

    support: np.ndarray
    labels: np.ndarray
    images: np.ndarray
    mosaics: np.ndarray
    quarters: np.ndarray
    masks: np.ndarray | None


def drawn_queries(domain: str, count: int, shots: int, size: int) -> Queries:
    """One query of each of `count` episodes."""
    drawn = domain.startswith("synthetic:")
    images = open_source(domain if drawn else f"folder:{domain}").split("novel" if drawn else "all")

    def read(index: int, side: int) -> np.ndarray:
        return resized_centre(images.read(int(index)), side).numpy()

    rows, shape = [], EpisodeConfig(WAYS, shots, 1)
    for number in range(count):
        rng = episode_generator(SEED, number)
        episode = sample_episode(images.members, shape, rng)
        others = rng.permutation(3)
        quarters = np.stack([read(episode.query[k, 0], size // 2) for k in (0, *(1 + others))])
        quarter = int(rng.integers(4))
        rows.append(
            {
                "support": np.stack([read(i, size) for i in episode.support.ravel()]),
                "labels": np.repeat(np.eye(WAYS, dtype=np.float32), shots, axis=0),
                "images": read(episode.query[0, 0], size),
                "mosaics": mosaic(np.roll(quarters, quarter, axis=0)),
                "quarters": quarter,
                **({"masks": prepared_mask(images.mask(int(episode.query[0, 0])), size)} if drawn else {}),
            }
        )
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return Queries(**{"masks": None, **columns})


def query_model(model: EpisodicModel) -> keras.Model:
    """From support features, their labels and one query each to scores `(n, 1, ways)`."""
    shape = model.backbone.output_shape[1:]
    support = keras.Input((None, *shape), name="support_features")
    labels = keras.Input((None, None), name="support_labels")
    images = keras.Input(model.backbone.input_shape[1:], name="query_images")
    features = keras.layers.Reshape((1, *shape), name="one_query")(model.backbone(images))
    return keras.Model(
        [support, labels, images], model.head.score_model(model.head.relate_model([support, labels, features]))
    )


class Judge:
    """A classifier, asked about queries in batches; support features are computed once for each set."""

    def __init__(self, model: EpisodicModel):
        self.model = model
        self._forward = tf.function(query_model(model), reduce_retracing=True)
        self._embed = tf.function(lambda images: model.backbone(normalize(images), training=False))
        self._prepared: dict[bool, keras.Model] = {}

    def support_features(self, queries: Queries) -> np.ndarray:
        """`(n, S, h, w, c)`."""
        return np.stack([self._embed(tf.constant(images)).numpy() for images in queries.support])

    def probabilities(self, support: np.ndarray, labels: np.ndarray, images: np.ndarray) -> np.ndarray:
        """`(n, ways)`."""
        scores = [
            self._forward([support[part], labels[part], normalize(images[part])], training=False)
            for part in parts(len(images))
        ]
        return self.model.head.probabilities(tf.concat(scores, 0))[:, 0].numpy()

    def relevance(
        self, methods: list[Method], support: np.ndarray, labels: np.ndarray, images: np.ndarray, targets: np.ndarray
    ) -> list[np.ndarray]:
        """For methods that differ in their starts alone: the relevance of the pixels for one class each."""
        first = methods[0]
        if first.canonize not in self._prepared:
            self._prepared[first.canonize] = query_model(first.prepared(self.model))
        model = self._prepared[first.canonize]
        found: list[list[np.ndarray]] = [[] for _ in methods]
        for part in parts(len(images)):
            chosen = tf.one_hot(targets[part], labels.shape[-1])[:, None]
            selects = [self._select(method, chosen) for method in methods]
            inputs = [tf.constant(support[part]), tf.constant(labels[part]), normalize(images[part])]
            for maps, of_method in zip(first.maps(model, inputs, selects), found, strict=True):
                of_method.append(pool_channels(maps[2].numpy()))
        return [np.concatenate(each) for each in found]

    def _select(self, method: Method, chosen: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
        return lambda scores: method.begin(scores, self.model.head.probabilities(scores), chosen)


def parts(count: int) -> Iterator[slice]:
    """Batches."""
    return (slice(first, first + BATCH) for first in range(0, count, BATCH))


def methods_of(name: str) -> list[Method]:
    """A method from each start; `name+` is a composite that leaves biases out."""
    if name.endswith("+"):
        composite = COMPOSITES.get({"name": name[:-1], "bias": False})
        bare = dataclasses.replace(composite_method(composite, canonize=get_method(name[:-1]).canonize), name=name)
        return [get_method(bare, start) for start in STARTS]
    return [get_method(name, start) for start in STARTS]


def interval(values: np.ndarray) -> str:
    """Mean and 95 % interval, in per cent."""
    found = 100 * values[np.isfinite(values)]
    return f"{found.mean():6.1f} +-{1.96 * found.std(ddof=1) / np.sqrt(len(found)):4.1f}" if len(found) > 1 else "none"


def print_table(judge: Judge, queries: Queries, names: list[str]) -> None:
    """A line for each method and start."""
    size = queries.images.shape[1]
    support = judge.support_features(queries)
    whole = judge.probabilities(support, queries.labels, queries.images)
    predicted = whole.argmax(1)
    grey = blurred(queries.images)
    right = np.zeros(len(predicted), int)
    where = np.stack([quarter_mask(size, quarter) for quarter in queries.quarters])

    def probability(images: np.ndarray) -> np.ndarray:
        return judge.probabilities(support, queries.labels, images)[np.arange(len(images)), predicted]

    def areas(order: np.ndarray) -> np.ndarray:
        return area_under(deletion_curve(probability, queries.images, grey, order, SHARES), SHARES)

    def line(name: str, start: str, area: np.ndarray, columns: list[np.ndarray], seconds: float) -> None:
        cells = "".join(f"{interval(column):>16s}" for column in (area, area - by_chance, *columns))
        print(f"{name:30s}{start:10s}{cells}{seconds:9.1f}", flush=True)
        found[name, start] = area

    found: dict[tuple[str, str], np.ndarray] = {}
    by_chance = areas(random_order(len(predicted), GRID, SEED))
    print(f"{'method':30s}{'start':10s}{'deletion':>16s}{'against random':>16s}{'mosaic':>16s}{'object':>16s}  seconds")
    line("random", "", by_chance, [], 0.0)
    steps = np.linspace(-1, 1, size)
    centre = np.tile(-(steps[:, None] ** 2 + steps[None] ** 2), (len(predicted), 1, 1))
    line("centre", "", areas(most_relevant_first(centre, GRID)), [], 0.0)
    for name in names:
        methods = methods_of(name)
        began = time.perf_counter()
        of_images = judge.relevance(methods, support, queries.labels, queries.images, predicted)
        seconds = time.perf_counter() - began
        of_mosaics = judge.relevance(methods, support, queries.labels, queries.mosaics, right)
        of_class = of_images
        if queries.masks is not None and predicted.any():
            of_class = judge.relevance(methods, support, queries.labels, queries.images, right)
        for method, relevance, in_mosaic, for_object in zip(methods, of_images, of_mosaics, of_class, strict=True):
            columns = [share_inside(in_mosaic, where)]
            columns += [] if queries.masks is None else [share_inside(for_object, queries.masks)]
            line(name, method.start.name, areas(most_relevant_first(relevance, GRID)), columns, seconds)
    best = min(found, key=lambda key: found[key].mean())
    print(f"deletion against {' '.join(best)}:")
    for key in sorted(found, key=lambda key: found[key].mean()):
        print(f"    {' '.join(key):40s}{interval(found[key] - found[best]):>16s}")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("domains", nargs="+")
    parser.add_argument("--episodes", type=int, default=48)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--power", type=float, default=0.5)
    parser.add_argument("--head", default="cosine")
    names = (*COMPOSITE_NAMES, *(f"{name}+" for name in BIAS_FREE), *DERIVATIVES)
    parser.add_argument("--methods", default=",".join(names))
    arguments = parser.parse_args()
    backbone = BACKBONES.get(
        {"name": arguments.backbone, "output": "pooled", "power": arguments.power}, image_size=arguments.size
    )
    head = HEADS.get({"name": arguments.head}, feature_shape=backbone.output_shape[1:])
    judge = Judge(EpisodicModel(backbone, head))
    for domain in arguments.domains:
        print(f"{domain}: {arguments.episodes} queries, {arguments.backbone}, {arguments.size} px, {arguments.head}")
        print_table(
            judge,
            drawn_queries(domain, arguments.episodes, arguments.shots, arguments.size),
            arguments.methods.split(","),
        )


if __name__ == "__main__":
    main()
