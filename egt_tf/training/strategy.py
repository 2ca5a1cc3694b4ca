"""On which devices a training runs: one, all GPUs of a machine, or several machines."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from egt_tf.backbones.layers import BatchNormalization
from egt_tf.config import RunConfig
from egt_tf.data.pipeline import StepPart
from egt_tf.errors import ConfigError, RunError, release_frames
from egt_tf.keras_api import keras
from egt_tf.runs import RunFolder
from egt_tf.training.cluster import read_cluster


def open_strategy(name: str) -> tf.distribute.Strategy:
    """The distribution strategy that `training.strategy` names.

    "multiworker" waits for all workers that TF_CONFIG names, and must come before anything else that TensorFlow does.

    Args:
        name: "default", "mirrored" (all GPUs; without any, all logical CPU devices), "multiworker" or "auto"; the last
            is multiworker if TF_CONFIG names more than one worker, mirrored if there are several GPUs, else default.

    Raises:
        ConfigError: "multiworker" without a TF_CONFIG that names the workers, or one that is not as it must be.

    Example:
        >>> open_strategy("default").num_replicas_in_sync
        1
    """
    if name == "auto":
        several_machines = len(read_cluster(os.environ).workers) > 1
        name = "multiworker" if several_machines else "mirrored" if len(_devices("GPU")) > 1 else "default"
    if name == "multiworker":
        read_cluster(os.environ).check()
        return _multiworker()
    if name == "mirrored":
        # A machine with one GPU has one CPU device too, which is not to train beside it.
        return _mirrored(_devices("GPU") or _devices("CPU"))
    return tf.distribute.get_strategy()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run's files: of several workers, one does."""
    resolver = strategy.cluster_resolver
    return (
        resolver is None
        or resolver.task_type in (None, "chief")
        or (resolver.task_type == "worker" and resolver.task_id == 0 and "chief" not in resolver.cluster_spec().jobs)
    )


def check_devices(config: RunConfig, strategy: tf.distribute.Strategy) -> None:
    """Checks what a configuration asks of the devices.

    Raises:
        ConfigError: a step cannot be divided evenly among the replicas, or an epoch among executions; or XLA would
            fail or give wrong gradients.
    """
    training, replicas = config.training, strategy.num_replicas_in_sync
    if training.episodes_per_step % replicas:
        nearest = -(-training.episodes_per_step // replicas) * replicas
        raise ConfigError(
            f"`training.episodes_per_step` must be a multiple of the number of replicas, {replicas} here. Received: "
            f"{training.episodes_per_step}; set it to {nearest}, or training.strategy to default"
        )
    if training.steps_per_epoch % training.steps_per_execution:
        raise ConfigError(
            f"`training.steps_per_execution` must divide the steps of an epoch, {training.steps_per_epoch} here "
            f"(episodes_per_epoch / episodes_per_step). Received: {training.steps_per_execution}"
        )
    if training.xla and replicas > 1:
        raise ConfigError(
            "`training.xla` must be false on several replicas, whose variables XLA does not find. "
            f"Received: training.xla=true with {replicas} replicas; set it to false, or "
            "training.strategy to default"
        )
    if training.xla and config.guidance.mode != "none" and not config.guidance.detach:
        raise ConfigError(
            "`training.xla` must be false with guidance.detach=false: XLA computes the gradient through "
            "an explanation wrongly where it passes a max-pooling. Received: training.xla=true"
        )


def set_statistics(model: keras.Model, across_replicas: bool) -> None:
    """Sets `BatchNormalization.across_replicas` in a model and all models in it."""
    for layer in model.submodules:
        if isinstance(layer, BatchNormalization):
            layer.across_replicas = across_replicas


def distributed(strategy: tf.distribute.Strategy, dataset_of: Callable[[StepPart], tf.data.Dataset]) -> Any:
    """The data set of a training, of which every worker prepares the part that its replicas see.

    Args:
        strategy: as `open_strategy` gives it.
        dataset_of: makes the data set of a part of every step.
    """
    if strategy.num_replicas_in_sync == 1:
        return dataset_of(StepPart())
    return strategy.distribute_datasets_from_function(
        lambda context: dataset_of(
            StepPart(context.num_replicas_in_sync, context.num_input_pipelines, context.input_pipeline_id)
        )
    )


@contextlib.contextmanager
def own_folder(run: RunFolder, strategy: tf.distribute.Strategy) -> Iterator[RunFolder]:
    """The folder that this process writes the run's files to: `run`, but for workers other than the chief.

    Those do the same as the chief, as the reading of a replicated variable takes all workers, in a temporary folder
    that starts with the state to go on from.
    """
    if is_chief(strategy):
        yield run
        return

    def copy_if_there(source: str, target: str) -> None:
        # The chief removes meanwhile what a killed process left half written, and damaged checkpoints.
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(source, target)

    with tempfile.TemporaryDirectory(prefix="egt-tf-worker-") as folder:
        own = RunFolder(Path(folder) / "run")
        own.path.mkdir()
        if run.checkpoints_folder.is_dir():
            shutil.copytree(run.checkpoints_folder, own.checkpoints_folder, copy_function=copy_if_there)
        if run.last_file.is_file():
            shutil.copyfile(run.last_file, own.last_file)
        yield own


def check_agreement(strategy: tf.distribute.Strategy, steps: int) -> None:
    """Checks that all workers go on from the same step.

    Raises:
        RunError: they do not.
    """
    if strategy.cluster_resolver is None:
        return

    def disagreement() -> tf.Tensor:
        mine, context = tf.constant(float(steps)), tf.distribute.get_replica_context()
        mean = context.all_reduce(tf.distribute.ReduceOp.MEAN, mine)
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.abs(mean - mine))

    if float(strategy.experimental_local_results(strategy.run(tf.function(disagreement)))[0]) > 0:
        raise RunError(
            "all workers must go on from the same state: start them together, with the same command and "
            f"a run folder that all of them see. Received: {steps} finished steps on this one, another "
            "number on others"
        )


@contextlib.contextmanager
def lost_workers(strategy: tf.distribute.Strategy, run: RunFolder) -> Iterator[None]:
    """Within the block, the end of another worker appears as a `RunError` that says how to go on."""
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        if strategy.cluster_resolver is None:
            raise
        release_frames(error)
        raise RunError(
            "all workers must stay until the end. Received: no answer from another one; the newest state "
            f"is kept in {run.checkpoints_folder}. Start all workers again, with --resume"
        ) from error


# Each strategy numbers its sums over replicas from the same number on, and the runtime remembers their shapes: a second
# one in a process would fail. Devices and TF_CONFIG are those of the process, so one is enough.


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(devices)


@functools.cache
def _multiworker() -> tf.distribute.Strategy:
    return tf.distribute.MultiWorkerMirroredStrategy()


def _devices(device_type: str) -> tuple[str, ...]:
    return tuple(device.name for device in tf.config.list_logical_devices(device_type))
