"""Image sources, class splits, episode sampling and the input pipeline.

The names below are imported when they are first used: most of the room needs no TensorFlow.
"""

from __future__ import annotations

from egt_tf.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "egt_tf.data.check": ["check_source", "find_unreadable", "source_statistics"],
        "egt_tf.data.domains.prepare": ["prepare_domain"],
        "egt_tf.data.filelists": ["FileList", "export_filelists"],
        "egt_tf.data.image_set": ["ImageSet", "Source"],
        "egt_tf.data.images": ["decode_image"],
        "egt_tf.data.labelled": ["evaluation_batches", "hold_out", "labelled_batches"],
        "egt_tf.data.loading": ["image_batches"],
        "egt_tf.data.mixture": ["Mixture", "mix", "open_mixture"],
        "egt_tf.data.pipeline": ["StepPart", "episode_dataset", "episode_pairs"],
        "egt_tf.data.preprocessing": ["denormalize", "evaluation_image", "normalize", "training_image"],
        "egt_tf.data.sampling": ["EpisodeIndices", "check_feasible", "draw_episode"],
        "egt_tf.data.sheet": ["contact_sheet"],
        "egt_tf.data.sources": ["open_source"],
        "egt_tf.data.support": ["SupportSet", "load_image", "load_support"],
    },
)
