"""A whole training run: data, model, epochs, validation, files."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow import keras

from egt_tf.config import RunConfig
from egt_tf.environment import environment
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError, DataError, RunError
from egt_tf.evaluation.accuracy import Accuracy, Evaluator
from egt_tf.files import remove_partial_files, write_json
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
from egt_tf.training.run_data import (
    VALIDATION_STREAM,
    RunData,
    open_data,
    steps_per_epoch,
    store_examples,
    training_steps,
)
from egt_tf.training.schedules import schedule_of
from egt_tf.training.state import Progress
from egt_tf.training.strategy import (
    check_agreement,
    check_devices,
    distributed,
    lost_workers,
    open_strategy,
    own_folder,
    set_statistics,
)
from egt_tf.training.tensorboard import TensorBoardScalars
from egt_tf.weights import Partitioned, assign_backbone, load_arrays

Report = Callable[[str], None]


def train(
    config: RunConfig,
    run: RunFolder,
    resume: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    report: Report = lambda line: None,
) -> Progress:
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


def _train(
    config: RunConfig,
    run: RunFolder,
    resume: bool,
    callbacks: Sequence[keras.callbacks.Callback],
    report: Report,
    strategy: tf.distribute.Strategy,
) -> Progress:
    if not resume:
        run.check_new()
    check_model(config)
    data = open_data(config)
    config = _with_head_arguments(config, len(data.training.class_names))
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
        _start_run(run, config, data, model, checkpoints)
    check_agreement(strategy, _finished_steps(config, progress))
    if progress.epochs >= config.training.epochs:
        report(
            f"already complete: {progress.epochs} epochs, best validation accuracy {100 * progress.best_accuracy:.2f} %"
        )
        return progress
    try:
        judged = classifier if _is_plain(config, strategy) else _build(config)
        keepers = _keepers(config, run, data, judged, progress, checkpoints, report)
        _fit(model, config, data, progress, [*keepers, *callbacks], strategy)
    except DataError:
        # An image that cannot be read: before the first checkpoint there is nothing worth going on with.
        if not resume and checkpoints.newest_step() == 0:
            run.discard()
        raise
    return progress


def _keepers(
    config: RunConfig,
    run: RunFolder,
    data: RunData,
    judged: EpisodicModel,
    progress: Progress,
    checkpoints: Checkpoints,
    report: Report,
) -> list[keras.callbacks.Callback]:
    """What is done after steps and epochs, in this order."""
    training = config.training
    seed = training.seed + VALIDATION_STREAM

    def validate(evaluator: Evaluator) -> Accuracy:
        return evaluator(data.validation, config.episode, training.validation_episodes, seed)

    tensorboard = TensorBoardScalars(run.path / "tensorboard")
    keepers = [
        StepKeeper(checkpoints, progress, training.checkpoint_every, steps_per_epoch(config)),
        EpochKeeper(run, judged, checkpoints, progress, validate, (data.training, data.validation), report),
        tensorboard,
    ]
    if training.figure_every:
        keepers.append(
            ExplanationFigures(
                run,
                data.validation,
                config.episode,
                seed,
                training.figure_every,
                config.guidance.composite,
                tensorboard.show_picture,
                report,
                judged,
            )
        )
    return keepers


def _fit(
    model: GuidedModel,
    config: RunConfig,
    data: RunData,
    progress: Progress,
    callbacks: Sequence[keras.callbacks.Callback],
    strategy: tf.distribute.Strategy,
) -> None:
    """The steps and epochs that `progress` has not done."""
    model.first_step = progress.step
    steps = functools.partial(training_steps, config, data, _finished_steps(config, progress))
    with original_errors():
        model.fit(
            distributed(strategy, steps),
            epochs=config.training.epochs,
            initial_epoch=progress.epochs,
            steps_per_epoch=steps_per_epoch(config),
            callbacks=callbacks,
            verbose=0,
        )


def _finished_steps(config: RunConfig, progress: Progress) -> int:
    return progress.epochs * steps_per_epoch(config) + progress.step


def check_model(config: RunConfig) -> None:
    """Checks what can be said of the model before there is one.

    Raises:
        ConfigError: an argument is given that follows from the rest of the configuration, or does not fit to it.
    """
    for part, argument in (("backbone", "image_size"), ("head", "feature_shape")):
        arguments = getattr(config.model, part)
        if argument in arguments:
            raise ConfigError(
                f"`model.{part}.{argument}` must be left out; data.image_size decides it. "
                f"Received: {arguments[argument]!r}"
            )
    if config.training.learn_transformation and config.training.episodes_per_step > 1:
        raise ConfigError(
            "`training.episodes_per_step` must be 1 where training.learn_transformation is true: the "
            f"episodes of a step are of one domain. Received: {config.training.episodes_per_step}"
        )


def _with_head_arguments(config: RunConfig, base_classes: int) -> RunConfig:
    """Fills in what a head must know of the data and of the episodes."""
    arguments = dict(config.model.head)
    head = HEADS.member(arguments["name"])
    if head.needs_ways and arguments.setdefault("ways", config.episode.ways) != config.episode.ways:
        raise ConfigError(
            f"`model.head.ways` must be that of the episodes, {config.episode.ways} ways; leave it out. "
            f"Received: {arguments['ways']}"
        )
    if head.needs_base_classes and arguments.setdefault("base_classes", base_classes) not in (0, base_classes):
        raise ConfigError(
            "`model.head.base_classes` must be the number of classes to train on, or 0 for no loss over "
            f"them. Received: {arguments['base_classes']}, with {base_classes} classes"
        )
    return dataclasses.replace(config, model=dataclasses.replace(config.model, head=arguments))


def warm_start(classifier: Partitioned, origin: str | None) -> None:
    """Gives the backbone the weights of a run's or a weight file's; None leaves it as it is.

    Raises:
        RunError: the file is missing, damaged or of another backbone.
    """
    if origin is not None:
        path = RunFolder(Path(origin)).warm_start_file if Path(origin).is_dir() else Path(origin)
        assign_backbone(classifier, load_arrays(path), str(path))


def _build(config: RunConfig) -> EpisodicModel:
    return EpisodicModel.build_from(
        config.model.backbone, config.model.head, config.data.image_size, seed=config.training.seed
    )


def _is_plain(config: RunConfig, strategy: tf.distribute.Strategy) -> bool:
    """Whether the model that is trained predicts as the finished run will: in float32, and without other workers."""
    return config.training.precision == "float32" and strategy.num_replicas_in_sync == 1


def _compiled(classifier: EpisodicModel, config: RunConfig) -> GuidedModel:
    guidance = config.guidance
    weights = loss_weights(guidance.mode, guidance.plain_weight, guidance.guided_weight, config.episode.shots)
    arguments = (classifier, weights.plain, weights.guided, guidance.composite)
    if config.training.learn_transformation:
        model = TransformationLearner(
            *arguments,
            detach=guidance.detach,
            transformation_learning_rate=config.training.transformation_learning_rate,
        )
    else:
        model = GuidedModel(*arguments, detach=guidance.detach)
    rates = schedule_of(config.training, config.training.epochs, steps_per_epoch(config))
    training = config.training
    set_statistics(model, across_replicas=training.batch_statistics == "step")
    optimizer = OPTIMIZERS.get(training.optimizer, learning_rate=rates)
    optimizer.global_clipnorm = training.clip_norm
    optimizer = scaled(optimizer, training.precision)
    # Here, where its variables are made for the devices that the weights are on.
    optimizer.build(classifier.trainable_variables)
    model.compile(optimizer, jit_compile=training.xla, steps_per_execution=training.steps_per_execution)
    return model


def _restored(
    checkpoints: Checkpoints, model: GuidedModel, run: RunFolder, config: RunConfig, report: Report
) -> Progress:
    progress = checkpoints.restore(model, run.last_file, report)
    remove_partial_files(run.path)
    steps = steps_per_epoch(config)
    if progress.step >= steps:
        raise RunError(
            f"the run {run.path} must go on with the configuration that it began with. Received: an epoch "
            f"of {steps} steps, of which {progress.step} are done; set its config.yaml back"
        )
    if progress.step:
        report(f"resuming in epoch {progress.epochs + 1}, after step {progress.step} of {steps}")
    elif 0 < progress.epochs < config.training.epochs:
        report(f"resuming after epoch {progress.epochs}")
    return progress


def _start_run(run: RunFolder, config: RunConfig, data: RunData, model: GuidedModel, checkpoints: Checkpoints) -> None:
    with run.removed_on_error():
        write_json(run.environment_file, {**environment(), "seed": config.training.seed})
        store_examples(run, config, data.sources)
        # Those of a run whose configuration is gone would be taken for newer ones.
        checkpoints.clear()
        checkpoints.save(model, Progress())
        # Last: a folder with a configuration is a run that can be resumed.
        run.create(config)
