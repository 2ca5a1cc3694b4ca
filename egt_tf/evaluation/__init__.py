"""How good a model is on episodes of unseen classes, how well it knows, and how faithful its explanations are."""

from egt_tf.evaluation.accuracy import Accuracy, Evaluator, embed, evaluate
from egt_tf.evaluation.calibration import Calibration, expected_calibration_error, mean_negative_log_likelihood
from egt_tf.evaluation.deletion import area_under, blurred, deletion_curve, most_relevant_first, random_order
from egt_tf.evaluation.localization import mosaic, quarter_mask, share_inside
from egt_tf.evaluation.report import episodes_identity, evaluation_record, save_evaluation
from egt_tf.evaluation.transductive import Transduction, transductive_scores

__all__ = [
    "Accuracy",
    "Calibration",
    "Evaluator",
    "Transduction",
    "area_under",
    "blurred",
    "deletion_curve",
    "embed",
    "episodes_identity",
    "evaluate",
    "evaluation_record",
    "expected_calibration_error",
    "mean_negative_log_likelihood",
    "mosaic",
    "most_relevant_first",
    "quarter_mask",
    "random_order",
    "save_evaluation",
    "share_inside",
    "transductive_scores",
]
