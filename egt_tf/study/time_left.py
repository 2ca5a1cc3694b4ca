"""How long the rest of a study takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from egt_tf.study.results import CellName

# What cells have in common that take about as long, the nearest kin first.
_KINS: tuple[Callable[[CellName], object], ...] = (
    lambda name: (name.setting, name.head, name.shots, name.arm),
    lambda name: (name.head, name.arm),
    lambda name: name.head,
    lambda name: None,
)


def seconds_left(
    took: Sequence[tuple[CellName, float]],
    running: Iterable[tuple[CellName, float]],
    waiting: Iterable[CellName],
    jobs: int,
) -> float | None:
    """Seconds until all cells are done.

    A cell takes as long as the mean of the finished ones of its head and arm, else of its head, else of all.

    Args:
        took: finished cells and the seconds that each took.
        running: cells that run, and since how many seconds.
        waiting: cells that have not begun.
        jobs: how many run side by side.

    Returns:
        None where no cell has finished.

    Example:
        >>> plain, guided = (CellName("default", "relation", 5, arm, 1) for arm in ("plain", "guided"))
        >>> seconds_left([(plain, 10.0), (guided, 50.0)], [(guided, 20.0)], [plain, guided], jobs=2)
        50.0
    """
    if not took:
        return None
    rest = [max(expected_seconds(took, name) - since, 0.0) for name, since in running]
    rest += [expected_seconds(took, name) for name in waiting]
    # Not below what the longest of them needs by itself.
    return max([sum(rest) / jobs, *rest], default=0.0)


def expected_seconds(took: Sequence[tuple[CellName, float]], name: CellName) -> float:
    """The mean seconds of the finished cells that are the nearest kin of one.

    Args:
        took: as for `seconds_left`, at least one.
        name: of a cell.

    Example:
        >>> plain, guided = (CellName("default", "relation", 5, arm, 1) for arm in ("plain", "guided"))
        >>> expected_seconds([(plain, 10.0)], guided)
        10.0
    """
    for kin in _KINS:
        seconds = [each for other, each in took if kin(other) == kin(name)]
        if seconds:
            return sum(seconds) / len(seconds)
    return 0.0
