"""Explanation-guided training of few-shot classifiers across image domains, in Keras/TensorFlow.

The names below are loaded on first use, so that `import egt_tf` does not import TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

__all__ = ["LRP", "EpisodicModel", "GuidedModel", "__version__", "load_config", "open_source"]


def __getattr__(name: str) -> Any:
    homes = {
        "EpisodicModel": "egt_tf.episodic_model",
        "GuidedModel": "egt_tf.training.guided_model",
        "LRP": "egt_tf.lrp.analyzer",
        "load_config": "egt_tf.config",
        "open_source": "egt_tf.data.sources",
    }
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(homes[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
