"""Heads: what compares queries with a support set, and the rules of relevance for their layers.

`HEADS.names()` lists the heads.
"""

from egt_tf.heads.base import HEADS, Head
from egt_tf.heads.cosine import CosineHead
from egt_tf.heads.cross_attention import CrossAttentionHead
from egt_tf.heads.graph import GraphHead

# This import also tells the engine of relevance about the layers of all heads.
from egt_tf.heads.lrp_rules import (
    AttendedFraction,
    AttentionGate,
    CombinationShare,
    Fraction,
    NeighbourhoodShare,
    ShareProduct,
)
from egt_tf.heads.prototype import PrototypeHead
from egt_tf.heads.relation import RelationHead
from egt_tf.heads.ridge import RidgeHead

__all__ = [
    "HEADS",
    "AttendedFraction",
    "AttentionGate",
    "CombinationShare",
    "CosineHead",
    "CrossAttentionHead",
    "Fraction",
    "GraphHead",
    "Head",
    "NeighbourhoodShare",
    "PrototypeHead",
    "RelationHead",
    "RidgeHead",
    "ShareProduct",
]
