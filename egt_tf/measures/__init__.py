"""How good the map of an explanation is: measures of one map at a time, in NumPy. The model is a function."""

from egt_tf.measures.heat import heat
from egt_tf.measures.perturbation import Perturbation, aupc, perturbation_curves
from egt_tf.measures.simpson import simpson
from egt_tf.measures.smoothing import smooth
from egt_tf.measures.variation import autvc, average_total_variation, levels

__all__ = [
    "Perturbation",
    "aupc",
    "autvc",
    "average_total_variation",
    "heat",
    "levels",
    "perturbation_curves",
    "simpson",
    "smooth",
]
