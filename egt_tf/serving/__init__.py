"""Exported models: read from disk, checked before they are loaded, or asked through a server."""

from __future__ import annotations

from egt_tf.lazy import lazy_names

# Lazily, since asking a server needs no TensorFlow.
__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "egt_tf.serving.client": [
            "ExplainedPrediction",
            "ModelServer",
            "Prediction",
            "RemoteClassifier",
            "SupportFiles",
            "read_support_files",
        ],
        "egt_tf.serving.exported_model": ["ExportedModel"],
        "egt_tf.serving.explainer": ["ExportedExplainer", "open_explainer"],
    },
)
