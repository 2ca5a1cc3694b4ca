"""Methods that explain a prediction, and the explanation of one query of an episode."""

from __future__ import annotations

from egt_tf.lazy import lazy_names

# Lazily, since the process of `innvestigate_process.py` must switch TensorFlow's eager execution off before anything
# else, and since what draws an explanation needs no TensorFlow.
__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "egt_tf.explain.explainer": ["Explainer", "RunExplainer", "chosen_support"],
        "egt_tf.explain.explanation": ["EpisodeExplanation", "to_json"],
        "egt_tf.explain.methods": ["Method", "all_methods", "composite_method", "get_method"],
        "egt_tf.explain.query": ["QueryRelevance", "explain_image", "relevance_of_query"],
    },
)
