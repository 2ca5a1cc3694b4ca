"""What learning from photographs found out, in lines for a person."""

from __future__ import annotations

import numpy as np

from egt_tf.learning.classifier import FewShotClassifier
from egt_tf.learning.leave_one_out import LeaveOneOut

_MOST_LINES = 10


def learned_lines(classifier: FewShotClassifier) -> list[str]:
    """What was learned, how well it does, and what is promised.

    Example:
        >>> images = [np.full((32, 32, 3), level, np.uint8) for level in (0, 10, 240, 250)]
        >>> classifier = FewShotClassifier({"name": "conv4", "width": 4}, "cosine", image_size=32)
        >>> learned_lines(classifier.fit(images, ["dark", "dark", "light", "light"]))[0]
        '2 classes, 4 photos: dark 2, light 2'
    """
    memory = classifier.memory
    counts = ", ".join(f"{name} {count}" for name, count in zip(memory.class_names, memory.counts, strict=True))
    lines = [f"{len(memory.class_names)} classes, {len(memory.labels)} photos: {counts}"]
    return [*lines, *accuracy_lines(classifier), *doubt_lines(classifier), *promise_lines(classifier)]


def accuracy_lines(classifier: FewShotClassifier) -> list[str]:
    """The head that was taken, and the accuracy with each photograph left out in turn."""
    name = classifier.head_spec["name"]
    if not classifier.results:
        return [f"head {name}; accuracy: not measured, since no class has a second photo to leave out"]
    chosen = classifier.results[name]
    others = ", ".join(
        f"{other} {found.right}" for other, found in classifier.results.items() if other != name
    )
    lines = [
        f"head {name}: {accuracy_with_interval(chosen)}, each photo classified by the others"
        + (f" (right of {len(chosen.labels)}: {others})" if others else "")
    ]
    alone = [memory_name for memory_name, count in _classes(classifier) if count == 1]
    if alone:
        lines.append(f"classes of one photo, of which nothing can be left out: {_listed(alone)}")
    return lines


def accuracy_with_interval(found: LeaveOneOut) -> str:
    """ "18 of 20 right, 90 % (95 % interval 70 to 97 %)"."""
    low, high = found.interval
    count = len(found.labels)
    return (
        f"{found.right} of {count} right, {100 * found.right / count:.0f} % "
        f"(95 % interval {100 * low:.0f} to {100 * high:.0f} %)"
    )


def doubt_lines(classifier: FewShotClassifier) -> list[str]:
    """Which classes are taken for which, and which photographs look mislabelled."""
    found = classifier.results.get(classifier.head_spec["name"])
    if found is None:
        return []
    names, photos = classifier.memory.class_names, classifier.memory.names
    confusions = [f"{names[own]} taken for {names[other]}: {count}" for own, other, count in found.confusions]
    lines = [f"confusions: {_listed(confusions)}"] if confusions else []
    suspects = [
        f"{photos[found.photos[index]]} (looks like {names[found.predicted[index]]})" for index in found.suspects
    ]
    return [*lines, *([f"look mislabelled: {_listed(suspects)}"] if suspects else [])]


def promise_lines(classifier: FewShotClassifier) -> list[str]:
    """What probabilities and "none of these" mean."""
    threshold = classifier.threshold
    if threshold is None:
        return [
            "one photo in every class: probabilities are not calibrated, and no image is called none of these; give a "
            "second photo of at least one class"
        ]
    lines = [
        f'"none of these": of images that do show a class, {100 * threshold.kept:.0f} % on average are not called so '
        f"(threshold from {threshold.photos} photos)"
    ]
    if threshold.photos < 19:
        lines.append(f"95 % can be promised from 19 photos on, in classes of two or more; here are {threshold.photos}")
    return lines


def changed_lines(before: dict[str, int], classifier: FewShotClassifier) -> list[str]:
    """Which classes have come, gone, or changed their number of photographs.

    Args:
        before: photographs of each class.
        classifier: as it is now.
    """
    after = dict(_classes(classifier))
    lines = [f"new class {name}: {count} photos" for name, count in after.items() if name not in before]
    lines += [f"class {name} is gone, {count} photos" for name, count in before.items() if name not in after]
    lines += [
        f"class {name}: {after[name]} photos, {before[name]} before"
        for name in after
        if before.get(name, after[name]) != after[name]
    ]
    return lines or ["nothing is new"]


def _classes(classifier: FewShotClassifier) -> list[tuple[str, int]]:
    memory = classifier.memory
    return list(zip(memory.class_names, np.asarray(memory.counts).tolist(), strict=True))


def _listed(texts: list[str]) -> str:
    more = f" and {len(texts) - _MOST_LINES} more" if len(texts) > _MOST_LINES else ""
    return "; ".join(texts[:_MOST_LINES]) + more
