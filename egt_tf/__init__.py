"""Explanation-guided training of few-shot classifiers across image domains, in Keras/TensorFlow.

The names below are imported when they are first used, so that `import egt_tf` does not import TensorFlow. TensorFlow
then logs nothing about itself, unless TF_CPP_MIN_LOG_LEVEL is set or TensorFlow was imported first. Packages whose
versions do not fit each other are an ImportError that says what mends it.

Example:
    >>> import egt_tf
    >>> model = egt_tf.EpisodicModel.build_from("conv4", "relation", image_size=32, seed=1)
    >>> support = egt_tf.SupportSet(("ant", "bee"), np.zeros((2, 1, 32, 32, 3), np.uint8))
    >>> explanation = egt_tf.explain_image(model, support, np.full((32, 32, 3), 200, np.uint8))
    >>> explanation.query_relevance.shape  # of the two most probable classes
    (2, 32, 32)
"""

from __future__ import annotations

from egt_tf.environment import check_environment
from egt_tf.lazy import lazy_names, quiet_tensorflow
from egt_tf.pictures import drawn_by

__version__ = "0.2.0"

check_environment()
quiet_tensorflow()
drawn_by({"egt_tf.explain.explanation.EpisodeExplanation": ("egt_tf.figures.explanation", "explanation_png")})

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "egt_tf.config": ["EpisodeConfig", "RunConfig", "load_config"],
        "egt_tf.keras_api": ["keras"],
        "egt_tf.runs": ["RunFolder", "load_model"],
        "egt_tf.data.sources": ["open_source"],
        "egt_tf.data.support": ["SupportSet", "load_image", "load_support"],
        "egt_tf.episodic_model": ["EpisodicModel"],
        "egt_tf.explain": ["EpisodeExplanation", "Explainer", "explain_image"],
        "egt_tf.explain.class_maps": ["class_maps", "explain_func"],
        "egt_tf.explain.query_classifier": ["query_classifier"],
        "egt_tf.explain.smooth_taylor": ["SmoothTaylor"],
        "egt_tf.serving": ["ExportedModel", "open_explainer"],
        "egt_tf.figures": ["draw_comparison", "draw_maps", "save_figure"],
        "egt_tf.evaluation.accuracy": ["evaluate"],
        "egt_tf.training.epoch_lines": ["EpochLines"],
        "egt_tf.training.loop": ["train"],
        "egt_tf.training.guided_model": ["GuidedModel"],
        "egt_tf.export": ["RequestLimits", "export_model"],
        "egt_tf.learning": ["FewShotClassifier"],
        "egt_tf.lrp": [
            "COMPOSITES",
            "LRP",
            "AlphaBeta",
            "AlphaBetaX",
            "Attention",
            "Bounded",
            "Composite",
            "Derivative",
            "Entry",
            "Epsilon",
            "Flat",
            "Gamma",
            "Gate",
            "Guided",
            "InnvestigateBatchNorm",
            "Magnitude",
            "Mask",
            "MatrixProduct",
            "Pass",
            "RouteWithout",
            "Rule",
            "Share",
            "ShareSum",
            "SoftmaxShare",
            "WSquare",
            "Z",
            "ZPlus",
            "fold_batch_norm",
            "register_rule",
        ],
    },
)
__all__ += ["__version__"]
