"""What classifiers learned from a few photographs are made of, unless something else is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Chosen on flowers17 by benchmarks/photographs.py.
EMBEDDING: Mapping[str, Any] = {
    "name": "efficientnet_lite0",
    "weights": "imagenet",
    "output": "pooled",
    "power": 0.5,
}
IMAGE_SIZE = 224
# From the simplest on: of heads that do equally well, the first is taken.
HEADS_TO_TRY: tuple[Mapping[str, Any], ...] = (
    {"name": "prototype"},
    {"name": "cosine"},
    {"name": "ridge", "penalty": 0.1},
)
# Where nothing can be measured, as no class has a second photograph; the benchmark's choice.
UNMEASURED_HEAD = HEADS_TO_TRY[-1]
COMPOSITE = "epsilon_plus"
# Of the photographs of known classes, the share that is to be taken for known.
KEPT = 0.95
