"""Which arm of a study is more accurate than which: for each test target, in a sentence, and counted."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Collection, Iterable, Sequence

from egt_tf.errors import RunError
from egt_tf.study.results import DEFAULT_SETTING, CellName, CellResult
from egt_tf.study.statistics import Difference, paired_difference


class Verdict(enum.Enum):
    """What the interval over training seeds says of a difference.

    Example:
        >>> Verdict("not told apart") is Verdict.NOT_TOLD_APART
        True
    """

    ABOVE = "above zero"
    BELOW = "below zero"
    NOT_TOLD_APART = "not told apart"
    ONE_SEED = "one seed"


@dataclasses.dataclass(frozen=True, order=True)
class Group:
    """The cells of a study that differ in their arm and their seed only.

    Attributes:
        setting, head, shots: see `CellName`.

    Example:
        >>> str(Group("default", "cosine", 5)), str(Group("warm start", "cosine", 1))
        ('cosine, 5-shot', 'warm start, cosine, 1-shot')
    """

    setting: str
    head: str
    shots: int

    @classmethod
    def of(cls, name: CellName) -> Group:
        """The group that a cell belongs to."""
        return cls(name.setting, name.head, name.shots)

    def __str__(self) -> str:
        setting = "" if self.setting == DEFAULT_SETTING else f"{self.setting}, "
        return f"{setting}{self.head}, {self.shots}-shot"


@dataclasses.dataclass(frozen=True)
class TargetDifference:
    """How two arms of a group compare on one target.

    Attributes:
        group: which head, with how many shots, in which setting.
        first, second: names of the arms.
        target: name of the test target.
        difference: first - second.

    Example:
        >>> difference = Difference(0.03, 0.01, 0.004, {1: 0.03, 2: 0.03})
        >>> TargetDifference(Group("default", "cosine", 5), "guided", "plain", "cub", difference).verdict.value
        'above zero'
    """

    group: Group
    first: str
    second: str
    target: str
    difference: Difference

    @property
    def verdict(self) -> Verdict:
        """Judged by the interval over the seeds alone."""
        if self.difference.seed_interval is None:
            return Verdict.ONE_SEED
        if self.difference.is_above_zero:
            return Verdict.ABOVE
        return Verdict.BELOW if self.difference.is_below_zero else Verdict.NOT_TOLD_APART


def by_group(cells: Iterable[CellResult]) -> dict[Group, list[CellResult]]:
    """The cells of each group, groups and cells in the order of the first appearance.

    Raises:
        RunError: two cells have the same name.

    Example:
        >>> cells = [CellResult(CellName("default", "cosine", 5, "plain", s), 9, (), 0.1, {}) for s in (1, 2)]
        >>> {str(group): len(members) for group, members in by_group(cells).items()}
        {'cosine, 5-shot': 2}
    """
    groups: dict[Group, list[CellResult]] = {}
    names = set()
    for cell in cells:
        if cell.name in names:
            raise RunError(f"the cells of a study must have different names. Received: {cell.name.path} twice")
        names.add(cell.name)
        groups.setdefault(Group.of(cell.name), []).append(cell)
    return groups


def target_differences(
    cells: Sequence[CellResult], comparisons: Sequence[tuple[str, str]]
) -> tuple[TargetDifference, ...]:
    """Every comparison in every group on every target.

    Args:
        cells: of the study, as far as they are finished.
        comparisons: pairs of names of arms; the difference is that of the first from the second.

    Returns:
        By group, comparison and target. A comparison of which no seed has finished both arms is left out.

    Raises:
        RunError: cells of a group were tested on different episodes of a target, or two have the same name.

    Example:
        >>> from egt_tf.study.results import TargetResult
        >>> def cell(arm, seed, accuracy):
        ...     target = TargetResult((accuracy, accuracy), "abc", 0.1, 1.2)
        ...     return CellResult(CellName("default", "cosine", 5, arm, seed), 100, (), 0.02, {"cub": target})
        >>> cells = [cell("plain", 1, 0.5), cell("plain", 2, 0.5), cell("guided", 1, 0.53), cell("guided", 2, 0.532)]
        >>> (found,) = target_differences(cells, [("guided", "plain")])
        >>> verdict_sentence(found)
        'cosine, 5-shot: guided beats plain by 3.1 +- 1.3 on cub over 2 seeds'
    """
    found = []
    for group, members in by_group(cells).items():
        targets = list(dict.fromkeys(target for cell in members for target in cell.targets))
        for target in targets:
            _check_same_episodes(members, target)
        for first, second in comparisons:
            for target in targets:
                sides = [_by_seed(members, arm, target) for arm in (first, second)]
                if sides[0].keys() & sides[1].keys():
                    found.append(TargetDifference(group, first, second, target, paired_difference(*sides)))
    return tuple(found)


def verdict_sentence(found: TargetDifference, chosen_on: Collection[str] = ()) -> str:
    """What was found on one target, in percentage points, with half of the 95 % interval over the seeds.

    Args:
        found: one comparison.
        chosen_on: targets on which settings of the study were chosen, which therefore decide nothing.

    Example:
        >>> found = TargetDifference(Group("default", "cosine", 5), "guided", "plain", "cub", Difference(
        ...     -0.02, None, 0.01, {1: -0.02}))
        >>> verdict_sentence(found)
        'cosine, 5-shot: guided and plain differ by -2.0 on cub (one seed: no interval over seeds)'
    """
    difference, arms = found.difference, f"{found.first} and {found.second}"
    where = f"on {found.target} over {len(difference.by_seed)} seeds"
    half = f"+- {100 * (difference.seed_interval or 0):.1f}"
    size, signed = f"{100 * abs(difference.mean):.1f} {half}", f"{100 * difference.mean:+.1f}"
    words = {
        Verdict.ABOVE: f"{found.first} beats {found.second} by {size} {where}",
        Verdict.BELOW: f"{found.first} is behind {found.second} by {size} {where}",
        Verdict.NOT_TOLD_APART: f"{arms} are not told apart {where} ({signed} {half})",
        Verdict.ONE_SEED: f"{arms} differ by {signed} on {found.target} (one seed: no interval over seeds)",
    }[found.verdict]
    counted = "; settings were chosen on it: not counted" if found.target in chosen_on else ""
    return f"{found.group}: {words}{counted}"


def summaries(differences: Sequence[TargetDifference], chosen_on: Collection[str] = ()) -> dict[Group, list[str]]:
    """On how many test targets an arm beats the arms that it is compared with, a sentence for each first arm.

    Args:
        differences: as `target_differences` gives them.
        chosen_on: targets that are not counted.

    Example:
        >>> group, difference = Group("default", "cosine", 5), Difference(0.02, 0.01, 0.01, {1: 0.02, 2: 0.02})
        >>> found = [TargetDifference(group, "guided", "plain", name, difference) for name in ("cub", "fog")]
        >>> summaries(found, chosen_on={"fog"})[group]
        ['cosine, 5-shot: guided beats plain on 1 of 1 test target']
    """
    arms: dict[tuple[Group, str], dict[str, list[Verdict]]] = {}
    for found in differences:
        verdicts = arms.setdefault((found.group, found.first), {}).setdefault(found.second, [])
        if found.target not in chosen_on:
            verdicts.append(found.verdict)
    sentences: dict[Group, list[str]] = {}
    for (group, first), against in arms.items():
        sentences.setdefault(group, []).append(f"{group}: {_counted(first, against)}")
    return sentences


def _counted(first: str, against: dict[str, list[Verdict]]) -> str:
    """ "guided beats plain on 3 of 3 test targets and shuffled on 2 of 3"."""
    phrases: list[str] = []
    for second, verdicts in against.items():
        unit = "" if phrases else f" test target{'s' if len(verdicts) != 1 else ''}"
        notes = [
            f"{words} {verdicts.count(verdict)}"
            for verdict, words in ((Verdict.BELOW, "behind on"), (Verdict.ONE_SEED, "only one seed on"))
            if verdict in verdicts
        ]
        note = f" ({', '.join(notes)})" if notes else ""
        phrases.append(f"{second} on {verdicts.count(Verdict.ABOVE)} of {len(verdicts)}{unit}{note}")
    return f"{first} beats {' and '.join(phrases)}"


def _by_seed(cells: Iterable[CellResult], arm: str, target: str) -> dict[int, tuple[float, ...]]:
    """Seed -> accuracies of an arm on a target."""
    return {
        cell.name.seed: cell.targets[target].accuracies
        for cell in cells
        if cell.name.arm == arm and target in cell.targets
    }


def _check_same_episodes(cells: Sequence[CellResult], target: str) -> None:
    tested = [cell for cell in cells if target in cell.targets]
    for cell in tested[1:]:
        ours, theirs = (each.targets[target].episodes_id for each in (tested[0], cell))
        if ours != theirs:
            raise RunError(
                f"cells must be tested on the same episodes of {target!r} to be compared. Received: {ours} of "
                f"{tested[0].name.path} and {theirs} of {cell.name.path}"
            )
