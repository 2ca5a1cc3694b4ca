"""What a classifier is learnt with unless something else is asked for: the one place of these choices."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

# A name of `BACKBONES` with arguments; its maps are averaged over their positions. Chosen on flowers17 by
# benchmarks/photographs.py, as are the penalty and the score below.
EMBEDDING: Mapping[str, Any] = MappingProxyType(
    {"name": "efficientnet_lite0", "weights": "imagenet", "output": "pooled", "power": 0.5}
)
# Of the ridge head.
PENALTY = 0.1
# Height and width that photos are brought to, in pixels.
IMAGE_SIZE = 224
# How predictions are explained, and where that begins at the scores. Of what benchmarks/explanations.py compares, no
# composite was best at everything: this one keeps most to the photograph of the class in a mosaic,
# epsilon_gamma_box has lower deletion curves at more than twice the cost. Deletion hardly tells the two starts
# apart; in mosaics far more of the relevance is in its place from the margin.
COMPOSITE = "epsilon_plus"
START = "margin"
# Of the scores that tell photos of the classes from others, see `egt_tf.learning.known_scores`.
KNOWN_SCORE = "cosine_and_margin"
# Share of new photos of the classes that the threshold is to keep.
KEPT = 0.95
# A photo is said to look mislabelled if leave-one-out gives another class at least this probability.
SUSPICION = 0.8
