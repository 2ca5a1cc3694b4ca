from __future__ import annotations

import dataclasses

import pytest

from egt_tf.errors import RunError
from egt_tf.study.results import CellName, CellResult, TargetResult
from egt_tf.study.statistics import Difference, paired_difference
from egt_tf.study.verdicts import (
    Group,
    TargetDifference,
    Verdict,
    by_group,
    summaries,
    target_differences,
    verdict_sentence,
)
from tests.helpers.simulated_studies import simulated_cells

GROUP = Group("default", "cross_attention", 5)
PAIRS = (("guided", "plain"), ("guided", "shuffled"))


def found(verdict: Verdict, second: str = "plain", target: str = "cub") -> TargetDifference:
    mean = {Verdict.ABOVE: 0.0314, Verdict.BELOW: -0.0314, Verdict.NOT_TOLD_APART: -0.003, Verdict.ONE_SEED: 0.02}
    seeds = range(1 if verdict is Verdict.ONE_SEED else 5)
    half = None if verdict is Verdict.ONE_SEED else 0.0062
    difference = Difference(mean[verdict], half, 0.004, {seed: mean[verdict] for seed in seeds})
    return TargetDifference(GROUP, "guided", second, target, difference)


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        (Verdict.ABOVE, "guided beats plain by 3.1 +- 0.6 on cub over 5 seeds"),
        (Verdict.BELOW, "guided is behind plain by 3.1 +- 0.6 on cub over 5 seeds"),
        (Verdict.NOT_TOLD_APART, "guided and plain are not told apart on cub over 5 seeds (-0.3 +- 0.6)"),
        (Verdict.ONE_SEED, "guided and plain differ by +2.0 on cub (one seed: no interval over seeds)"),
    ],
)
def test_a_sentence_for_each_verdict(verdict, sentence):
    assert found(verdict).verdict is verdict
    assert verdict_sentence(found(verdict)) == f"cross_attention, 5-shot: {sentence}"
    chosen = verdict_sentence(found(verdict), chosen_on={"cub"})
    assert chosen == f"cross_attention, 5-shot: {sentence}; settings were chosen on it: not counted"


def test_a_summary_counts_test_targets_only():
    differences = [
        *(found(Verdict.ABOVE, target=target) for target in ("cub", "cars", "places", "flowers17")),
        found(Verdict.ABOVE, "shuffled", "cub"),
        found(Verdict.ABOVE, "shuffled", "cars"),
        found(Verdict.NOT_TOLD_APART, "shuffled", "places"),
        found(Verdict.BELOW, "shuffled", "flowers17"),
    ]
    start = "cross_attention, 5-shot: guided beats plain on"
    assert summaries(differences, {"flowers17"}) == {GROUP: [f"{start} 3 of 3 test targets and shuffled on 2 of 3"]}
    assert summaries(differences) == {GROUP: [f"{start} 4 of 4 test targets and shuffled on 2 of 4 (behind on 1)"]}


def test_a_summary_tells_losses_and_single_seeds():
    differences = [found(Verdict.BELOW), found(Verdict.ONE_SEED, target="cars"), found(Verdict.BELOW, target="places")]
    assert summaries(differences)[GROUP] == [
        "cross_attention, 5-shot: guided beats plain on 0 of 3 test targets (behind on 2, only one seed on 1)"
    ]


def test_cells_are_compared_within_their_group():
    effects = {"plain": 0.0, "guided": 0.05, "shuffled": 0.05}
    cells = simulated_cells(("relation", "cosine"), effects, ("cub", "cars"), 3)
    cells += simulated_cells(("cosine",), effects, ("cub", "cars"), 2, shots=1, setting="warm")
    differences = target_differences(cells, PAIRS)
    assert [str(group) for group in dict.fromkeys(each.group for each in differences)] == [
        "relation, 5-shot",
        "cosine, 5-shot",
        "warm, cosine, 1-shot",
    ]
    assert len(differences) == 3 * 2 * 2
    for each in differences:
        sides = [
            {
                cell.name.seed: cell.targets[each.target].accuracies
                for cell in cells
                if Group.of(cell.name) == each.group and cell.name.arm == arm
            }
            for arm in (each.first, each.second)
        ]
        assert each.difference == paired_difference(*sides)
    verdicts = {(each.second, each.verdict) for each in differences if each.group.shots == 5}
    assert ("plain", Verdict.ABOVE) in verdicts


def test_arms_without_a_common_seed_are_left_out():
    cells = simulated_cells(("cosine",), {"plain": 0.0, "guided": 0.0, "shuffled": 0.0}, ("cub",), 2)
    kept = [cell for cell in cells if (cell.name.arm, cell.name.seed) not in {("plain", 1), ("guided", 2)}]
    assert [each.second for each in target_differences(kept, PAIRS)] == ["shuffled"]
    assert target_differences([], PAIRS) == ()


def test_other_episodes_are_not_compared():
    cells = simulated_cells(("cosine",), {"plain": 0.0, "guided": 0.0}, ("cub", "cars"), 2)
    result = dataclasses.replace(cells[-1].targets["cars"], episodes_id="other")
    cells[-1] = dataclasses.replace(cells[-1], targets={**cells[-1].targets, "cars": result})
    with pytest.raises(RunError, match=r"of 'cars'.*cars-id of .*plain/seed1 and other of .*guided/seed2"):
        target_differences(cells, PAIRS)


def test_a_cell_counts_once():
    cell = CellResult(
        CellName("default", "cosine", 5, "plain", 1), 9, (), 0.1, {"cub": TargetResult((0.5,), "a", 0, 1)}
    )
    with pytest.raises(RunError, match="cosine/5shot/plain/seed1 twice"):
        by_group([cell, cell])
