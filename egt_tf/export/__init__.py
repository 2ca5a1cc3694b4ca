"""Runs as SavedModels for TensorFlow Serving: they classify, learn new classes and explain when served."""

from egt_tf.export.calibration import Calibration, calibrate
from egt_tf.export.lite import LiteModel, lite_files
from egt_tf.export.one_by_one import OneByOne
from egt_tf.export.requests import RequestLimits
from egt_tf.export.run import RunExport, export_model, prepare_export
from egt_tf.export.saved_model import ServableModel, check_version, make_portable, make_servable, write_version

__all__ = [
    "Calibration",
    "LiteModel",
    "OneByOne",
    "RequestLimits",
    "RunExport",
    "ServableModel",
    "calibrate",
    "check_version",
    "export_model",
    "lite_files",
    "make_portable",
    "make_servable",
    "prepare_export",
    "write_version",
]
