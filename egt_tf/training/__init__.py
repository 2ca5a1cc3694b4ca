"""Training with explanation guidance, and the pre-training of backbones.

The names below are imported when they are first used: what reads the cluster does without TensorFlow.
"""

from __future__ import annotations

from egt_tf.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "egt_tf.training.backbone_classifier": ["BackboneClassifier", "PretrainingModel"],
        "egt_tf.training.challenged_model": ["ChallengedModel"],
        "egt_tf.training.checkpoints": ["Checkpoints"],
        "egt_tf.training.cluster": ["read_cluster"],
        "egt_tf.training.guidance": [
            "GuidedScores",
            "LossWeights",
            "guided_scores",
            "loss_weights",
        ],
        "egt_tf.training.guidance_weights": ["GUIDANCE_WEIGHTS", "relevance_weights"],
        "egt_tf.training.guided_model": ["GuidedModel"],
        "egt_tf.training.learned_transformation": ["TransformationLearner"],
        "egt_tf.training.loop": ["train"],
        "egt_tf.training.optimizers": ["OPTIMIZERS"],
        "egt_tf.training.pretraining": ["pretrain"],
        "egt_tf.training.schedules": ["SCHEDULES"],
        "egt_tf.training.state": ["TrainingState"],
        "egt_tf.training.strategy": ["open_strategy"],
    },
)
