"""How good a model is on episodes of unseen classes, and how well it knows."""

from egt_tf.evaluation.accuracy import Accuracy, Evaluator, embed, evaluate
from egt_tf.evaluation.calibration import Calibration, expected_calibration_error, mean_negative_log_likelihood
from egt_tf.evaluation.report import episodes_identity, evaluation_record, save_evaluation
from egt_tf.evaluation.transductive import Transduction, transductive_scores

__all__ = [
    "Accuracy",
    "Calibration",
    "Evaluator",
    "Transduction",
    "embed",
    "episodes_identity",
    "evaluate",
    "evaluation_record",
    "expected_calibration_error",
    "mean_negative_log_likelihood",
    "save_evaluation",
    "transductive_scores",
]
