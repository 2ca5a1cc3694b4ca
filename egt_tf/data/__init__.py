"""Image sources, class splits, episode sampling and the input pipeline.

The names below are loaded on first use: most of the room needs no TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "check": ("check_source", "find_unreadable", "source_statistics"),
    "domains.prepare": ("prepare_domain",),
    "filelists": ("FileList", "export_filelists"),
    "image_set": ("ImageSet", "Source"),
    "images": ("decode_image",),
    "labelled": ("evaluation_batches", "hold_out", "labelled_batches"),
    "loading": ("data_errors", "image_batches"),
    "mixture": ("Mixture", "mix", "open_mixture"),
    "pipeline": ("StepPart", "episode_dataset", "episode_pairs"),
    "preprocessing": ("denormalize", "evaluation_image", "normalize", "training_image"),
    "sampling": ("EpisodeIndices", "check_feasible", "draw_episode"),
    "sheet": ("contact_sheet",),
    "sources": ("open_source",),
    "support": ("SupportSet", "load_image", "load_support"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "EpisodeIndices",
    "FileList",
    "ImageSet",
    "Mixture",
    "Source",
    "StepPart",
    "SupportSet",
    "check_feasible",
    "check_source",
    "contact_sheet",
    "data_errors",
    "decode_image",
    "denormalize",
    "draw_episode",
    "episode_dataset",
    "episode_pairs",
    "evaluation_batches",
    "evaluation_image",
    "export_filelists",
    "find_unreadable",
    "hold_out",
    "image_batches",
    "labelled_batches",
    "load_image",
    "load_support",
    "mix",
    "normalize",
    "open_mixture",
    "open_source",
    "prepare_domain",
    "source_statistics",
    "training_image",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
