"""The share of positive relevance that lies on the object, method by method, on drawn images whose masks are known.

    python benchmarks/object_relevance.py RUN [--queries 20] [--methods fsc,...]

For each drawn domain, 5-way 5-shot episodes of novel classes are drawn; one query of each is explained for its true
class. Printed is the share of its positive relevance inside the object's mask, with a 95 % interval over queries, for
the run and, as the sanity check, for the same architecture with random weights. The last row is the share of the
picture that the object covers, which relevance spread evenly would have.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from egt_tf.config import EpisodeConfig
from egt_tf.data.preprocessing import resized_centre
from egt_tf.data.sampling import episode_generator, sample_episode
from egt_tf.data.sources import open_source
from egt_tf.data.support import SupportSet
from egt_tf.data.synthetic import DRAWN_DOMAINS
from egt_tf.episodic_model import EpisodicModel
from egt_tf.explain.explanation import pool_channels
from egt_tf.explain.methods import get_method
from egt_tf.explain.query import query_inputs, select_first_query
from egt_tf.measures import share_inside
from egt_tf.runs import RunFolder

METHODS = (
    "fsc",
    "fsc_gamma",
    "epsilon_plus",
    "epsilon_gamma_box",
    "epsilon_alpha2_beta1_flat",
    "lrp.sequential_preset_a",
    "gradient",
    "input_times_gradient",
    "guided_backprop",
    "integrated_gradients",
    "grad_cam",
)
EPISODE = EpisodeConfig(5, 5, 1)


def prepared(image: np.ndarray, size: int) -> np.ndarray:
    """Resized and cropped as the model sees it, uint8."""
    return resized_centre(image, size).numpy()


def prepared_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """The mask, resized and cropped as the image is."""
    grey = np.repeat(255 * mask.astype(np.uint8)[..., None], 3, axis=-1)
    image = prepared(grey, size)[..., 0]
    return image > (float(image.max()) + float(image.min())) / 2


def episodes(domain: str, count: int, size: int):
    """Support sets with a query, its mask and the name of its class."""
    images = open_source(f"synthetic:{domain}").split("novel")
    for index in range(count):
        drawn = sample_episode(images.members, EPISODE, episode_generator(11, index))
        support = np.stack([np.stack([prepared(images.read(int(i)), size) for i in row]) for row in drawn.support])
        names = tuple(images.class_names[c] for c in drawn.classes)
        query = int(drawn.query[0, 0])
        yield (
            SupportSet(names, support),
            prepared(images.read(query), size),
            prepared_mask(images.mask(query), size),
            names[0],
        )


def cell(values: list[float]) -> str:
    """Mean and 95 % interval in per cent."""
    found = np.array([v for v in values if np.isfinite(v)])
    if not len(found):
        return "none"
    return f"{100 * found.mean():5.1f} +- {100 * 1.96 * found.std() / np.sqrt(len(found)):4.1f}"


def explainer(model: EpisodicModel, name: str):
    """A compiled function from the inputs of `query_inputs` to the first query's relevance for its true class, 0."""
    method = get_method(name)
    prepared = method.prepared(model)
    select = select_first_query(model.head, 0, method)

    @tf.function
    def explain(*inputs):
        ((*maps,),) = method.maps(prepared, inputs, [select])
        return dict(zip(prepared.input_names, maps, strict=True))["query_images"][0, 0]

    return explain


def measure(
    model: EpisodicModel, domains: list[str], methods: list[str], count: int
) -> dict[str, dict[str, list[float]]]:
    """For each domain and method, the share of each query."""
    shares = {domain: {method: [] for method in methods} for domain in domains}
    explainers = {method: explainer(model, method) for method in methods}
    for domain in domains:
        for support, query, mask, _ in episodes(domain, count, model.image_size):
            inputs = query_inputs(model, support, query)
            for method, explain in explainers.items():
                relevance = pool_channels(explain(*inputs).numpy()[None])[0]
                shares[domain][method].append(share_inside(relevance, mask))
    return shares


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--domains", default=",".join(DRAWN_DOMAINS))
    arguments = parser.parse_args()
    methods, domains = arguments.methods.split(","), arguments.domains.split(",")
    run = RunFolder(arguments.run)
    config = run.config()
    random = EpisodicModel.build_from(config.model.backbone, config.model.head, config.data.image_size, seed=99)
    print(
        f"share of positive relevance on the object, %, {arguments.queries} queries a domain: "
        f"{run.path.name} | random weights"
    )
    trained, untrained = (measure(model, domains, methods, arguments.queries) for model in (run.load_model(), random))
    print(f"{'method':28s}" + "".join(f"{domain:>30s}" for domain in domains))
    for method in methods:
        print(
            f"{method:28s}"
            + "".join(f"{cell(trained[d][method]):>15s} |{cell(untrained[d][method]):>13s}" for d in domains)
        )
    size = config.data.image_size
    areas = [
        cell([float(mask.mean()) for _, _, mask, _ in episodes(domain, arguments.queries, size)]) for domain in domains
    ]
    print(f"{'(area of the object)':28s}" + "".join(f"{area:>15s}  {'':13s}" for area in areas))


if __name__ == "__main__":
    main()
