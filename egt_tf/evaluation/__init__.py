"""How good a model is on episodes of unseen classes."""

from egt_tf.evaluation.accuracy import Accuracy, evaluate

__all__ = ["Accuracy", "evaluate"]
