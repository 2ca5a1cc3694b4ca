"""What guidance changes: one table over heads and data, from the evaluations that runs hold.

    python benchmarks/guidance_table.py PLAIN GUIDED [PLAIN GUIDED ...]

Each pair is two runs of one head that were evaluated on the same episodes (`egt-tf evaluate RUN --data SOURCE`, equal
seeds). Printed, in Markdown, for each pair and each data set: the accuracy of both in per cent, and the mean of the
differences episode by episode (guided - plain) with its 95 % interval over episodes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from compare_runs import evaluations, mean_and_interval, other_episodes

from egt_tf.runs import RunFolder


def rows(plain: Path, guided: Path) -> list[str]:
    """The table's rows of one pair, one for each evaluation that both hold."""
    head = RunFolder(plain).config().model.head["name"]
    ours, theirs = evaluations(plain), evaluations(guided)
    refusal = other_episodes(ours, theirs)
    if refusal:
        raise SystemExit(refusal)
    lines = []
    for name in sorted(ours.keys() & theirs.keys()):
        a, b = (np.array(each[name]["episode_accuracies"]) for each in (ours, theirs))
        data = f"{Path(ours[name]['source']).name} ({ours[name]['split']})"
        lines.append(
            f"| {head} | {data} | {len(a)} | {mean_and_interval(a)} | {mean_and_interval(b)} | "
            f"{mean_and_interval(b - a)} |"
        )
    return lines


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="PLAIN GUIDED")
    runs = parser.parse_args().runs
    if len(runs) % 2:
        parser.error(f"runs must come in pairs. Received: {len(runs)}")
    print("| head | data | episodes | plain | guided | guided - plain |\n|---|---|---|---|---|---|")
    for plain, guided in zip(runs[::2], runs[1::2], strict=True):
        print("\n".join(rows(plain, guided)))


if __name__ == "__main__":
    main()
