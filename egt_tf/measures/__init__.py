"""How good the map of an explanation is: measures of one map at a time, in NumPy. The model is a function."""

from egt_tf.measures.agreement import rank_correlation
from egt_tf.measures.deletion import (
    area_under,
    blurred,
    deletion_curve,
    insertion_curve,
    most_relevant_first,
    random_order,
)
from egt_tf.measures.faithfulness import faithfulness_correlation
from egt_tf.measures.heat import heat
from egt_tf.measures.localization import mosaic, points_inside, quarter_mask, rank_inside, share_inside
from egt_tf.measures.perturbation import Perturbation, aupc, perturbation_curves
from egt_tf.measures.sensitivity import max_sensitivity
from egt_tf.measures.simpson import simpson
from egt_tf.measures.smoothing import smooth
from egt_tf.measures.variation import autvc, average_total_variation, levels

__all__ = [
    "Perturbation",
    "area_under",
    "aupc",
    "autvc",
    "average_total_variation",
    "blurred",
    "deletion_curve",
    "faithfulness_correlation",
    "heat",
    "insertion_curve",
    "levels",
    "max_sensitivity",
    "mosaic",
    "most_relevant_first",
    "perturbation_curves",
    "points_inside",
    "quarter_mask",
    "random_order",
    "rank_correlation",
    "rank_inside",
    "share_inside",
    "simpson",
    "smooth",
]
