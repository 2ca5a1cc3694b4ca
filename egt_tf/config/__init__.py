"""The typed configuration of a run: YAML to frozen objects and back; errors name the key and the file."""

from egt_tf.config.reading import apply_overrides, config_from_dict, config_to_dict, config_to_yaml, load_config
from egt_tf.config.sections import (
    AUGMENTATIONS,
    STRATEGIES,
    Augmentation,
    DataConfig,
    EpisodeConfig,
    GuidanceConfig,
    ImagePreparation,
    ModelConfig,
    PretrainConfig,
    RunConfig,
    TrainingConfig,
    WeightedSource,
    find_augmentation,
)

__all__ = [
    "AUGMENTATIONS",
    "STRATEGIES",
    "Augmentation",
    "DataConfig",
    "EpisodeConfig",
    "GuidanceConfig",
    "ImagePreparation",
    "ModelConfig",
    "PretrainConfig",
    "RunConfig",
    "TrainingConfig",
    "WeightedSource",
    "apply_overrides",
    "config_from_dict",
    "config_to_dict",
    "config_to_yaml",
    "find_augmentation",
    "load_config",
]
