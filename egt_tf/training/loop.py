"""A whole training run: data, model, epochs, validation, files."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow import keras

from egt_tf.config import RunConfig, WeightedSource
from egt_tf.data.episode import EpisodeSpec
from egt_tf.data.mixture import counterpart, mix
from egt_tf.data.pipeline import ImageCache, StepPart, episode_dataset, episode_pairs
from egt_tf.data.sampling import check_feasible, draw_episode
from egt_tf.data.sources import ImageSet, Source, open_source
from egt_tf.data.unreadable import UnreadableImages
from egt_tf.environment import environment
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError, DataError, RunError
from egt_tf.evaluation.accuracy import Accuracy, Evaluator
from egt_tf.files import remove_partial_files, write_json, write_png
from egt_tf.heads import HEADS
from egt_tf.runs import RunFolder
from egt_tf.training.checkpoints import Checkpoints
from egt_tf.training.failures import original_errors
from egt_tf.training.figures import ExplanationFigures
from egt_tf.training.guidance import loss_weights
from egt_tf.training.guided_model import GuidedModel
from egt_tf.training.keepers import EpochKeeper, StepKeeper
from egt_tf.training.learned_transformation import TransformationLearner
from egt_tf.training.optimizers import OPTIMIZERS
from egt_tf.training.precision import layers_in, scaled
from egt_tf.training.schedules import schedule_of
from egt_tf.training.state import Progress
from egt_tf.training.strategy import (check_agreement, check_devices, distributed, lost_workers, open_strategy,
                                      own_folder, set_statistics)
from egt_tf.training.tensorboard import TensorBoardScalars
from egt_tf.weights import Partitioned, assign_backbone, load_arrays

# Streams of random numbers that must not meet; the training episodes use the seed itself.
VALIDATION_STREAM, SUPPORT_STREAM = 1_000_000_007, 2_000_000_011
STORED_QUERIES = 2

Report = Callable[[str], None]


def train(config: RunConfig, run: RunFolder, resume: bool = False, callbacks: Sequence[keras.callbacks.Callback] = (),
          report: Report = lambda line: None) -> Progress:
    """Trains a model and writes everything into `run`.

    The result is a function of the configuration, the images and the machine: an interrupted and resumed training
    ends with the same weights and metrics, bit by bit, as one that was left alone. On several replicas it differs by
    rounding. Of several workers, which all call this, the chief alone writes into `run`.

    Args:
        config: what to do.
        run: where; a new folder, or one to go on with.
        resume: go on after the step of the newest checkpoint of `run`.
        callbacks: more Keras callbacks, to show progress.
        report: gets lines for the user.

    Returns:
        What was measured.

    Raises:
        ConfigError, DataError: the configuration or the images are not as they must be; before the first checkpoint is
            written, nothing is left behind then.
        RunError: the folder already holds a run, or its state cannot be loaded; or a number of a step is not finite,
            in which case the step changes nothing and the checkpoint before it is kept; or another worker has gone.
        OSError: a file cannot be written.
    """
    # First: workers must find each other before TensorFlow does anything else.
    strategy = open_strategy(config.training.strategy)
    check_devices(config, strategy)
    with own_folder(run, strategy) as own, lost_workers(strategy, run):
        return _train(config, own, resume, callbacks, report, strategy)


def _train(config: RunConfig, run: RunFolder, resume: bool, callbacks: Sequence[keras.callbacks.Callback],
           report: Report, strategy: tf.distribute.Strategy) -> Progress:
    if not resume:
        run.check_new()
    check_model(config)
    sources, training, validation = _open_data(config)
    config = _with_head_arguments(config, len(training.class_names))
    keras.utils.set_random_seed(config.training.seed)
    with strategy.scope(), layers_in(config.training.precision):
        classifier = _build(config)
        model = _compiled(classifier, config)
    checkpoints = Checkpoints(run.checkpoints_folder, config.training.keep_checkpoints)
    if resume:
        progress = _restored(checkpoints, model, run, config, report)
    else:
        progress = Progress()
        warm_start(classifier, config.training.warm_start)
        _start_run(run, config, sources, model, checkpoints)
    check_agreement(strategy, progress.epochs * _steps_per_epoch(config) + progress.step)
    if progress.epochs >= config.training.epochs:
        report(f"already complete: {progress.epochs} epochs, best validation accuracy "
               f"{100 * progress.best_accuracy:.2f} %")
        return progress
    try:
        judged = classifier if _is_plain(config, strategy) else _build(config)
        _fit(model, judged, config, run, training, validation, progress, checkpoints, callbacks, report, strategy)
    except DataError:
        # An image that cannot be read: before the first checkpoint there is nothing worth going on with.
        if not resume and checkpoints.newest_step() == 0:
            run.discard()
        raise
    return progress


def _fit(model: GuidedModel, judged: EpisodicModel, config: RunConfig, run: RunFolder, training: ImageSet,
         validation: ImageSet, progress: Progress, checkpoints: Checkpoints,
         callbacks: Sequence[keras.callbacks.Callback], report: Report, strategy: tf.distribute.Strategy) -> None:
    """The steps and epochs that `progress` has not done."""
    unreadable = [UnreadableImages(images) if config.data.unreadable == "skip" else None
                  for images in (training, validation)]
    steps = _steps_per_epoch(config)
    tensorboard = TensorBoardScalars(run.path / "tensorboard")
    keepers = [StepKeeper(checkpoints, progress, config.training.checkpoint_every, steps),
               EpochKeeper(run, judged, checkpoints, progress, _validation(config, validation, unreadable[1]),
                           [finder for finder in unreadable if finder], report),
               tensorboard, *_figures(config, run, judged, validation, unreadable[1], tensorboard, report)]
    model.first_step = progress.step
    data = functools.partial(_training_data, config, training, progress, unreadable[0])
    with original_errors():
        model.fit(distributed(strategy, data), epochs=config.training.epochs, initial_epoch=progress.epochs,
                  steps_per_epoch=steps, callbacks=[*keepers, *callbacks], verbose=0)


def store_support_set(run: RunFolder, images: ImageSet, spec: EpisodeSpec, seed: int,
                      unreadable: UnreadableImages | None = None) -> None:
    """Stores a support set and a few queries of its classes as PNG files in the run folder.

    `support/CLASS/NN.png` and `queries/CLASS-NN.png`, at the size the source has them. `unreadable` leaves out the
    images that it finds unreadable, see `draw_episode`.
    """
    episode, _ = draw_episode(images, spec, seed, 0, unreadable.among if unreadable else None)
    for class_index, support, query in zip(episode.classes, episode.support, episode.query):
        name = images.class_names[class_index].replace("/", "_")
        # A hidden folder would not be read again, and ".." is none.
        name = f"_{name}" if name.startswith(".") else name
        for number, index in enumerate(support, start=1):
            write_png(run.support_folder / name / f"{number:02d}.png", images.read(int(index)))
        for number, index in enumerate(query, start=1):
            write_png(run.queries_folder / f"{name}-{number:02d}.png", images.read(int(index)))


def check_model(config: RunConfig) -> None:
    """Checks what can be said of the model before there is one.

    Raises:
        ConfigError: an argument is given that follows from the rest of the configuration, or does not fit to it.
    """
    for part, argument in (("backbone", "image_size"), ("head", "feature_shape")):
        arguments = getattr(config.model, part)
        if argument in arguments:
            raise ConfigError(f"`model.{part}.{argument}` must be left out; data.image_size decides it. "
                              f"Received: {arguments[argument]!r}")
    if config.training.learn_transformation and config.training.episodes_per_step > 1:
        raise ConfigError("`training.episodes_per_step` must be 1 where training.learn_transformation is true: the "
                          f"episodes of a step are of one domain. Received: {config.training.episodes_per_step}")


def _with_head_arguments(config: RunConfig, base_classes: int) -> RunConfig:
    """Fills in what a head must know of the data and of the episodes."""
    arguments = dict(config.model.head)
    head = HEADS.member(arguments["name"])
    if head.needs_ways and arguments.setdefault("ways", config.episode.ways) != config.episode.ways:
        raise ConfigError(f"`model.head.ways` must be that of the episodes, {config.episode.ways} ways; leave it out. "
                          f"Received: {arguments['ways']}")
    if head.needs_base_classes and arguments.setdefault("base_classes", base_classes) not in (0, base_classes):
        raise ConfigError("`model.head.base_classes` must be the number of classes to train on, or 0 for no loss over "
                          f"them. Received: {arguments['base_classes']}, with {base_classes} classes")
    return dataclasses.replace(config, model=dataclasses.replace(config.model, head=arguments))


def warm_start(classifier: Partitioned, origin: str | None) -> None:
    """Gives the backbone the weights of a run's or a weight file's; None leaves it as it is.

    Raises:
        RunError: the file is missing, damaged or of another backbone.
    """
    if origin is not None:
        path = RunFolder(Path(origin)).warm_start_file if Path(origin).is_dir() else Path(origin)
        assign_backbone(classifier, load_arrays(path), str(path))


def _open_data(config: RunConfig) -> tuple[list[Source], ImageSet, ImageSet]:
    sources = _open(config.data.train_sources)
    training = _mixed(sources, "base", config.data.train_sources)
    weighted = config.data.validation_sources
    validation = _mixed(sources if config.data.validation is None else _open(weighted), "val", weighted)
    for images in (training, validation):
        check_feasible(images, _spec(config))
    if config.training.learn_transformation:
        # Pairs of domains need at least two; found out before anything is written.
        counterpart(training, config.training.seed)
    if config.training.episodes_per_epoch % config.training.episodes_per_step:
        raise ConfigError("`training.episodes_per_epoch` must be a multiple of `training.episodes_per_step`. Received: "
                          f"{config.training.episodes_per_epoch} and {config.training.episodes_per_step}")
    # Validation reads the same images after every epoch.
    cache = ImageCache(validation.read, config.data.cache_mb)
    return sources, training, dataclasses.replace(validation, read=cache)


def _open(weighted: Sequence[WeightedSource]) -> list[Source]:
    return [open_source(each.source) for each in weighted]


def _mixed(sources: Sequence[Source], split: str, weighted: Sequence[WeightedSource]) -> ImageSet:
    return mix([source.split(split) for source in sources], [each.weight for each in weighted])


def _build(config: RunConfig) -> EpisodicModel:
    return EpisodicModel.build_from(config.model.backbone, config.model.head, config.data.image_size,
                                    seed=config.training.seed)


def _is_plain(config: RunConfig, strategy: tf.distribute.Strategy) -> bool:
    """Whether the model that is trained predicts as the finished run will: in float32, and without other workers."""
    return config.training.precision == "float32" and strategy.num_replicas_in_sync == 1


def _compiled(classifier: EpisodicModel, config: RunConfig) -> GuidedModel:
    guidance = config.guidance
    weights = loss_weights(guidance.mode, guidance.plain_weight, guidance.guided_weight, config.episode.shots)
    arguments = (classifier, weights.plain, weights.guided, guidance.composite)
    if config.training.learn_transformation:
        model = TransformationLearner(*arguments, detach=guidance.detach,
                                      transformation_learning_rate=config.training.transformation_learning_rate)
    else:
        model = GuidedModel(*arguments, detach=guidance.detach)
    rates = schedule_of(config.training, config.training.epochs, _steps_per_epoch(config))
    training = config.training
    set_statistics(model, across_replicas=training.batch_statistics == "step")
    optimizer = OPTIMIZERS.get(training.optimizer, learning_rate=rates)
    optimizer.global_clipnorm = training.clip_norm
    optimizer = scaled(optimizer, training.precision)
    # Here, where its variables are made for the devices that the weights are on.
    optimizer.build(classifier.trainable_variables)
    model.compile(optimizer, jit_compile=training.xla, steps_per_execution=training.steps_per_execution)
    return model


def _restored(checkpoints: Checkpoints, model: GuidedModel, run: RunFolder, config: RunConfig,
              report: Report) -> Progress:
    progress = checkpoints.restore(model, run.last_file, report)
    remove_partial_files(run.path)
    steps = _steps_per_epoch(config)
    if progress.step >= steps:
        raise RunError(f"the run {run.path} must go on with the configuration that it began with. Received: an epoch "
                       f"of {steps} steps, of which {progress.step} are done; set its config.yaml back")
    if progress.step:
        report(f"resuming in epoch {progress.epochs + 1}, after step {progress.step} of {steps}")
    elif 0 < progress.epochs < config.training.epochs:
        report(f"resuming after epoch {progress.epochs}")
    return progress


def _validation(config: RunConfig, images: ImageSet,
                unreadable: UnreadableImages | None) -> Callable[[Evaluator], Accuracy]:
    """What is measured after every epoch, always on the same episodes."""
    training = config.training
    return lambda evaluator: evaluator(images, _spec(config), training.validation_episodes,
                                       training.seed + VALIDATION_STREAM, unreadable=unreadable)


def _start_run(run: RunFolder, config: RunConfig, sources: Sequence[Source], model: GuidedModel,
               checkpoints: Checkpoints) -> None:
    with run.removed_on_error():
        write_json(run.environment_file, {**environment(), "seed": config.training.seed})
        images, spec = _support_candidates(sources, config)
        if images is not None:
            unreadable = UnreadableImages(images) if config.data.unreadable == "skip" else None
            store_support_set(run, images, spec, config.training.seed + SUPPORT_STREAM, unreadable)
        # Those of a run whose configuration is gone would be taken for newer ones.
        checkpoints.clear()
        checkpoints.save(model, Progress())
        # Last: a folder with a configuration is a run that can be resumed.
        run.create(config)


def _support_candidates(sources: Sequence[Source], config: RunConfig) -> tuple[ImageSet | None, EpisodeSpec]:
    """Of the first source that has any, the classes furthest from training with enough images; none is no error."""
    spec = EpisodeSpec(config.episode.ways, config.episode.shots, STORED_QUERIES)
    for source, split in itertools.product(sources, ("novel", "val", "base")):
        try:
            images = source.split(split)
            check_feasible(images, spec)
        except DataError:
            continue
        return images, spec
    return None, spec


def _figures(config: RunConfig, run: RunFolder, judged: EpisodicModel, validation: ImageSet,
             unreadable: UnreadableImages | None, tensorboard: TensorBoardScalars,
             report: Report) -> list[keras.callbacks.Callback]:
    if not config.training.figure_every:
        return []
    return [ExplanationFigures(run, validation, _spec(config), config.training.seed + VALIDATION_STREAM,
                               config.training.figure_every, config.guidance.composite, tensorboard.show_picture,
                               unreadable, report, judged)]


def _training_data(config: RunConfig, images: ImageSet, progress: Progress, unreadable: UnreadableImages | None,
                   part: StepPart) -> tf.data.Dataset:
    training = config.training
    done = progress.epochs * training.episodes_per_epoch + progress.step * training.episodes_per_step
    # A transformation is learned on one replica.
    make = episode_pairs if training.learn_transformation else functools.partial(episode_dataset, part=part)
    return make(
        images, _spec(config), image_size=config.data.image_size, augmentation=config.data.augmentation,
        seed=training.seed, start=done, count=training.epochs * training.episodes_per_epoch - done,
        episodes_per_step=training.episodes_per_step, cache_mb=config.data.cache_mb, unreadable=unreadable)


def _spec(config: RunConfig) -> EpisodeSpec:
    return EpisodeSpec(config.episode.ways, config.episode.shots, config.episode.queries)


def _steps_per_epoch(config: RunConfig) -> int:
    return config.training.episodes_per_epoch // config.training.episodes_per_step
