"""Explanations by layer-wise relevance propagation, eagerly and inside graphs.

The engine knows Keras's layers. Rooms with layers of their own, and users, bring those in by `register_rule`.
"""

from egt_tf.lrp.analyzer import LRP
from egt_tf.lrp.attention import Attention, MatrixProduct
from egt_tf.lrp.canonizers import fold_batch_norm
from egt_tf.lrp.composites import Composite, Entry, register_rule
from egt_tf.lrp.layer_types import is_layer_type
from egt_tf.lrp.linear_parts import LinearPart, linear_parts
from egt_tf.lrp.linear_rules import (
    AlphaBeta,
    AlphaBetaX,
    Bounded,
    Epsilon,
    Flat,
    Gamma,
    InnvestigateBatchNorm,
    Magnitude,
    WSquare,
    Z,
    ZPlus,
)
from egt_tf.lrp.output_relevance import LOG_ODDS, MARGIN, STARTS, Start, get_start, log_odds
from egt_tf.lrp.presets import COMPOSITES
from egt_tf.lrp.propagation import record, reverse
from egt_tf.lrp.rules import (
    Derivative,
    Gate,
    Guided,
    LayerState,
    Mask,
    Pass,
    RouteWithout,
    Rule,
    Share,
    ShareSum,
    SoftmaxShare,
)

__all__ = [
    "COMPOSITES",
    "LOG_ODDS",
    "LRP",
    "MARGIN",
    "STARTS",
    "AlphaBeta",
    "AlphaBetaX",
    "Attention",
    "Bounded",
    "Composite",
    "Derivative",
    "Entry",
    "Epsilon",
    "Flat",
    "Gamma",
    "Gate",
    "Guided",
    "InnvestigateBatchNorm",
    "LayerState",
    "LinearPart",
    "Magnitude",
    "Mask",
    "MatrixProduct",
    "Pass",
    "RouteWithout",
    "Rule",
    "Share",
    "ShareSum",
    "SoftmaxShare",
    "Start",
    "WSquare",
    "Z",
    "ZPlus",
    "fold_batch_norm",
    "get_start",
    "is_layer_type",
    "linear_parts",
    "log_odds",
    "record",
    "register_rule",
    "reverse",
]
