"""What a classifier is learnt with unless something else is asked for: the one place of these choices."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

# A name of `BACKBONES` with arguments; its maps are averaged over their positions.
EMBEDDING: Mapping[str, Any] = MappingProxyType({"name": "efficientnet_lite0", "weights": "imagenet"})
# Height and width that photos are brought to, in pixels.
IMAGE_SIZE = 224
# How predictions are explained.
COMPOSITE = "epsilon_plus"
# Of the scores that tell photos of the classes from others, see `egt_tf.learning.known_scores`.
KNOWN_SCORE = "largest_cosine"
# Share of new photos of the classes that the threshold is to keep.
KEPT = 0.95
# A photo is said to look mislabelled if leave-one-out gives another class at least this probability.
SUSPICION = 0.8
