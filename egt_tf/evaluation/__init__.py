"""How good a model is on episodes of unseen classes."""

from egt_tf.evaluation.accuracy import Accuracy, Evaluator, evaluate

__all__ = ["Accuracy", "Evaluator", "evaluate"]
