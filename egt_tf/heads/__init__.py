"""Heads: what compares queries with a support set. `HEADS.names()` lists them."""

from egt_tf.heads.tables import HEADS  # isort: skip
from egt_tf.heads.base import Head
from egt_tf.heads.cosine import CosineHead
from egt_tf.heads.cross_attention import CrossAttentionHead
from egt_tf.heads.graph import GraphHead
from egt_tf.heads.prototype import PrototypeHead
from egt_tf.heads.relation import RelationHead

__all__ = ["HEADS", "CosineHead", "CrossAttentionHead", "GraphHead", "Head", "PrototypeHead", "RelationHead"]
