"""Explanations by layer-wise relevance propagation, eagerly and inside graphs."""

from egt_tf.explain.analyzer import LRP
from egt_tf.explain.canonize import fold_batch_norm
from egt_tf.explain.composites import Composite, Entry, register_rule
from egt_tf.explain.linear import LinearPart, linear_parts
from egt_tf.explain.presets import COMPOSITES
from egt_tf.explain.reverse import record, reverse

__all__ = [
    "COMPOSITES",
    "LRP",
    "Composite",
    "Entry",
    "LinearPart",
    "fold_batch_norm",
    "linear_parts",
    "record",
    "register_rule",
    "reverse",
]
