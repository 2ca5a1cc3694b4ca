"""The sections of a run's configuration as frozen objects; each field holds its default and the rule for its values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from egt_tf.errors import ConfigError, check_integer

STRATEGIES = ("auto", "default", "mirrored", "multiworker")


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What may happen to an image in training, beside resizing.

    Attributes:
        name: as the configuration gives it.
        crops: a random part of the image is shown, in random brightness, contrast and colour; else always its centre.
        flips: half of the images are mirrored.
        erases: a random rectangle is erased from half of the images.

    Example:
        >>> [name for name, augmentation in AUGMENTATIONS.items() if augmentation.crops]
        ['full', 'full_erasing']
    """

    name: str
    crops: bool = False
    flips: bool = False
    erases: bool = False

    @property
    def distinct(self) -> int | None:
        """How many different views of an image there are; None for any number."""
        return None if self.crops else 2 if self.flips else 1


AUGMENTATIONS: Mapping[str, Augmentation] = {
    each.name: each
    for each in (
        Augmentation("none"),
        Augmentation("flip", flips=True),
        Augmentation("full", crops=True, flips=True),
        Augmentation("full_erasing", crops=True, flips=True, erases=True),
    )
}


NORMALIZATIONS = ("joint", "halves")
GUIDED_CLASSES = ("all", "true_and_rival")
# Of the challenger, see `egt_tf.training.manipulation`.
MANIPULATION_NAMES = ("attenuate", "noise", "blur", "exchange")
MANIPULATION_UNITS = ("channel", "position")


def find_augmentation(name: str) -> Augmentation:
    """The augmentation of that name.

    Raises:
        ConfigError: there is none.

    Example:
        >>> find_augmentation("flip").flips
        True
    """
    if name not in AUGMENTATIONS:
        raise ConfigError(f"`augmentation` must be one of {', '.join(AUGMENTATIONS)}. Received: {name!r}")
    return AUGMENTATIONS[name]


def _at_least(minimum: float, default: Any) -> Any:
    return dataclasses.field(
        default=default, metadata={"accepts": lambda value: value >= minimum, "rule": f" >= {minimum}"}
    )


def _above(bound: float, default: Any) -> Any:
    return dataclasses.field(default=default, metadata={"accepts": lambda value: value > bound, "rule": f" > {bound}"})


def _part(default: float) -> Any:
    return dataclasses.field(
        default=default, metadata={"accepts": lambda value: 0 < value <= 1, "rule": " > 0 and <= 1"}
    )


def _share(default: float) -> Any:
    return dataclasses.field(
        default=default, metadata={"accepts": lambda value: 0 <= value < 1, "rule": " >= 0 and < 1"}
    )


def _one_of(choices: tuple[str, ...], default: str) -> Any:
    return dataclasses.field(
        default=default, metadata={"accepts": choices.__contains__, "rule": f", one of {', '.join(choices)}"}
    )


def _named(name: str) -> Any:
    return dataclasses.field(default_factory=lambda: {"name": name})


@dataclasses.dataclass(frozen=True)
class WeightedSource:
    """One of several sources.

    Attributes:
        source: as `egt_tf.data.sources.open_source` takes it ("folder:DIR").
        weight: how often an episode comes from it, relative to the weights of the others.

    Example:
        >>> WeightedSource("synthetic:fog", weight=2)
        WeightedSource(source='synthetic:fog', weight=2)
    """

    source: str
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images a run sees and how they are prepared.

    Attributes:
        train: the training source, as `egt_tf.data.sources.open_source` takes it ("folder:DIR"), or several; each
            episode then comes from one of them.
        validation: the validation source or sources; None means the "val" splits of `train`, with its weights.
        image_size: side of the square network input, in pixels.
        augmentation: "none", "flip", "full" (random resized crop, colour jitter, flip) or "full_erasing" (the same, and
            a random rectangle erased).
        cache_mb: images are kept in memory up to this many MiB, for training and for validation each; 0
            keeps none.
        views: of a frozen backbone, how many augmented views of each image there are maps of; None means 4, or as many
            different ones as the augmentation has ("none" 1, "flip" 2).
        feature_cache: of a frozen backbone, a folder that keeps the maps in files, for this run and later ones; None
            keeps them in memory, where `cache_mb` is the limit.
        unreadable: what training and its validation do with an image that cannot be read: "stop", or "skip", which
            draws an episode again without such images and reports them.

    Example:
        >>> DataConfig(train="folder:birds").validation_sources
        (WeightedSource(source='folder:birds', weight=1.0),)
    """

    train: str | tuple[WeightedSource, ...] = dataclasses.field(
        default="synthetic:shapes", metadata={"read_as": WeightedSource}
    )
    validation: str | tuple[WeightedSource, ...] | None = dataclasses.field(
        default=None, metadata={"read_as": WeightedSource}
    )
    image_size: int = _at_least(16, 84)
    augmentation: str = _one_of(tuple(AUGMENTATIONS), "flip")
    cache_mb: int = _at_least(0, 1024)
    views: int | None = _at_least(1, None)
    feature_cache: str | None = None
    unreadable: str = _one_of(("stop", "skip"), "stop")

    @property
    def train_sources(self) -> tuple[WeightedSource, ...]:
        """`train` as a sequence of at least one source."""
        return _sequence(self.train)

    @property
    def validation_sources(self) -> tuple[WeightedSource, ...]:
        """The sources whose "val" splits training validates on."""
        return _sequence(self.train if self.validation is None else self.validation)


@dataclasses.dataclass(frozen=True)
class ImagePreparation:
    """How the images of a stream are prepared, and where its random numbers come from.

    Args:
        image_size: side of the square images, in pixels.
        augmentation: "none", "flip", "full" or "full_erasing", see `egt_tf.data.preprocessing.training_image`.
        cache_mb: images are kept in memory up to this many MiB; 0 keeps none.
        seed: the stream, >= 0; training and validation take different ones.

    Raises:
        ConfigError: an unknown augmentation or a negative seed.

    Example:
        >>> ImagePreparation(image_size=32, augmentation="flip", seed=1)
        ImagePreparation(image_size=32, augmentation='flip', cache_mb=1024, seed=1)
    """

    image_size: int = 84
    augmentation: str = "none"
    cache_mb: float = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        find_augmentation(self.augmentation)
        if self.seed < 0:
            raise ConfigError(f"`seed` must be >= 0. Received: seed={self.seed}")


def _sequence(sources: str | tuple[WeightedSource, ...]) -> tuple[WeightedSource, ...]:
    return (WeightedSource(sources),) if isinstance(sources, str) else sources


@dataclasses.dataclass(frozen=True)
class EpisodeConfig:
    """The shape of an episode.

    Args:
        ways: classes of the episode, >= 2.
        shots: support images of each class, >= 1.
        queries: query images of each class (not of the whole episode), >= 1.

    Raises:
        ConfigError: a value is no integer or too small.

    Example:
        >>> EpisodeConfig(ways=5, shots=1, queries=16).query_size
        80
    """

    ways: int = _at_least(2, 5)
    shots: int = _at_least(1, 5)
    queries: int = _at_least(1, 16)

    def __post_init__(self) -> None:
        for name, smallest in (("ways", 2), ("shots", 1), ("queries", 1)):
            check_integer(name, getattr(self, name), smallest)

    @property
    def support_size(self) -> int:
        """Support images of the episode, `ways * shots`."""
        return self.ways * self.shots

    @property
    def query_size(self) -> int:
        """Query images of the episode, `ways * queries`."""
        return self.ways * self.queries


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The two parts of the model: each a mapping of its registered `name` and its keyword arguments.

    A bare string stands for a name without arguments. The arguments are checked when the model is built.

    Attributes:
        backbone: what makes a feature map of an image: "conv4", "resnet10", "efficientnet_lite0", ...
        head: what compares the maps of queries and support images: "relation", "cross_attention", "graph", ...

    Example:
        >>> ModelConfig(backbone={"name": "conv4", "width": 8}).head
        {'name': 'relation'}
    """

    backbone: dict[str, Any] = _named("conv4")
    head: dict[str, Any] = _named("relation")


@dataclasses.dataclass(frozen=True)
class GuidanceConfig:
    """How the relevance of a prediction guides training.

    Attributes:
        mode: "none" (plain training), "guided" (plain and guided loss) or "guided_only".
        plain_weight: xi, the weight of the loss on the plain scores.
        guided_weight: lambda, the weight of the loss on the guided scores; None means 0.5 at one shot,
            else 1.0.
        composite: the registered name of the composite that explains the head, and its arguments.
        detach: whether the weights are constants for the gradient; false as the published CAN trains.
        weights: what the features are weighted with, and its arguments: "relevance", or "shuffled", "noise" or
            "challenger", which studies compare it with (`egt_tf.training.guidance_weights`); the challenger manipulates
            what is relevant (`egt_tf.training.manipulation`).
        normalize: "joint", or "halves": the channels of the prototype and of the query each have a largest relevance.
        classes: "all", or "true_and_rival": of each query only the true class and its hardest rival are weighted and
            scored again.
        start_after: training episodes before the guided loss has any weight.
        ramp: episodes over which its weight then rises to `guided_weight`.

    Example:
        >>> GuidanceConfig().composite
        {'name': 'fsc'}
    """

    mode: str = _one_of(("none", "guided", "guided_only"), "guided")
    plain_weight: float = _at_least(0, 1.0)
    guided_weight: float | None = _at_least(0, None)
    composite: dict[str, Any] = _named("fsc")
    detach: bool = True
    weights: dict[str, Any] = _named("relevance")
    normalize: str = _one_of(NORMALIZATIONS, "joint")
    classes: str = _one_of(GUIDED_CLASSES, "all")
    start_after: int = _at_least(0, 0)
    ramp: int = _at_least(0, 0)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast to train.

    Attributes:
        epochs: number of epochs.
        episodes_per_epoch: training episodes between two validations.
        episodes_per_step: episodes that share one update of the weights.
        optimizer: the registered name of the optimizer, and its arguments.
        learning_rate: of the optimizer, from the first epoch on; a schedule starts from it, or climbs to it.
        learning_rate_drops: pairs of the number of finished epochs and the rate from there on, epochs ascending;
            another way to write the schedule "drops".
        schedule: the registered name of the learning rate's schedule, and its arguments.
        clip_norm: largest norm of all gradients together, to which a larger one is scaled down; None for no limit.
        warm_start: a run folder or a weight file (.npz) whose backbone the training starts from; the head starts from
            random weights. None starts both so.
        learn_transformation: learn the strength of the backbone's feature-wise transformation from a second episode
            a step, of another of the sources of `data.train`.
        transformation_learning_rate: of that strength.
        validation_episodes: episodes the model is validated on after every epoch.
        checkpoint_every: steps between two checkpoints, which a training resumes from; there is one after every epoch
            too, and with 0 no others.
        keep_checkpoints: number of the newest checkpoints that are kept.
        figure_every: epochs from one picture of explained validation queries to the next; 0 draws none.
        seed: fixes the initial weights, the episodes and the augmentation.
        strategy: "default" (one device), "mirrored" (all GPUs of this machine), "multiworker" (several machines, which
            TF_CONFIG names) or "auto" (the one of them that the GPUs and TF_CONFIG suggest).
        batch_statistics: which images a normalisation that does not tell episodes apart takes its statistics from, in
            training: those of all episodes of a "step", or of the episodes that a "replica" has of it.
        precision: "float32", "mixed_float16" or "mixed_bfloat16": of the layers' outputs, in training alone.
        xla: whether XLA compiles the training step.
        steps_per_execution: steps that TensorFlow runs without coming back to Python; it must divide those of an epoch.

    Example:
        >>> TrainingConfig(epochs=3).learning_rate
        0.001
    """

    epochs: int = _at_least(1, 15)
    episodes_per_epoch: int = _at_least(1, 100)
    episodes_per_step: int = _at_least(1, 1)
    optimizer: dict[str, Any] = _named("adam")
    learning_rate: float = _above(0, 1e-3)
    learning_rate_drops: tuple[tuple[int, float], ...] = ()
    schedule: dict[str, Any] = _named("constant")
    clip_norm: float | None = _above(0, None)
    warm_start: str | None = None
    learn_transformation: bool = False
    transformation_learning_rate: float = _above(0, 1e-3)
    validation_episodes: int = _at_least(1, 100)
    checkpoint_every: int = _at_least(0, 500)
    keep_checkpoints: int = _at_least(1, 3)
    figure_every: int = _at_least(0, 5)
    seed: int = _at_least(0, 1)
    strategy: str = _one_of(STRATEGIES, "auto")
    batch_statistics: str = _one_of(("step", "replica"), "step")
    precision: str = _one_of(("float32", "mixed_float16", "mixed_bfloat16"), "float32")
    xla: bool = False
    steps_per_execution: int = _at_least(1, 1)

    @property
    def steps_per_epoch(self) -> int:
        """Updates of the weights between two validations."""
        return self.episodes_per_epoch // self.episodes_per_step


@dataclasses.dataclass(frozen=True)
class ChallengerConfig:
    """How the images of a pre-training are challenged: what is relevant at the input is manipulated, and learnt from.

    Attributes:
        manipulation: "attenuate" (towards the mean colour), "noise", "blur" or "exchange" (with the same positions of an
            image of the strongest rival).
        share: part of what has positive relevance that is manipulated, the most relevant, above 0 and at most 1.
        unit: "position" (a pixel), or "channel" (one of its colours).
        strength: how far, above 0 and at most 1.
        shuffled: a control, as much of each image at random places.
        weight: lambda, of the loss of the manipulated images, > 0.
        plain_weight: xi, of the loss of the images, >= 0.
        composite: the registered name of the composite that explains the classifier, and its arguments.

    Example:
        >>> ChallengerConfig(manipulation="blur").share
        0.2
    """

    manipulation: str = _one_of(MANIPULATION_NAMES, "attenuate")
    share: float = _part(0.2)
    unit: str = _one_of(MANIPULATION_UNITS, "position")
    strength: float = _part(1.0)
    shuffled: bool = False
    weight: float = _above(0, 1.0)
    plain_weight: float = _at_least(0, 1.0)
    composite: dict[str, Any] = _named("epsilon_plus")


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """How a backbone is pre-trained; the optimizer, its rate, the seed and the checkpoints are those of `training`.

    Attributes:
        epochs: number of passes over the training images.
        batch_size: images that share one update of the weights.
        validation_share: part of the images of each class that is held out for validation, below 1; 0 validates on
            the training images.
        challenger: how images are challenged beside the plain ones; None: not at all.

    Example:
        >>> PretrainConfig().validation_share
        0.1
    """

    epochs: int = _at_least(1, 10)
    batch_size: int = _at_least(2, 16)
    validation_share: float = _share(0.1)
    challenger: ChallengerConfig | None = None


@dataclasses.dataclass(frozen=True)
class StudentConfig:
    """What a student learns from its teacher, see `egt_tf.training.student`.

    Attributes:
        teacher: the run folder of the model whose weights the training starts from and whose probabilities it keeps to;
            None trains no student.
        weight: t, the weight of the divergence of the student's probabilities from the teacher's.

    Example:
        >>> StudentConfig(teacher="runs/demo").weight
        1.0
    """

    teacher: str | None = None
    weight: float = _at_least(0, 1.0)


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that, beside the images themselves, determines a training run.

    Example:
        >>> RunConfig(episode=EpisodeConfig(ways=3)).image_preparation
        ImagePreparation(image_size=84, augmentation='flip', cache_mb=1024, seed=1)
    """

    data: DataConfig = DataConfig()
    episode: EpisodeConfig = EpisodeConfig()
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    guidance: GuidanceConfig = dataclasses.field(default_factory=GuidanceConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    pretrain: PretrainConfig = PretrainConfig()
    student: StudentConfig = StudentConfig()

    @property
    def image_preparation(self) -> ImagePreparation:
        """How the training images are prepared: what `data` says, with the seed of `training`."""
        data = self.data
        return ImagePreparation(data.image_size, data.augmentation, data.cache_mb, self.training.seed)
