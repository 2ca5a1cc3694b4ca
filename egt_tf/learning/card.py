"""The model card of a classifier that was learnt from photos: what was learnt, how well, and what is promised."""

from __future__ import annotations

from collections.abc import Sequence

from egt_tf.environment import environment
from egt_tf.export.model_card import card_text, named_part, signature_lines, table_lines
from egt_tf.export.saved_model import ServableModel
from egt_tf.learning.fitting import Fit
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
            "": _summary(ready, learned, found),
            "What was learnt": _classes(learned),
            "Accuracy": accuracy_lines(learned, found),
            "Signatures": signature_lines(ready),
            "Known limits": _limits(ready, learned, found, warm_up),
            "Licence": [
                "The package that made this model is licensed under BSD-2-Clause. That says nothing about the weights of "
                "the embedding, nor about the photos, whose features come with it: their licences decide how it may be "
                "used."
            ],
        },
    )


def _summary(ready: ServableModel, learned: LearnedModel, found: Fit) -> list[str]:
    packages = environment()["packages"]
    made_by = ", ".join(f"{name} {packages[name]}" for name in ("egt-tf", "tensorflow", "keras") if packages[name])
    size = learned.image_size
    return table_lines(
        {
            "task": "names the class of a photo by a few labelled photos of each class; nothing was trained",
            "embedding": named_part(learned.settings["embedding"]),
            "head": named_part(found.head_spec),
            "images": f"{size} x {size} pixels, RGB",
            "composite of relevance": named_part(learned.settings["composite"]),
            "photos inside": photos_inside(learned),
            "made by": made_by,
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


def accuracy_lines(learned: LearnedModel, found: Fit) -> list[str]:
    """What leave-one-out measured and what is promised of new photos, a sentence each.

    Args:
        learned: the photos.
        found: what was chosen and measured.
    """
    report = found.report
    single = [name for name, count in zip(learned.class_names, learned.counts, strict=True) if count == 1]
    lines = []
    if report.interval is not None:
        low, high = report.interval
        lines.append(
            f"Leave-one-out, each photo classified by all others: {report.right} of {report.count} right, "
            f"{100 * report.right / report.count:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f} %), by the head "
            f"{found.head}{_alternatives(found)}."
        )
    if single:
        lines.append(_single_classes(single, learned))
    if found.scale is not None:
        lines.append(f"Probabilities are calibrated on leave-one-out scores: scale {found.scale:.3g} of the head.")
    return [*lines, threshold_line(found)]


def threshold_line(found: Fit) -> str:
    """What is promised of "none of these"."""
    threshold = found.threshold
    if threshold is None:
        return (
            'With one photo of each class nothing can be left out: neither the probabilities nor "none of these" '
            "can be calibrated, and the most probable class is always named."
        )
    why = (
        ""
        if threshold.promised >= 0.95
        else f", no more, since only {threshold.count} photos could be left out (95 % take 19)"
    )
    return (
        f"None of these: below a similarity of {threshold.value:.3f}; {100 * threshold.promised:.1f} % of new photos of these "
        f"classes are kept on average, if they are like those learnt{why}. Nothing is promised of how many others are "
        "found out."
    )


def _alternatives(found: Fit) -> str:
    count = found.report.count
    others = [
        f"{name} {100 * right / count:.1f} %" for name, right in found.report.alternatives.items() if name != found.head
    ]
    return f" ({', '.join(others)})" if others else ""


def _single_classes(single: Sequence[str], learned: LearnedModel) -> str:
    which = "every class" if len(single) == len(learned.class_names) else ", ".join(single)
    return f"Leave-one-out is not possible for a class with one photo: {which}."


def _limits(ready: ServableModel, learned: LearnedModel, found: Fit, warm_up: bool) -> list[str]:
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
