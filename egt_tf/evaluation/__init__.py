"""How good a model is on episodes of unseen classes."""

from egt_tf.evaluation.accuracy import Accuracy, Evaluator, embed, evaluate
from egt_tf.evaluation.report import episodes_identity, evaluation_record, save_evaluation
from egt_tf.evaluation.transductive import Transduction, transductive_scores

__all__ = [
    "Accuracy",
    "Evaluator",
    "Transduction",
    "embed",
    "episodes_identity",
    "evaluate",
    "evaluation_record",
    "save_evaluation",
    "transductive_scores",
]
