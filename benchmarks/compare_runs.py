"""Compares two runs that were evaluated on the same episodes.

    egt-tf evaluate RUN_A --data SOURCE --seed 0; egt-tf evaluate RUN_B --data SOURCE --seed 0; ...
    python benchmarks/compare_runs.py RUN_A RUN_B

For every evaluation that both run folders hold: the accuracy of each with its 95 % interval over episodes, and the mean
of the differences episode by episode (B - A) with its own interval, which is narrower, since both saw the same
episodes. Results whose `episodes_id` differ are of other images or other episodes; they are refused, and so is a result
that has none beside one that has. Two that have none, from before it was written, are compared on trust.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np


def evaluations(run: Path) -> dict[str, dict]:
    """File name -> content of every evaluation of a run."""
    return {file.name: json.loads(file.read_text()) for file in sorted(run.glob("evaluations/*.json"))}


def other_episodes(ours: dict[str, dict], theirs: dict[str, dict]) -> str | None:
    """What forbids comparing two runs' evaluations episode by episode; None if nothing does."""
    for name in sorted(ours.keys() & theirs.keys()):
        identities = [each[name].get("episodes_id") for each in (ours, theirs)]
        if identities[0] != identities[1]:
            return f"{name}: the episodes must be the same. Received: episodes_id {identities[0]} and {identities[1]}"
    return None


def mean_and_interval(values: np.ndarray) -> str:
    """Mean and half the width of the 95 % interval, in per cent."""
    return f"{100 * values.mean():6.2f} +- {100 * 1.96 * values.std() / np.sqrt(len(values)):4.2f}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_a", type=Path)
    parser.add_argument("run_b", type=Path)
    arguments = parser.parse_args()
    ours, theirs = evaluations(arguments.run_a), evaluations(arguments.run_b)
    refusal = other_episodes(ours, theirs)
    if refusal:
        parser.error(refusal)
    print(
        f"{'data':24s} {'setting':29s} {'episodes':>8s}  {arguments.run_a.name:>16s}  {arguments.run_b.name:>16s}  "
        f"{'difference':>16s}"
    )
    for name in sorted(ours.keys() & theirs.keys()):
        a, b = (np.array(each[name]["episode_accuracies"]) for each in (ours, theirs))
        record = ours[name]
        setting = f"{record['ways']}-way {record['shots']}-shot {record['queries']}q"
        # Written since there is transductive inference; before that, all was inductive.
        setting += " trans." if record.get("transduction") else ""
        print(
            f"{Path(record['source']).name[-18:] + ' ' + record['split']:24s} {setting:29s} {len(a):8d}  "
            f"{mean_and_interval(a):>16s}  {mean_and_interval(b):>16s}  {mean_and_interval(b - a):>16s}"
        )


if __name__ == "__main__":
    main()
