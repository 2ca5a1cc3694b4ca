"""A whole training run: data, model, epochs, validation, files."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow import keras

from egt_tf.config import RunConfig, WeightedSource
from egt_tf.data.episode import EpisodeSpec
from egt_tf.data.mixture import mix
from egt_tf.data.pipeline import ImageCache, StepPart, episode_dataset
from egt_tf.data.sampling import check_feasible, draw_episode
from egt_tf.data.sources import ImageSet, Source, open_source
from egt_tf.data.unreadable import UnreadableImages
from egt_tf.environment import environment
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError, DataError, RunError
from egt_tf.evaluation.accuracy import Evaluator
from egt_tf.files import atomic_write, write_json, write_text
from egt_tf.heads import HEADS
from egt_tf.runs import RunFolder
from egt_tf.training.failures import original_errors
from egt_tf.training.guidance import loss_weights
from egt_tf.training.guided_model import GuidedModel
from egt_tf.training.optimizers import OPTIMIZERS, rate_after
from egt_tf.training.precision import layers_in, scaled
from egt_tf.training.state import Progress, load_state, save_state
from egt_tf.training.strategy import (check_agreement, check_devices, distributed, lost_workers, open_strategy,
                                      own_folder, set_statistics)
from egt_tf.training.tensorboard import TensorBoardScalars
from egt_tf.weights import assign_backbone, assign_weights, load_arrays, save_arrays, weight_arrays

# Streams of random numbers that must not meet; the training episodes use the seed itself.
VALIDATION_STREAM, SUPPORT_STREAM = 1_000_000_007, 2_000_000_011
STORED_QUERIES = 2

Report = Callable[[str], None]


def train(config: RunConfig, run: RunFolder, resume: bool = False, callbacks: Sequence[keras.callbacks.Callback] = (),
          report: Report = lambda line: None) -> Progress:
    """Trains a model and writes everything into `run`.

    The result is a function of the configuration, the images and the machine: an interrupted and resumed training
    ends with the same weights as one that was left alone. On several replicas it differs by rounding. Of several
    workers, which all call this, the chief alone writes into `run`.

    Args:
        config: what to do.
        run: where; a new folder, or one to go on with.
        resume: go on after the last finished epoch of `run`.
        callbacks: more Keras callbacks, to show progress.
        report: gets lines for the user.

    Returns:
        What was measured.

    Raises:
        ConfigError, DataError: the configuration or the images are not as they must be; before the first epoch is
            done, nothing is left behind then.
        RunError: the folder already holds a run, or its state cannot be loaded; or the loss is no longer finite; or
            another worker has gone.
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
    _check_model(config)
    sources, training, validation = _open_data(config)
    config = _with_head_arguments(config, len(training.class_names))
    keras.utils.set_random_seed(config.training.seed)
    with strategy.scope(), layers_in(config.training.precision):
        classifier = _build(config)
        model = _compiled(classifier, config)
    if resume:
        progress = load_state(run.last_file, classifier, model.optimizer)
    else:
        progress = Progress()
        _warm_start(classifier, config.training.warm_start)
        _start_run(run, config, sources, model, progress)
    check_agreement(strategy, progress.epochs)
    if progress.epochs >= config.training.epochs:
        report(f"already complete: {progress.epochs} epochs, best validation accuracy "
               f"{100 * progress.best_accuracy:.2f} %")
        return progress
    if progress.epochs:
        report(f"resuming after epoch {progress.epochs}")
    unreadable = [UnreadableImages(images) for images in (training, validation) if config.data.unreadable == "skip"]
    judged = classifier if _is_plain(config, strategy) else _build(config)
    keeper = EpochKeeper(config, run, judged, validation, progress, unreadable, report)
    tensorboard = TensorBoardScalars(run.path / "tensorboard")
    try:
        with original_errors():
            model.fit(distributed(strategy, functools.partial(_training_data, config, training, progress.epochs,
                                                              unreadable[0] if unreadable else None)),
                      epochs=config.training.epochs, initial_epoch=progress.epochs,
                      steps_per_epoch=_steps_per_epoch(config),
                      callbacks=[keeper, tensorboard, *callbacks], verbose=0)
    except DataError:
        # An image that cannot be read: before the first epoch is done there is nothing worth going on with.
        if not resume and not progress.epochs:
            run.discard()
        raise
    return progress


class EpochKeeper(keras.callbacks.Callback):
    """Sets each epoch's learning rate, validates after it and writes the state, the best weights and the metrics.

    Adds `val_accuracy`, `val_interval` and `seconds` to the epoch's logs, for the callbacks behind it.

    Args:
        config, run, validation, progress: of the training.
        judged: the model that is validated, with the weights that the trained one has then; it may be that one.
        unreadable: the finders of images that are left out, of the training and of the validation; empty if none are.
        report: gets lines on such images.
    """

    def __init__(self, config: RunConfig, run: RunFolder, judged: EpisodicModel, validation: ImageSet,
                 progress: Progress, unreadable: Sequence[UnreadableImages] = (), report: Report = lambda line: None):
        super().__init__()
        self.config, self.run, self.validation, self.progress = config, run, validation, progress
        self.unreadable, self.report = unreadable, report
        self._began = 0.0
        self._evaluate = Evaluator(judged)

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.monotonic()
        training = self.config.training
        self.model.optimizer.learning_rate.assign(
            rate_after(epoch, training.learning_rate, training.learning_rate_drops))

    def on_epoch_end(self, epoch, logs=None):
        logs["seconds"] = time.monotonic() - self._began
        weights = weight_arrays(self.model.classifier)
        self._check_finite(epoch, logs["loss"], weights)
        if self._evaluate.model is not self.model.classifier:
            assign_weights(self._evaluate.model, weights, "the training")
        accuracy = self._evaluate(self.validation, _spec(self.config), self.config.training.validation_episodes,
                                  self.config.training.seed + VALIDATION_STREAM,
                                  unreadable=self.unreadable[-1] if self.unreadable else None)
        for line in filter(None, (each.report() for each in self.unreadable)):
            self.report(line)
        logs["val_accuracy"], logs["val_interval"] = accuracy.mean, accuracy.interval
        self.progress.metrics.append({"epoch": epoch + 1, **{key: float(value) for key, value in logs.items()}})
        if accuracy.mean > self.progress.best_accuracy:
            self.progress.best_accuracy = accuracy.mean
            save_arrays(self.run.best_file, weights)
        write_text(self.run.metrics_file, "".join(json.dumps(row) + "\n" for row in self.progress.metrics))
        # Last, so that a run killed before this line repeats the epoch and writes the same files again.
        save_state(self.run.last_file, self.model.classifier, self.model.optimizer, self.progress)

    def _check_finite(self, epoch, loss, weights):
        # The last step of an epoch can spoil the weights after the loss was measured.
        if not math.isfinite(loss) or not all(np.isfinite(array).all() for array in weights.values()):
            raise RunError(f"the loss and the weights must stay finite. Received: loss {loss} in epoch {epoch + 1}; the "
                           f"state after epoch {epoch} is kept in {self.run.last_file}. Train into a new folder with a "
                           "smaller training.learning_rate")


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
            _write_png(run.support_folder / name / f"{number:02d}.png", images.read(int(index)))
        for number, index in enumerate(query, start=1):
            _write_png(run.queries_folder / f"{name}-{number:02d}.png", images.read(int(index)))


def _check_model(config: RunConfig) -> None:
    """Two arguments follow from the rest of the configuration; other values would not fit it."""
    for part, argument in (("backbone", "image_size"), ("head", "feature_shape")):
        arguments = getattr(config.model, part)
        if argument in arguments:
            raise ConfigError(f"`model.{part}.{argument}` must be left out; data.image_size decides it. "
                              f"Received: {arguments[argument]!r}")


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


def _warm_start(classifier: EpisodicModel, origin: str | None) -> None:
    if origin is not None:
        path = RunFolder(Path(origin)).best_file if Path(origin).is_dir() else Path(origin)
        assign_backbone(classifier, load_arrays(path), str(path))


def _open_data(config: RunConfig) -> tuple[list[Source], ImageSet, ImageSet]:
    sources = _open(config.data.train_sources)
    training = _mixed(sources, "base", config.data.train_sources)
    weighted = config.data.validation_sources
    validation = _mixed(sources if config.data.validation is None else _open(weighted), "val", weighted)
    for images in (training, validation):
        check_feasible(images, _spec(config))
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
    model = GuidedModel(classifier, weights.plain, weights.guided, guidance.composite, detach=guidance.detach)
    training = config.training
    set_statistics(model, across_replicas=training.batch_statistics == "step")
    optimizer = scaled(OPTIMIZERS.get(training.optimizer, learning_rate=training.learning_rate), training.precision)
    # Here, where its variables are made for the devices that the weights are on.
    optimizer.build(classifier.trainable_variables)
    model.compile(optimizer, jit_compile=training.xla, steps_per_execution=training.steps_per_execution)
    return model


def _start_run(run: RunFolder, config: RunConfig, sources: Sequence[Source], model: GuidedModel,
               progress: Progress) -> None:
    with run.removed_on_error():
        write_json(run.environment_file, {**environment(), "seed": config.training.seed})
        images, spec = _support_candidates(sources, config)
        if images is not None:
            unreadable = UnreadableImages(images) if config.data.unreadable == "skip" else None
            store_support_set(run, images, spec, config.training.seed + SUPPORT_STREAM, unreadable)
        save_state(run.last_file, model.classifier, model.optimizer, progress)
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


def _training_data(config: RunConfig, images: ImageSet, epochs_done: int, unreadable: UnreadableImages | None,
                   part: StepPart) -> tf.data.Dataset:
    per_epoch = config.training.episodes_per_epoch
    return episode_dataset(
        images, _spec(config), image_size=config.data.image_size, augmentation=config.data.augmentation,
        seed=config.training.seed, start=epochs_done * per_epoch,
        count=(config.training.epochs - epochs_done) * per_epoch,
        episodes_per_step=config.training.episodes_per_step, cache_mb=config.data.cache_mb, unreadable=unreadable,
        part=part)


def _spec(config: RunConfig) -> EpisodeSpec:
    return EpisodeSpec(config.episode.ways, config.episode.shots, config.episode.queries)


def _steps_per_epoch(config: RunConfig) -> int:
    return config.training.episodes_per_epoch // config.training.episodes_per_step


def _write_png(path: Path, image: np.ndarray) -> None:
    with atomic_write(path) as file:
        Image.fromarray(image).save(file, format="PNG")
