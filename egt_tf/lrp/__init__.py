"""Explanations by layer-wise relevance propagation, eagerly and inside graphs."""

from egt_tf.lrp.analyzer import LRP
from egt_tf.lrp.canonizers import fold_batch_norm
from egt_tf.lrp.composites import Composite, Entry, register_rule
from egt_tf.lrp.linear_parts import LinearPart, linear_parts
from egt_tf.lrp.presets import COMPOSITES
from egt_tf.lrp.propagation import record, reverse

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
