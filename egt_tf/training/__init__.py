"""Training with explanation guidance, and the pre-training of backbones.

The names below are loaded on first use: what reads the cluster, or nothing but this list, does without TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "BackboneClassifier": "backbone_classifier",
    "Checkpoints": "checkpoints",
    "GuidedModel": "guided_model",
    "GuidedScores": "guidance",
    "LossWeights": "guidance",
    "OPTIMIZERS": "optimizers",
    "PretrainingModel": "backbone_classifier",
    "SCHEDULES": "schedules",
    "TrainingState": "state",
    "TransformationLearner": "learned_transformation",
    "guided_scores": "guidance",
    "loss_weights": "guidance",
    "open_strategy": "strategy",
    "pretrain": "pretraining",
    "read_cluster": "cluster",
    "relevance_weights": "guidance",
    "train": "loop",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
