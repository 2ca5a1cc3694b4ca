"""How good a model is on episodes of unseen classes."""

from egt_tf.evaluation.accuracy import Accuracy, Evaluator, evaluate
from egt_tf.evaluation.transductive import Transduction, transductive_scores

__all__ = ["Accuracy", "Evaluator", "Transduction", "evaluate", "transductive_scores"]
