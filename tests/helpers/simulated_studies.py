"""Cells of studies that nobody ran, with known effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from egt_tf.study.results import CellName, CellResult, TargetResult


def simulated_cells(
    heads: Sequence[str],
    effects: Mapping[str, float],
    targets: Sequence[str],
    seeds: int,
    *,
    shots: int = 5,
    episodes: int = 100,
    setting: str = "default",
) -> list[CellResult]:
    """A cell for each head, arm and seed.

    Args:
        heads, targets: names.
        effects: arm -> by how much it is more accurate than the head's mean.
        seeds: number of them.
        shots, episodes, setting: of all cells.
    """
    random = np.random.default_rng(0)
    difficulties = {target: random.normal(0, 0.08, episodes) for target in targets}
    cells = []
    for head_place, head in enumerate(heads):
        for arm_place, (arm, effect) in enumerate(effects.items()):
            for seed in range(1, seeds + 1):
                name = CellName(setting, head, shots, arm, seed)
                level = 0.5 + 0.03 * head_place + effect + random.normal(0, 0.006)
                results = {
                    target: TargetResult(
                        tuple(np.clip(level - 0.05 * place + easy + random.normal(0, 0.05, episodes), 0, 1).tolist()),
                        f"{target}-id",
                        float(random.uniform(0.02, 0.1)),
                        float(random.uniform(1.0, 1.4)),
                    )
                    for place, (target, easy) in enumerate(difficulties.items())
                }
                curve = tuple(
                    (500 * epoch, float(level - 0.25 * np.exp(-epoch / 2) + random.normal(0, 0.01)))
                    for epoch in range(1, 9)
                )
                seconds = 0.02 * (1 + 0.8 * arm_place) * random.uniform(0.97, 1.03)
                cells.append(CellResult(name, 4000, curve, float(seconds), results))
    return cells
