"""What was learnt with classes added, removed or renamed; pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from egt_tf.serving.learned import LearnedModel


def joined(first: LearnedModel, second: LearnedModel) -> LearnedModel:
    """The photos of both, those of the first before those of the second in every class.

    Args:
        first: its settings are kept; without photos, the result has none.
        second: made by the same network.

    Example:
        >>> one = LearnedModel({}, ("bee",), np.array([0]), ("b",), ("1",), np.ones((1, 2), np.float32))
        >>> other = LearnedModel({}, ("ant", "bee"), np.array([0, 1]), ("a", "c"), ("2", "3"), np.eye(2))
        >>> joined(one, other).class_names, joined(one, other).names
        (('ant', 'bee'), ('a', 'b', 'c'))
    """
    pixels = None
    if first.pixels is not None and second.pixels is not None:
        pixels = np.concatenate([first.pixels, second.pixels])
    return LearnedModel(
        first.settings,
        *_arranged(
            [each.class_names[label] for each in (first, second) for label in each.labels],
            (*first.names, *second.names),
            (*first.digests, *second.digests),
            np.concatenate([first.features, second.features]),
            pixels,
        ),
    )


def without_class(learned: LearnedModel, class_name: str) -> LearnedModel:
    """All classes but one.

    Example:
        >>> learned = LearnedModel({}, ("ant", "bee"), np.array([0, 1]), ("a", "b"), ("1", "2"), np.eye(2))
        >>> without_class(learned, "ant").names
        ('b',)
    """
    classes = [learned.class_names[label] for label in learned.labels]
    kept = [index for index, name in enumerate(classes) if name != class_name]
    return LearnedModel(
        learned.settings,
        *_arranged(
            [classes[index] for index in kept],
            [learned.names[index] for index in kept],
            [learned.digests[index] for index in kept],
            learned.features[kept],
            None if learned.pixels is None else learned.pixels[kept],
        ),
    )


def with_renamed_class(learned: LearnedModel, old: str, new: str) -> LearnedModel:
    """A class under another name, its photos too.

    Example:
        >>> learned = LearnedModel({}, ("ant", "bee"), np.array([0, 1]), ("ant/a", "bee/b"), ("1", "2"), np.eye(2))
        >>> with_renamed_class(learned, "ant", "cat").names
        ('bee/b', 'cat/a')
    """
    classes = [learned.class_names[label] for label in learned.labels]
    names = [
        f"{new}/{name.removeprefix(f'{old}/')}" if of == old else name
        for of, name in zip(classes, learned.names, strict=True)
    ]
    renamed = [new if name == old else name for name in classes]
    return LearnedModel(learned.settings, *_arranged(renamed, names, learned.digests, learned.features, learned.pixels))


def _arranged(
    classes: Sequence[str],
    names: Sequence[str],
    digests: Sequence[str],
    features: np.ndarray,
    pixels: np.ndarray | None,
) -> tuple[tuple[str, ...], np.ndarray, tuple[str, ...], tuple[str, ...], np.ndarray, np.ndarray | None]:
    """The photos class by class, the classes by their names: the attributes of a `LearnedModel` behind its settings."""
    class_names = tuple(sorted(set(classes)))
    labels = np.array([class_names.index(name) for name in classes], np.int64)
    order = np.argsort(labels, kind="stable")
    return (
        class_names,
        labels[order],
        tuple(names[index] for index in order),
        tuple(digests[index] for index in order),
        features[order],
        None if pixels is None else pixels[order],
    )
