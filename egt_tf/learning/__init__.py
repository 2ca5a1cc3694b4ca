"""Classifiers learned from a few photographs of each class, without training."""

from egt_tf.learning.calibration import Threshold, fit_scale, known_scores, known_threshold
from egt_tf.learning.classifier import FewShotClassifier
from egt_tf.learning.leave_one_out import LeaveOneOut, leave_one_out, wilson_interval
from egt_tf.learning.photos import Photos, read_photo_folder

__all__ = [
    "FewShotClassifier",
    "LeaveOneOut",
    "Photos",
    "Threshold",
    "fit_scale",
    "known_scores",
    "known_threshold",
    "leave_one_out",
    "read_photo_folder",
    "wilson_interval",
]
