"""The images of a training run: what it trains and validates on, and the examples that it stores."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import tensorflow as tf

from egt_tf.config import EpisodeConfig, RunConfig
from egt_tf.data.image_set import ImageSet, Source
from egt_tf.data.loading import ImageCache, Loader
from egt_tf.data.mixture import counterpart, mix, open_mixture
from egt_tf.data.pipeline import StepPart, episode_dataset, episode_pairs
from egt_tf.data.sampling import check_all_feasible, check_feasible, draw_episode
from egt_tf.data.sources import open_source
from egt_tf.errors import ConfigError, DataError
from egt_tf.files import name_of_text, write_png
from egt_tf.runs import RunFolder

# Streams of random numbers that must not meet; the training episodes use the seed itself.
VALIDATION_STREAM, SUPPORT_STREAM = 1_000_000_007, 2_000_000_011
STORED_QUERIES = 2


@dataclasses.dataclass(frozen=True)
class RunData:
    """The opened data of a run.

    Attributes:
        sources: of the training images.
        training: images to train on; it and `validation` skip unreadable images if the configuration says so.
        validation: images to validate on.
    """

    sources: tuple[Source, ...]
    training: ImageSet
    validation: ImageSet


def open_data(config: RunConfig) -> RunData:
    """Opens the sources of a configuration and checks that they suffice.

    Raises:
        ConfigError: the numbers of episodes do not fit to each other, or a source is not described as it must be.
        DataError: a source cannot be opened, or has too few classes or images.
    """
    # Those of the training are opened once, which may take long.
    sources = tuple(open_source(each.source) for each in config.data.train_sources)
    weights = [each.weight for each in config.data.train_sources]
    training = mix([source.split("base") for source in sources], weights)
    if config.data.validation is None:
        validation = mix([source.split("val") for source in sources], weights)
    else:
        validation = open_mixture(config.data.validation_sources, "val")
    check_all_feasible((training, validation), config.episode)
    if config.training.learn_transformation:
        # Pairs of domains need at least two; found out before anything is written.
        counterpart(training, config.training.seed)
    if config.training.episodes_per_epoch % config.training.episodes_per_step:
        raise ConfigError(
            "`training.episodes_per_epoch` must be a multiple of `training.episodes_per_step`. Received: "
            f"{config.training.episodes_per_epoch} and {config.training.episodes_per_step}"
        )
    return RunData(sources, skipping_if_configured(training, config), validation_images(validation, config))


def validation_images(images: ImageSet, config: RunConfig) -> ImageSet:
    """The images as a run validates on them: the same after every epoch, so that they are kept in memory."""
    cached = dataclasses.replace(images, read=ImageCache(images.read, config.data.cache_mb))
    return skipping_if_configured(cached, config)


def skipping_if_configured(images: ImageSet, config: RunConfig) -> ImageSet:
    """The images, which stop at one that cannot be read or skip it, as `data.unreadable` says."""
    return images.skipping_unreadable() if config.data.unreadable == "skip" else images


def training_steps(
    config: RunConfig, data: RunData, steps: int, part: StepPart, load: Loader | None = None
) -> tf.data.Dataset:
    """The steps of a training that follow `steps` finished ones, or a part of each.

    See `episode_dataset`, and `episode_pairs` where a transformation is learned.
    """
    training = config.training
    done = steps * training.episodes_per_step
    # A transformation is learned on one replica, and from images.
    make = episode_pairs if training.learn_transformation else functools.partial(episode_dataset, part=part, load=load)
    return make(
        data.training,
        config.episode,
        config.image_preparation,
        start=done,
        count=training.epochs * training.episodes_per_epoch - done,
        episodes_per_step=training.episodes_per_step,
    )


def store_examples(run: RunFolder, config: RunConfig, sources: Sequence[Source]) -> None:
    """Stores a support set and queries of the classes furthest from training; without enough images, none."""
    images, episode = _support_candidates(sources, config)
    if images is not None:
        store_support_set(run, skipping_if_configured(images, config), episode, config.training.seed + SUPPORT_STREAM)


def store_support_set(run: RunFolder, images: ImageSet, episode: EpisodeConfig, seed: int) -> None:
    """Stores a support set and a few queries of its classes as PNG files in the run folder.

    `support/CLASS/NN.png` and `queries/CLASS-NN.png`, at the size the source has them.
    """
    drawn, _ = draw_episode(images, episode, seed, 0)
    for class_index, support, query in zip(drawn.classes, drawn.support, drawn.query, strict=True):
        name = name_of_text(images.class_names[class_index].replace("/", "_"))
        # A hidden folder would not be read again, and ".." is none.
        name = f"_{name}" if name.startswith(".") else name
        for number, index in enumerate(support, start=1):
            write_png(run.support_folder / name / f"{number:02d}.png", images.read(int(index)))
        for number, index in enumerate(query, start=1):
            write_png(run.queries_folder / f"{name}-{number:02d}.png", images.read(int(index)))


def _support_candidates(sources: Sequence[Source], config: RunConfig) -> tuple[ImageSet | None, EpisodeConfig]:
    """Of the first source that has any, the classes furthest from training with enough images; none is no error."""
    episode = EpisodeConfig(config.episode.ways, config.episode.shots, STORED_QUERIES)
    for source, split in itertools.product(sources, ("novel", "val", "base")):
        try:
            images = source.split(split)
            check_feasible(images, episode)
        except DataError:
            continue
        return images, episode
    return None, episode
