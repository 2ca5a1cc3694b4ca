"""How fast the input pipeline is, and how much of a training it takes.

    python benchmarks/input_pipeline.py [--data folder:DIR] [--config cpu/relationnet_5shot_guided] [--rounds 7]
                                        [--episodes 10] [--steps 8] [--set KEY=VALUE]

The first table holds images a second, each row a stream that does what the row above does and more:

- read: the files' bytes (left out for sources without files);
- decode: `ImageSet.read`, RGB pixels;
- bare loop: decode and resize, and nothing else: what the same libraries give without episodes;
- batch, nothing cached: whole training steps (episodes drawn, images augmented, normalised and put together), every
  image decoded and resized anew;
- batch, first pass and batch, later passes: the same with the configured memory, which the first pass fills; the first
  pass also takes the tenths of a second that TensorFlow needs to set a new stream up.

The streams take turns, so that the machine's speed drifts for all alike; printed are the median of each and the median
of its ratio to the bare loop of the same round, by the clock and by the processor time of the process (which does not
see how well the work is spread over the cores). Ratios hold on a loaded machine, images a second do not.

The second table compares training from the pipeline (its images cached, as after the first epochs) with training on one
step that stays in memory. Both take turns with the same model:

- waiting: how long the training stands still for its next step, in per cent of the step;
- longer: by how much the step takes longer than the one in memory, in per cent of the step, which counts the processor
  time that the pipeline takes away from the model as well;
- processor: the same for the processor time of the process, which a loaded machine disturbs less.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from egt_tf.config import EpisodeConfig, RunConfig, load_config
from egt_tf.data.image_set import ImageSet
from egt_tf.data.pipeline import episode_dataset
from egt_tf.data.preprocessing import evaluation_image
from egt_tf.data.sources import open_source
from egt_tf.episodic_model import EpisodicModel
from egt_tf.training.guidance import loss_weights
from egt_tf.training.guided_model import GuidedModel
from egt_tf.training.optimizers import OPTIMIZERS

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PREFETCHED = 2


def stream(config: RunConfig, images: ImageSet, episodes: int, cache_mb: float) -> tf.data.Dataset:
    """The training's episodes."""
    count = episodes - episodes % config.training.episodes_per_step
    episode = EpisodeConfig(config.episode.ways, config.episode.shots, config.episode.queries)
    return episode_dataset(
        images,
        episode,
        dataclasses.replace(config.image_preparation, cache_mb=cache_mb),
        count=count,
        episodes_per_step=config.training.episodes_per_step,
    )


def of_indices(indices: np.ndarray, function: Callable) -> tf.data.Dataset:
    """`function` on each index, in parallel and in order, as a pipeline would."""
    dataset = tf.data.Dataset.from_tensor_slices(indices)
    return dataset.map(function, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


def decoded(images: ImageSet) -> Callable:
    """Image index -> pixels, in the graph."""
    return lambda i: tf.ensure_shape(tf.numpy_function(lambda k: images.read(int(k)), [i], tf.uint8), [None, None, 3])


def simple_streams(images: ImageSet, indices: np.ndarray, size: int) -> dict[str, tf.data.Dataset]:
    """The streams without episodes, in the order of the table."""
    streams = {}
    if Path(images.describe(int(indices[0]))).is_file():
        paths = tf.constant([images.describe(int(i)) for i in indices])
        streams["read"] = of_indices(np.arange(len(indices)), lambda i: tf.io.read_file(paths[i]))
    decode = decoded(images)
    streams["decode"] = of_indices(indices, decode)
    streams["bare loop"] = of_indices(indices, lambda i: evaluation_image(decode(i), size))
    return streams


def seconds(dataset: tf.data.Dataset) -> tuple[float, float]:
    """Time to exhaust a data set, and processor time."""
    began, processor = time.perf_counter(), time.process_time()
    for _ in dataset:
        pass
    return time.perf_counter() - began, time.process_time() - processor


def rates(config: RunConfig, images: ImageSet, episodes: int, rounds: int) -> dict[str, np.ndarray]:
    """Images a second and images a second of processor time of every stream, `(rounds, 2)`."""
    per_episode = config.episode.ways * (config.episode.shots + config.episode.queries)
    every = np.concatenate(images.members)
    indices = np.random.default_rng(0).choice(every, episodes * per_episode)
    simple = simple_streams(images, indices, config.data.image_size)
    uncached = stream(config, images, episodes, cache_mb=0)
    table: dict[str, list[np.ndarray]] = {}
    for number in range(rounds + 1):
        caching = stream(config, images, episodes, config.data.cache_mb)
        for name, dataset in {
            **simple,
            "batch, nothing cached": uncached,
            "batch, first pass": caching,
            "batch, later passes": caching,
        }.items():
            rate = len(indices) / np.array(seconds(dataset))
            # The first round warms the disk and TensorFlow up.
            table.setdefault(name, []).extend([rate] if number else [])
    return {name: np.array(values) for name, values in table.items()}


def compiled_step(config: RunConfig) -> Callable:
    """A function that trains on one step and returns when the weights are updated."""
    classifier = EpisodicModel.build_from(
        config.model.backbone, config.model.head, config.data.image_size, seed=config.training.seed
    )
    guidance = config.guidance
    weights = loss_weights(guidance.mode, guidance.plain_weight, guidance.guided_weight, config.episode.shots)
    model = GuidedModel(classifier, weights.plain, weights.guided, guidance.composite, detach=guidance.detach)
    model.compile(optimizer=OPTIMIZERS.get(config.training.optimizer, learning_rate=config.training.learning_rate))
    step = tf.function(model.train_step)
    return lambda element: [value.numpy() for value in step(element).values()]


def block(step: Callable, iterator, steps: int) -> dict[str, float]:
    """Seconds of a step, seconds of it spent in waiting for its data, and processor time of a step."""
    waited, began, processor = 0.0, time.perf_counter(), time.process_time()
    for _ in range(steps):
        asked = time.perf_counter()
        element = next(iterator)
        waited += time.perf_counter() - asked
        step(element)
    took = time.perf_counter() - began
    # What is still being prefetched belongs to this block and must not disturb the other one.
    time.sleep(1.0)
    return {"step": took / steps, "waiting": waited / steps, "processor": (time.process_time() - processor) / steps}


def training_blocks(config: RunConfig, images: ImageSet, rounds: int, steps: int) -> list[dict[str, np.ndarray]]:
    """What `block` measures, from the pipeline and from memory, round by round."""
    step, per_step = compiled_step(config), config.training.episodes_per_step
    dataset = stream(config, images, (steps + PREFETCHED) * per_step, config.data.cache_mb)
    seconds(dataset)  # Fills the cache.
    fixed = iter(tf.data.Dataset.from_tensors(next(iter(dataset))).cache().repeat())
    endless = iter(dataset.repeat())
    step(next(fixed)), step(next(endless))
    table: list[dict[str, list[float]]] = [{}, {}]
    for _ in range(rounds):
        # What was prefetched in the meantime must not count as fast: the block begins with an empty store.
        for _ in range(PREFETCHED):
            next(endless)
        for rows, iterator in zip(table, (endless, fixed), strict=True):
            for name, value in block(step, iterator, steps).items():
                rows.setdefault(name, []).append(value)
    return [{name: np.array(values) for name, values in rows.items()} for rows in table]


def print_shares(piped: dict[str, np.ndarray], cached: dict[str, np.ndarray]) -> None:
    """Prints the second table: medians over the rounds."""
    shares = {
        "waiting": piped["waiting"] / piped["step"],
        "longer": 1 - cached["step"] / piped["step"],
        "processor": 1 - cached["processor"] / piped["processor"],
    }
    print(f"a step from the pipeline {np.median(piped['step']):.3f} s, from memory {np.median(cached['step']):.3f} s")
    for name, values in shares.items():
        print(f"{name:24s}  {100 * np.median(values):8.1f} %   ({100 * values.min():.1f} to {100 * values.max():.1f})")


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="synthetic:shapes")
    parser.add_argument("--config", default="cpu/relationnet_5shot_guided")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--steps", type=int, default=8)
    arguments = parser.parse_args()
    config = load_config(CONFIGS / f"{arguments.config}.yaml", arguments.overrides)
    images = open_source(arguments.data).split("base")
    print(
        f"{images.name}; {config.data.image_size} px, augmentation {config.data.augmentation}, "
        f"{arguments.rounds} rounds of {arguments.episodes} episodes, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}"
    )
    table = rates(config, images, arguments.episodes, arguments.rounds)
    print(f"{'stage':24s}  {'images/s':>10s}  {'to the bare loop':>16s}  {'by processor time':>17s}")
    for name, values in table.items():
        ratio, processor = np.median(values / table["bare loop"], axis=0)
        print(f"{name:24s}  {np.median(values[:, 0]):10.0f}  {ratio:16.2f}  {processor:17.2f}")
    print_shares(*training_blocks(config, images, arguments.rounds, arguments.steps))


if __name__ == "__main__":
    main()
