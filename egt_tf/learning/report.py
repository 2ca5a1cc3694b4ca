"""What was learnt, in sentences: for the command line and for the model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from egt_tf.learning.fitting import Fit

if TYPE_CHECKING:
    from egt_tf.learning.classifier import FewShotClassifier

# Of confusions, suspects and remarks, so many are named.
_LISTED = 10


def learning_lines(classifier: FewShotClassifier) -> list[str]:
    """What a person is told after photos were learnt.

    Args:
        classifier: fitted.
    """
    found, counts = classifier.fit_, classifier.counts_
    each = f"{counts[0]}" if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
    return [
        *_listed("left out", [f"{remark}" for remark in classifier.left_out_]),
        *_listed("look at", [f"{remark}" for remark in classifier.remarks_]),
        f"learnt: {len(counts)} classes, {each} photo{'' if each == '1' else 's'} each, {sum(counts)} in all",
        *accuracy_lines(classifier.classes_.tolist(), counts, found),
        *_confusion_lines(classifier),
        *_suspect_lines(classifier),
    ]


def changed_lines(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """What changed between two states of a classifier, each class -> its number of photos.

    Example:
        >>> changed_lines({"ant": 3, "bee": 2}, {"bee": 4, "cow": 1})
        ['removed: ant (3 photos)', 'new: cow (1 photo)', 'changed: bee, 2 to 4 photos']
    """
    removed = [f"removed: {name} ({_photos(before[name])})" for name in sorted(before.keys() - after.keys())]
    new = [f"new: {name} ({_photos(after[name])})" for name in sorted(after.keys() - before.keys())]
    changed = [
        f"changed: {name}, {before[name]} to {_photos(after[name])}"
        for name in sorted(before.keys() & after.keys())
        if before[name] != after[name]
    ]
    return removed + new + changed


def accuracy_lines(class_names: Sequence[str], counts: Sequence[int], found: Fit) -> list[str]:
    """What leave-one-out measured and what is promised of new photos, a sentence each.

    Args:
        class_names: of all classes.
        counts: photos of each class.
        found: what was chosen and measured.
    """
    report, single = found.report, [name for name, count in zip(class_names, counts, strict=True) if count == 1]
    lines = []
    if report.interval is not None:
        low, high = report.interval
        lines.append(
            f"leave-one-out (each photo classified by all others): {report.right} of {report.count} right, "
            f"{100 * report.right / report.count:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f} %; "
            f"{100 / len(counts):.2g} % by chance) by the head {found.head}{_alternatives(found)}"
        )
    if single:
        which = "every class" if len(single) == len(counts) else ", ".join(single)
        lines.append(f"leave-one-out is not possible for a class with one photo: {which}")
    return [*lines, threshold_line(found)]


def threshold_line(found: Fit) -> str:
    """What is promised of the probabilities and of "none of these".

    Example:
        >>> from egt_tf.learning.fitting import LeaveOneOutReport
        >>> threshold_line(Fit("cosine", None, "largest_cosine", None, LeaveOneOutReport(0, 0, (), (), {})))[:59]
        'none of these: cannot be calibrated with one photo of each '
    """
    threshold = found.threshold
    if threshold is None:
        return (
            "none of these: cannot be calibrated with one photo of each class, nor can the probabilities; the most "
            "probable class is always named"
        )
    why = ""
    if threshold.promised < found.kept:
        why = f"; {threshold.count} photos allow no more promise, {100 * found.kept:.0f} % takes {found.photos_needed}"
    return (
        f"none of these: said below a score of {threshold.value:.3f}, which keeps {100 * threshold.promised:.1f} % of new "
        f"photos of these classes on average, if they are taken like those learnt{why}"
    )


def _alternatives(found: Fit) -> str:
    report = found.report
    others = [
        f"{name} {100 * right / report.count:.1f} %"
        for name, right in report.alternatives.items()
        if name != found.head
    ]
    return f" ({', '.join(others)})" if others else ""


def _confusion_lines(classifier: FewShotClassifier) -> list[str]:
    names = classifier.classes_
    return _listed(
        "confused",
        [
            f"{names[each.class_index]} taken for {names[each.taken_for]}: {_photos(each.photos)}"
            for each in classifier.fit_.report.confusions
        ],
    )


def _suspect_lines(classifier: FewShotClassifier) -> list[str]:
    names, photos = classifier.classes_, classifier.photo_names_
    return _listed(
        "perhaps mislabelled",
        [
            f"{photos[each.photo]} looks like {names[each.looks_like]} ({100 * each.probability:.0f} %)"
            for each in classifier.fit_.report.suspects
        ],
    )


def _listed(what: str, lines: list[str]) -> list[str]:
    more = [f"{what}: {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    return [f"{what}: {line}" for line in lines[:_LISTED]] + more


def _photos(count: int) -> str:
    return f"{count} photo{'' if count == 1 else 's'}"
