"""A whole training: where it starts or goes on, what is done after steps and epochs, how it ends."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

from egt_tf.config import RunConfig
from egt_tf.environment import environment
from egt_tf.errors import DataError, RunError, original_error, release_frames
from egt_tf.files import remove_partial_files, write_json
from egt_tf.keras_api import keras
from egt_tf.runs import RunFolder
from egt_tf.training.callbacks import EpochEnd, StepCheckpoint
from egt_tf.training.checkpoints import Checkpoints
from egt_tf.training.few_shot import FewShotTask
from egt_tf.training.schedules import schedule_of
from egt_tf.training.state import TrainingState
from egt_tf.training.strategy import (
    check_agreement,
    check_devices,
    distributed,
    lost_workers,
    open_strategy,
    own_folder,
)
from egt_tf.training.task import TrainingTask
from egt_tf.training.tensorboard import TensorBoardScalars
from egt_tf.weights import assign_backbone, load_arrays
from egt_tf.wording import accuracy_text


def train(
    config: RunConfig,
    run: RunFolder,
    resume: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    report: Callable[[str], None] = lambda line: None,
) -> TrainingState:
    """Trains a few-shot classifier and writes everything into `run`.

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

    Example:
        >>> import tempfile
        >>> from egt_tf.config import config_from_dict
        >>> config = config_from_dict(
        ...     {
        ...         "data": {"train": "synthetic:shapes", "image_size": 16},
        ...         "episode": {"ways": 2, "shots": 1, "queries": 1},
        ...         "model": {"backbone": {"name": "conv4", "width": 2}, "head": "prototype"},
        ...         "training": {"epochs": 1, "episodes_per_epoch": 1, "validation_episodes": 1},
        ...     },
        ...     origin="an example",
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     state = train(config, RunFolder(Path(folder) / "run"))
        >>> state.epochs
        1
    """
    # First: workers must find each other before TensorFlow does anything else.
    strategy = open_strategy(config.training.strategy)
    check_devices(config, strategy)
    with own_folder(run, strategy) as own, lost_workers(strategy, run):
        if not resume:
            own.check_new()
        return run_task(FewShotTask(config, own, strategy), resume, callbacks, report, strategy)


def run_task(
    task: TrainingTask,
    resume: bool,
    callbacks: Sequence[keras.callbacks.Callback],
    report: Callable[[str], None],
    strategy: tf.distribute.Strategy,
) -> TrainingState:
    """Trains what `task` says until its last epoch; arguments, result and errors as for `train`."""
    checkpoints = Checkpoints(task.run.checkpoints_folder, task.config.training.keep_checkpoints)
    before = task.run.entries()
    state = _resume(task, checkpoints, report) if resume else _start(task, checkpoints)
    check_agreement(strategy, task.finished_steps(state))
    if state.epochs >= task.epochs:
        report(
            f"already complete: {state.epochs} epochs, best validation accuracy {accuracy_text(state.best_accuracy)}"
        )
        return state
    try:
        task.prepare(report)
        tensorboard = TensorBoardScalars(task.run.tensorboard_folder)
        # In this order.
        own_callbacks = [
            StepCheckpoint(checkpoints, state, task.config.training.checkpoint_every, task.steps_per_epoch),
            EpochEnd(task, checkpoints, state, report),
            tensorboard,
            *task.more_callbacks(tensorboard, report),
        ]
        _fit(task, state, [*own_callbacks, *callbacks], strategy)
    except DataError:
        # An image that cannot be read: before the first checkpoint there is nothing worth going on with.
        if not resume and checkpoints.newest_step() == 0:
            task.run.remove_new(before)
        raise
    return state


def _start(task: TrainingTask, checkpoints: Checkpoints) -> TrainingState:
    """A new run with its files and a checkpoint before the first step."""
    state, run, training = TrainingState(), task.run, task.config.training
    if training.warm_start is not None:
        origin = Path(training.warm_start)
        path = RunFolder(origin).warm_start_file if origin.is_dir() else origin
        assign_backbone(task.model.stored, load_arrays(path), str(path))
    with run.removed_on_error():
        write_json(run.environment_file, {**environment(), "seed": training.seed})
        task.write_examples()
        # Those of a run whose configuration is gone would be taken for newer ones.
        checkpoints.clear()
        checkpoints.save(task.model, state)
        # Last: a folder with a configuration is a run that can be resumed.
        run.create(task.config)
    return state


def _resume(task: TrainingTask, checkpoints: Checkpoints, report: Callable[[str], None]) -> TrainingState:
    """The state of the newest whole checkpoint, to which the model is set."""
    state = checkpoints.restore(task.model, task.run.last_file, report)
    remove_partial_files(task.run.path)
    if state.step >= task.steps_per_epoch:
        raise RunError(
            f"the run {task.run.path} must go on with the configuration that it began with. Received: an epoch "
            f"of {task.steps_per_epoch} steps, of which {state.step} are done; set its config.yaml back"
        )
    if state.step:
        report(f"resuming in epoch {state.epochs + 1}, after step {state.step} of {task.steps_per_epoch}")
    elif 0 < state.epochs < task.epochs:
        report(f"resuming after epoch {state.epochs}")
    # Workers beside the chief have no configuration of their own.
    if task.run.config_file.is_file():
        _take_more_epochs(task, state, report)
    return state


def _take_more_epochs(task: TrainingTask, state: TrainingState, report: Callable[[str], None]) -> None:
    """Keeps the number of epochs that a run is resumed with, and says what it does to the learning rate."""
    stored = task.run.config()
    before = task.epochs_of(stored)
    if before == task.epochs:
        return
    # Other devices are no other setting, and a run keeps to its own.
    training = dataclasses.replace(task.config.training, strategy=stored.training.strategy)
    task.run.replace_config(dataclasses.replace(task.config, training=training))
    step = task.finished_steps(state)
    old, new = (
        float(schedule_of(task.config.training, epochs, task.steps_per_epoch)(step)) for epochs in (before, task.epochs)
    )
    report(f"{task.epochs} epochs in place of {before}")
    if new != old:
        report(
            f"the schedule {task.config.training.schedule['name']} is that of all {task.epochs} epochs now: the learning "
            f"rate goes on at {new:.3g}, where that of {before} epochs is at {old:.3g}"
        )


def _fit(
    task: TrainingTask,
    state: TrainingState,
    callbacks: Sequence[keras.callbacks.Callback],
    strategy: tf.distribute.Strategy,
) -> None:
    """The steps and epochs that `state` has not done."""
    task.model.first_step = state.step
    try:
        with original_error():
            task.model.fit(
                distributed(strategy, functools.partial(task.steps, task.finished_steps(state))),
                epochs=task.epochs,
                initial_epoch=state.epochs,
                steps_per_epoch=task.steps_per_epoch,
                callbacks=callbacks,
                verbose=0,
            )
    except BaseException as error:
        # A script that is interrupted would not end otherwise; the command line sees to that itself.
        release_frames(error)
        raise
