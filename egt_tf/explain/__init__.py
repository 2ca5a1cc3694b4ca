"""Explanations by layer-wise relevance propagation, eagerly and inside graphs."""

from egt_tf.explain.analyzer import LRP
from egt_tf.explain.composites import COMPOSITES, Composite, Entry
from egt_tf.explain.linear import LinearPart, linear_part
from egt_tf.explain.reverse import record, reverse

__all__ = ["COMPOSITES", "LRP", "Composite", "Entry", "LinearPart", "linear_part", "record", "reverse"]
