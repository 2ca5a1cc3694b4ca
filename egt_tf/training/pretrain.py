"""Pre-training of a backbone: an ordinary classifier of the base classes, whose backbone few-shot training starts from.

The warm-up of Chen et al., "A Closer Look at Few-shot Classification", ICLR 2019, and of the cross-domain papers since.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import tensorflow as tf
from tensorflow import keras

from egt_tf.backbones import BACKBONES
from egt_tf.backbones.base import InitialWeights
from egt_tf.config import RunConfig
from egt_tf.data.labelled import evaluation_batches, hold_out, labelled_batches, steps_per_epoch
from egt_tf.data.mixture import open_mixture
from egt_tf.data.pipeline import ImageCache
from egt_tf.data.sources import ImageSet
from egt_tf.data.unreadable import UnreadableImages
from egt_tf.environment import environment
from egt_tf.errors import DataError
from egt_tf.files import write_json
from egt_tf.registry import serializable
from egt_tf.runs import RunFolder
from egt_tf.training.failures import check_finite, original_errors
from egt_tf.training.keepers import write_metrics
from egt_tf.training.loop import check_model, warm_start
from egt_tf.training.optimizers import OPTIMIZERS
from egt_tf.training.schedules import schedule_of
from egt_tf.training.state import Progress, load_state, save_state
from egt_tf.weights import save_arrays, weight_arrays

Report = Callable[[str], None]


@serializable
class BackboneClassifier(keras.Model):
    """A backbone, the mean of its maps, and one linear layer: a Functional model from images to raw scores.

    Input: normalised images `(images, size, size, 3)`. Output: `(images, classes)`.

    Args:
        backbone: a Functional model from images to feature maps.
        classes: number of classes, >= 1.
        seed: of the initial weights of the linear layer.
    """

    def __init__(
        self, backbone: keras.Model, classes: int, seed: int | None = None, name: str = "backbone_classifier", **kwargs
    ):
        # === Functional Model ===
        width, weights = backbone.output_shape[-1], InitialWeights(seed)
        pooled = keras.Input((width,), name="pooled")
        scores = keras.layers.Dense(
            classes, kernel_initializer=weights.uniform(width), bias_initializer=weights.uniform(width), name="scores"
        )
        classifier = keras.Model(pooled, scores(pooled), name="classifier")
        images = keras.Input(backbone.input_shape[1:], name="images")
        means = keras.layers.GlobalAveragePooling2D(name="pool")(backbone(images))
        super().__init__(images, classifier(means), name=name, **kwargs)

        # === Config ===
        self.backbone, self.classifier, self.classes, self.seed = backbone, classifier, classes, seed

    @property
    def parts(self) -> dict[str, keras.Model]:
        """The models that hold the weights."""
        return {"backbone": self.backbone, "classifier": self.classifier}

    def get_config(self) -> dict:
        """Every argument of the constructor."""
        return {
            "name": self.name,
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "classes": self.classes,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes the model from `get_config`, with new weights."""
        backbone = keras.saving.deserialize_keras_object(config["backbone"], custom_objects=custom_objects)
        return cls(**{**config, "backbone": backbone})


def pretrain(
    config: RunConfig,
    run: RunFolder,
    resume: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    report: Report = lambda line: None,
) -> Progress:
    """Trains a backbone as a classifier of the base classes and writes everything into `run`.

    Cross-entropy with the optimizer, the rate and the seed of `config.training`; `config.pretrain` says how long. The
    folder is no run of a few-shot model: `backbone.npz` stands in the place of `best.npz`, and
    `training.warm_start` takes it. An interrupted and resumed pre-training ends with the weights of one that was left
    alone.

    Args, returns and raises as `egt_tf.training.loop.train`.

    Notes:
        The published code validates on the images it trains on (`validation_share=0`); by default a share of each class
        is held out.
    """
    if not resume:
        run.check_new()
    check_model(config)
    training, validation = _open_data(config)
    steps = steps_per_epoch(training, config.pretrain.batch_size)
    model = _compiled(config, len(training.class_names), steps)
    progress = _begin(config, run, model, resume)
    if progress.epochs >= config.pretrain.epochs:
        report(
            f"already complete: {progress.epochs} epochs, best validation accuracy {100 * progress.best_accuracy:.2f} %"
        )
        return progress
    if progress.epochs:
        report(f"resuming after epoch {progress.epochs}")
    unreadable = [
        UnreadableImages(images) if config.data.unreadable == "skip" else None for images in (training, validation)
    ]
    keeper = PretrainKeeper(config, run, progress, [each for each in unreadable if each], report)
    try:
        with original_errors():
            model.fit(
                _training_data(config, training, progress.epochs, unreadable[0]),
                validation_data=_validation_data(config, validation, unreadable[1]),
                epochs=config.pretrain.epochs,
                initial_epoch=progress.epochs,
                steps_per_epoch=steps,
                callbacks=[keeper, *callbacks],
                verbose=0,
            )
    except DataError:
        # An image that cannot be read: before the first epoch is done there is nothing worth going on with.
        if not resume and not progress.epochs:
            run.discard()
        raise
    return progress


class PretrainKeeper(keras.callbacks.Callback):
    """Writes the state, the best weights and the metrics after each epoch.

    Adds `seconds`, without the validation, to the epoch's logs, for the callbacks behind it.

    Args:
        config, run, progress: of the pre-training.
        unreadable: the finders of images that are left out.
        report: gets lines on such images.
    """

    def __init__(
        self,
        config: RunConfig,
        run: RunFolder,
        progress: Progress,
        unreadable: Sequence[UnreadableImages] = (),
        report: Report = lambda line: None,
    ):
        super().__init__()
        self.config, self.run, self.progress = config, run, progress
        self.unreadable, self.report = unreadable, report
        self._began = self._seconds = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.monotonic()

    def on_test_begin(self, logs=None):
        self._seconds = time.monotonic() - self._began

    def on_epoch_end(self, epoch, logs=None):
        logs["seconds"] = self._seconds
        weights = weight_arrays(self.model)
        check_finite(logs["loss"], weights, epoch + 1, self.run.last_file)
        for line in filter(None, (each.report() for each in self.unreadable)):
            self.report(line)
        self.progress.metrics.append({"epoch": epoch + 1, **{key: float(value) for key, value in logs.items()}})
        if logs["val_accuracy"] > self.progress.best_accuracy:
            self.progress.best_accuracy = float(logs["val_accuracy"])
            save_arrays(self.run.backbone_file, weights)
        write_metrics(self.run, self.progress)
        # Last, so that a run killed before this line repeats the epoch and writes the same files again.
        save_state(self.run.last_file, self.model, self.model.optimizer, self.progress)


def _open_data(config: RunConfig) -> tuple[ImageSet, ImageSet]:
    sources = config.data.train_sources
    images = open_mixture([each.source for each in sources], "base", [each.weight for each in sources])
    share = config.pretrain.validation_share
    training, validation = hold_out(images, share, config.training.seed) if share else (images, images)
    steps_per_epoch(training, config.pretrain.batch_size)
    # Validation reads the same images after every epoch.
    return training, dataclasses.replace(validation, read=ImageCache(validation.read, config.data.cache_mb))


def _compiled(config: RunConfig, classes: int, steps: int) -> BackboneClassifier:
    seed = config.training.seed
    keras.utils.set_random_seed(seed)
    backbone = BACKBONES.get(config.model.backbone, image_size=config.data.image_size, seed=seed)
    # Another stream than the backbone's, or both would draw the same numbers.
    model = BackboneClassifier(backbone, classes, seed + 1_000_003)
    optimizer = OPTIMIZERS.get(
        config.training.optimizer, learning_rate=schedule_of(config.training, config.pretrain.epochs, steps)
    )
    optimizer.global_clipnorm = config.training.clip_norm
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
    )
    return model


def _begin(config: RunConfig, run: RunFolder, model: BackboneClassifier, resume: bool) -> Progress:
    if resume:
        return load_state(run.last_file, model, model.optimizer)
    progress = Progress()
    warm_start(model, config.training.warm_start)
    with run.removed_on_error():
        write_json(run.environment_file, {**environment(), "seed": config.training.seed})
        save_state(run.last_file, model, model.optimizer, progress)
        # Last: a folder with a configuration is a run that can be resumed.
        run.create(config)
    return progress


def _training_data(
    config: RunConfig, images: ImageSet, epochs_done: int, unreadable: UnreadableImages | None
) -> tf.data.Dataset:
    return labelled_batches(
        images,
        image_size=config.data.image_size,
        augmentation=config.data.augmentation,
        batch_size=config.pretrain.batch_size,
        seed=config.training.seed,
        start=epochs_done,
        count=config.pretrain.epochs - epochs_done,
        cache_mb=config.data.cache_mb,
        unreadable=unreadable,
    )


def _validation_data(config: RunConfig, images: ImageSet, unreadable: UnreadableImages | None) -> tf.data.Dataset:
    return evaluation_batches(
        images, image_size=config.data.image_size, batch_size=config.pretrain.batch_size, unreadable=unreadable
    )
