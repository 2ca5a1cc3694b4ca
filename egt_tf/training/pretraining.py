"""Pre-training of a backbone: an ordinary classifier of the base classes, whose backbone few-shot training starts from.

The warm-up of Chen et al., "A Closer Look at Few-shot Classification", ICLR 2019, and of the cross-domain papers since.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from egt_tf.backbones import build_backbone
from egt_tf.backbones.base import is_frozen, seed_beside
from egt_tf.config import RunConfig
from egt_tf.data.image_set import ImageSet
from egt_tf.data.labelled import batches_per_epoch, evaluation_batches, hold_out, labelled_batches
from egt_tf.data.mixture import open_mixture
from egt_tf.data.pipeline import StepPart
from egt_tf.errors import OVERFLOW, ConfigError, RunError
from egt_tf.evaluation.calibration import expected_calibration_error, mean_negative_log_likelihood
from egt_tf.keras_api import keras
from egt_tf.runs import RunFolder
from egt_tf.training.backbone_classifier import BackboneClassifier, PretrainingModel
from egt_tf.training.challenged_model import ChallengedModel
from egt_tf.training.few_shot import check_model
from egt_tf.training.loop import run_task
from egt_tf.training.optimizers import configured_optimizer
from egt_tf.training.run_data import skipping_if_configured, validation_images
from egt_tf.training.seeds import seed_everything
from egt_tf.training.state import TrainingState
from egt_tf.training.task import TrainingTask


def pretrain(
    config: RunConfig,
    run: RunFolder,
    resume: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    report: Callable[[str], None] = lambda line: None,
) -> TrainingState:
    """Trains a backbone as a classifier of the base classes and writes everything into `run`.

    Cross-entropy; `config.pretrain` says how long, on how many images a step, and whether they are challenged. Of `config.training` it takes the
    optimizer with its rate, schedule and clipping, the seed, the warm start and when checkpoints are written; it runs
    on one device, in float32. The folder is no run of a few-shot model: `backbone.npz` stands in the place of
    `best.npz`, and `training.warm_start` takes it. An interrupted and resumed pre-training ends with the same weights
    and metrics, bit by bit, as one that was left alone.

    Args, returns and raises as `egt_tf.training.loop.train`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from egt_tf.config import config_from_dict
        >>> from egt_tf.files import write_png
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for number in range(24):
        ...         pixels = np.full((16, 16, 3), 10 * number, np.uint8)
        ...         write_png(f"{folder}/photos/class{number % 4}/{number}.png", pixels)
        ...     parts = {
        ...         "data": {"train": f"folder:{folder}/photos", "image_size": 16},
        ...         "model": {"backbone": {"name": "conv4", "width": 2}},
        ...         "pretrain": {"epochs": 1, "batch_size": 4},
        ...     }
        ...     state = pretrain(config_from_dict(parts, origin="an example"), RunFolder(Path(folder) / "run"))
        >>> state.epochs
        1

    Notes:
        The published code validates on the images it trains on (`validation_share=0`); by default a share of each class
        is held out.
    """
    if not resume:
        run.check_new()
    return run_task(PretrainingTask(config, run), resume, callbacks, report, tf.distribute.get_strategy())


class PretrainingTask(TrainingTask):
    """Trains a `BackboneClassifier` on the images of the base classes.

    Args:
        config: of the run.
        run: where the pre-training is written to.

    Raises:
        ConfigError, DataError: the configuration or the images are not as they must be.
    """

    def __init__(self, config: RunConfig, run: RunFolder):
        check_model(config)
        if is_frozen(config.model.backbone):
            raise ConfigError(
                "`model.backbone.trainable` must be true for a pre-training, which trains the backbone. Received: false; "
                "leave it out, and set it in the training that begins from this one"
            )
        self.training, self.validation = _open_data(config)
        steps = batches_per_epoch(self.training, config.pretrain.batch_size)
        super().__init__(
            config,
            run,
            _compiled(config, len(self.training.class_names), steps),
            config.pretrain.epochs,
            steps,
            run.backbone_file,
            (self.training, self.validation),
        )

    def epochs_of(self, config: RunConfig) -> int:
        return config.pretrain.epochs

    def steps(self, finished: int, part: StepPart) -> tf.data.Dataset:
        epochs, done = divmod(finished, self.steps_per_epoch)
        return labelled_batches(
            self.training,
            self.config.image_preparation,
            batch_size=self.config.pretrain.batch_size,
            start=epochs,
            done=done,
            count=self.config.pretrain.epochs - epochs,
        )

    def validate(self) -> dict[str, float]:
        """Cross-entropy, accuracy and calibration over the images that are held out."""
        batches = evaluation_batches(
            self.validation,
            image_size=self.config.data.image_size,
            batch_size=self.config.pretrain.batch_size,
        )
        parts = [(labels.numpy(), self.model.predict_on_batch(images)) for images, labels in batches]
        labels, scores = (np.concatenate(each) for each in zip(*parts, strict=True))
        if not np.isfinite(scores).all():
            raise RunError(f"scores must be finite. Received: others of held-out images; {OVERFLOW}")
        return {f"val_{name}": value for name, value in measured(labels, scores).items()}


def measured(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """What a classifier's scores are worth: `loss`, `accuracy`, `calibration_error`, `negative_log_likelihood`.

    Args:
        labels: the true classes, integers `(n,)`, n >= 1.
        scores: raw, `(n, classes)`.

    Returns:
        The mean cross-entropy in nats, by its two names: what training minimises, and a measure of calibration; the
        accuracy and the expected calibration error with 15 bins, both in [0, 1].

    Example:
        >>> {name: round(value, 3) for name, value in measured(np.array([0, 1]), np.array([[4.0, 0.0], [0.0, 0.0]])).items()}
        {'loss': 0.356, 'accuracy': 0.5, 'calibration_error': 0.259, 'negative_log_likelihood': 0.356}
    """
    logs = tf.nn.log_softmax(tf.cast(scores, tf.float64)).numpy()
    right = scores.argmax(axis=-1) == labels
    likelihood = mean_negative_log_likelihood(np.take_along_axis(logs, labels[:, None], axis=-1)[:, 0])
    return {
        "loss": likelihood,
        "accuracy": float(right.mean()),
        "calibration_error": expected_calibration_error(np.exp(logs.max(axis=-1)), right),
        "negative_log_likelihood": likelihood,
    }


def _open_data(config: RunConfig) -> tuple[ImageSet, ImageSet]:
    images = open_mixture(config.data.train_sources, "base")
    share = config.pretrain.validation_share
    training, validation = hold_out(images, share, config.training.seed) if share else (images, images)
    return skipping_if_configured(training, config), validation_images(validation, config)


def _compiled(config: RunConfig, classes: int, steps: int) -> PretrainingModel:
    seed = config.training.seed
    seed_everything(seed)
    backbone = build_backbone(config.model.backbone, config.data.image_size, seed)
    classifier, challenger = BackboneClassifier(backbone, classes, seed_beside(seed)), config.pretrain.challenger
    if challenger is None:
        model = PretrainingModel(classifier)
    else:
        model = ChallengedModel(classifier, **dataclasses.asdict(challenger), seed=seed)
    model.compile(optimizer=configured_optimizer(config.training, config.pretrain.epochs, steps))
    return model
