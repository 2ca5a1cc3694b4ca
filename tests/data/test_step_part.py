from __future__ import annotations

import numpy as np
import pytest

from egt_tf.config import EpisodeConfig, ImagePreparation
from egt_tf.data.pipeline import StepPart, episode_dataset
from egt_tf.data.sources import open_source
from egt_tf.errors import ConfigError


def elements(part: StepPart, per_step: int = 4, count: int = 8) -> list[np.ndarray]:
    """The query images of each element."""
    dataset = episode_dataset(
        open_source("synthetic:shapes").split("base"),
        EpisodeConfig(2, 1, 1),
        ImagePreparation(image_size=16, augmentation="flip", seed=3),
        start=2,
        count=count,
        episodes_per_step=per_step,
        part=part,
    )
    return [inputs["query_images"].numpy() for inputs, _, _ in dataset]


def test_parts_of_workers_and_replicas_make_up_the_steps():
    whole = elements(StepPart())
    workers = [elements(StepPart(replicas=4, workers=2, worker=worker)) for worker in (0, 1)]
    assert len(whole) == 2
    assert [len(parts) for parts in workers] == [4, 4]
    for step, expected in enumerate(whole):
        replicas = [part for parts in workers for part in parts[2 * step : 2 * step + 2]]
        np.testing.assert_array_equal(np.concatenate(replicas), expected)


@pytest.mark.parametrize("part", [StepPart(3), StepPart(4, 3, 0), StepPart(2, 2, 2)])
def test_a_part_that_is_none_is_refused(part):
    with pytest.raises(ConfigError, match="`part` must divide the episodes"):
        elements(part)
