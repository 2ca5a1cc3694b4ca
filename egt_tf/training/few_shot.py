"""The training of a few-shot classifier on episodes, with explanation guidance or without."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, cast

import tensorflow as tf

from egt_tf.backbones.base import is_frozen, without_pretrained
from egt_tf.config import ImagePreparation, RunConfig
from egt_tf.data.image_set import ImageSet
from egt_tf.data.loading import Loader
from egt_tf.data.map_files import Maps
from egt_tf.data.pipeline import StepPart
from egt_tf.data.sampling import narrow_lines
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError
from egt_tf.evaluation.accuracy import Evaluator
from egt_tf.heads import HEADS, Head
from egt_tf.keras_api import keras, layers_in
from egt_tf.runs import RunFolder
from egt_tf.training.cached_maps import (
    MapCache,
    classifier_of_maps,
    map_batches,
    map_loader,
    number_of_views,
    with_known_maps,
)
from egt_tf.training.explanation_pictures import ExplanationPictures
from egt_tf.training.guidance import loss_weights
from egt_tf.training.guided_model import GuidedModel
from egt_tf.training.learned_transformation import TransformationLearner
from egt_tf.training.optimizers import configured_optimizer
from egt_tf.training.precision import with_loss_scale
from egt_tf.training.run_data import VALIDATION_STREAM, open_data, store_examples, training_steps
from egt_tf.training.seeds import seed_everything
from egt_tf.training.strategy import set_statistics
from egt_tf.training.student import StudentModel, check_student, load_teacher, take_weights
from egt_tf.training.task import TrainingTask
from egt_tf.training.tensorboard import TensorBoardScalars
from egt_tf.training.tie_warning import TieWarning
from egt_tf.weights import assign_weights, weight_arrays


class FewShotTask(TrainingTask):
    """Trains an `EpisodicModel` on episodes of the base classes and validates it on episodes of other classes.

    Args:
        config: of the run; what a head must know of the data is filled in.
        run: where the training is written to.
        strategy: whose devices the model is made for.

    Raises:
        ConfigError, DataError: the configuration or the images are not as they must be.
    """

    def __init__(self, config: RunConfig, run: RunFolder, strategy: tf.distribute.Strategy):
        check_model(config)
        self.data = open_data(config)
        config = _with_head_arguments(config, len(self.data.training.class_names))
        seed_everything(config.training.seed)
        self._is_frozen = is_frozen(config.model.backbone)
        with strategy.scope(), layers_in(config.training.precision):
            whole = _build(config)
            _check_trainable(whole, config)
            model = _compiled(self._trained_part(whole), config)
            model.stored = whole
        if isinstance(model, StudentModel):
            take_weights(whole, model.teacher, str(config.student.teacher))
        super().__init__(
            config,
            run,
            model,
            config.training.epochs,
            config.training.steps_per_epoch,
            run.best_file,
            (self.data.training, self.data.validation),
        )
        # What predicts as the finished run will: in float32, and without other workers.
        is_plain = config.training.precision == "float32" and strategy.num_replicas_in_sync == 1
        self.validation_model = whole if is_plain else _build(config)
        self._evaluate = Evaluator(self.validation_model)
        self._load: Loader | None = None
        if self._is_frozen:
            self._check_sizes()

    def epochs_of(self, config: RunConfig) -> int:
        return config.training.epochs

    def prepare(self, report: Callable[[str], None]) -> None:
        """Computes the maps of a frozen backbone, of the training and the validation images."""
        for line in narrow_lines(self.data.validation, self.config.episode.ways):
            report(f"validation on {line}")
        if not self._is_frozen:
            return
        self._bring_validation_model_up_to_date()
        of_training, of_validation = (self._maps(*each, report) for each in self._mapped())
        training = with_known_maps(self.data.training, of_training)
        validation = with_known_maps(self.data.validation, of_validation)
        self.data = dataclasses.replace(self.data, training=training, validation=validation)
        self.image_sets = (training, validation)
        self._load = map_loader(of_training)
        part = self._trained_part(self.validation_model)
        self._evaluate = Evaluator(part, lambda images, indices: map_batches(of_validation, indices))

    def steps(self, finished: int, part: StepPart) -> tf.data.Dataset:
        return training_steps(self.config, self.data, finished, part, self._load)

    def _trained_part(self, whole: EpisodicModel) -> EpisodicModel:
        return classifier_of_maps(whole) if self._is_frozen else whole

    def _mapped(self) -> list[tuple[ImageSet, ImagePreparation, int]]:
        """What there are maps of: the images, how they are prepared, and how many views of each."""
        preparation = self.config.image_preparation
        return [
            (self.data.training, preparation, number_of_views(self.config)),
            (self.data.validation, dataclasses.replace(preparation, augmentation="none"), 1),
        ]

    def _cache(self, report: Callable[[str], None]) -> MapCache:
        return MapCache(self.config.data.feature_cache, self.config.data.cache_mb, report)

    def _check_sizes(self) -> None:
        for images, _, views in self._mapped():
            self._cache(lambda line: None).check_size(self.validation_model.backbone, images, views)

    def _maps(self, images: ImageSet, preparation: ImagePreparation, views: int, report: Callable[[str], None]) -> Maps:
        backbone = self.validation_model.backbone
        return self._cache(report).maps(backbone, self.config.model.backbone, images, preparation, views)

    def _bring_validation_model_up_to_date(self) -> None:
        if self.validation_model is not self.model.stored:
            assign_weights(self.validation_model, weight_arrays(self.model.stored), "the training")

    def validate(self) -> dict[str, float]:
        """The accuracy over validation episodes, the same in every epoch.

        With half of its 95 % interval if it has one, and the share of queries that are ties if there are any.
        """
        self._bring_validation_model_up_to_date()
        training = self.config.training
        seed = training.seed + VALIDATION_STREAM
        accuracy = self._evaluate(self.data.validation, self.config.episode, training.validation_episodes, seed)
        interval = {} if accuracy.interval is None else {"val_interval": accuracy.interval}
        tied = {"val_tied": accuracy.tied} if accuracy.tied else {}
        return {"val_accuracy": accuracy.mean, **interval, **tied}

    def write_examples(self) -> None:
        """Stores a support set and queries, see `store_examples`."""
        store_examples(self.run, self.config, self.data.sources)

    def more_callbacks(
        self, tensorboard: TensorBoardScalars, report: Callable[[str], None]
    ) -> list[keras.callbacks.Callback]:
        """A warning of ties, and pictures of explained validation queries, if they are asked for."""
        training = self.config.training
        if not training.figure_every:
            return [TieWarning(report)]
        return [
            TieWarning(report),
            ExplanationPictures(
                self.run,
                self.data.validation,
                self.config.episode,
                training.seed + VALIDATION_STREAM,
                training.figure_every,
                self.config.guidance.composite,
                tensorboard.show_picture,
                report,
                self.validation_model,
            ),
        ]


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
    _check_frozen(config)
    check_student(config, is_frozen(config.model.backbone))
    if config.training.learn_transformation and config.training.episodes_per_step > 1:
        raise ConfigError(
            "`training.episodes_per_step` must be 1 where training.learn_transformation is true: the "
            f"episodes of a step are of one domain. Received: {config.training.episodes_per_step}"
        )


def _check_frozen(config: RunConfig) -> None:
    frozen = is_frozen(config.model.backbone)
    if frozen and config.training.learn_transformation:
        raise ConfigError(
            "`training.learn_transformation` must be false where model.backbone.trainable is false: the noise that it "
            "learns is within the backbone, whose maps are computed once. Received: true"
        )
    for key in ("views", "feature_cache"):
        value = getattr(config.data, key)
        if value is not None and not frozen:
            raise ConfigError(
                f"`data.{key}` is for a frozen backbone. Received: {value!r} with a trained one; leave it out, or set "
                "model.backbone.trainable=false"
            )


def _with_head_arguments(config: RunConfig, base_classes: int) -> RunConfig:
    """Fills in what a head must know of the data and of the episodes."""
    arguments = dict(config.model.head)
    head = cast("type[Head]", HEADS.member(arguments["name"]))
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


def _check_trainable(classifier: EpisodicModel, config: RunConfig) -> None:
    if not classifier.trainable_variables:
        raise ConfigError(
            "a training must have weights to train. Received: a frozen backbone without a neck and the head "
            f"{config.model.head['name']}, which has none; set model.backbone.neck=64, or use the embedding as it is with "
            "`egt-tf learn`"
        )


def _build(config: RunConfig) -> EpisodicModel:
    # All weights of a student are its teacher's.
    is_student = config.student.teacher is not None
    backbone = without_pretrained(config.model.backbone) if is_student else config.model.backbone
    return EpisodicModel.build_from(backbone, config.model.head, config.data.image_size, seed=config.training.seed)


def _compiled(classifier: EpisodicModel, config: RunConfig) -> GuidedModel:
    guidance, training = config.guidance, config.training
    weights = loss_weights(guidance.mode, guidance.plain_weight, guidance.guided_weight, config.episode.shots)
    arguments: dict[str, Any] = {
        "plain_weight": weights.plain,
        "guided_weight": weights.guided,
        "composite": guidance.composite,
        "detach": guidance.detach,
        "weights": guidance.weights,
        "normalize": guidance.normalize,
        "classes": guidance.classes,
        "start_after": math.ceil(guidance.start_after / training.episodes_per_step),
        "ramp": math.ceil(guidance.ramp / training.episodes_per_step),
        "seed": training.seed,
    }
    model: GuidedModel
    if training.learn_transformation:
        rate = training.transformation_learning_rate
        model = TransformationLearner(classifier, transformation_learning_rate=rate, **arguments)
    elif config.student.teacher is not None:
        with layers_in("float32"):
            teacher = load_teacher(config.student.teacher)
        model = StudentModel(classifier, teacher, teacher_weight=config.student.weight, **arguments)
    else:
        model = GuidedModel(classifier, **arguments)
    set_statistics(model, across_replicas=training.batch_statistics == "step")
    optimizer = configured_optimizer(training, training.epochs, training.steps_per_epoch)
    optimizer = with_loss_scale(optimizer, training.precision)
    # Here, where its variables are made for the devices that the weights are on.
    optimizer.build(classifier.trainable_variables)
    model.compile(optimizer, jit_compile=training.xla, steps_per_execution=training.steps_per_execution)
    return model
