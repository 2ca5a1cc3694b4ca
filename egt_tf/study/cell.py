"""One cell of a study: a training and its tests, the result in one file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from egt_tf.backbones.base import is_frozen, without_pretrained
from egt_tf.config import RunConfig
from egt_tf.data.image_set import ImageSet
from egt_tf.data.map_files import Maps
from egt_tf.data.sampling import check_feasible
from egt_tf.data.sources import open_source
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import RunError
from egt_tf.evaluation.accuracy import Accuracy, Evaluator
from egt_tf.evaluation.report import episodes_identity
from egt_tf.files import write_json
from egt_tf.keras_api import keras
from egt_tf.runs import RunFolder
from egt_tf.study.folders import StudyFolders
from egt_tf.study.plan import Cell, Study, with_root
from egt_tf.study.results import CellResult, TargetResult, cell_to_dict
from egt_tf.training.cached_maps import MapCache, classifier_of_maps, map_batches
from egt_tf.training.checkpoints import Checkpoints
from egt_tf.training.loop import train
from egt_tf.training.state import stored_weights
from egt_tf.weights import assign_weights

Report = Callable[[str], None]


def run_cell(study: Study, cell: Cell, root: str | None, folders: StudyFolders, report: Report) -> None:
    """Trains a cell, or goes on with it, tests its last weights on the study's targets and writes what came of it.

    Args:
        study: the plan.
        cell: one of its cells.
        root: the folder of the data, see `egt_tf.study.plan.with_root`.
        folders: of the study. The result's file holds what was asked for (`Study.asked_of`), too.
        report: gets lines for the user.

    Raises:
        EgtError: the training or a test cannot be done.
        OSError: a file cannot be written.
    """
    config, run = _with_shared_maps(cell.config(root), folders), RunFolder(folders.run_folder(cell.name))
    is_begun = run.config_file.exists()
    if is_begun:
        _check_same(config, run)
    tests = _Tests(study, config, root, report)
    curve = _Curve(tests, run.path / "curve.json")
    train(config, run, is_begun, [curve], report)
    # A training that was complete before has run no epoch.
    measure = curve.measure or tests.evaluator(_last_model(config, run))
    curve.add(measure, config.training.epochs)
    result = CellResult(
        name=cell.name,
        episodes=config.training.epochs * config.training.episodes_per_epoch,
        curve=tuple(sorted(curve.points.items())),
        seconds_per_step=_seconds_per_step(run, config),
        targets={target: tests.result(measure, target) for target in study.targets},
    )
    write_json(folders.result_file(cell.name), {**study.asked_of(cell), "result": cell_to_dict(result)})


def _check_same(config: RunConfig, run: RunFolder) -> None:
    """Checks that a run that was begun is that of the cell: a plan may have been changed since."""
    begun = run.config()
    # Where maps are kept does not matter, and arguments of the head were filled in.
    begun = dataclasses.replace(begun, data=dataclasses.replace(begun.data, feature_cache=config.data.feature_cache))
    head = {key: value for key, value in begun.model.head.items() if key in config.model.head}
    begun = dataclasses.replace(begun, model=dataclasses.replace(begun.model, head=head))
    if begun != config:
        raise RunError(
            f"a run that was begun must go on as its cell says. Received: {run.path} of another configuration; remove "
            "it to begin again, or set the plan and --root back"
        )


def _with_shared_maps(config: RunConfig, folders: StudyFolders) -> RunConfig:
    if config.data.feature_cache is not None or not is_frozen(config.model.backbone):
        return config
    return dataclasses.replace(config, data=dataclasses.replace(config.data, feature_cache=str(folders.maps_folder)))


class _Tests:
    """Measures models on the targets of a study; what a frozen backbone makes of their images is computed once."""

    def __init__(self, study: Study, config: RunConfig, root: str | None, report: Report):
        self.study, self.config, self.report = study, config, report
        sources = with_root(study.targets, root)
        self.images = {target: open_source(source).split(study.evaluation.split) for target, source in sources.items()}
        self.episode = study.test_episode(config.episode)
        for images in self.images.values():
            check_feasible(images, self.episode)
        # By the name of an image set.
        self._maps: dict[str, Maps] = {}

    def evaluator(self, model: EpisodicModel) -> Evaluator:
        """Measures a model, with its weights of the moment, on any of the targets."""
        if not is_frozen(self.config.model.backbone):
            return Evaluator(model)

        def batches(images: ImageSet, indices: np.ndarray) -> Iterable[tf.Tensor]:
            return map_batches(self._maps_of(model, images), indices)

        return Evaluator(classifier_of_maps(model), batches)

    def accuracy(self, measure: Evaluator, target: str, episodes: int) -> Accuracy:
        return measure(self.images[target], self.episode, episodes, self.study.evaluation.seed)

    def result(self, measure: Evaluator, target: str) -> TargetResult:
        evaluation = self.study.evaluation
        accuracy = self.accuracy(measure, target, evaluation.episodes)
        if accuracy.calibration is None:
            raise RunError("a test must measure the calibration of a model. Received: none")
        self.report(f"{target}: {accuracy}")
        return TargetResult(
            tuple(map(float, accuracy.episodes)),
            episodes_identity(self.images[target], self.episode, evaluation.episodes, evaluation.seed),
            accuracy.calibration.error,
            accuracy.calibration.negative_log_likelihood,
        )

    def _maps_of(self, model: EpisodicModel, images: ImageSet) -> Maps:
        if images.name not in self._maps:
            data = self.config.data
            preparation = dataclasses.replace(self.config.image_preparation, augmentation="none")
            cache = MapCache(data.feature_cache, data.cache_mb, self.report)
            spec = self.config.model.backbone
            self._maps[images.name] = cache.maps(model.backbone, spec, images, preparation, views=1)
        return self._maps[images.name]


class _Curve(keras.callbacks.Callback):
    """Tests the model after every epoch, and keeps the accuracies in a file for a training that goes on."""

    def __init__(self, tests: _Tests, file: Path):
        super().__init__()
        self.tests, self.file = tests, file
        self.points = _read_points(file)
        self.measure: Evaluator | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.measure = measure = self.tests.evaluator(self.model.stored)
        steps = int(self.model.optimizer.iterations.numpy())
        epochs, more = divmod(steps, self.tests.config.training.steps_per_epoch)
        # A process may have been killed between an epoch and its test.
        if epochs and not more:
            self.add(measure, epochs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.measure is not None:
            self.add(self.measure, epoch + 1)

    def add(self, measure: Evaluator, epochs: int) -> None:
        """Tests the model, which has been trained for so many epochs, unless that has been done or is not asked for."""
        evaluation, training = self.tests.study.evaluation, self.tests.config.training
        episodes = epochs * training.episodes_per_epoch
        if not evaluation.curve_episodes or episodes in self.points:
            return
        accuracy = self.tests.accuracy(measure, evaluation.curve_on, evaluation.curve_episodes)
        self.points[episodes] = accuracy.mean
        write_json(self.file, {str(episodes): mean for episodes, mean in self.points.items()})
        self.tests.report(f"epoch {epochs} of {training.epochs}: {evaluation.curve_on} {accuracy}")


def _read_points(file: Path) -> dict[int, float]:
    if not file.is_file():
        return {}
    try:
        return {int(episodes): float(mean) for episodes, mean in json.loads(file.read_text(encoding="utf-8")).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise RunError(f"{file} must hold the points of a learning curve. Received: {error}; remove it") from error


def _last_model(config: RunConfig, run: RunFolder) -> EpisodicModel:
    """The model after the last epoch: which epoch was best, validation images would have to say."""
    newest = Checkpoints(run.checkpoints_folder).files()[-1]
    config = dataclasses.replace(run.config(), data=config.data)
    backbone = without_pretrained(config.model.backbone)
    model = EpisodicModel.build_from(backbone, config.model.head, config.data.image_size)
    assign_weights(model, stored_weights(newest), str(newest))
    return model


def _seconds_per_step(run: RunFolder, config: RunConfig) -> float:
    """The median over the epochs; the first one, with what TensorFlow traces, is left out where there are others."""
    seconds = [row["seconds"] for row in run.metrics()]
    return float(np.median(seconds[1:] or seconds)) / config.training.steps_per_epoch
