"""Is this machine fit to train on? What is installed, what there is to compute with, whether a guided step works."""

from egt_tf.doctor.examination import examine
from egt_tf.doctor.findings import MachineFinding, State

__all__ = ["MachineFinding", "State", "examine"]
