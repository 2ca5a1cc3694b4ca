"""Classes that a model cannot tell apart: which they are, and how that is said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# Probabilities of a softmax whose scores differ by less are equal up to rounding.
_SCORE_TOLERANCE = 1e-5


def tied_classes(probabilities: Iterable[float]) -> tuple[int, ...]:
    """The classes that are as probable as the most probable one, which is the only one unless there is a tie.

    `p_k >= (1 - 1e-5) max p`: of a softmax, scores within 1e-5 of the highest.

    Args:
        probabilities: in [0, 1], `(ways,)`.

    Returns:
        Their indices, at least one, in ascending order.

    Example:
        >>> tied_classes([0.4, 0.2, 0.4]), tied_classes([0.1, 0.9])
        ((0, 2), (1,))
    """
    values = [float(value) for value in probabilities]
    least = (1.0 - _SCORE_TOLERANCE) * max(values)
    return tuple(index for index, value in enumerate(values) if value >= least)


def tie_text(class_names: Sequence[str], ways: int) -> str:
    """That some classes are equally probable: "a tie of all 3 classes", "a tie of ant and bee".

    Args:
        class_names: of the classes that are tied, at least two.
        ways: number of all classes.

    Example:
        >>> tie_text(["ant", "bee"], 5), tie_text(["ant", "bee", "cow", "dog"], 5)
        ('a tie of ant and bee', 'a tie of 4 classes (ant, bee, ...)')
    """
    count = len(class_names)
    if count == ways:
        return f"a tie of all {ways} classes" if ways > 2 else "a tie of both classes"
    if count <= 3:
        return f"a tie of {', '.join(class_names[:-1])} and {class_names[-1]}"
    return f"a tie of {count} classes ({', '.join(class_names[:2])}, ...)"


def ties_text(tied: float) -> str:
    """What is said of scores that are often equal, whose accuracy is partly that of guessing.

    Args:
        tied: share of the queries whose highest score several classes have, in [0, 1].

    Example:
        >>> ties_text(0.25)
        '25.0 % of the queries are ties: several classes have the same highest score, and the first of them counts'
    """
    return (
        f"{100 * tied:.1f} % of the queries are ties: several classes have the same highest score, and the first of "
        "them counts"
    )
