"""Classifiers learnt from a few photos of each class without training: features, leave-one-out, calibration."""

from egt_tf.learning.classifier import FewShotClassifier
from egt_tf.learning.fitting import Fit, LeaveOneOutReport
from egt_tf.learning.photos import Photos, folder_photos, labelled_photos

__all__ = ["FewShotClassifier", "Fit", "LeaveOneOutReport", "Photos", "folder_photos", "labelled_photos"]
