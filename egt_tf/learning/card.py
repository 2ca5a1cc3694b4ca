"""The model card of a classifier that was learnt from photos: what was learnt, how well, and what is promised."""

from __future__ import annotations

from egt_tf.environment import made_by
from egt_tf.export.model_card import card_text, named_part, signature_lines, table_lines, weights_row
from egt_tf.export.saved_model import ServableModel
from egt_tf.learning.fitting import Fit
from egt_tf.learning.report import accuracy_lines
from egt_tf.serving.learned import LearnedModel


def learned_card(name: str, ready: ServableModel, learned: LearnedModel, found: Fit, warm_up: bool) -> str:
    """The card as Markdown.

    Args:
        name: of the model.
        ready: what is written.
        learned: with the settings that are written.
        found: what was chosen and measured.
        warm_up: whether the version holds warm-up requests.
    """
    return card_text(
        name,
        {
            "": _summary(learned, found),
            "What was learnt": _classes(learned),
            "Accuracy": _accuracy(learned, found),
            "Signatures": signature_lines(ready),
            "Known limits": _limits(ready, warm_up),
            "Licence": [
                "The package that made this model is licensed under BSD-2-Clause. That says nothing about the weights of "
                "the embedding, nor about the photos, whose features come with it: their licences decide how it may be "
                "used."
            ],
        },
    )


def _summary(learned: LearnedModel, found: Fit) -> list[str]:
    size = learned.image_size
    return table_lines(
        {
            "task": "names the class of a photo by a few labelled photos of each class; nothing was trained",
            "embedding": named_part(learned.settings["embedding"]),
            **weights_row(learned.settings["embedding"]),
            "head": named_part(found.head_spec),
            "images": f"{size} x {size} pixels, RGB",
            "composite of relevance": named_part(learned.settings["composite"]),
            "photos inside": photos_inside(learned),
            "made by": made_by(),
        }
    )


def photos_inside(learned: LearnedModel) -> str:
    """Whether the photos are in the model, for a person.

    Example:
        >>> import numpy as np
        >>> photos_inside(LearnedModel({}, ("ant",), np.array([0]), ("a",), ("1",), np.ones((1, 2))))
        'no, features only; no photo can be shown, though what one showed might be guessed from its features'
    """
    if learned.pixels is None:
        return "no, features only; no photo can be shown, though what one showed might be guessed from its features"
    return f"yes, all {len(learned.labels)} of them at the size that the network takes, to be shown in explanations"


def _classes(learned: LearnedModel) -> list[str]:
    rows = [
        f"| {name.replace('|', '/')} | {count} |"
        for name, count in zip(learned.class_names, learned.counts, strict=True)
    ]
    return ["| class | photos |", "|---|---|", *rows]


def _accuracy(learned: LearnedModel, found: Fit) -> list[str]:
    lines = accuracy_lines(learned.class_names, learned.counts, found)
    if found.scale is not None:
        lines.append(f"probabilities: calibrated on leave-one-out scores (scale {found.scale:.3g} of the head)")
    lines.append("nothing is promised of how many photos of other things are found out")
    return [f"- {line[0].upper()}{line[1:]}." for line in lines]


def _limits(ready: ServableModel, warm_up: bool) -> list[str]:
    lines = [
        "- Leave-one-out says how well photos taken like these are told apart; photos of another camera, place or season "
        "may do worse.",
        "- Relevance says which pixels the prediction used, not whether it is right.",
        "- `classify_episode`, `classify_with_prototypes` and `explain_episode` use the scale that was fitted for "
        "the stored classes.",
        f"- Only JPEG and PNG of at most {ready.limits.size} are decoded.",
        f"- A request may hold at most {ready.limits.max_images} images, support images and queries together.",
    ]
    if not warm_up:
        lines.append(
            "- No warm-up requests: tensorflow-serving-api was not installed where this was written, and the first request "
            "of each signature takes longer."
        )
    return lines
